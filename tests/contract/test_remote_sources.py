"""What is read from elsewhere: a real S3 server, a hub, and what neither may be made to do."""

import gzip
import json
import threading
from collections.abc import Generator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from tests.remote_stores import Bucket, point_to, serve_bucket, serve_hub
from tests.unit.datasets.files import PLAIN, ingest, sorted_rows, write_jsonl

from steelyard.datasets import remote
from steelyard.datasets.export import head
from steelyard.datasets.ingest import Request, build_version
from steelyard.datasets.sources import find_sources
from steelyard.kit.errors import InvalidDataset, StorageFull, Unavailable

_ROWS = [{"prompt": f"question {i}?", "completion": f"answer {i}"} for i in range(40)]


@pytest.fixture(scope="module")
def bucket() -> Generator[Bucket]:
    with serve_bucket() as served:
        yield served


def _lines(rows: list[dict[str, str]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def test_a_prefix_of_a_bucket_gives_the_version_that_its_bytes_give(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    point_to(monkeypatch, bucket.endpoint)
    bucket.put("raw/a.jsonl", _lines(_ROWS[:20]))
    bucket.put("raw/deep/b.jsonl.gz", gzip.compress(_lines(_ROWS[20:])))
    bucket.put("raw/notes.md", b"no data")
    bucket.put("raw-of-others/secret.jsonl", _lines([{"prompt": "theirs", "completion": "theirs"}]))
    plain = ingest(tmp_path / "store", write_jsonl(tmp_path / "plain.jsonl", _ROWS))
    whole = f"s3://{bucket.name}/raw"
    built = build_version(_request(tmp_path, whole), lambda _: None)
    assert sorted_rows(head(built.manifest, 100, store_root=tmp_path / "store")) == sorted_rows(_ROWS)
    assert built.manifest.origins == [f"{whole}/a.jsonl", f"{whole}/deep/b.jsonl.gz"]
    assert [shard.content_digest for shard in built.manifest.shards] == [
        shard.content_digest for shard in plain.manifest.shards
    ]
    assert built.manifest.digest == plain.manifest.digest
    one = build_version(_request(tmp_path, f"{whole}/a.jsonl"), lambda _: None)
    assert one.manifest.rows_kept == 20
    assert not list((tmp_path / "work" / "incoming").iterdir())


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("s3://team-bucket/raw/none.jsonl", "no such bucket or object"),
        ("s3://no-such-bucket/raw/none.jsonl", "no such bucket or object"),
        ("s3://team-bucket/empty", "nothing to read is there"),
        ("s3://127.0.0.1:9/x.jsonl", "no bucket's name"),
        ("s3://UPPER/x.jsonl", "no bucket's name"),
        ("s3:///x.jsonl", "no bucket's name"),
    ],
)
def test_what_isnt_there_is_told_by_uri(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uri: str, message: str
) -> None:
    point_to(monkeypatch, bucket.endpoint)
    with pytest.raises(InvalidDataset, match=message) as caught:
        find_sources([uri], scratch=tmp_path)
    assert uri in caught.value.message


def test_a_fault_in_an_object_is_told_by_its_uri_and_line(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    point_to(monkeypatch, bucket.endpoint)
    bucket.put("bad/a.jsonl", _lines(_ROWS[:2]) + b'{"prompt": NaN}\n')
    with pytest.raises(InvalidDataset, match=rf"s3://{bucket.name}/bad/a\.jsonl:3: NaN"):
        build_version(_request(tmp_path, f"s3://{bucket.name}/bad"), lambda _: None)


def test_an_object_that_redirects_brings_nothing_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reached: list[str] = []

    class Redirecting(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._say(200, {"Content-Length": "20", "ETag": '"x"'})

        def do_GET(self) -> None:
            if self.path.startswith("/inside"):
                reached.append(self.path)
                self._say(200, {"Content-Length": "0"})
            else:
                self._say(302, {"Location": "/inside/secret.jsonl", "Content-Length": "0"})

        def _say(self, status: int, headers: dict[str, str]) -> None:
            self.send_response(status)
            self.send_header("Last-Modified", "Tue, 24 Nov 2026 10:00:00 GMT")
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it
            del format, args

    server = ThreadingHTTPServer(("127.0.0.1", 0), Redirecting)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    point_to(monkeypatch, f"http://127.0.0.1:{server.server_port}")
    with pytest.raises(Unavailable, match="redirect"):
        find_sources(["s3://team-bucket/a.jsonl"], scratch=tmp_path)
    server.shutdown()
    server.server_close()
    assert reached == []


def test_what_the_disk_has_no_room_for_is_refused_before_it_is_read(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    point_to(monkeypatch, bucket.endpoint)
    bucket.put("large/a.jsonl", _lines(_ROWS))
    with pytest.raises(StorageFull, match="MiB are free"):
        remote.require_room(1 << 60, tmp_path)
    asked: list[int] = []
    monkeypatch.setattr(remote, "require_room", lambda size, _folder: asked.append(size))  # pyright: ignore
    find_sources([f"s3://{bucket.name}/large"], scratch=tmp_path)
    assert asked == [len(_lines(_ROWS))]


def test_a_dataset_of_a_hub_is_read_at_one_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {
        "data/train.jsonl": _lines(_ROWS[:30]),
        "data/extra.jsonl.gz": gzip.compress(_lines(_ROWS[30:])),
        "other/rows.jsonl": _lines(_ROWS[:3]),
        "README.md": b"# no data",
        "../climbs.jsonl": b"{}",
        "/etc/absolute.jsonl": b"{}",
    }
    with serve_hub(files) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        place = f"hf://datasets/acme/chats@{hub.commit}"
        built = build_version(_request(tmp_path, "hf://datasets/acme/chats@main/data"), lambda _: None)
        assert built.manifest.origins == [f"{place}/data/extra.jsonl.gz", f"{place}/data/train.jsonl"]
        assert built.manifest.rows_kept == 40
        found = find_sources(["hf://datasets/acme/chats"], scratch=tmp_path)
        assert [source.name for source in found] == [
            f"{place}/data/extra.jsonl.gz",
            f"{place}/data/train.jsonl",
            f"{place}/other/rows.jsonl",
        ]
        assert not [path for path in hub.asked if "climbs" in path or "absolute" in path]
        with pytest.raises(InvalidDataset, match="knows no such dataset or revision"):
            find_sources(["hf://datasets/acme/chats@nowhere"], scratch=tmp_path)
        for uri in ("hf://models/acme/chats", "hf://datasets/acme", "hf://datasets/acme/chats@"):
            with pytest.raises(InvalidDataset, match=r"hf://datasets/OWNER/NAME|no revision"):
                find_sources([uri], scratch=tmp_path)


def test_a_store_or_hub_that_is_away_is_worth_another_try(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nowhere = "http://127.0.0.1:9"
    point_to(monkeypatch, nowhere)
    monkeypatch.setenv("HF_ENDPOINT", nowhere)
    for uri in ("s3://team-bucket/a.jsonl", "hf://datasets/acme/chats"):
        with pytest.raises(Unavailable, match="can't be"):
            find_sources([uri], scratch=tmp_path)


def _request(folder: Path, *uris: str) -> Request:
    return Request(
        inputs=uris,
        spec=PLAIN,
        store_root=folder / "store",
        work_root=folder / "work",
        workers=1,
        roots=[folder / "uploads"],
    )
