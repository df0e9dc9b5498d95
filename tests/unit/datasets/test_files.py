"""Kinds of files: what goes in comes out, and what is broken is named by file and line."""

import csv
import gzip
import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tests.unit.datasets.files import (
    Row,
    gzipped,
    ingest,
    rows_in,
    sorted_rows,
    spec_of,
    write_jsonl,
    zstd_packed,
)

from steelyard.datasets.sources import find_sources
from steelyard.datasets.strict_json import BadJson, parse_strict
from steelyard.kit.errors import InvalidDataset, PermissionDenied, SteelyardError

_ROWS: list[Row] = [
    {"prompt": f'Frage {i}: wie groß?\nSo, «etwa» "{i}"?', "completion": f"{i} m, 高さ"} for i in range(60)
]
_AS_THEY_ARE = spec_of(normalize={"enabled": False}, exact_dedup={"enabled": False})


def _json_array(path: Path) -> Path:
    path.write_text(json.dumps(_ROWS))
    return path


def _pretty_json(path: Path) -> Path:
    path.write_text("\n".join(json.dumps(row, indent=2) for row in _ROWS))
    return path


def _csv(path: Path) -> Path:
    with path.open("w", newline="", encoding="utf-8-sig") as file:
        writer = csv.DictWriter(file, ["prompt", "completion"])
        writer.writeheader()
        writer.writerows(_ROWS)
    return path


def _parquet(path: Path) -> Path:
    pl.DataFrame(_ROWS).write_parquet(path, row_group_size=7)
    return path


_MAKERS: dict[str, Callable[[Path], Path]] = {
    "jsonl": lambda folder: write_jsonl(folder / "a.jsonl", _ROWS),
    "jsonl.gz": lambda folder: gzipped(write_jsonl(folder / "a.jsonl", _ROWS)),
    "jsonl.zst": lambda folder: zstd_packed(write_jsonl(folder / "a.jsonl", _ROWS)),
    "json": lambda folder: _json_array(folder / "a.json"),
    "json.gz": lambda folder: gzipped(_json_array(folder / "a.json")),
    "json of objects": lambda folder: _pretty_json(folder / "a.json"),
    "csv": lambda folder: _csv(folder / "a.csv"),
    "csv.zst": lambda folder: zstd_packed(_csv(folder / "a.csv")),
    "parquet": lambda folder: _parquet(folder / "a.parquet"),
}


@pytest.mark.parametrize("kind", _MAKERS)
def test_every_kind_of_file_gives_the_same_version(tmp_path: Path, kind: str) -> None:
    plain = ingest(tmp_path / "store", write_jsonl(tmp_path / "plain.jsonl", _ROWS))
    folder = tmp_path / "other"
    folder.mkdir()
    published = ingest(tmp_path / "store", _MAKERS[kind](folder))
    assert published.manifest.digest == plain.manifest.digest
    assert not published.created
    assert sorted_rows(rows_in(tmp_path / "store", published)) == sorted_rows(_ROWS)


