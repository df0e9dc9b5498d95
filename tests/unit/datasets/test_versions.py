"""Versions: one per content, whatever the order, the cuts, the workers or the kills."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.unit.datasets.files import Row, ingest, rows_in, sorted_rows, spec_of, stages, write_jsonl

from steelyard.datasets import spool
from steelyard.datasets.derivation import Parent, appending, filter_version, mix_versions
from steelyard.datasets.export import export_jsonl
from steelyard.datasets.ingest import Request, build_version, ingest_files
from steelyard.datasets.inspection import diff_versions, verify_version
from steelyard.datasets.report import load_report
from steelyard.datasets.store import BlobStore, key_of
from steelyard.datasets.versions import FileVersions
from steelyard.kit.errors import Conflict, InvalidRequest, NotFound
from steelyard.specs.datasets import DatasetSpec

_WORDS = [
    "tide",
    "boat",
    "harbour",
    "mud",
    "rope",
    "gull",
    "salt",
    "wind",
    "sail",
    "oar",
    "net",
    "pier",
    "lamp",
    "chart",
    "crew",
    "storm",
]


def _rows(count: int, seed: int = 1) -> list[Row]:
    """Rows of which some are equal and some nearly so."""
    random_ = random.Random(seed)
    rows: list[Row] = []
    while len(rows) < count:
        text = " ".join(random_.choices(_WORDS, k=60))
        rows.append({"text": text})
        if random_.random() < 0.2:
            rows.append({"text": text})
        if random_.random() < 0.2:
            rows.append({"text": text.replace("tide", "ebb", 1)})
    return rows[:count]


def test_order_cuts_and_workers_dont_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = _rows(800)
    whole = ingest_files(
        [write_jsonl(tmp_path / "a.jsonl", rows)], "x", store_root=tmp_path / "one", workers=1
    )
    shuffled = rows[:]
    random.Random(2).shuffle(shuffled)
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(5):
        write_jsonl(folder / f"{9 - number}.jsonl", shuffled[number::5])
    monkeypatch.setattr(spool, "CHUNK_BYTES", 1 << 20)
    cut = ingest_files([folder], "x", store_root=tmp_path / "two", workers=2)
    assert cut.manifest.digest == whole.manifest.digest
    assert [s.digest for s in cut.manifest.shards] == [s.digest for s in whole.manifest.shards]
    counts = stages(whole)
    assert counts["exact_dedup"][1] > 50
    assert counts["near_dedup"][1] > 50


def test_the_same_bytes_and_spec_are_the_same_version_and_another_spec_is_another(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", _rows(50))
    first = ingest(tmp_path / "store", path)
    again = ingest(tmp_path / "store", path)
    other = ingest(tmp_path / "store", path, spec=spec_of(near_dedup={"enabled": True}))
    assert (first.ref, again.ref, other.ref) == ("data@v1", "data@v1", "data@v2")
    assert (first.created, again.created, other.created) == (True, False, True)
    versions = FileVersions(BlobStore.at(tmp_path / "store").objects)
    assert versions.resolve("data").version == 2
    assert versions.resolve("data@v1").manifest == first.manifest
    with pytest.raises(NotFound):
        versions.resolve("data@v3")


def test_a_split_is_by_what_is_asked_and_holds_when_rows_come(tmp_path: Path) -> None:
    rows = [{"prompt": f"question {i % 300}", "completion": f"answer {i}"} for i in range(900)]
    spec = spec_of(split={"validation_fraction": 0.2, "leak_threshold": None})
    old = ingest(tmp_path / "a", write_jsonl(tmp_path / "a.jsonl", rows[:600]), spec=spec)
    new = ingest(tmp_path / "b", write_jsonl(tmp_path / "b.jsonl", rows), spec=spec)
    out = tmp_path / "out.jsonl"
    prompts: dict[str, set[str]] = {}
    for published, store in ((old, "a"), (new, "b")):
        for split in ("train", "validation"):
            export_jsonl(published.manifest, split, out, store_root=tmp_path / store)
            prompts[store + split] = {json.loads(line)["prompt"] for line in out.read_text().splitlines()}
    assert not prompts["btrain"] & prompts["bvalidation"]
    assert prompts["avalidation"] <= prompts["bvalidation"]
    assert 0.1 < new.manifest.rows_validation / new.manifest.rows_kept < 0.3


@pytest.mark.parametrize("count", [1, 2, 3])
def test_small_data_is_split_too(tmp_path: Path, count: int) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [{"text": f"row {i}"} for i in range(count)])
    published = ingest(tmp_path / "store", path, spec=spec_of(split={"validation_fraction": 0.01}))
    assert published.manifest.rows_train >= 1
    assert published.manifest.rows_validation == (1 if count > 1 else 0)


def test_nothing_nearly_equal_is_on_both_sides_of_the_split(tmp_path: Path) -> None:
    base = [" ".join(random.Random(i).choices(_WORDS, k=80)) for i in range(60)]
    texts = [text + f" {tail}" for text in base for tail in ("one two", "three four")]
    path = write_jsonl(tmp_path / "a.jsonl", [{"text": text} for text in texts])
    split = {"validation_fraction": 0.3, "leak_threshold": 0.8}
    published = ingest(tmp_path / "store", path, spec=spec_of(split=split))
    sides: dict[str, set[str]] = {}
    for name in ("train", "validation"):
        export_jsonl(published.manifest, name, tmp_path / "out", store_root=tmp_path / "store")
        sides[name] = {
            json.loads(line)["text"].rsplit(" ", 2)[0] for line in (tmp_path / "out").read_text().splitlines()
        }
    assert stages(published)["split_leak"][1] > 10
    assert not sides["train"] & sides["validation"]


_KILLED = """
import os, signal, sys
from pathlib import Path
from steelyard.datasets import work
from steelyard.datasets.ingest import ingest_files
left = int(sys.argv[3])
def fatal(function):
    def call(*arguments, **options):
        global left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments, **options)
    return call
