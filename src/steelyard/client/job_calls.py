"""The calls on jobs, built from plain arguments. Pure but for reading a spec from its file."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import quote

from steelyard.client.call import Call
from steelyard.client.models import CancelResults, Health, JobSchemas, SessionLink
from steelyard.client.spec_file import load_spec_file
from steelyard.kit.ids import new_id
from steelyard.kit.paging import Page
from steelyard.specs.job import JobBase
from steelyard.specs.views import (
    AttemptView,
    CheckpointView,
    EventView,
    ExplainView,
    JobSummary,
    JobView,
    ListView,
    PlanView,
)

SpecLike: TypeAlias = Mapping[str, Any] | JobBase | str | os.PathLike[str]
"""A spec as a dict, as its model, or as the path of a YAML or JSON file."""


def health() -> Call[Health]:
    """Ask whether the platform is ready; "no" is an answer, not an error."""
    return Call("GET", "/readyz", Health.model_validate_json, also_accept=frozenset({503}))


def schemas() -> Call[JobSchemas]:
    """Ask for the JSON Schemas of the job types."""
    return Call("GET", "/v1/schemas", JobSchemas.model_validate_json)


def session_link(to: str) -> Call[SessionLink]:
    """Ask for a link that signs a browser in."""
    return Call("POST", "/v1/sessions", SessionLink.model_validate_json, query=(("to", to),))


def submit(project: str, spec: SpecLike, idempotency_key: str | None) -> Call[JobView]:
    """Submit a job. The key is made here, once, so that every try of this call carries the same one."""
    key = idempotency_key or new_id("idem")
    return Call(
        "POST",
        _jobs(project),
        JobView.model_validate_json,
        headers={"Idempotency-Key": key},
        content=_encode_spec(spec),
    )


def plan(project: str, spec: SpecLike) -> Call[PlanView]:
    """Ask what a submission would do."""
    return Call("POST", f"{_jobs(project)}/plan", PlanView.model_validate_json, content=_encode_spec(spec))


def list_jobs(
    project: str,
    *,
    limit: int,
    after: str | None,
    states: Sequence[str],
    type: str | None,  # noqa: A002 - the word of the API
    tags: Mapping[str, str],
    name: str | None,
    parent: str | None,
    children: bool,
) -> Call[Page[JobSummary]]:
    """Ask for one page of jobs, newest first."""
    query = [("limit", str(limit))]
    query += [("state", str(state)) for state in states]
    query += [("tag", f"{key}={value}") for key, value in tags.items()]
    words = (("after", after), ("type", type), ("name", name), ("parent", parent))
    query += [(key, value) for key, value in words if value]
    query += [("children", "true")] if children else []
    return Call("GET", _jobs(project), Page[JobSummary].model_validate_json, query=tuple(query))


def get(project: str, job: str) -> Call[JobView]:
    """Ask for one job, whole."""
    return Call("GET", _job(project, job), JobView.model_validate_json)


def cancel(project: str, job: str) -> Call[JobView]:
    """Ask for a job's end."""
    return _verb(project, job, "cancel")


def pause(project: str, job: str) -> Call[JobView]:
    """Ask for a checkpoint and a stop."""
    return _verb(project, job, "pause")


def resume(project: str, job: str) -> Call[JobView]:
    """Ask for a paused job to go on."""
    return _verb(project, job, "resume")


def retry(project: str, job: str, checkpoint: str | None, step: int | None) -> Call[JobView]:
    """Ask for an ended job to go on from a checkpoint: the named one, or the newest."""
    return _verb(project, job, "retry", {"checkpoint": checkpoint, "step": step})


def set_priority(project: str, job: str, priority: int) -> Call[JobView]:
    """Ask for another priority."""
    return _verb(project, job, "priority", {"priority": priority})


def cancel_many(
    project: str, jobs: Sequence[str], tag: tuple[str, str] | None, everything: bool
) -> Call[CancelResults]:
    """Ask for the end of many jobs at once: those named, those with a tag, or all."""
    if sum((bool(jobs), tag is not None, everything)) != 1:
        raise ValueError("cancel_many takes exactly one of: ids, a tag, everything=True")
    body: dict[str, Any] = {"all": True}
    if jobs:
        body = {"ids": list(jobs)}
    elif tag:
        body = {"tag": f"{tag[0]}={tag[1]}"}
    return Call("POST", f"{_jobs(project)}/cancel", CancelResults.model_validate_json, content=_json(body))


def attempts(project: str, job: str) -> Call[ListView[AttemptView]]:
    """Ask for all launches of a job."""
    return Call("GET", f"{_job(project, job)}/attempts", ListView[AttemptView].model_validate_json)


def checkpoints(project: str, job: str) -> Call[ListView[CheckpointView]]:
    """Ask for the published checkpoints of a job."""
    return Call("GET", f"{_job(project, job)}/checkpoints", ListView[CheckpointView].model_validate_json)


def explain(project: str, job: str) -> Call[ExplainView]:
    """Ask why a job is where it is."""
    return Call("GET", f"{_job(project, job)}/explain", ExplainView.model_validate_json)


def events(project: str, job: str, after: str | None, limit: int) -> Call[Page[EventView]]:
    """Ask for one page of a job's events, oldest first."""
    query = (("limit", str(limit)), *((("after", after),) if after else ()))
    return Call("GET", f"{_job(project, job)}/events", Page[EventView].model_validate_json, query=query)


def event_stream(project: str, job: str, after: str | None) -> Call[bytes]:
    """Open the stream of a job's events, from the one after `after`."""
    headers = {"Accept": "text/event-stream"}
    if after:
        headers["Last-Event-ID"] = after
    return Call("GET", f"{_job(project, job)}/events/stream", bytes, headers=headers)


def log_stream(
    project: str, job: str, attempt: int, *, follow: bool, offset: int | None, tail_lines: int | None
) -> Call[bytes]:
    """Open the log of one attempt, from a byte offset or so many lines before its end."""
    query = [("attempt", str(attempt)), ("follow", "true" if follow else "false")]
    if offset is not None:
        query.append(("offset", str(offset)))
    elif tail_lines is not None:
        query.append(("tail_lines", str(tail_lines)))
    return Call("GET", f"{_job(project, job)}/logs", bytes, query=tuple(query))


def _verb(project: str, job: str, verb: str, body: Mapping[str, Any] | None = None) -> Call[JobView]:
    """Make a command. Its own key makes a second try, after a lost reply, get the first one's answer."""
    return Call(
        "POST",
        f"{_job(project, job)}/{verb}",
        JobView.model_validate_json,
        headers={"Idempotency-Key": new_id("cmd")},
        content=None if body is None else _json(body),
    )


def _jobs(project: str) -> str:
    return f"/v1/projects/{quote(project, safe='')}/jobs"


def _job(project: str, job: str) -> str:
    if not job.strip("."):
        raise ValueError("a job is named by its id, such as job_06dq...")
    return f"{_jobs(project)}/{quote(job, safe='')}"


def _encode_spec(spec: SpecLike) -> bytes:
    if isinstance(spec, JobBase):
        return spec.model_dump_json(exclude_unset=True).encode()
    if isinstance(spec, Mapping):
        return _json(spec)
    return _json(load_spec_file(Path(spec)).data)


def _json(value: object) -> bytes:
    return json.dumps(value, allow_nan=False, separators=(",", ":")).encode()
