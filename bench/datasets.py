"""Ingest, by stage and whole, beside datasketch and datatrove deduplicating the same passages.

    python -m bench.datasets [--passages 210000] [--corpus FOLDER] [--json]

The corpus is the text of the RFCs as Debian packages it, cut into passages, with near-copies planted. Where
it is missing: enable `non-free`, then `apt-get install doc-rfc-std doc-rfc-informational doc-rfc-others
doc-rfc-experimental`. `pip install datasketch datatrove regex 'xxhash<4' orjson` for the comparison.

All sides get the same passages and look for the same thing: pairs of word 5-grams with Jaccard similarity of
0.8 or more, 128 permutations. Two of them go from texts in memory to rows that are dropped, on one core:
datasketch, and the calls of ours that do that. Two go from files to files, on all cores: datatrove, and an
ingest of ours with near-deduplication alone.

Recall is measured against planted copies whose exact similarity was computed here; a copy counts as found
where either text of the pair is dropped.
"""

import argparse
import gzip
import importlib
import importlib.metadata
import importlib.util
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import polars as pl

from steelyard.datasets.build import Built, ProgressNote
from steelyard.datasets.clusters import Clusters
from steelyard.datasets.ingest import Request, build_version
from steelyard.datasets.minhash import write_signatures
from steelyard.datasets.neighbours import find_pairs
from steelyard.specs.datasets import DatasetSpec, NearDedupBlock, SplitBlock

_FOLDER = Path("/usr/share/doc/RFC")
_WORDS = 130
_COPY_SHARE = 0.12
_THRESHOLD = 0.8
_NGRAM = 5
_PERMUTATIONS = 128
_PAGE_BREAK = re.compile(r"\n+[^\n]*\[Page \d+\]\n\f?\n?[^\n]*\n", re.MULTILINE)
_WORD = re.compile(r"[^\W_]+")


@dataclass(frozen=True)
class Corpus:
    """Passages, and the planted pairs (original, copy, exact similarity)."""

    passages: list[str]
    planted: list[tuple[int, int, float]]

    @property
    def megabytes(self) -> float:
        return sum(len(passage.encode()) for passage in self.passages) / 1e6


@dataclass(frozen=True)
class Side:
    """One contestant's figures."""

    name: str
    passages: int
    wall_seconds: float
    cpu_seconds: float
    passages_per_second: float
    megabytes_per_second: float
    dropped: int
    recall: float


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--passages", type=int, default=210_000)
    parser.add_argument("--corpus", type=Path, default=_FOLDER)
    parser.add_argument("--theirs", type=int, default=None, help="passages for datasketch; all if left out")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    corpus = build_corpus(arguments.corpus, arguments.passages)
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "passages.jsonl"
        path.write_text("".join(json.dumps({"text": passage}) + "\n" for passage in corpus.passages))
        dedup, _ = run_ours(corpus, path, Path(scratch), _dedup_spec(), "steelyard, near-dedup alone")
        whole, built = run_ours(corpus, path, Path(scratch), DatasetSpec(), "steelyard, whole ingest")
    calls = run_calls(corpus)
    theirs = run_datasketch(_first(corpus, arguments.theirs))
    files = run_datatrove(corpus)
    report = {
        "corpus": {"passages": len(corpus.passages), "megabytes": round(corpus.megabytes, 1)},
        "cores": len(os.sched_getaffinity(0)),
        "sides": [asdict(side) for side in (calls, theirs, files, dedup, whole)],
        "stages": _stages(built, corpus),
        "times_faster": {
            "calls_than_datasketch_cpu": round(_per_cpu(calls) / _per_cpu(theirs), 2),
            "calls_than_datasketch_wall": round(calls.passages_per_second / theirs.passages_per_second, 2),
            "calls_than_datatrove_cpu": round(_per_cpu(calls) / _per_cpu(files), 2),
            "ingest_than_datasketch_wall": round(dedup.passages_per_second / theirs.passages_per_second, 2),
            "ingest_than_datatrove_cpu": round(_per_cpu(dedup) / _per_cpu(files), 2),
            "ingest_than_datatrove_wall": round(dedup.passages_per_second / files.passages_per_second, 2),
            "whole_ingest_than_datatrove_wall": round(
                whole.passages_per_second / files.passages_per_second, 2
            ),
        },
    }
    print(json.dumps(report, indent=2) if arguments.json else _render(report))


