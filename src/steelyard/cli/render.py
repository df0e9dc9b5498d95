"""Jobs and what belongs to them, as text that is readable at 80 columns."""

from collections.abc import Mapping, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from steelyard.cli.budgets import budget_summary, short
from steelyard.cli.formats import (
    format_age,
    format_bytes,
    format_figure,
    format_rate,
    format_seconds,
    format_span,
    format_time,
)
from steelyard.cli.output import printable
from steelyard.cli.promotion_tables import gate_table
from steelyard.specs.budgets import JobCost, PlanCost, plain
from steelyard.specs.states import TERMINAL_STATES, JobState
from steelyard.specs.views import (
    AttemptView,
    CheckpointView,
    EventView,
    ExplainView,
    JobSummary,
    JobView,
    PlanView,
    Progress,
)

_WIDE_COLUMNS = 100
_GAP = 2
_LEAST_NAME = 4
_WHOLE_COLUMNS = frozenset({"ID", "NAME", "STATE", "STEP", "AGE"})
_STATE_STYLES: dict[JobState, str] = {
    JobState.RUNNING: "cyan",
    JobState.SUCCEEDED: "green",
    JobState.FAILED: "bold red",
    JobState.CANCELLED: "yellow",
    JobState.PAUSED: "yellow",
    JobState.RECOVERING: "magenta",
    JobState.AWAITING_APPROVAL: "magenta",
}
_LEVEL_STYLES = {"info": "", "warn": "yellow", "error": "bold red"}


def state_text(state: JobState) -> Text:
    """Return a state in its colour."""
    return Text(state.value, style=_STATE_STYLES.get(state, ""))


def progress_words(progress: Progress, *, running: bool = True) -> str:
    """Write progress in one line: `12/60  loss 1.234  1.2k tok/s  ETA 42s`."""
    total = "" if progress.total_steps is None else f"/{progress.total_steps}"
    words = [f"{progress.step}{total}"] if progress.step or total else []
    if progress.loss is not None:
        words.append(f"loss {format_figure(progress.loss)}")
    if running and progress.tokens_per_second is not None:
        words.append(format_rate(progress.tokens_per_second))
    if running and progress.eta_seconds is not None:
        words.append(f"ETA {format_seconds(progress.eta_seconds)}")
    return "  ".join(words)


def job_table(jobs: Sequence[JobSummary], columns: int) -> Table:
    """Return a list of jobs; the type is shown where there is room."""
    wide = columns >= _WIDE_COLUMNS
    rows = [_job_cells(job, wide) for job in jobs]
    others = [1, 2, 3, 4, *([5] if wide else [])]
    taken = sum(max((len(row[place]) for row in rows), default=0) + _GAP for place in others)
    table = _table("ID", "NAME", *(["TYPE"] if wide else []), "STATE", "STEP", "AGE")
    for row in rows:
        name, identity, *rest = row
        name.truncate(max(_LEAST_NAME, columns - taken), overflow="ellipsis")
        table.add_row(identity, name, *rest)
    return table


def job_details(job: JobView) -> RenderableType:
    """Return all that a person wants to know of a job."""
    reason = f" ({job.status_reason})" if job.status_reason else ""
    head = Text.assemble((printable(job.name), "bold"), "  ", job.id, "  ", state_text(job.state), reason)
    parts: list[RenderableType] = [head]
    if job.status_message:
        parts.append(Text(printable(job.status_message)))
    parts.append(_facts(job))
    if job.metrics:
        parts += ["", metric_table(job.metrics)]
    if job.gates is not None:
        parts += ["", gate_table(job.gates)]
    if job.attempts:
        parts += ["", attempt_table(job.attempts)]
    return Group(*parts)


def metric_table(metrics: dict[str, float]) -> Table:
    """Return final figures, the base model's beside the tuned one's."""
    names = list(dict.fromkeys(_plain_name(name) for name in metrics))
    table = _table("METRIC", "BASE", "TUNED")
    for name in names:
        base = metrics.get(f"base/{name}")
        tuned = metrics.get(f"tuned/{name}", metrics.get(name))
        table.add_row(
            name,
            "" if base is None else format_figure(base),
            "" if tuned is None else format_figure(tuned),
        )
    return table


def attempt_table(attempts: Sequence[AttemptView]) -> Table:
    """Return the launches of a job."""
    table = _table("ATTEMPT", "STAGE", "STATE", "STEPS", "TIME", "GPU USE", "END")
    for attempt in attempts:
        first = attempt.resumed_from_step if attempt.first_step is None else attempt.first_step
        table.add_row(
            str(attempt.number),
            attempt.stage,
            attempt.state,
            f"{first or 0}-{attempt.last_step}",
            format_span(attempt.started_at, attempt.ended_at),
            "" if attempt.gpu_utilisation is None else f"{attempt.gpu_utilisation:.0%}",
            Text(f"{attempt.cause or ''}{' (counted)' if attempt.counted else ''}"),
        )
    return table


def checkpoint_table(checkpoints: Sequence[CheckpointView]) -> Table:
    """Return the checkpoints of a job."""
    table = _table("ID", "STEP", "ATTEMPT", "SIZE", "STATUS", "MADE")
    for point in checkpoints:
        size = format_bytes(point.size_bytes)
        made = format_time(point.created_at)
        table.add_row(point.id, str(point.step), str(point.attempt_number), size, point.status, made)
    return table


