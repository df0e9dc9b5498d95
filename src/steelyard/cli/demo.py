"""`steelyard demo`: a real model, real data, from nothing to a version in staging; a second run is quick.

Every step finds what an earlier run did: the platform that runs, the dataset version with the same bytes,
the job with the same idempotency key.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import typer
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from steelyard.cli.demo_promotion import promote_demo
from steelyard.cli.options import JsonFlag
from steelyard.cli.output import Screen, write_json
from steelyard.cli.promotion_tables import gate_table
from steelyard.cli.session import connect
from steelyard.cli.waiting import watch_to_end
from steelyard.client.errors import ClientError
from steelyard.client.sync_client import Client
from steelyard.datasets.stdlib_questions import write_stdlib_questions
from steelyard.kit.canonical import digest_json
from steelyard.specs.states import JobState
from steelyard.specs.views import JobView

DATASET = "python-stdlib"
MODEL = "builtin/smollm2-135m-instruct"
STEPS = 40
_SUITE_SAMPLES = 100
_ANSWER_CHARACTERS = 100
_PLATFORM = "steelyard.server.embedded"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("demo", rich_help_panel="Platform")(demo)


def demo(as_json: JsonFlag = False) -> None:
    """Fine-tune a small language model on this machine, from nothing to a version in staging.

    Starts the platform if need be, ingests questions about Python's standard library, trains, weighs the
    model before and after, registers it, promotes it through gates and an approval, and verifies it. A
    first run takes some minutes; a second finds all done.
    """
    screen = Screen(stderr=as_json)
    _step(screen, 1, "The platform")
    _start_platform(quiet=as_json)
    with connect() as client:
        _step(screen, 2, "The data: what the parts of Python's standard library do, from its docstrings")
        ref = _ingest(client, screen)
        _step(screen, 3, f"The training: {MODEL} learns to answer, {STEPS} steps of LoRA")
        job = _submit(client, ref)
        _say_where(screen, job)
        job = watch_to_end(client, [job.id], as_json=as_json)[0]
        good = job.state is JobState.SUCCEEDED
        if good and job.model is not None:
            _step(screen, 4, "The way to staging: gates, an approval, and a look at every digest")
            good = promote_demo(client, screen, job.model)
        if as_json:
            write_json(job)
        else:
            _show_result(client, screen, job)
    if not good:
        raise typer.Exit(1)


def demo_spec(ref: str) -> dict[str, Any]:
    """Return the demo's job: it must improve in a few minutes on two cores."""
    return {
        "api_version": "steelyard/v1",
        "type": "fine_tune",
        "name": "demo",
        "model": {"name_or_path": MODEL},
        "dataset": {"ref": ref, "format": "prompt_completion"},
        "peft": {"type": "lora", "r": 8, "lora_alpha": 16},
        "training": {
            "learning_rate": 5.0e-4,
            "max_steps": STEPS,
            "warmup_steps": 4,
            "per_device_train_batch_size": 4,
            "max_length": 96,
            "overlong": "truncate",
            "seed": 7,
        },
        "checkpoint": {"save_steps": 10},
        "resources": {"cpus": min(2, os.cpu_count() or 1), "memory_gb": 3.0},
        "evaluation": {
            "suites": ["heldout", "choices"],
            "max_samples": _SUITE_SAMPLES,
            "gates": [
                {"metric": "heldout/loss", "max": 3.8, "confidence": 0.95},
                {"metric": "heldout/loss", "max_regression": 0.0},
            ],
        },
        "register_as": {"model_name": "demo"},
        "tags": {"purpose": "demo"},
    }


def _start_platform(*, quiet: bool) -> None:
    """Start the platform, or find that it runs; its own process says how that goes."""
    result = subprocess.run(
        [sys.executable, "-m", _PLATFORM, "up"], check=False, stdout=subprocess.DEVNULL if quiet else None
    )
    if result.returncode != 0:
        raise typer.Exit(result.returncode)


