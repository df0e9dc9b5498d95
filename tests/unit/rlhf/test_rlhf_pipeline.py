"""The stages of a pipeline follow each other, no policy is made too early, and it ends."""

import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steelyard.kit.proportions import exact_lower_limit
from steelyard.rlhf import next_step
from steelyard.rlhf.forecasts import forecast
from steelyard.rlhf.scorer import pairs_needed
from steelyard.specs.families import Child, FamilyStep
from steelyard.specs.job import JOB_SPEC, FineTuneSpec, RlhfSpec
from steelyard.specs.states import TERMINAL_STATES, JobState, Reason

GOOD = {"reward/accuracy": 0.9, "reward/accuracy_n": 60.0}
WEAK = {"reward/accuracy": 0.62, "reward/accuracy_n": 60.0}


def spec_of(method: str = "ppo", **changes: Any) -> RlhfSpec:
    body: dict[str, Any] = {
        "api_version": "steelyard/v1",
        "type": "rlhf",
        "name": "tone",
        "model": {"name_or_path": "builtin/tiny-random"},
        "dataset": {"ref": "pairs@v2"},
        "policy": {"method": method, "max_steps": 5},
        "secrets": ["HF_TOKEN"],
        "tags": {"team": "a"},
        "priority": 700,
        "limits": {"max_runtime_seconds": 600},
        "resources": {"gpus": 2},
        "training": {"seed": 11},
    }
    if method in ("ppo", "grpo"):
        body["reward_model"] = {"max_steps": 9, "learning_rate": 0.01, "min_accuracy": 0.6}
    spec = JOB_SPEC.validate_json(json.dumps(body | changes))
    assert isinstance(spec, RlhfSpec)
    return spec


def child(key: str, state: JobState, metrics: dict[str, float] | None = None, **fields: Any) -> Child:
    registered = state is JobState.SUCCEEDED
    fields = {"reason": None, "model_version": f"models/tone-{key}@3" if registered else None} | fields
    return Child(key=key, job_id=f"job_{key}", state=state, metrics=metrics or {}, **fields)


def ordered(step: FamilyStep) -> FineTuneSpec:
    """What the one order of a step makes, held against the rules of specs as every submission."""
    (order,) = step.start
    spec = JOB_SPEC.validate_json(json.dumps(order.spec))
    assert isinstance(spec, FineTuneSpec)
    return spec


def test_first_comes_the_reward_model_with_what_the_job_says() -> None:
    step = next_step(spec_of(), [])

    assert [order.key for order in step.start] == ["reward_model"]
    assert step.start[0].registers
    made = ordered(step)
    assert (made.method, made.training.max_steps, made.training.learning_rate) == ("reward", 9, 0.01)
    assert (made.training.seed, made.resources.gpus, made.priority) == (11, 2, 700)
    assert (made.secrets, made.tags) == (["HF_TOKEN"], {"team": "a"})
    assert made.dataset is not None
    assert made.dataset.ref == "pairs@v2"
    assert made.register_as is not None
    assert made.register_as.model_name == "tone-reward"
    assert made.evaluation is None


def test_then_the_policy_against_the_version_that_was_registered() -> None:
    safety = {"min_pass_rate": 0.7, "confidence": 0.9, "max_kl": 2.0}
    spec = spec_of("ppo", safety=safety, register_as={"model_name": "voice"})

    step = next_step(spec, [child("reward_model", JobState.SUCCEEDED, GOOD)])

    made = ordered(step)
    assert "orders 54 of 60 held-out pairs rightly (0.9)" in step.start[0].why
    assert (made.method, made.training.max_steps, made.training.learning_rate) == ("ppo", 5, 2.0e-4)
    assert made.online is not None
    assert (made.online.reward_model, made.online.beta) == ("models/tone-reward_model@3", 0.1)
    assert made.register_as is not None
    assert made.register_as.model_name == "voice"
    assert made.evaluation is not None
    assert made.evaluation.suites == ["safety"]
    bounds = {gate.metric: (gate.min, gate.max, gate.confidence) for gate in made.evaluation.gates}
    assert bounds == {"safety/pass_rate": (0.7, None, 0.9), "policy/kl": (None, 2.0, None)}