def event_line(event: EventView) -> Text:
    """Return an event as one line."""
    return Text.assemble(
        (format_time(event.created_at), "dim"),
        "  ",
        (f"{event.level:<5}", _LEVEL_STYLES[event.level]),
        "  ",
        (event.type, "bold"),
        "  ",
        printable(event.message),
    )


def explanation(view: ExplainView) -> RenderableType:
    """Return why a job is where it is."""
    parts: list[RenderableType] = [
        Text.assemble(view.id, "  ", state_text(view.state), f"  {view.status_reason or ''}"),
        Text(printable(view.summary)),
    ]
    if view.queue_position is not None:
        parts.append(Text(f"Place in the queue: {view.queue_position}"))
    if view.cost is not None and (words := cost_words(view.cost)):
        parts.append(Text(f"Cost so far: {words}"))
    for title, sentences in (("What would free it", view.waiting_for), ("Attempts", view.attempts)):
        if sentences:
            parts += ["", Text(title, style="bold"), *(Text(f"- {printable(text)}") for text in sentences)]
    return Group(*parts)


def cost_words(cost: JobCost) -> str:
    """Write what a job cost, and what is held for it; nothing where it is free."""
    if cost.gpu_hours == 0 and cost.reserved_gpu_hours == 0:
        return ""
    spent = f"{short(cost.gpu_hours)} GPU-hours, {short(cost.money)} of money"
    if cost.reserved_gpu_hours == 0 and cost.reserved_money == 0:
        return spent
    return f"{spent}; reserved: {short(cost.reserved_gpu_hours)} GPU-hours, {short(cost.reserved_money)}"


def children_words(children: Mapping[str, int]) -> str:
    """Write how many of what a job has made are in which state."""
    return ", ".join(f"{count} {state}" for state, count in children.items())


def best_words(job: JobView) -> str:
    """Write which trial of a search is the best, of those that are over."""
    if job.best is None or job.best.value is None:
        return ""
    values = ", ".join(f"{path}={value}" for path, value in sorted(job.best.parameters.items()))
    metric = job.spec.get("search", {}).get("metric")
    return f"trial {job.best.number}: {metric} {format_figure(job.best.value)} with {values}"


def plan_summary(plan: PlanView) -> RenderableType:
    """Return what a submission would do."""
    when = "at once" if plan.would_start_now else f"from place {plan.queue_position} in the queue"
    fits = f"It would start {when}." if plan.fits else "No node could ever hold it."
    parts: list[RenderableType] = [
        Text("The spec is valid." if plan.valid else "The spec is not valid."),
        Text(fits, style="" if plan.fits else "bold red"),
        *(_plan_cost(plan.cost) if plan.cost else []),
        *(Text(f"The project {quota.message}.") for quota in plan.quotas),
    ]
    return Group(*parts, *(Text(f"- {printable(message)}") for message in plan.messages))


def _plan_cost(cost: PlanCost) -> list[RenderableType]:
    if cost.gpu_hours == 0 and cost.money == 0:
        return [Text("It uses no GPU, so it costs nothing.")]
    price = f", at {plain(cost.price_per_gpu_hour)} a GPU-hour ({cost.flavor})" if cost.flavor else ""
    most = f"It reserves {short(cost.gpu_hours)} GPU-hours and {short(cost.money)} of money{price}."
    verdict = Text("The budget refuses it.", style="bold red") if cost.refusal else Text("The budget has it.")
    return [Text(most), *([budget_summary(cost.budget), verdict] if cost.budget.budget else [])]


def _job_cells(job: JobSummary, wide: bool) -> list[Text]:
    total = "" if job.progress.total_steps is None else f"/{job.progress.total_steps}"
    step = f"{job.progress.step}{total}" if job.progress.step or total else ""
    kind = [Text(job.type)] if wide else []
    age = Text(format_age(job.created_at))
    return [Text(printable(job.name)), Text(job.id), *kind, state_text(job.state), Text(step), age]


def _facts(job: JobView) -> Table:
    table = Table.grid(padding=(0, 2))
    rows = [
        ("type", job.type),
        ("part of", job.parent or ""),
        ("children", children_words(job.children or {})),
        ("best" if job.state in TERMINAL_STATES else "best so far", best_words(job)),
        ("priority", str(job.priority)),
        ("created", f"{format_time(job.created_at)}, {format_age(job.created_at)} ago, by {job.created_by}"),
        ("ran", format_span(job.started_at, job.ended_at)),
        ("progress", progress_words(job.progress, running=job.state is JobState.RUNNING)),
        ("tags", ", ".join(f"{key}={value}" for key, value in job.tags.items())),
        ("cost", "" if job.cost is None else cost_words(job.cost)),
        ("model", "" if job.model is None else f"{job.model.name} version {job.model.version}"),
        ("mlflow", (job.model.mlflow_url if job.model else None) or ""),
    ]
    for name, value in rows:
        if value:
            table.add_row(Text(name, style="dim"), printable(value))
    return table


def _plain_name(metric: str) -> str:
    return metric.removeprefix("base/").removeprefix("tuned/")


def _table(*titles: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="bold")
    for title in titles:
        table.add_column(title, overflow="fold", no_wrap=title in _WHOLE_COLUMNS)
    return table
