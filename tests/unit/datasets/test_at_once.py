"""Ingests beside each other over one work folder, and after others that broke off."""

import io
import json
from pathlib import Path

import pytest
from tests.unit.datasets.files import PLAIN, Row, gzipped, ingest, rows_in, sorted_rows, spec_of, write_jsonl

from steelyard.datasets.build import ProgressNote, Watch
from steelyard.datasets.ingest import ingest_files
from steelyard.datasets.versions import Published

_ROWS: list[Row] = [{"prompt": f"question {i}?", "completion": f"answer {i}"} for i in range(60)]
_OTHER = spec_of(length={"enabled": True, "min_chars": 2})


def _once_at(stage: str, done: int, act: "list[str]", what: object) -> Watch:
    """Do something in the middle of an ingest, the first time that it gets so far."""

    def watch(note: ProgressNote) -> None:
        if (note.stage, note.done) == (stage, done) and not act:
            act.append(stage)
            if isinstance(what, BaseException):
                raise what
            assert callable(what)
            what()

    return watch


@pytest.mark.parametrize("stage", ["prepare", "clean", "gather"])
def test_one_that_ends_first_leaves_the_other_its_files(tmp_path: Path, stage: str) -> None:
    packed = gzipped(write_jsonl(tmp_path / "a.jsonl", _ROWS))
    found: list[Published] = []

    def other() -> None:
        found.append(ingest(tmp_path / "store", packed, spec=_OTHER))

    acted: list[str] = []
    first = ingest_files(
        [packed], "first", PLAIN, store_root=tmp_path / "store", workers=1,
        watch=_once_at(stage, 0, acted, other),
    )  # fmt: skip
    assert acted == [stage]
    for published in (first, *found):
        assert sorted_rows(rows_in(tmp_path / "store", published)) == sorted_rows(_ROWS)
    assert [path for path in (tmp_path / "store" / "work").rglob("*") if path.is_file()] == []


def test_two_that_read_standard_input_dont_see_each_others(tmp_path: Path) -> None:
    def lines(rows: list[Row]) -> io.BytesIO:
        return io.BytesIO("".join(json.dumps(row) + "\n" for row in rows).encode())

    found: list[Published] = []

    def other() -> None:
        found.append(ingest(tmp_path / "store", "-", stdin=lines(_ROWS[30:])))

    first = ingest_files(
        ["-"], "first", PLAIN, store_root=tmp_path / "store", workers=1, stdin=lines(_ROWS[:30]),
        watch=_once_at("prepare", 0, [], other),
    )  # fmt: skip
    assert sorted_rows(rows_in(tmp_path / "store", first)) == sorted_rows(_ROWS[:30])
    assert sorted_rows(rows_in(tmp_path / "store", found[0])) == sorted_rows(_ROWS[30:])


def test_files_that_changed_places_after_a_break_arent_taken_for_each_other(tmp_path: Path) -> None:
    one, two = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    write_jsonl(one, _ROWS[:30])
    write_jsonl(two, _ROWS[30:])
    with pytest.raises(KeyboardInterrupt):
        ingest_files(
            [one, two], "data", PLAIN, store_root=tmp_path / "store", workers=1,
            watch=_once_at("clean", 1, [], KeyboardInterrupt()),
        )  # fmt: skip
    write_jsonl(one, _ROWS[30:])
    write_jsonl(two, _ROWS[:30])
    published = ingest(tmp_path / "store", one, two)
    assert sorted_rows(rows_in(tmp_path / "store", published)) == sorted_rows(_ROWS)


@pytest.mark.parametrize("stage", ["prepare", "clean", "gather", "compare", "write"])
def test_an_interrupt_leaves_no_version_and_the_next_run_makes_it_whole(tmp_path: Path, stage: str) -> None:
    packed = gzipped(write_jsonl(tmp_path / "a.jsonl", _ROWS))
    store = tmp_path / "store"
    with pytest.raises(KeyboardInterrupt):
        ingest_files(
            [packed], "data", PLAIN, store_root=store, workers=1,
            watch=_once_at(stage, 0, [], KeyboardInterrupt()),
        )  # fmt: skip
    assert not (store / "datasets").exists()
    assert list((store / "work" / "incoming").iterdir()) == []
    published = ingest(store, packed)
    assert (published.version, published.created) == (1, True)
    assert sorted_rows(rows_in(store, published)) == sorted_rows(_ROWS)
    assert [path for path in (store / "work").rglob("*") if path.is_file()] == []
