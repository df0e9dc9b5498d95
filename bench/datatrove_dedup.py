"""datatrove's MinHash deduplication of JSON Lines files, as its example does it: four steps through files.

    python -m bench.datatrove_dedup IN OUT WORKERS NGRAM_WORDS

As many signature values as ours. Words are cut by a regular expression, not by spaCy, its default for
English: that makes it faster. Pairs that share a bucket are taken for duplicates, nothing is compared. The
texts that stay are in the files of OUT/kept; printed are seconds of wall clock and of CPU, as JSON. A process
of its own, so that its workers can be forked, and their CPU time is told apart.
"""

# pyright: reportMissingImports=false, reportUnknownVariableType=false, reportUnknownMemberType=false
# pyright: reportUnknownArgumentType=false
import json
import os
import re
import sys
import time
from pathlib import Path
from typing import Any, cast

from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.dedup import MinhashDedupCluster, MinhashDedupFilter, MinhashDedupSignature
from datatrove.pipeline.dedup.minhash import MinhashConfig, MinhashDedupBuckets
from datatrove.pipeline.readers import JsonlReader
from datatrove.pipeline.writers import JsonlWriter

_BUCKETS = 16
_HASHES_PER_BUCKET = 8
_WORD = re.compile(r"\w+")


class _Words:
    """What datatrove calls a word tokenizer."""

    def word_tokenize(self, text: str) -> list[str]:
        return _WORD.findall(text)


def main(source: Path, out: Path, workers: int, ngram_words: int) -> None:
    """Run, and print the seconds."""
    begun = time.perf_counter()
    deduplicate(source, out, workers, ngram_words)
    times = os.times()
    cpu = times.user + times.system + times.children_user + times.children_system
    print(json.dumps({"wall_seconds": time.perf_counter() - begun, "cpu_seconds": cpu}))


def deduplicate(source: Path, out: Path, workers: int, ngram_words: int) -> None:
    """Write the texts that stay of the JSON Lines files in `source`, one file a worker."""
    config = MinhashConfig(n_grams=ngram_words, num_buckets=_BUCKETS, hashes_per_bucket=_HASHES_PER_BUCKET)
    # A language whose tokenizer needs no spaCy; ours takes its place at once.
    signature = MinhashDedupSignature(str(out / "signatures"), config=config, language="ace_Arab")
    signature.word_tokenizer = cast("Any", _Words())
    signatures, pairs, gone = (str(out / name) for name in ("signatures", "pairs", "gone"))
    steps: list[tuple[list[Any], int]] = [
        ([JsonlReader(str(source)), signature], workers),
        ([MinhashDedupBuckets(signatures, pairs, config=config)], _BUCKETS),
        ([MinhashDedupCluster(pairs, gone, config=config)], 1),
        (
            [
                JsonlReader(str(source)),
                MinhashDedupFilter(gone),
                JsonlWriter(str(out / "kept"), compression=None),
            ],
            workers,
        ),
    ]
    for number, (pipeline, tasks) in enumerate(steps):
        logs = str(out / "logs" / str(number))
        LocalPipelineExecutor(
            pipeline, tasks=tasks, workers=min(workers, tasks), logging_dir=logs, start_method="fork"
        ).run()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