@pytest.mark.parametrize("method", ["dpo", "kto"])
def test_preferences_as_they_stand_need_no_reward_model(method: str) -> None:
    policy = {"method": method, "max_steps": 5, "beta": 0.3, "learning_rate": 0.001}

    step = next_step(spec_of(method, policy=policy), [])

    made = ordered(step)
    assert (made.method, made.training.learning_rate) == (method, 0.001)
    assert made.preference is not None
    assert made.preference.beta == 0.3
    assert made.online is None


def test_suites_and_gates_of_the_job_stand_beside_safety() -> None:
    block = {
        "suites": ["smoke", "safety"],
        "max_samples": 7,
        "gates": [{"metric": "smoke/exact_match", "min": 0.5}],
    }

    made = ordered(next_step(spec_of("dpo", evaluation=block), []))

    assert made.evaluation is not None
    assert made.evaluation.suites == ["smoke", "safety"]
    assert made.evaluation.max_samples == 7
    assert [gate.metric for gate in made.evaluation.gates] == ["smoke/exact_match", "safety/pass_rate"]


def test_each_stage_has_its_own_limits() -> None:
    policy = {"method": "ppo", "max_steps": 5, "limits": {"max_runtime_seconds": 9}}
    spec = spec_of(policy=policy)

    first = ordered(next_step(spec, []))
    second = ordered(next_step(spec, [child("reward_model", JobState.SUCCEEDED, GOOD)]))

    assert (first.limits.max_runtime_seconds, second.limits.max_runtime_seconds) == (600, 9)


def test_long_names_give_valid_names_of_stages() -> None:
    spec = spec_of(name="n" * 63)

    first = ordered(next_step(spec, []))
    second = ordered(next_step(spec, [child("reward_model", JobState.SUCCEEDED, GOOD)]))

    assert first.name != second.name
    assert max(len(first.name), len(second.name)) <= 63


def test_a_weak_reward_model_ends_it_with_the_numbers_and_the_remedy() -> None:
    step = next_step(spec_of(), [child("reward_model", JobState.SUCCEEDED, WEAK)])

    assert step.end is not None
    assert (step.end.succeeded, step.end.reason) == (False, Reason.REWARD_MODEL_TOO_WEAK)
    limit = exact_lower_limit(37, 60, 0.95)
    for told in ("37 of 60", "(0.62)", f"{limit:.4g}", "min_accuracy 0.6", "submit again"):
        assert told in step.end.message
    assert not step.start


@pytest.mark.parametrize("metrics", [{}, {"reward/accuracy": float("nan"), "reward/accuracy_n": 9.0}])
def test_an_unmeasured_reward_model_is_too_weak(metrics: dict[str, float]) -> None:
    step = next_step(spec_of(), [child("reward_model", JobState.SUCCEEDED, metrics)])

    assert step.end is not None
    assert step.end.reason == Reason.REWARD_MODEL_TOO_WEAK
    assert "validation split" in step.end.message


def test_without_a_confidence_the_figure_itself_counts() -> None:
    spec = spec_of(reward_model={"max_steps": 1, "min_accuracy": 0.6, "confidence": None})

    assert next_step(spec, [child("reward_model", JobState.SUCCEEDED, WEAK)]).start


@pytest.mark.parametrize("stage", ["reward_model", "policy"])
@pytest.mark.parametrize("state", [JobState.FAILED, JobState.CANCELLED])
def test_a_stage_that_ends_badly_ends_the_job_for_its_reason(stage: str, state: JobState) -> None:
    before = [child("reward_model", JobState.SUCCEEDED, GOOD)] if stage == "policy" else []
    ended = child(stage, state, reason="nan_loss", message="the loss is no number")

    end = next_step(spec_of(), [*before, ended]).end

    assert end is not None
    assert (end.succeeded, end.reason) == (False, "nan_loss")
    for told in (stage, f"job_{stage}", "the loss is no number", "steelyard retry"):
        assert told in end.message


def test_a_stage_that_runs_again_is_waited_for() -> None:
    again = [child("reward_model", JobState.SUCCEEDED, GOOD), child("policy", JobState.QUEUED)]

    step = next_step(spec_of(), again)

    assert (step.start, step.stop, step.end) == ((), (), None)
    assert "stage 2 of 2" in step.message