def test_folders_globs_and_standard_input_are_read(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    (folder / "deep").mkdir(parents=True)
    write_jsonl(folder / "a.jsonl", _ROWS[:10])
    gzipped(write_jsonl(folder / "deep" / "b.jsonl", _ROWS[10:20])).rename(folder / "deep" / "c.jsonl.gz")
    (folder / "deep" / "b.jsonl").unlink()
    (folder / "notes.md").write_text("not data")
    text = "".join(json.dumps(row) + "\n" for row in _ROWS[20:30])
    by_folder = ingest(tmp_path / "store", folder, "-", stdin=io.BytesIO(text.encode()))
    assert by_folder.manifest.rows_kept == 30
    by_glob = ingest(tmp_path / "store", f"{folder}/*.jsonl")
    assert by_glob.manifest.rows_kept == 10


def test_links_and_dots_that_lead_out_of_the_roots_are_refused(tmp_path: Path) -> None:
    outside, root = tmp_path / "outside", tmp_path / "root"
    outside.mkdir()
    root.mkdir()
    secret = write_jsonl(outside / "secret.jsonl", _ROWS)
    (root / "link.jsonl").symlink_to(secret)
    for path in (root / "link.jsonl", root / ".." / "outside" / "secret.jsonl", secret):
        with pytest.raises(PermissionDenied, match="lies outside"):
            find_sources([path], scratch=tmp_path, roots=[root])


def test_other_schemes_are_refused(tmp_path: Path) -> None:
    for uri in ("http://169.254.169.254/latest", "file:///etc/passwd", "gs://bucket/key"):
        with pytest.raises(InvalidDataset, match="unknown scheme"):
            find_sources([uri], scratch=tmp_path)


_BROKEN: list[tuple[str, bytes, str]] = [
    ("a.jsonl", b'{"text": "x"}\n{"text": }\n', r"a\.jsonl:2: invalid JSON at column 10"),
    ("a.jsonl", b'{"text": "x"}\n{"text": "\xff"}\n', r"a\.jsonl:2: invalid UTF-8 at byte 11"),
    ("a.jsonl", b'{"text": "x"}\n{"text": "a", "text": "b"}\n', r"a\.jsonl:2: key 'text' comes twice"),
    ("a.jsonl", b'{"text": "x"}\n{"text": "a", "n": NaN}\n', r"a\.jsonl:2: NaN is not a JSON number"),
    ("a.jsonl", b'{"text": "x"}\n{"text": "\\ud800"}\n', r"a\.jsonl:2: an escape names half of a surrogate"),
    ("a.jsonl", b'{"text": "x"}\n[1]\n', r"a\.jsonl:2: the record is no JSON object"),
    ("a.jsonl", b'{"text": "x"}\n' + b"[" * 200_000 + b"\n", r"a\.jsonl:2: nested too deeply"),
    ("a.jsonl", b'{"text": "x"}\n{"text": ' + b"9" * 9000 + b"}\n", r"a\.jsonl:2: .*digits"),
    ("a.jsonl", b"", "no rows"),
    ("a.json", b'[{"text": "x"},\n{"text": "y"}', r"a\.json:2: the array has no end"),
    ("a.json", b'[{"text": "x"}\n{"text": "y"}]', r"a\.json:2: expected ',' or '\]'"),
    ("a.json", b'[{"text": "x"}]\n oops', r"a\.json:2: expected nothing after the array"),
    ("a.json", b'[{"text": "x"},\n{"text": "\xff"}]', r"a\.json:2: invalid UTF-8"),
    ("a.json", b'[{"text": "x"},\n{"text": "y", "text": "z"}]', r"a\.json:2: key 'text' comes twice"),
    ("a.csv", b"text\nx\n\xff\n", r"a\.csv:3: invalid UTF-8"),
    ("a.csv", b"text,label\nx,y\nx\n", r"a\.csv:3: 1 fields where the header has 2"),
    ("a.csv", b"text,text\nx,y\n", r"a\.csv:1: the header names a column twice"),
    ("a.csv", b"prompt;completion\nx;y\n", r"a\.csv:1: the columns are parted by ';', not by commas"),
    ("a.csv", b"prompt\tcompletion\nx\ty\n", r"a\.csv:1: the columns are parted by '\\t'"),
    ("a.csv", b"prompt,completion\rx,y\r", r"a\.csv:1: not CSV: a carriage return stands alone"),
    ("a.csv", b'text\n"x\n', r"a\.csv:\d: not CSV"),
    (
        "a.jsonl.gz",
        gzip.compress(b'{"text": "x"}\n' * 9000, mtime=0)[:-20],
        r"a\.jsonl\.gz: the gzip stream is cut off",
    ),
    ("a.jsonl.gz", gzip.compress(b'{"text": "x"}\n', mtime=0) + b"rest", r"a\.jsonl\.gz: the gzip stream is"),
    ("a.jsonl.zst", b"\x28\xb5\x2f\xfd\x00\x00\x00", r"a\.jsonl\.zst: the zstd stream is"),
    ("a.parquet", b"PAR1 this is none PAR1", r"a\.parquet: not a whole Parquet file"),
    ("a.jsonl", '{"text": "x"}\n'.encode("utf-16"), r"a\.jsonl: is UTF-16; save the file as UTF-8"),
    ("a.zip", b"PK\x03\x04../../etc/passwd", r"a\.zip: can't tell the kind of file"),
]


@pytest.mark.parametrize(("name", "data", "message"), _BROKEN)
def test_what_is_broken_is_named_by_file_and_line_and_leaves_nothing(
    tmp_path: Path, name: str, data: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(InvalidDataset, match=message):
        ingest(tmp_path / "store", tmp_path / name)
    assert [path for path in (tmp_path / "store").rglob("*") if path.is_file()] == []
    assert not list(tmp_path.glob("etc*"))


def test_a_long_line_is_refused_by_number_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    with path.open("wb") as file:
        file.write(b'{"text": "x"}\n{"text": "')
        for _ in range(100):
            file.write(b"x" * (1 << 20))
        file.write(b'"}\n')
    with pytest.raises(InvalidDataset, match=r"a\.jsonl:2: the record is longer than 16777216 bytes"):
        ingest(tmp_path / "store", path)


def test_a_bomb_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(b" " * (80 << 20)))
    with pytest.raises(InvalidDataset, match="looks like a bomb"):
        ingest(tmp_path / "store", path, spec=spec_of(reading={"max_expansion": 10.0}))


_TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(lambda text: text.strip() != "")


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.fixed_dictionaries({"prompt": _TEXT, "completion": _TEXT}), min_size=1, max_size=6))
@example(rows=[{"prompt": "\x1f\x1e\x1d\x15\x1c", "completion": "\x00\x00"}])
def test_rows_come_back_as_they_went_in(tmp_path_factory: pytest.TempPathFactory, rows: list[Row]) -> None:
    folder = tmp_path_factory.mktemp("trip")
    lines = ingest(folder / "store", write_jsonl(folder / "a.jsonl", rows), spec=_AS_THEY_ARE)
    assert sorted_rows(rows_in(folder / "store", lines)) == sorted_rows(rows)
    (folder / "a.json").write_text(json.dumps(rows))
    array = ingest(folder / "store", folder / "a.json", spec=_AS_THEY_ARE)
    assert array.manifest.digest == lines.manifest.digest