def _ingest(client: Client, screen: Screen) -> str:
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "python-stdlib.jsonl"
        write_stdlib_questions(path, max_characters=_ANSWER_CHARACTERS)
        version = client.datasets.ingest([path], DATASET)
    word = "ingested" if version.created else "there already"
    screen.print(
        f"  {version.name}@v{version.version} {word}: {version.rows_train} questions to learn from,"
        f" {version.rows_validation} kept back"
    )
    return f"{version.name}@v{version.version}"


def _submit(client: Client, ref: str) -> JobView:
    """Submit the job, or find it; one that failed or was cancelled is tried again."""
    spec = demo_spec(ref)
    job = client.jobs.submit(spec, idempotency_key=f"demo-{digest_json(spec)[7:23]}")
    job = client.jobs.get(job.id)
    if job.state in (JobState.FAILED, JobState.CANCELLED):
        return client.jobs.retry(job.id)
    if job.state is JobState.PAUSED:
        return client.jobs.resume(job.id)
    return job


def _say_where(screen: Screen, job: JobView) -> None:
    if job.state is JobState.SUCCEEDED:
        screen.print(f"  {job.id} did this before; here is what came of it.")
    else:
        screen.print(f"  {job.id}; Ctrl-C leaves it running, and 'steelyard demo' comes back to it")


def _show_result(client: Client, screen: Screen, job: JobView) -> None:
    if job.state is not JobState.SUCCEEDED:
        screen.print(Text(f"The job has {job.state.value}: {job.status_message}", style="bold red"))
        screen.print(f"  its log: steelyard logs {job.id}      again: steelyard demo")
        return
    screen.print("")
    screen.print(Panel(_figures(job), title="Before and after, on questions that it never saw", expand=False))
    if job.gates is not None:
        screen.print(Panel(gate_table(job.gates), title="The gates before the registry", expand=False))
    if job.model is not None:
        screen.print(
            f"Registered as {job.model.name}@{job.model.version} ({job.model.manifest_digest[:19]}...)"
        )
    screen.print(f"Curves and files in MLflow (link for 15 minutes): {_mlflow_link(client)}")
    screen.print(_next_steps(job))


def _figures(job: JobView) -> Table:
    table = Table("", "before", "after", box=None)
    for label, key in (
        ("held-out loss per token (lower is better)", "heldout/loss"),
        ("right answer among four (higher is better)", "choices/accuracy"),
    ):
        table.add_row(label, *(_figure(job.metrics, f"{side}/{key}") for side in ("base", "tuned")))
    return table


def _figure(metrics: dict[str, float], key: str) -> str:
    if key not in metrics:
        return "not measured"
    error = metrics.get(f"{key}/stderr")
    return f"{metrics[key]:.3f}" if error is None else f"{metrics[key]:.3f} ± {error:.3f}"


def _mlflow_link(client: Client) -> str:
    try:
        return client.session_link()
    except ClientError as error:
        return f"not to be had now ({error.message})"


def _next_steps(job: JobView) -> Table:
    table = Table("What to try next", "", box=None, title_justify="left")
    name = _own_name()
    for command, why in (
        (f"{name} get {job.id}", "the job whole: attempts, figures, lineage"),
        (
            f"{name} models history demo --alias staging",
            "every move of the alias, by whom and on what evidence",
        ),
        (f"{name} submit examples/script/job.yaml --wait", "a training script of your own, as a job"),
        (f"{name} status", "the processes; kill -9 any of them while a job runs, and see it end well"),
        (f"{name} data head {DATASET}", "what it learned from"),
        (f"{name} down", f"stop everything; '{name} up' goes on where it was"),
    ):
        table.add_row(f"  {command}", why)
    return table


def _own_name() -> str:
    """Return how this command is called from here: a new user has not put the environment on the path yet."""
    if shutil.which("steelyard"):
        return "steelyard"
    return os.path.relpath(Path(sys.executable).with_name("steelyard"))


def _step(screen: Screen, number: int, title: str) -> None:
    screen.print(Text(f"[{number}/4] {title}", style="bold"))
