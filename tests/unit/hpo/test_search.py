"""What a search wants next, at whatever moment it is asked."""

import json
import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.hpo.searches import RATE, child, run_search, search_spec

from steelyard.hpo.search import next_step
from steelyard.specs.families import MOST_STARTS, Child, FamilyStep
from steelyard.specs.job import JOB_SPEC, FineTuneSpec
from steelyard.specs.states import TERMINAL_STATES, JobState, Reason

_LIVE = tuple(state for state in JobState if state not in TERMINAL_STATES)


def test_it_begins_with_as_many_trials_as_may_be_at_work() -> None:
    step = next_step(search_spec(), [])

    assert [order.key for order in step.start] == ["trial-0000", "trial-0001", "trial-0002"]
    assert step.end is None
    assert step.message == "3 of 10 trials made: 3 at work"


def test_many_trials_at_once_are_made_a_few_at_a_look() -> None:
    spec = search_spec(max_trials=50, max_concurrent_trials=50)
    children: list[Child] = []
    looks: list[int] = []
    while (started := next_step(spec, children).start) != ():
        looks.append(len(started))
        children += [child(int(order.key[-4:])) for order in started]

    assert looks == [MOST_STARTS, MOST_STARTS, 50 - 2 * MOST_STARTS]


def test_an_order_is_the_template_with_values_and_what_the_search_shares_out() -> None:
    spec = search_spec(
        trial={"secrets": ["HUB"], "tags": {"kind": "trial"}, "limits": {"max_runtime_seconds": 60}}
    )
    spec = spec.model_copy(
        update={"priority": 700, "secrets": ["BUCKET"], "tags": {"team": "a", "kind": "search"}}
    )

    order = next_step(spec, []).start[0]
    trial = JOB_SPEC.validate_json(json.dumps(order.spec))

    assert isinstance(trial, FineTuneSpec)
    assert trial.name == "search-0000"
    assert trial.training.learning_rate == order.parameters["training.learning_rate"] != 2e-4
    assert trial.training.model_copy(update={"learning_rate": 2e-4}) == spec.trial.training
    assert (trial.priority, trial.secrets) == (700, ["BUCKET", "HUB"])
    assert trial.tags == {"team": "a", "kind": "trial"}
    assert trial.limits.max_runtime_seconds == 60
    assert not order.registers


def test_the_longest_name_still_makes_valid_trials() -> None:
    spec = search_spec().model_copy(update={"name": "n" * 63})

    JOB_SPEC.validate_json(json.dumps(next_step(spec, []).start[0].spec))


def test_a_seed_that_is_searched_is_each_trials_own() -> None:
    spec = search_spec(algorithm="grid", parameters={"training.seed": {"type": "int", "low": 1, "high": 3}})

    assert [order.spec["training"]["seed"] for order in next_step(spec, []).start] == [1, 2, 3]


@pytest.mark.parametrize("state", _LIVE)
def test_whatever_is_not_over_takes_a_place(state: JobState) -> None:
    step = next_step(search_spec(), [child(0, state), child(1, state)])

    assert [order.key for order in step.start] == ["trial-0002"]


def test_it_ends_with_the_best_and_says_so() -> None:
    spec = search_spec(max_trials=3)
    children = [
        child(number, JobState.SUCCEEDED, value=value) for number, value in enumerate([3.0, 1.0, 2.0])
    ]

    end = next_step(spec, children).end

    assert end is not None
    assert (end.succeeded, end.chosen, end.reason) == (True, "trial-0001", Reason.COMPLETED)
    assert end.message == (
        "trial-0001 is the best of 3 trials: heldout/loss 1 with training.learning_rate=0.001"
    )


def _chosen(children: Sequence[Child], **changes: Any) -> str | None:
    end = next_step(search_spec(max_trials=len(children), **changes), children).end
    assert end is not None
    return end.chosen


