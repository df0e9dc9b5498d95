# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportMissingTypeStubs=false
"""What standard input holds is found by its beginning, packed or not."""

import gzip
import io
import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from steelyard.cli.standard_input import receive
from steelyard.kit.errors import InvalidRequest

_ROWS = [{"prompt": "a, b?", "completion": "c"}, {"prompt": "d?", "completion": "e"}]


def _parquet() -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(_ROWS), out)
    return out.getvalue()


_STREAMS = [
    ("jsonl", b"".join(json.dumps(row).encode() + b"\n" for row in _ROWS)),
    ("jsonl", json.dumps(_ROWS[0]).encode()),
    ("jsonl", b'{"prompt": "a", broken\n{"prompt": "d"}\n'),
    ("jsonl", b'{"text": "' + b"x" * 200_000 + b'"}\n'),
    ("jsonl", b""),
    ("jsonl", b"\xef\xbb\xbf" + json.dumps(_ROWS[0]).encode() + b"\n"),
    ("json", json.dumps(_ROWS, indent=1).encode()),
    ("json", "\n".join(json.dumps(row, indent=2) for row in _ROWS).encode()),
    ("csv", b'prompt,completion\r\n"a, b?",c\r\n'),
    ("csv", b"text\nhello\n"),
    ("csv", b"frage,antwort\na,b\n"),
    ("parquet", _parquet()),
]


@pytest.mark.parametrize(("kind", "data"), _STREAMS)
def test_the_kind_is_found_by_looking(tmp_path: Path, kind: str, data: bytes) -> None:
    file = receive(io.BytesIO(data), tmp_path, None, ["frage"])
    assert (file.name, file.path.name, file.path.read_bytes()) == ("stdin", f"stdin.{kind}", data)


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress])
def test_packed_streams_are_looked_into(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    file = receive(io.BytesIO(pack(b"prompt,completion\na,b\n" * 9000)), tmp_path, None)
    assert file.path.name == "stdin.csv"


def test_what_looks_like_nothing_has_to_be_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="--stdin-kind"):
        receive(io.BytesIO(b"just a line\n"), tmp_path, None)
    assert receive(io.BytesIO(b"just a line\n"), tmp_path, "txt").path.name == "stdin.txt"
