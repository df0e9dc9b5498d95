"""All timeouts and retry policies of all workflows."""

from datetime import timedelta

from temporalio.common import RetryPolicy

SHORT = timedelta(seconds=60)
"""One or two transactions."""

PREPARE = timedelta(hours=6)
"""Downloading a base model, exporting a large dataset."""

WATCH = timedelta(days=365)
"""A training. The job's own `limits.max_runtime_seconds` ends it long before."""

REGISTER = timedelta(hours=2)
"""Copying a model to where MLflow keeps it."""

HEARTBEAT = timedelta(seconds=15)
"""A worker that is silent for so long is dead, and its activities go to another."""

UNTIL_IT_WORKS = RetryPolicy(
    initial_interval=timedelta(milliseconds=200),
    backoff_coefficient=2.0,
    maximum_interval=timedelta(seconds=10),
    non_retryable_error_types=["NotFound", "InvalidSpec"],
)
"""For what must happen: the platform's own faults pass."""

PREPARE_TRIES = RetryPolicy(
    initial_interval=timedelta(milliseconds=200),
    maximum_interval=timedelta(seconds=60),
    maximum_attempts=20,
    non_retryable_error_types=["NotFound", "InvalidSpec"],
)
"""For making a job ready: a quarter of an hour, then the job fails and says why."""

RE_ATTACH = RetryPolicy(
    initial_interval=timedelta(milliseconds=200),
    backoff_coefficient=1.5,
    maximum_interval=timedelta(seconds=5),
    non_retryable_error_types=["NotFound"],
)
"""For watching: each try attaches to the same attempt."""

INGEST = timedelta(hours=24)
"""Cleaning and deduplicating a large corpus."""

SOME_TRIES = RetryPolicy(
    initial_interval=timedelta(seconds=1),
    maximum_interval=timedelta(seconds=60),
    maximum_attempts=20,
    non_retryable_error_types=["NotFound"],
)
"""For work that goes on where it was: each try reuses what the last one finished."""