class TestTheBest:
    def test_direction_counts(self) -> None:
        children = [child(n, JobState.SUCCEEDED, value=v) for n, v in enumerate([3.0, 1.0])]
        assert _chosen(children, direction="maximize") == "trial-0000"
        assert _chosen(children, direction="minimize") == "trial-0001"

    def test_the_first_of_equals(self) -> None:
        assert _chosen([child(n, JobState.SUCCEEDED, value=1.0) for n in (2, 0, 1)]) == "trial-0000"

    @pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
    def test_what_is_no_finite_number_never_wins(self, value: float) -> None:
        children = [child(0, JobState.SUCCEEDED, value=value), child(1, JobState.SUCCEEDED, value=9.0)]
        assert _chosen(children) == "trial-0001"

    def test_what_was_pruned_never_wins(self) -> None:
        pruned = child(0, JobState.CANCELLED, reason=Reason.PRUNED, curve=[(1, 0.0)], value=0.0)
        assert _chosen([pruned, child(1, JobState.SUCCEEDED, value=9.0)]) == "trial-0001"

    def test_what_its_gates_refuse_never_wins(self) -> None:
        refused = child(0, JobState.FAILED, reason=Reason.GATE_FAILED, value=0.0)
        assert _chosen([refused, child(1, JobState.SUCCEEDED, value=9.0)]) == "trial-0001"

    def test_the_base_models_figure_is_not_the_trials(self) -> None:
        base = child(0, JobState.SUCCEEDED, value=0.1, metric="base/heldout/loss")
        assert _chosen([base, child(1, JobState.SUCCEEDED, value=9.0)]) == "trial-0001"


class TestFailures:
    def test_a_search_where_nothing_succeeds_fails(self) -> None:
        children = [child(n, JobState.CANCELLED, reason=Reason.CANCELLED_BY_USER) for n in range(2)]
        end = next_step(search_spec(max_trials=2), children).end
        assert end is not None
        assert (end.succeeded, end.reason) == (False, Reason.NO_TRIAL_SUCCEEDED)

    def test_a_metric_that_nobody_has_is_told_with_what_there_is(self) -> None:
        children = [child(n, JobState.SUCCEEDED, value=1.0, metric="tuned/other/loss") for n in range(2)]
        end = next_step(search_spec(max_trials=2), children).end
        assert end is not None
        assert end.reason == Reason.NO_TRIAL_SUCCEEDED
        assert "tuned/other/loss" in end.message

    def test_some_may_fail(self) -> None:
        children = [child(n, JobState.FAILED, reason=Reason.NAN_LOSS) for n in range(2)]
        step = next_step(search_spec(max_failed_trials=2), children)
        assert step.end is None
        assert [order.key for order in step.start] == ["trial-0002", "trial-0003", "trial-0004"]

    def test_more_end_the_search_with_a_remedy(self) -> None:
        children = [child(n, JobState.FAILED, reason=Reason.NAN_LOSS) for n in range(3)]
        step = next_step(search_spec(max_failed_trials=2), [*children, child(3)])
        assert step.end is not None
        assert (step.end.succeeded, step.end.reason) == (False, Reason.TOO_MANY_FAILED_TRIALS)
        assert "trial-0000 (nan_loss)" in step.end.message
        assert step.start == ()

    def test_gates_pruning_and_people_are_no_failures(self) -> None:
        children = [
            child(0, JobState.FAILED, reason=Reason.GATE_FAILED),
            child(1, JobState.CANCELLED, reason=Reason.PRUNED),
            child(2, JobState.CANCELLED, reason=Reason.CANCELLED_BY_USER),
        ]
        assert next_step(search_spec(max_failed_trials=0), children).end is None


class TestStartingAgain:
    def _due(self, *numbers: int) -> list[Child]:
        return [child(n, JobState.FAILED, reason=Reason.PLATFORM_ERROR, is_due=True) for n in numbers]

    def test_only_so_many_as_may_be_at_work_and_before_new_ones(self) -> None:
        step = next_step(search_spec(), [child(0), *self._due(1, 2, 3)])
        assert (step.restart, step.start) == (("trial-0001", "trial-0002"), ())
        assert step.message == "4 of 10 trials made: 3 at work, 1 to be started again"
        assert next_step(search_spec(), [child(0), child(1), child(2), *self._due(3)]).restart == ()

    def test_places_that_are_left_are_for_new_ones(self) -> None:
        step = next_step(search_spec(), [child(0), *self._due(1)])
        assert step.restart == ("trial-0001",)
        assert [order.key for order in step.start] == ["trial-0002"]

    def test_who_waits_has_not_failed_and_is_not_over(self) -> None:
        spec = search_spec(max_trials=3, max_failed_trials=0, max_concurrent_trials=1)
        step = next_step(spec, [child(0), *self._due(1, 2)])
        assert (step.end, step.restart, step.start, step.stop) == (None, (), (), ())

    def test_many_are_started_again_a_few_at_a_look(self) -> None:
        spec = search_spec(max_trials=50, max_concurrent_trials=50)
        step = next_step(spec, self._due(*range(30)))
        assert (len(step.restart), step.start) == (MOST_STARTS, ())


