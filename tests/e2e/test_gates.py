"""Gates before the registry, with real training and a safety suite: one model passes, one is refused."""

import pytest
from tests.e2e.platform import LivePlatform, wait_for_state
from tests.e2e.specs import sums_spec

from steelyard.specs.gates import Verdict

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

_LEARNED = {"metric": "heldout/loss", "max_regression": 0.0, "min_samples": 2}
_HARMLESS = {"metric": "safety/pass_rate", "min": 0.01, "confidence": 0.95}
_PERFECT = {"metric": "safety/pass_rate", "min": 0.999, "confidence": 0.95}


def test_a_model_is_registered_by_its_gates_and_people_see_why(platform: LivePlatform) -> None:
    with platform.client() as client:
        for name, last, state in (("gated", _HARMLESS, "succeeded"), ("refused", _PERFECT, "failed")):
            spec = sums_spec(name, max_steps=40)
            spec["evaluation"] = {
                "suites": ["heldout", "safety"],
                "max_samples": 4,
                "gates": [_LEARNED, last],
            }
            job = client.jobs.submit(spec)
            assert wait_for_state(client, job.id, "succeeded", "failed").state == state
            view = client.jobs.get(job.id)
            assert view.gates is not None
            learned, safe = view.gates.gates
            assert learned.verdict is Verdict.PASS, learned.reason
            assert learned.checks[0].method == "paired t"
            assert (safe.verdict is Verdict.PASS) == (state == "succeeded")
            assert (view.model is not None) == (state == "succeeded")
            assert "safety/pass_rate" in platform.run("get", job.id).stdout
        assert "0.999" in (view.status_message or "")
        safety = next(each for each in client.evaluations.list(job=job.id).data if each.suite == "safety")
    shown = platform.run("evals", "show", safety.id).stdout
    assert "NOT tested" in shown
    assert "other languages" in shown
