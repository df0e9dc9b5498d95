"""Cells: what makes two measurements the same one, and what makes them comparable."""

import json
from typing import Any

from steelyard.specs.cells import Contestant, plan_cells
from steelyard.specs.evaluations import Cell
from steelyard.specs.job import EvalOnlySpec

_DATA = {"digest": "sha256:data", "format": "text"}


def _cell(contestant: Contestant, *, data: dict[str, str] = _DATA, **evaluation: Any) -> Cell:
    spec = EvalOnlySpec.model_validate_json(
        json.dumps(
            {
                "api_version": "steelyard/v1",
                "type": "eval_only",
                "name": "weigh",
                "model": {"name_or_path": "builtin/tiny-random"},
                "dataset": {"ref": "sums"},
                "evaluation": {"suites": ["heldout"], **evaluation},
            }
        )
    )
    (cell,) = plan_cells(spec, [contestant], [], data)
    return cell


def test_equal_cells_share_their_work() -> None:
    assert _cell(Contestant("base", "m")).key == _cell(Contestant("tuned", "m")).key


def test_model_data_and_settings_make_another_cell() -> None:
    keys = {
        _cell(Contestant("base", "m")).key,
        _cell(Contestant("base", "n")).key,
        _cell(Contestant("base", "m", "b")).key,
        _cell(Contestant("base", "m", "c")).key,
        _cell(Contestant("base", "m"), data={"digest": "sha256:other", "format": "text"}).key,
        _cell(Contestant("base", "m"), max_samples=7).key,
    }
    assert len(keys) == 6


def test_how_many_are_run_at_once_does_not() -> None:
    assert _cell(Contestant("base", "m"), batch_size=3).key == _cell(Contestant("base", "m")).key


def test_an_adapter_is_measured_as_its_base_was() -> None:
    base, adapter = _cell(Contestant("base", "m")), _cell(Contestant("tuned", "a", "m"))
    assert adapter.settings_digest == base.settings_digest
    assert adapter.suite_digest == base.suite_digest