os.replace = fatal(os.replace)
os.fsync = fatal(os.fsync)
print(ingest_files([sys.argv[1]], "data", store_root=Path(sys.argv[2]), workers=1).manifest.digest)
"""


def test_killed_at_any_write_and_called_again_it_gives_the_same_version_once(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", _rows(200))
    expected = ingest_files([path], "data", store_root=tmp_path / "calm", workers=1).manifest
    store = tmp_path / "store"
    kills = 0
    for write in range(0, 200, 3):
        run = [sys.executable, "-c", _KILLED, str(path), str(store), str(write)]
        done = subprocess.run(run, capture_output=True, text=True, check=False, timeout=60)
        if done.returncode == 0:
            break
        assert done.returncode == -signal.SIGKILL, done.stderr
        kills += 1
    assert kills >= 2
    published = ingest_files([path], "data", store_root=store, workers=1)
    assert published.manifest == expected
    assert published.version == 1
    assert verify_version(published.manifest, store_root=store) == []
    stray = [one for one in (store / "work").rglob("*") if one.is_file()]
    assert stray == []


def test_the_same_ingest_twice_at_once_is_refused(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", _rows(200))
    run = [sys.executable, "-c", _KILLED.replace("os.kill(os.getpid(), signal.SIGKILL)", "signal.pause()"),
           str(path), str(tmp_path / "store"), "3"]  # fmt: skip
    other = subprocess.Popen(run)
    try:
        deadline = time.monotonic() + 30
        while not list((tmp_path / "store" / "work").glob("*.lock")) and time.monotonic() < deadline:
            os.sched_yield()
        deadline = time.monotonic() + 30
        refused = False
        while not refused and time.monotonic() < deadline:
            try:
                ingest_files([path], "data", store_root=tmp_path / "store", workers=1)
            except Conflict:
                refused = True
        assert refused
    finally:
        other.kill()
        other.wait()


def test_an_altered_shard_or_manifest_is_found(tmp_path: Path) -> None:
    store = tmp_path / "store"
    manifest = ingest(store, write_jsonl(tmp_path / "a.jsonl", _rows(50))).manifest
    assert verify_version(manifest, store_root=store) == []
    altered = manifest.model_copy(update={"rows_kept": 7})
    assert "the manifest is altered" in verify_version(altered, store_root=store)[0]
    blob = store / key_of(manifest.shards[0].digest)
    data = bytearray(blob.read_bytes())
    data[len(data) // 2] ^= 1
    blob.write_bytes(data)
    assert "is damaged" in verify_version(manifest, store_root=store)[0]
    ingest(store, tmp_path / "a.jsonl")
    assert verify_version(manifest, store_root=store) == []
    blob.unlink()
    assert "is missing" in verify_version(manifest, store_root=store)[0]


def test_appended_rows_join_the_parents_and_repeats_of_them_go(tmp_path: Path) -> None:
    store = tmp_path / "store"
    old = [{"prompt": f"question {i}", "completion": f"answer {i}"} for i in range(50)]
    parent = ingest(store, write_jsonl(tmp_path / "a.jsonl", old))
    more = write_jsonl(tmp_path / "b.jsonl", [*old[:5], {"prompt": "new", "completion": "row"}])
    request = Request([more], parent.manifest.spec, store, store / "work", workers=1)
    child = build_version(appending(request, Parent(parent.ref, parent.manifest)), print).manifest
    assert (child.rows_in, child.rows_kept) == (56, 51)
    assert child.parents[0].ref == "data@v1"
    difference = diff_versions(parent.manifest, child, store_root=store)
    assert (difference.rows_added, difference.rows_removed, difference.rows_shared) == (1, 0, 50)
    assert not difference.same


def test_tool_calls_survive_an_append(tmp_path: Path) -> None:
    store = tmp_path / "store"
    calls = [{"type": "function", "function": {"name": "f", "arguments": "{}"}}]
    row = {
        "messages": [
            {"role": "user", "content": "go"},
            {"role": "assistant", "content": None, "tool_calls": calls},
            {"role": "tool", "content": "done"},
            {"role": "assistant", "content": "Done."},
        ],
        "tools": [{"type": "function", "function": {"name": "f"}}],
    }
    parent = ingest(store, write_jsonl(tmp_path / "a.jsonl", [row]))
    other = {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "Hello."}]}
    request = Request(
        [write_jsonl(tmp_path / "b.jsonl", [other])], parent.manifest.spec, store, store / "work", workers=1
    )
    child = build_version(appending(request, Parent(parent.ref, parent.manifest)), print).manifest
    published = FileVersions(BlobStore.at(store).objects).publish("data", child)
    assert sorted_rows(rows_in(store, published)) == sorted_rows([row, other])


def test_a_filtered_child_keeps_splits_and_says_how_it_was_made(tmp_path: Path) -> None:
    store = tmp_path / "store"
    rows = [{"text": "word " * (i % 10 + 1) + str(i)} for i in range(200)]
    spec = spec_of(split={"validation_fraction": 0.3, "leak_threshold": None})
    parent = ingest(store, write_jsonl(tmp_path / "a.jsonl", rows), spec=spec)
    derived = filter_version(
        Parent(parent.ref, parent.manifest), "words > 6 AND text LIKE '%1%'", store_root=store
    )
    child = derived.manifest
    again = filter_version(
        Parent(parent.ref, parent.manifest), "words > 6 AND text LIKE '%1%'", store_root=store
    )
    assert child == again.manifest
    assert child.stages[0].reasons == {"the condition doesn't hold": 200 - child.rows_kept}
    assert derived.measures["train"].histograms["words"].rows == child.rows_train
    assert child.parents[0].where == "words > 6 AND text LIKE '%1%'"
    assert child.rows_kept == sum(len(row["text"].split()) > 6 and "1" in row["text"] for row in rows)
    assert child.rows_validation > 0
    assert verify_version(child, store_root=store) == []
    for where in ("nonsense(", "words + 1", "missing = 3"):
        with pytest.raises(InvalidRequest):
            filter_version(Parent(parent.ref, parent.manifest), where, store_root=store)


def test_a_mix_holds_its_weights_and_repeats_no_row(tmp_path: Path) -> None:
    store = tmp_path / "store"
    spec = spec_of(split={"validation_fraction": 0.2, "leak_threshold": None})
    sea = ingest(
        store, write_jsonl(tmp_path / "a.jsonl", [{"text": f"sea {i}"} for i in range(500)]), spec=spec
    )
    land = ingest(
        store, write_jsonl(tmp_path / "b.jsonl", [{"text": f"land {i}"} for i in range(300)]), spec=spec
    )
    parents = [Parent(sea.ref, sea.manifest, 1.0), Parent(land.ref, land.manifest, 2.0)]
    child = mix_versions(parents, store_root=store).manifest
    assert child == mix_versions(parents, store_root=store).manifest
    assert child.stages[0].reasons == {"beyond its version's share": 800 - child.rows_kept}
    assert verify_version(child, store_root=store) == []
    export_jsonl(child, None, tmp_path / "out", store_root=store)
    kinds = [json.loads(line)["text"].split()[0] for line in (tmp_path / "out").read_text().splitlines()]
    assert kinds.count("land") > 250
    assert abs(kinds.count("land") - 2 * kinds.count("sea")) <= 4


def test_children_drop_what_overlaps_with_suites_that_came_after_their_parents(tmp_path: Path) -> None:
    store = tmp_path / "store"
    question = "which of the seven rivers of the old kingdom runs north before it meets the sea"
    rows = [{"text": f"note {i} says little of worth"} for i in range(80)]
    rows += [{"text": f"{i}. {question}?"} for i in range(3)]
    spec = spec_of(near_dedup={"enabled": False}, split={"validation_fraction": 0.2, "leak_threshold": None})
    parent = ingest(store, write_jsonl(tmp_path / "a.jsonl", rows), spec=spec)
    other = ingest(
        store, write_jsonl(tmp_path / "b.jsonl", [{"text": f"sea {i}"} for i in range(99)]), spec=spec
    )
    sets = {"rivers": [question]}
    one = Parent(parent.ref, parent.manifest)
    filtered = filter_version(one, "words > 0", store_root=store, evaluation_sets=sets).manifest
    assert filtered.rows_kept == 80
    (kept, clean) = filtered.stages
    assert (kept.name, kept.rows_kept) == ("filter", 83)
    assert (clean.name, clean.rows_dropped, clean.reasons) == ("decontamination", 3, {"overlaps rivers": 3})
    assert filtered.evaluation_sets.keys() == {"rivers"}
    assert filter_version(one, "words > 0", store_root=store).manifest.rows_kept == 83
    two = [one, Parent(other.ref, other.manifest)]
    mixed = mix_versions(two, store_root=store, evaluation_sets=sets).manifest
    export_jsonl(mixed, None, tmp_path / "out", store_root=store)
    assert "rivers" not in (tmp_path / "out").read_text()
    with pytest.raises(InvalidRequest, match="the 3 that were taken overlap with evaluation suites"):
        filter_version(one, "text LIKE '%rivers%'", store_root=store, evaluation_sets=sets)


def test_a_report_shows_stages_examples_and_pictures_and_escapes_the_data(tmp_path: Path) -> None:
    store = tmp_path / "store"
    rows = [*_rows(100), {"text": "<script>alert(1)</script> and more"}]
    published = ingest_files(
        [write_jsonl(tmp_path / "a.jsonl", rows)], "data", DatasetSpec(), store_root=store, workers=1
    )
    objects = BlobStore.at(store).objects
    report = json.loads(load_report(objects, published.manifest.digest, "json"))
    assert report["rows_in"] == 101
    near = next(stage for stage in report["stages"] if stage["name"] == "near_dedup")
    assert near["examples"][0]["place"].startswith(str(tmp_path / "a.jsonl"))
    assert report["lengths"]["train"]["words"]["rows"] == published.manifest.rows_train
    assert report["clusters"]
    page = load_report(objects, published.manifest.digest, "html").decode()
    assert "<svg" in page
    assert "<script" not in page
    assert "http://" not in page
