"""Files of data are found as a user names them, and what can't be sent is refused before anything is."""

import os
from pathlib import Path

import pytest

from steelyard.client.data_files import DataFile, find_data
from steelyard.client.dataset_calls import check_ingest
from steelyard.kit.errors import InvalidRequest, InvalidSpec


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in (
        "raw/a b.jsonl",
        "raw/ünï/c.csv.zst",
        "raw/ünï/d.txt",
        "raw/.e.jsonl",
        "raw/.hidden/f.jsonl",
        "raw/README.md",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x\n")
    (tmp_path / "raw" / "round").symlink_to("..", target_is_directory=True)
    return tmp_path / "raw"


def _names(*inputs: str | Path) -> list[str]:
    return [file.name for file in find_data(inputs)[0]]


def test_a_folder_is_read_to_the_bottom_without_what_is_hidden_or_linked(folder: Path) -> None:
    assert _names("raw") == ["raw/a b.jsonl", "raw/ünï/c.csv.zst", "raw/ünï/d.txt"]
    assert _names(folder) == [str(folder / name) for name in ("a b.jsonl", "ünï/c.csv.zst", "ünï/d.txt")]


@pytest.mark.usefixtures("folder")
def test_globs_reach_into_folders_and_dont_go_round_in_circles() -> None:
    assert _names("raw/**/*") == ["raw/a b.jsonl", "raw/ünï/c.csv.zst", "raw/ünï/d.txt"]
    assert _names("r*/*/d.txt") == ["raw/ünï/d.txt"]
    assert _names("raw/ünï/../a b.jsonl") == ["raw/ünï/../a b.jsonl"]


@pytest.mark.usefixtures("folder")
def test_a_file_counts_once_however_often_it_is_named() -> None:
    assert _names("raw/a b.jsonl", "./raw/a b.jsonl", "raw", "raw/round/raw/a b.jsonl") == [
        "raw/a b.jsonl",
        "raw/ünï/c.csv.zst",
        "raw/ünï/d.txt",
    ]


def test_uris_are_told_from_files_and_names_are_kept(folder: Path) -> None:
    file = DataFile(folder / "a b.jsonl", "stdin")
    assert find_data([file, "hf://datasets/a/b", "hf://datasets/a/b"]) == ([file], ["hf://datasets/a/b"])


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ("nothing.jsonl", r"no file at nothing\.jsonl"),
        ("raw/*.parquet", r"no data file matches raw/\*\.parquet"),
        ("raw/README.md", r"README\.md: can't tell the kind of file"),
        ("raw/.hidden/none", "no file at"),
        ("empty", "the folder empty holds no"),
        ("pipe.jsonl", "pipe.jsonl is no regular file; pipe it into '-'"),
    ],
)
@pytest.mark.usefixtures("folder")
def test_what_cant_be_sent_is_refused(item: str, message: str) -> None:
    Path("empty").mkdir()
    os.mkfifo("pipe.jsonl")
    with pytest.raises(InvalidRequest, match=message):
        find_data(["raw/a b.jsonl", item])


def test_a_file_that_may_not_be_read_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(InvalidRequest, match=r"a b\.jsonl can't be read: Permission denied"):
        find_data([folder / "a b.jsonl"])


@pytest.mark.parametrize(
    ("name", "spec", "append_to", "param"),
    [
        ("Bad Name", None, None, "name"),
        ("chats", {"format": "banana"}, None, "spec.format"),
        ("chats", {"reading": {"max_bad": 7.0}}, None, "spec.reading.max_bad"),
        ("chats", {"nonsense": {1, 2}}, None, "spec.nonsense"),
        ("chats", None, "a b", "append_to"),
    ],
)
def test_name_and_spec_are_looked_at_before_anything_is_sent(
    name: str, spec: dict[str, object] | None, append_to: str | None, param: str
) -> None:
    with pytest.raises(InvalidSpec) as caught:
        check_ingest(name, spec, append_to)
    assert caught.value.param == param
    check_ingest("chats", {"format": "text"}, "chats@v1")
