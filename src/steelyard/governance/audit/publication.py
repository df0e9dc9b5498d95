"""Where signed checkpoints are kept outside of the database, so that whoever owns that can't rewrite both."""

from datetime import datetime
from pathlib import Path
from typing import Protocol

from steelyard.governance.audit.notes import Verifier
from steelyard.runtime.files import write_atomically

PUBLIC_KEY_NAME = "audit.pub"
LATEST_NAME = "latest.checkpoint"
_MODE = 0o644


class Shelf(Protocol):
    """A place for checkpoints. Calls block; publishing the same checkpoint twice changes nothing."""

    def latest(self) -> str | None:
        """Return the note that was published last; None where that isn't known here."""
        ...

    def publish(self, size: int, note: str, moment: datetime, verifier: Verifier) -> None:
        """Keep a note.

        Raises:
            Unavailable, OSError: it couldn't be kept.
            TamperedTrail: another one of this size was kept before.
        """
        ...


class CheckpointFolder:
    """A folder with `latest.checkpoint`, the last one of each hour, and the public key `audit.pub`.

    Hourly ones are never removed: 24 files of 250 bytes a day. For one writer at a time.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def latest(self) -> str | None:
        """Return the newest note."""
        try:
            return (self._folder / LATEST_NAME).read_text()
        except FileNotFoundError:
            return None

    def publish(self, size: int, note: str, moment: datetime, verifier: Verifier) -> None:
        """Write the hour's file and then the newest, each in one durable move."""
        del size
        self._folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        key = self._folder / PUBLIC_KEY_NAME
        if not key.exists():
            write_atomically(key, f"{verifier}\n".encode(), _MODE)
        write_atomically(self._folder / f"{moment:%Y-%m-%dT%HZ}.checkpoint", note.encode(), _MODE)
        write_atomically(self._folder / LATEST_NAME, note.encode(), _MODE)
