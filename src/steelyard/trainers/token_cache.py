"""Making a tokenized cache: a folder of Arrow files under a manifest, whole or not there at all.

Pieces of the rows are tokenized by as many processes as asked for. Who dies at any line leaves finished
pieces in `<folder>.partial`, and the next one goes on from them; the same orders give the same bytes.
"""
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import multiprocessing
import os
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from steelyard.runtime.failures import RunFailure
from steelyard.runtime.files import sync_directory, write_atomically
from steelyard.runtime.folder_lock import hold
from steelyard.runtime.manifests import verify_manifest, write_manifest
from steelyard.runtime.parent import PARENT_VARIABLE, die_with_parent
from steelyard.specs.manifest import Manifest
from steelyard.specs.tokens import TokenOrder, TokenProgress, TokenSummary
from steelyard.trainers.lengths import judge_lengths
from steelyard.trainers.rows import require_rows
from steelyard.trainers.token_shards import Piece, cut, finished, tokenize_piece
from steelyard.trainers.tokenizer import open_tokenizer

SUMMARY_NAME = "summary.json"
PIECE_BYTES = 16 << 20
"""Of rows as JSON Lines. Part of the form of a cache: other pieces are other files."""

Tell = Callable[[TokenProgress], object]


def make_cache(order: TokenOrder, tell: Tell, *, piece_bytes: int = PIECE_BYTES) -> bool:
    """Make the cache that is ordered; return whether it was there already.

    Two at once are safe: one makes it, the other waits and finds it. A cache that is damaged is made anew.

    Raises:
        RunFailure: rows, template or tokenizer don't do; nothing is left behind.
        OSError: no room on the disk.
    """
    folder = Path(order.folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with hold(folder, wait=True):
        if folder.is_dir() and verify_manifest(folder) is None:
            return True
        shutil.rmtree(folder, ignore_errors=True)
        partial = folder.with_name(f"{folder.name}.partial")
        partial.mkdir(exist_ok=True)
        try:
            _fill(partial, order, tell, piece_bytes)
        except RunFailure:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        os.replace(partial, folder)
        sync_directory(folder.parent)
    return False


def read_summary(folder: Path) -> TokenSummary:
    """Return what a finished cache says of its rows."""
    return TokenSummary.model_validate_json((folder / SUMMARY_NAME).read_bytes())


def _fill(partial: Path, order: TokenOrder, tell: Tell, piece_bytes: int) -> Manifest:
    pieces = cut(order.dataset.train, partial, piece_bytes)
    require_rows(pieces, order.dataset.format, "train")
    summary = _sum(_tokenize(pieces, order, tell))
    judge_lengths(summary, order.training)
    kept = {piece.target for piece in pieces}
    if order.training.packing:
        # TRL comes with all of torch, and few pack.
        from steelyard.trainers.token_packing import pack  # noqa: PLC0415

        packed = partial / "packed.arrow"
        sequences = pack(sorted(kept), packed, order.training.max_length)
        summary, kept = summary.model_copy(update={"sequences": sequences}), {packed}
    for path in partial.iterdir():
        if path not in kept:
            path.unlink()
    write_atomically(partial / SUMMARY_NAME, summary.model_dump_json().encode())
    return write_manifest(partial, kind="tokens", job_id="", attempt_id="", epoch=0, step=0)


def _tokenize(pieces: Sequence[Piece], order: TokenOrder, tell: Tell) -> list[TokenSummary]:
    """Tokenize the pieces that aren't there yet; the first piece with a fault is the one that is told of."""
    found = {piece: summary for piece in pieces if (summary := finished(piece)) is not None}
    tell(TokenProgress(done=len(found), total=len(pieces)))
    missing = [piece for piece in pieces if piece not in found]
    if missing:
        tokenizer = open_tokenizer(Path(order.model_path), order.model_name, order.chat_template)
        if min(order.workers, len(missing)) == 1:
            for piece in missing:
                found[piece] = tokenize_piece(piece, order.dataset.format, tokenizer, order.training)
                tell(TokenProgress(done=len(found), total=len(pieces)))
        else:
            found |= _tokenize_by_many(missing, order, tokenizer, tell, len(found), len(pieces))
    return [found[piece] for piece in pieces]


def _tokenize_by_many(
    missing: Sequence[Piece],
    order: TokenOrder,
    tokenizer: PreTrainedTokenizerBase,
    tell: Tell,
    done: int,
    total: int,
) -> dict[Piece, TokenSummary]:
    """Fork workers, which share the tokenizer that this process has loaded.

    Raises:
        BrokenProcessPool: a worker was killed; what is finished stays.
    """
    pool = ProcessPoolExecutor(
        min(order.workers, len(missing)),
        mp_context=multiprocessing.get_context("fork"),
        initializer=_begin_worker,
        initargs=(os.getpid(), order, tokenizer),
    )
    try:
        futures: dict[Future[TokenSummary | RunFailure], Piece] = {
            pool.submit(_work, piece): piece for piece in missing
        }
        found: dict[Piece, TokenSummary] = {}
        for future in as_completed(futures):
            outcome = future.result()
            if isinstance(outcome, RunFailure):
                raise _first_failure(futures, outcome)
            found[futures[future]] = outcome
            tell(TokenProgress(done=done + len(found), total=total))
        return found
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _first_failure(
    futures: dict[Future[TokenSummary | RunFailure], Piece], failure: RunFailure
) -> RunFailure:
    """Return the failure of the foremost piece: pieces before it are waited for, the others let be."""
    for future in list(futures)[::-1]:
        future.cancel()
    for future in futures:
        if not future.cancelled() and isinstance(outcome := future.result(), RunFailure):
            return outcome
    return failure


_orders: tuple[TokenOrder, PreTrainedTokenizerBase] | None = None


def _begin_worker(parent: int, order: TokenOrder, tokenizer: PreTrainedTokenizerBase) -> None:
    global _orders
    os.environ[PARENT_VARIABLE] = str(parent)
    die_with_parent()
    _orders = (order, tokenizer)


def _work(piece: Piece) -> TokenSummary | RunFailure:
    assert _orders is not None
    order, tokenizer = _orders
    try:
        return tokenize_piece(piece, order.dataset.format, tokenizer, order.training)
    except RunFailure as failure:
        # Its own class need not survive the way between processes.
        return _plain(failure)


def _plain(failure: RunFailure) -> RunFailure:
    return _Carried(failure.reason, failure.exit_code, failure.message, failure.param)


class _Carried(RunFailure):
    """A failure that can be pickled."""

    def __init__(self, *facts: object) -> None:
        reason, exit_code, message, param = facts
        super().__init__(reason, exit_code, message, param=param)  # pyright: ignore[reportArgumentType]
        self.args = facts


def _sum(summaries: Sequence[TokenSummary]) -> TokenSummary:
    total = TokenSummary()
    for summary in summaries:
        total = total.plus(summary)
    return total
