"""Packing tokenized rows, and reading them back as TRL takes them."""
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from collections.abc import Sequence
from pathlib import Path

from datasets import disable_progress_bars
from trl.data_utils import pack_dataset

from steelyard.trainers.token_rows import map_files

_STRATEGY = "bfd"


def pack(sources: Sequence[Path], target: Path, max_length: int) -> int:
    """Pack the rows of Arrow files as TRL would when it starts to train; return how many sequences came.

    A thousand rows are held at a time.
    """
    disable_progress_bars()
    rows = map_files(sources)
    packed = pack_dataset(rows, max_length, _STRATEGY, {"cache_file_name": str(target)})
    return len(packed)