def build_corpus(folder: Path, count: int) -> Corpus:
    """Cut RFCs into passages, and plant edited copies of some of them."""
    random_ = random.Random(20240229)
    passages = _read(folder, int(count * (1 - _COPY_SHARE)))
    planted: list[tuple[int, int, float]] = []
    vocabulary = list({word for passage in passages[:2000] for word in passage.split()})
    for original in random_.sample(range(len(passages)), int(count * _COPY_SHARE)):
        rate = random_.choice((0.0, 0.005, 0.01, 0.02, 0.04))
        words = passages[original].split(" ")
        copy = " ".join(random_.choice(vocabulary) if random_.random() < rate else word for word in words)
        planted.append((original, len(passages), similarity(passages[original], copy)))
        passages.append(copy)
    return Corpus(passages, planted)


def similarity(left: str, right: str) -> float:
    """Exact Jaccard similarity of the sets of word 5-grams."""
    one, two = shingles(left), shingles(right)
    return len(one & two) / max(1, len(one | two))


def shingles(text: str) -> set[str]:
    """Word 5-grams, as every MinHash library's manual makes them."""
    words = _WORD.findall(text.lower())
    return {" ".join(words[i : i + _NGRAM]) for i in range(max(1, len(words) - _NGRAM + 1))}


def run_ours(corpus: Corpus, path: Path, scratch: Path, spec: DatasetSpec, name: str) -> tuple[Side, Built]:
    """Ingest the file; the figures count reading, writing and digests too."""
    folder = scratch / name.split(",")[1].strip().replace(" ", "-")
    begun, cpu = time.perf_counter(), _cpu()
    built = build_version(Request([path], spec, folder / "store", folder / "work"), _quiet)
    wall, used = time.perf_counter() - begun, _cpu() - cpu
    kept = set(_kept_texts(built, folder / "store"))
    return _side(name, corpus, wall, used, kept), built


def run_calls(corpus: Corpus) -> Side:
    """Do the same work as datasketch does below: texts in memory, rows to drop out."""
    begun, cpu = time.perf_counter(), _cpu()
    block = NearDedupBlock(threshold=_THRESHOLD, num_perm=_PERMUTATIONS, ngram_words=_NGRAM)
    with tempfile.TemporaryDirectory() as scratch:
        signed = write_signatures(pl.Series(corpus.passages), block, _THRESHOLD, Path(scratch) / "all")
        pairs = find_pairs([signed], _THRESHOLD, _THRESHOLD)
    groups = Clusters(len(corpus.passages))
    groups.join(pairs.left, pairs.right)
    kept = {corpus.passages[row] for row in range(len(corpus.passages)) if groups.least[row] == row}
    wall, used = time.perf_counter() - begun, _cpu() - cpu
    return _side("steelyard, the dedup calls", corpus, wall, used, kept)


def run_datasketch(corpus: Corpus) -> Side:
    """Do what datasketch's manual does: a MinHash each, queried, then inserted."""
    try:
        datasketch: Any = importlib.import_module("datasketch")
    except ModuleNotFoundError:
        sys.exit("the comparison needs datasketch: pip install datasketch")
    begun, cpu = time.perf_counter(), _cpu()
    index = datasketch.MinHashLSH(threshold=_THRESHOLD, num_perm=_PERMUTATIONS)
    kept: set[str] = set()
    for number, passage in enumerate(corpus.passages):
        signature = datasketch.MinHash(num_perm=_PERMUTATIONS)
        signature.update_batch([shingle.encode() for shingle in shingles(passage)])
        if not index.query(signature):
            index.insert(str(number), signature)
            kept.add(passage)
    wall, used = time.perf_counter() - begun, _cpu() - cpu
    return _side(f"datasketch {datasketch.__version__}", corpus, wall, used, kept)


def run_datatrove(corpus: Corpus) -> Side:
    """Do what datatrove's example does: files in, files out, all cores."""
    if importlib.util.find_spec("datatrove") is None:
        sys.exit("the comparison needs datatrove: pip install datatrove regex 'xxhash<4' orjson")
    cores = len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as scratch:
        source, out = Path(scratch) / "in", Path(scratch) / "out"
        source.mkdir()
        for part in range(cores):
            lines = (json.dumps({"text": text}) + "\n" for text in corpus.passages[part::cores])
            (source / f"{part}.jsonl").write_text("".join(lines))
        command = [sys.executable, "-m", "bench.datatrove_dedup", source, out, str(cores), str(_NGRAM)]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True)
        kept = {
            json.loads(line)["text"]
            for path in (out / "kept").glob("*.jsonl")
            for line in path.read_text().split("\n")
            if line
        }
    told = json.loads(done.stdout)
    name = f"datatrove {importlib.metadata.version('datatrove')}"
    return _side(name, corpus, told["wall_seconds"], told["cpu_seconds"], kept)