_BYTES = st.one_of(
    st.binary(max_size=200),
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
        max_leaves=8,
    ).map(lambda value: json.dumps({"messages": value, "prompt": value, "completion": value}).encode()),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=_BYTES, name=st.sampled_from(["a.jsonl", "a.json", "a.csv", "a.jsonl.gz", "a.parquet", "a.txt"]))
def test_no_bytes_make_ingest_crash(tmp_path_factory: pytest.TempPathFactory, data: bytes, name: str) -> None:
    folder = tmp_path_factory.mktemp("fuzz")
    (folder / name).write_bytes(data)
    try:
        ingest(folder / "store", folder / name)
    except SteelyardError as error:
        assert error.http_status < 500, error.message  # noqa: PT017 - either outcome is right


@given(st.binary(max_size=60) | st.text(max_size=60).map(lambda text: text.encode("utf-8", "replace")))
def test_strict_json_takes_a_subset_of_json(data: bytes) -> None:
    try:
        value: Any = parse_strict(data)
    except BadJson:
        return
    assert json.loads(data) == value


def test_a_file_that_vanishes_into_a_pipe_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.jsonl")
    with pytest.raises(InvalidDataset, match="is no regular file"):
        find_sources([tmp_path / "a.jsonl"], scratch=tmp_path)