class TestPruning:
    SPEC = search_spec(
        metric="eval/loss", pruning={"type": "asha", "min_steps": 3, "reduction_factor": 3}, max_trials=9
    )

    def _curves(self, **changes: Any) -> list[Child]:
        last: dict[str, Any] = {"number": 2, "curve": [(3, 9.0)]} | changes
        return [child(0, curve=[(3, 1.0)]), child(1, curve=[(3, 2.0)]), child(**last)]

    def test_it_stops_who_is_behind_and_says_why(self) -> None:
        stops = next_step(self.SPEC, self._curves()).stop
        assert [(stop.key, stop.reason) for stop in stops] == [
            ("trial-0001", Reason.PRUNED),
            ("trial-0002", Reason.PRUNED),
        ]
        assert "9 at step 3" in stops[1].message

    def test_who_is_stopping_is_not_told_again(self) -> None:
        stops = next_step(self.SPEC, self._curves(state=JobState.CANCELLING)).stop
        assert [stop.key for stop in stops] == ["trial-0001"]

    def test_a_trained_model_is_evaluated_in_peace(self) -> None:
        stops = next_step(self.SPEC, self._curves(value=9.0, metric="train/loss")).stop
        assert [stop.key for stop in stops] == ["trial-0001"]

    @pytest.mark.parametrize("rule", [{"type": "asha"}, {"type": "median", "min_trials": 1}])
    def test_nothing_is_saved_by_stopping_at_the_last_step(self, rule: dict[str, Any]) -> None:
        pruning = {"min_steps": 10, "reduction_factor": 2} | rule
        training = {"max_steps": 40, "eval_steps": 10}
        spec = search_spec(metric="eval/loss", trial={"training": training}, pruning=pruning)

        def stopped(spec: Any, steps: int, **parameters: int) -> list[str]:
            point = {"training.learning_rate": 1e-3, **parameters}
            curves = [[(step, loss) for step in range(10, steps + 1, 10)] for loss in (1.0, 9.0)]
            children = [child(n, curve=curve, parameters=point) for n, curve in enumerate(curves)]
            return [stop.key for stop in next_step(spec, children).stop]

        assert stopped(spec, 40) == []
        assert stopped(spec, 30) == ["trial-0001"]
        steps = {"type": "choice", "values": [20, 80]}
        varied = spec.model_copy(
            update={
                "search": search_spec(
                    metric="eval/loss",
                    pruning=pruning,
                    parameters={"training.learning_rate": RATE, "training.max_steps": steps},
                ).search
            }
        )
        assert stopped(varied, 40, **{"training.max_steps": 80}) == ["trial-0001"]
        assert stopped(varied, 20, **{"training.max_steps": 20}) == []

    def test_what_is_over_counts_where_it_got_to(self) -> None:
        over = [child(n, JobState.CANCELLED, reason=Reason.PRUNED, curve=[(3, float(n))]) for n in range(6)]
        assert [stop.key for stop in next_step(self.SPEC, [*over, child(8, curve=[(3, 4.0)])]).stop] == [
            "trial-0008"
        ]


@st.composite
def _children(draw: st.DrawFn) -> list[Child]:
    numbers = draw(st.lists(st.integers(0, 11), unique=True, max_size=12))
    states = {number: draw(st.sampled_from(list(JobState))) for number in numbers}
    return [
        child(
            number,
            states[number],
            is_due=states[number] in (JobState.FAILED, JobState.CANCELLED) and draw(st.booleans()),
            value=draw(st.none() | st.floats()),
            reason=draw(st.none() | st.sampled_from([Reason.PRUNED, Reason.NAN_LOSS, Reason.GATE_FAILED])),
            curve=[(step, loss) for step, loss in enumerate(draw(st.lists(st.floats(), max_size=12)), 1)],
        )
        for number in numbers
    ]


_ALGORITHMS = [
    search_spec(algorithm="random", max_trials=12),
    search_spec(
        algorithm="bayesian", max_trials=12, metric="eval/loss", pruning={"type": "asha", "min_steps": 3}
    ),
    search_spec(
        algorithm="grid",
        max_trials=12,
        parameters={"peft.r": {"type": "int", "low": 1, "high": 12}},
        metric="train/loss",
        pruning={"type": "median", "min_steps": 3},
    ),
]