def test_the_policy_is_the_result() -> None:
    figures = {"tuned/safety/pass_rate": 0.97, "policy/kl": 0.25}
    done = [child("reward_model", JobState.SUCCEEDED, GOOD), child("policy", JobState.SUCCEEDED, figures)]

    end = next_step(spec_of(), done).end

    assert end is not None
    assert (end.succeeded, end.chosen) == (True, "policy")
    for told in ("ppo", "models/tone-reward_model@3", "0.97", "0.25"):
        assert told in end.message


_METRICS = st.fixed_dictionaries(
    {},
    optional={
        "reward/accuracy": st.floats(0.0, 1.0) | st.just(float("nan")),
        "reward/accuracy_n": st.integers(0, 400).map(float),
    },
)
_STATES = st.sampled_from(list(JobState))


@st.composite
def _families(draw: st.DrawFn) -> list[Child]:
    found: list[Child] = []
    for key in ("reward_model", "policy"):
        if draw(st.booleans()):
            found.append(child(key, draw(_STATES), draw(_METRICS)))
    return found


@given(children=_families(), method=st.sampled_from(["ppo", "grpo", "dpo", "kto"]))
def test_no_policy_starts_before_a_good_reward_model_whatever_the_children(
    children: list[Child], method: str
) -> None:
    spec = spec_of(method)
    step = next_step(spec, children)

    assert step == next_step(spec, children[::-1])
    assert not (step.end and step.start)
    assert {order.key for order in step.start}.isdisjoint(each.key for each in children)
    for order in step.start:
        JOB_SPEC.validate_json(json.dumps(order.spec))
        if order.key == "policy" and spec.reward_model is not None:
            (reward,) = [each for each in children if each.key == "reward_model"]
            assert reward.state is JobState.SUCCEEDED
            n = round(reward.metrics["reward/accuracy_n"])
            assert exact_lower_limit(round(reward.metrics["reward/accuracy"] * n), n, 0.95) >= 0.6


@given(
    ends=st.lists(st.sampled_from([JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED]), max_size=2),
    metrics=_METRICS,
    method=st.sampled_from(["ppo", "dpo"]),
)
def test_carried_out_again_and_again_it_ends(
    ends: list[JobState], metrics: dict[str, float], method: str
) -> None:
    spec, children = spec_of(method), list[Child]()
    fates = itertools.chain(ends, itertools.repeat(JobState.SUCCEEDED))
    step = next_step(spec, children)
    for _ in range(3):
        if step.end is not None:
            break
        (order,) = step.start
        assert not next_step(spec, [*children, child(order.key, JobState.RUNNING)]).start
        children.append(child(order.key, next(fates), metrics))
        step = next_step(spec, children)
    assert step.end is not None
    assert step.end.succeeded is (step.end.chosen == "policy")
    assert all(each.state in TERMINAL_STATES for each in children)


@given(accuracy=st.floats(0.0, 1.0), bound=st.floats(0.0, 0.99))
def test_the_pairs_that_are_told_would_do(accuracy: float, bound: float) -> None:
    needed = pairs_needed(accuracy, bound, 0.95)

    if needed is None:
        assert accuracy <= bound + 0.001
    else:
        assert exact_lower_limit(int(accuracy * needed + 1e-9), needed, 0.95) >= bound


def test_a_plan_tells_the_stages_and_their_bounds() -> None:
    first, second = forecast(spec_of(safety={"min_pass_rate": 0.7, "max_kl": 2.0}))

    for told in ("stage 1 of 2, reward_model", "0.167 h", "tone-reward", "0.6", "0.95 confidence"):
        assert told in first
    for told in ("stage 2 of 2, policy", "5 steps of ppo", "safety/pass_rate >= 0.7, policy/kl <= 2"):
        assert told in second
    (alone,) = forecast(spec_of("dpo"))
    assert "stage 1 of 1, policy" in alone


def test_a_stage_that_a_retry_is_to_start_again_is_and_nothing_before_its_turn() -> None:
    scorer = child("reward_model", JobState.SUCCEEDED, GOOD)
    due = child("policy", JobState.FAILED, reason=Reason.GATE_FAILED, is_due=True)
    again = next_step(spec_of(), [scorer, due])
    assert (again.restart, again.start, again.end) == (("policy",), (), None)

    lost = child("reward_model", JobState.CANCELLED, is_due=True)
    assert next_step(spec_of(), [lost, due]).restart == ("reward_model",)
    assert next_step(spec_of(), [child("reward_model", JobState.RUNNING), due]).restart == ()
