"""What a search wants next: trials to make, trials to stop, or its end."""

from collections.abc import Sequence
from itertools import islice

from steelyard.hpo.sampling import propose
from steelyard.hpo.space import Point, put, told
from steelyard.hpo.stopping import stops
from steelyard.hpo.trials import Trial, best_of, key_of, read_trials
from steelyard.specs.families import MOST_STARTS, Child, ChildOrder, ChildStop, FamilyEnd, FamilyStep
from steelyard.specs.job import HpoSpec
from steelyard.specs.search import SearchBlock
from steelyard.specs.states import JobState, Reason

_NAME_LENGTH = 58
_SHOWN_METRICS = 12


def next_step(spec: HpoSpec, children: Sequence[Child]) -> FamilyStep:
    """Return what is to be done now. The same children give the same answer, in whatever order they come.

    A trial that failed, was pruned, or was cancelled is not made again: `max_trials` counts trials. One that
    a retry of the search is to start again comes before new ones, as soon as there is a place for it.
    """
    block = spec.search
    trials = read_trials(block, children)
    failed = sum(trial.has_failed for trial in trials)
    live = [trial for trial in trials if trial.is_at_work]
    message = _standing(block, trials)
    if failed > block.max_failed_trials:
        return FamilyStep(end=_give_up(block, trials, failed), message=message)
    if len(trials) >= block.trials and all(trial.is_over for trial in trials):
        return FamilyStep(end=_end(spec, trials, children), message=message)
    pruned = _pruned(spec, trials, live)
    free = min(block.max_concurrent_trials - len(live), MOST_STARTS)
    again = [trial.key for trial in trials if trial.is_due][: max(0, free)]
    orders = _orders(spec, trials, free - len(again))
    message = _standing(block, trials, len(orders), len(again))
    return FamilyStep(start=orders, stop=pruned, restart=tuple(again), message=message)


def order_of(spec: HpoSpec, number: int, point: Point) -> ChildOrder:
    """Return the order of a trial: the template with the point's values, and what the search shares out."""
    template = spec.trial.model_dump(mode="json")
    trial = put(template, point) | {
        "name": f"{spec.name[:_NAME_LENGTH]}-{number:04d}",
        "priority": spec.priority,
        "secrets": sorted({*spec.secrets, *spec.trial.secrets}),
        "tags": {**spec.tags, **spec.trial.tags},
    }
    return ChildOrder(key=key_of(number), spec=trial, parameters=dict(point), registers=False)


def _orders(spec: HpoSpec, trials: Sequence[Trial], free: int) -> tuple[ChildOrder, ...]:
    block = spec.search
    known = {trial.number for trial in trials}
    fresh = (number for number in range(block.trials) if number not in known)
    numbers = list(islice(fresh, max(0, min(free, block.trials - len(trials)))))
    points = propose(block, trials, numbers) if numbers else {}
    return tuple(order_of(spec, number, points[number]) for number in numbers)


def _pruned(spec: HpoSpec, trials: Sequence[Trial], live: Sequence[Trial]) -> tuple[ChildStop, ...]:
    """A model whose training is over is evaluated, whatever the others have shown since."""
    curves = {trial.number: trial.curve for trial in trials}
    candidates = [
        trial.number
        for trial in live
        if trial.state is not JobState.CANCELLING and not trial.is_trained and not _at_last_step(spec, trial)
    ]
    why = stops(spec.search.pruning, curves, candidates)
    return tuple(ChildStop(key_of(number), Reason.PRUNED, told) for number, told in sorted(why.items()))


def _at_last_step(spec: HpoSpec, trial: Trial) -> bool:
    """Whether there is nothing left to save of a trial's training. Of epochs nobody knows the steps here."""
    steps = trial.point.get("training.max_steps", spec.trial.training.max_steps)
    return bool(trial.curve) and isinstance(steps, int) and trial.curve[-1][0] >= steps


def _give_up(block: SearchBlock, trials: Sequence[Trial], failed: int) -> FamilyEnd:
    first = next(trial for trial in trials if trial.has_failed)
    why = (
        f"{failed} trials failed and search.max_failed_trials is {block.max_failed_trials}; the first is"
        f" {first.key} ({first.reason}): mend what made it fail, or narrow the ranges, and submit anew"
    )
    return FamilyEnd(False, Reason.TOO_MANY_FAILED_TRIALS, why)


def _end(spec: HpoSpec, trials: Sequence[Trial], children: Sequence[Child]) -> FamilyEnd:
    block = spec.search
    best = best_of(block, trials)
    if best is None:
        return FamilyEnd(False, Reason.NO_TRIAL_SUCCEEDED, _why_none(block, trials, children))
    return FamilyEnd(
        True,
        Reason.COMPLETED,
        f"{best.key} is the best of {len(trials)} trials: {block.metric} {best.value:.6g} with"
        f" {told(best.point)}",
        chosen=best.key,
    )


def _why_none(block: SearchBlock, trials: Sequence[Trial], children: Sequence[Child]) -> str:
    done = {trial.key for trial in trials if trial.state is JobState.SUCCEEDED}
    if not done:
        return f"none of {len(trials)} trials succeeded; 'steelyard trials' shows how each ended"
    measured = sorted({name for child in children if child.key in done for name in child.metrics})
    return f"no trial has a finite {block.metric}; what they measured: {', '.join(measured[:_SHOWN_METRICS])}"


def _standing(block: SearchBlock, trials: Sequence[Trial], ordered: int = 0, again: int = 0) -> str:
    """Say how the search stands, in words, once what is ordered now is made, or started again."""
    counts = {
        "finished": sum(trial.state is JobState.SUCCEEDED for trial in trials),
        "pruned": sum(trial.was_pruned for trial in trials),
        "failed": sum(trial.has_failed for trial in trials),
        "at work": ordered + again + sum(trial.is_at_work and not trial.is_paused for trial in trials),
        "paused": sum(trial.is_paused for trial in trials),
        "to be started again": sum(trial.is_due for trial in trials) - again,
    }
    parts = ", ".join(f"{count} {word}" for word, count in counts.items() if count)
    told_counts = f"{len(trials) + ordered} of {block.trials} trials made" + (f": {parts}" if parts else "")
    best = best_of(block, trials)
    return told_counts if best is None else f"{told_counts}; best {best.key}: {block.metric} {best.value:.6g}"