@pytest.mark.parametrize("spec", _ALGORITHMS, ids=lambda spec: spec.search.algorithm)
@settings(max_examples=60, deadline=None)
@given(children=_children(), seed=st.integers(0, 999))
def test_it_answers_the_same_for_the_same_children_in_any_order(
    spec: Any, children: list[Child], seed: int
) -> None:
    step = next_step(spec, children)
    shuffled = random.Random(seed).sample(children, len(children))

    assert next_step(spec, children) == step
    assert next_step(spec, shuffled) == step
    _hold_the_bounds(spec, children, step)


def _hold_the_bounds(spec: Any, children: Sequence[Child], step: FamilyStep) -> None:
    live = [each for each in children if each.state not in TERMINAL_STATES]
    started = {order.key for order in step.start}
    assert not started & {each.key for each in children}
    assert len(children) + len(started) <= spec.search.trials
    more = len(started) + len(step.restart)
    assert not more or len(live) + more <= spec.search.max_concurrent_trials
    assert set(step.restart) <= {each.key for each in children if each.is_due}
    assert {stop.key for stop in step.stop} <= {each.key for each in live}
    assert step.end is None or not more


@pytest.mark.parametrize("spec", _ALGORITHMS, ids=lambda spec: spec.search.algorithm)
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_no_interleaving_makes_too_many_trials_or_one_twice(spec: Any, seed: int) -> None:
    """Trials are carried out in part, end in any order, and the search is asked at any moment."""
    draw = random.Random(seed)
    children: list[Child] = []
    made: set[str] = set()
    for _ in range(400):
        step = next_step(spec, children)
        _hold_the_bounds(spec, children, step)
        if step.end is not None:
            break
        # Of a step that is cut short only a part is there when it is asked again.
        for order in step.start[: draw.randint(0, len(step.start))]:
            assert order.key not in made
            made.add(order.key)
            children.append(Child(order.key, order.key, JobState.QUEUED, None, order.parameters))
        again = step.restart[: draw.randint(0, len(step.restart))]
        children = [
            replace(each, state=JobState.QUEUED, is_due=False) if each.key in again else each
            for each in children
        ]
        if draw.random() < 0.1:
            # A retry of the whole, of which nothing is left at work.
            children = [_stopped(each) for each in children]
        children = [_moved(each, draw) for each in children]
    else:
        pytest.fail("the search never ends")
    assert len(made) <= spec.search.trials


def _stopped(each: Child) -> Child:
    if each.state in TERMINAL_STATES:
        return each
    return replace(each, state=JobState.CANCELLED, reason=Reason.FAMILY_OVER, is_due=True)


def _moved(each: Child, draw: random.Random) -> Child:
    if each.state in TERMINAL_STATES or draw.random() < 0.5:
        return each
    step = len(each.curve) + 1
    curve = (*each.curve, (step, draw.choice([1.0, 2.0, float("nan"), draw.random()])))
    state = draw.choice([JobState.RUNNING, JobState.RUNNING, JobState.SUCCEEDED, JobState.CANCELLED])
    reason = Reason.PRUNED if state is JobState.CANCELLED else None
    metrics = {"eval/loss": draw.random()} if state is JobState.SUCCEEDED else {}
    return Child(each.key, each.job_id, state, reason, each.parameters, metrics, curve)


def test_a_whole_search_finds_the_least_of_a_grid() -> None:
    spec = search_spec(
        algorithm="grid",
        parameters={
            "peft.r": {"type": "int", "low": 1, "high": 9},
            "training.learning_rate": {"type": "choice", "values": [1e-3, 1e-2]},
        },
        max_trials=100,
    )

    children = run_search(spec, lambda point: abs(point["peft.r"] - 7) + point["training.learning_rate"])

    end = next_step(spec, children).end
    assert end is not None
    assert len(children) == 18
    chosen = next(each for each in children if each.key == end.chosen)
    assert chosen.parameters == {"peft.r": 7, "training.learning_rate": 1e-3}


def test_parameters_that_a_database_gives_back_as_whole_numbers_are_read() -> None:
    spec = search_spec(
        algorithm="bayesian", max_trials=40, parameters={"training.learning_rate": RATE | {"high": 1.0}}
    )
    children = [
        child(number, JobState.SUCCEEDED, value=1.0, parameters={"training.learning_rate": 1})
        for number in range(20)
    ]

    assert len(next_step(spec, children).start) == 3
