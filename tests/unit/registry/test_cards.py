"""What a model's card tells of its measuring."""

from datetime import UTC, datetime
from typing import Any

from steelyard.registry.cards import write_card
from steelyard.specs.models import ModelVersionView
from steelyard.storage.tables import EvaluationRow

_VIEW = ModelVersionView(
    name="chat", version=3, job_id="job_1", manifest_digest="sha256:x", path="/p", lineage={},
    metrics={"train/loss": 1.5, "tuned/heldout/loss": 2.0, "tuned/heldout/loss/stderr": 0.1},
    mlflow_version=None, created_at=datetime(2026, 1, 1, tzinfo=UTC),
)  # fmt: skip


def _row(subject: str, suite: str, value: float, settings: str = "s") -> EvaluationRow:
    figure: dict[str, Any] = {
        "name": "loss", "mean": value, "standard_error": 0.1, "n": 8, "interval": [value - 0.2, value + 0.2],
        "method": "t", "higher_is_better": False,
    }  # fmt: skip
    return EvaluationRow(
        id="eval_1",
        subject=subject,
        suite=suite,
        suite_digest="d",
        settings_digest=settings,
        metrics=[figure],
    )


def test_figures_stand_with_interval_and_n_beside_the_base_measured_alike() -> None:
    rows = [
        _row("base", "heldout", 3.0),
        _row("tuned", "heldout", 2.0),
        _row("base", "exam", 3.0, "other"),
        _row("tuned", "exam", 2.0),
    ]
    card = write_card(_VIEW, {}, rows)
    assert "| heldout/loss | 2 | 1.8 to 2.2 | 8 | 3 |" in card
    assert "| exam/loss | 2 | 1.8 to 2.2 | 8 | not measured |" in card
    assert "| train/loss | 1.5 |" in card
    assert "stderr" not in card
    assert "No safety suite was run" in card


def test_a_safety_suite_is_called_no_certificate_and_its_report_is_named() -> None:
    card = write_card(_VIEW, {}, [_row("tuned", "safety", 0.5)])
    assert "no certificate; `steelyard evals show eval_1`" in card
    assert "No safety suite" not in card


def test_a_model_that_nobody_measured_says_nothing_of_how_it_did() -> None:
    assert "How it did" not in write_card(_VIEW, {}, [])