def _read(folder: Path, count: int) -> list[str]:
    found = (path for path in folder.rglob("rfc*.txt.gz") if not path.is_symlink())
    files = sorted({path.name: path for path in found}.values(), key=lambda path: path.name)
    if not files:
        sys.exit(
            f"no RFCs below {folder}; enable Debian's non-free, then: apt-get install doc-rfc-std"
            " doc-rfc-informational doc-rfc-others doc-rfc-experimental"
        )
    passages: list[str] = []
    for passage in (passage for path in files for passage in _cut(path)):
        passages.append(passage)
        if len(passages) == count:
            return passages
    sys.exit(f"only {len(passages)} passages are in {folder}; ask for fewer with --passages")


def _cut(path: Path) -> Iterator[str]:
    """Cut one RFC, without its page headers, at line ends into passages of about 130 words."""
    with gzip.open(path, "rt", encoding="utf-8", errors="replace") as file:
        text = _PAGE_BREAK.sub("\n", file.read())
    lines: list[str] = []
    words = 0
    for line in text.splitlines():
        lines.append(line.rstrip())
        words += len(line.split())
        if words >= _WORDS:
            yield "\n".join(lines).strip()
            lines, words = [], 0


def _dedup_spec() -> DatasetSpec:
    return DatasetSpec.model_validate_json(
        json.dumps(
            {
                "normalize": {"enabled": False},
                "pii": {"action": "off"},
                "exact_dedup": {"enabled": False},
                "near_dedup": NearDedupBlock(threshold=_THRESHOLD).model_dump(),
                "split": SplitBlock(validation_fraction=0.0).model_dump(),
            }
        )
    )


def _kept_texts(built: Built, store: Path) -> Iterator[str]:
    for shard in built.manifest.shards:
        name = shard.digest.removeprefix("sha256:")
        yield from pl.read_parquet(store / "blobs" / "sha256" / name[:2] / name)["text"].to_list()


def _side(name: str, corpus: Corpus, wall: float, cpu: float, kept: set[str]) -> Side:
    near = [(one, two) for one, two, jaccard in corpus.planted if jaccard >= _THRESHOLD]
    found = sum(
        corpus.passages[one].strip() == corpus.passages[two].strip()
        or not (corpus.passages[one] in kept and corpus.passages[two] in kept)
        for one, two in near
    )
    count = len(corpus.passages)
    return Side(
        name=name,
        passages=count,
        wall_seconds=round(wall, 2),
        cpu_seconds=round(cpu, 2),
        passages_per_second=round(count / wall, 1),
        megabytes_per_second=round(corpus.megabytes / wall, 2),
        dropped=count - len(kept),
        recall=round(found / max(1, len(near)), 4),
    )


def _first(corpus: Corpus, count: int | None) -> Corpus:
    """Return a part of the corpus in which originals stand with their copies."""
    if count is None:
        return corpus
    pairs = corpus.planted[: int(count * _COPY_SHARE)]
    wanted = {number for one, two, _ in pairs for number in (one, two)}
    rest = [number for number in range(len(corpus.passages)) if number not in wanted][: count - len(wanted)]
    order = {number: place for place, number in enumerate(sorted([*wanted, *rest]))}
    planted = [(order[one], order[two], jaccard) for one, two, jaccard in pairs]
    return Corpus([corpus.passages[number] for number in order], planted)


def _stages(built: Built, corpus: Corpus) -> list[dict[str, Any]]:
    return [
        {
            "stage": tally.name,
            "seconds_all_cores": round(tally.seconds, 3),
            "passages_per_second": round(tally.rows_in / tally.seconds, 1) if tally.seconds else None,
            "megabytes_per_second": round(corpus.megabytes / tally.seconds, 1) if tally.seconds else None,
            "dropped": tally.rows_dropped,
        }
        for tally in built.tallies
    ]


def _per_cpu(side: Side) -> float:
    return side.passages / side.cpu_seconds


def _cpu() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _quiet(note: ProgressNote) -> None:
    del note


def _render(report: dict[str, Any]) -> str:
    corpus = report["corpus"]
    lines = [f"{corpus['passages']} passages, {corpus['megabytes']} MB, {report['cores']} cores"]
    lines += [
        f"{side['name']:<30} {side['wall_seconds']:>8} s wall {side['cpu_seconds']:>8} s cpu"
        f" {side['passages_per_second']:>10}/s {side['megabytes_per_second']:>7} MB/s"
        f" dropped {side['dropped']:>6} recall {side['recall']}"
        for side in report["sides"]
    ]
    lines += [_stage_line(stage) for stage in report["stages"]]
    lines += [f"faster, {what}: {times}x" for what, times in report["times_faster"].items()]
    return "\n".join(lines)


def _stage_line(stage: dict[str, Any]) -> str:
    rate, megabytes = stage["passages_per_second"] or "-", stage["megabytes_per_second"] or "-"
    return f"  {stage['stage']:<16} {stage['seconds_all_cores']:>8} s {rate:>12}/s {megabytes:>8} MB/s"


if __name__ == "__main__":
    main()
