"""One large ingest, and the memory that each of its processes takes.

    python -m bench.large_ingest [--gigabytes 10] [--workers N] [--corpus FOLDER] [--scratch FOLDER] [--json]

Passages are made of lines of RFCs (see `bench.datasets`), drawn at random, one in ten a near-copy of one
before it. Every stage of a default ingest runs. Memory is read from the kernel: `peak` is the high-water
mark of a process, pages of mapped files included, which the kernel takes back when it wants; `own` is the
most that was seen of what it can't take back. Needs room for about five times the input below `--scratch`.
"""

import argparse
import gzip
import json
import os
import random
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil

from steelyard.datasets.build import Built, ProgressNote
from steelyard.datasets.ingest import Request, build_version
from steelyard.specs.datasets import DatasetSpec

_FOLDER = Path("/usr/share/doc/RFC")
_FILE_BYTES = 500_000_000
_LINES_PER_PASSAGE = (8, 40)
_COPY_SHARE = 0.1
_LOOKS_PER_SECOND = 5
_KIB = 1024


@dataclass
class Memory:
    """What one process took, in MB."""

    peak: float = 0.0
    own: float = 0.0


@dataclass
class Watcher:
    """Looks at this process and its children, from a thread of its own, until it is closed."""

    memory: dict[int, Memory] = field(default_factory=dict[int, Memory])
    _done: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> "Watcher":
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        if self._thread is not None:
            self._thread.join()

    def _watch(self) -> None:
        me = psutil.Process()
        while not self._done.wait(1 / _LOOKS_PER_SECOND):
            for pid in (me.pid, *(child.pid for child in me.children(recursive=True))):
                peak, own = _status(pid)
                seen = self.memory.setdefault(pid, Memory())
                seen.peak, seen.own = max(seen.peak, peak), max(seen.own, own)


def main() -> None:
    """Make the input, ingest it, and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--gigabytes", type=float, default=10.0)
    parser.add_argument("--workers", type=int, default=None)
    parser.add_argument("--corpus", type=Path, default=_FOLDER)
    parser.add_argument("--scratch", type=Path, default=None)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.scratch) as scratch:
        files = list(write_input(arguments.corpus, Path(scratch), int(arguments.gigabytes * 1e9)))
        report = ingest(files, Path(scratch), arguments.workers)
    print(json.dumps(report, indent=2) if arguments.json else _render(report))


def write_input(corpus: Path, folder: Path, size: int) -> Iterator[Path]:
    """Write JSON Lines of `size` bytes in files of half a gigabyte."""
    random_ = random.Random(20240229)
    lines = sorted({line for path in sorted(corpus.rglob("rfc*.txt.gz")) for line in _lines(path)})
    written, number = 0, 0
    while written < size:
        path = folder / f"passages-{number:03d}.jsonl"
        written += _write_file(path, lines, random_, min(_FILE_BYTES, size - written))
        number += 1
        yield path


def ingest(files: list[Path], scratch: Path, workers: int | None) -> dict[str, Any]:
    """Ingest the files and return the figures."""
    request = Request(files, DatasetSpec(), scratch / "store", scratch / "work", workers)
    stages: dict[str, float] = {}
    begun = time.perf_counter()

    def note(progress: ProgressNote) -> None:
        stages.setdefault(progress.stage, time.perf_counter() - begun)

    with Watcher() as watcher:
        built = build_version(request, note)
    return _report(built, watcher, files, time.perf_counter() - begun, stages)


def _report(
    built: Built, watcher: Watcher, files: list[Path], seconds: float, stages: dict[str, float]
) -> dict[str, Any]:
    size = sum(path.stat().st_size for path in files)
    main_process = watcher.memory.pop(os.getpid())
    return {
        "gigabytes": round(size / 1e9, 3),
        "cores": len(os.sched_getaffinity(0)),
        "seconds": round(seconds, 1),
        "cpu_seconds": round(_cpu(), 1),
        "megabytes_per_second": round(size / 1e6 / seconds, 1),
        "rows_in": built.manifest.rows_in,
        "rows_kept": built.manifest.rows_kept,
        "digest": built.manifest.digest,
        "stage_begins_seconds": {name: round(at, 1) for name, at in stages.items()},
        "dropped": {tally.name: tally.rows_dropped for tally in built.tallies if tally.rows_dropped},
        "main_megabytes": asdict(main_process),
        "workers_megabytes": [asdict(memory) for memory in watcher.memory.values()],
    }


def _lines(path: Path) -> Iterator[str]:
    if path.is_symlink():
        return
    with gzip.open(path, "rt", encoding="utf-8", errors="replace") as file:
        for line in file:
            text = line.strip()
            if len(text) > 40 and "[Page" not in text:
                yield text


def _write_file(path: Path, lines: list[str], random_: random.Random, size: int) -> int:
    written, last = 0, ""
    with path.open("w", encoding="utf-8") as file:
        while written < size:
            if last and random_.random() < _COPY_SHARE:
                text = last.replace(" the ", " a ", 2)
            else:
                text = last = "\n".join(random_.choices(lines, k=random_.randint(*_LINES_PER_PASSAGE)))
            written += file.write(json.dumps({"text": text}, ensure_ascii=False) + "\n")
    return path.stat().st_size


def _cpu() -> float:
    """Seconds of this process, the making of the input included, and of workers that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _status(pid: int) -> tuple[float, float]:
    """Return the high-water mark of a process and its pages without a file, in MB."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0, 0.0
    values = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    peak, own = values.get("VmHWM"), values.get("RssAnon")
    if peak is None or own is None:
        return 0.0, 0.0
    return int(peak.split()[0]) * _KIB / 1e6, int(own.split()[0]) * _KIB / 1e6


def _render(report: dict[str, Any]) -> str:
    lines = [f"{name:<24} {value}" for name, value in report.items() if name != "workers_megabytes"]
    lines += [
        f"worker {one['peak']:>8.0f} MB peak {one['own']:>8.0f} MB own" for one in report["workers_megabytes"]
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
