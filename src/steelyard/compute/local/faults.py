"""What the machine's refusals mean in the platform's errors."""

import errno
from pathlib import Path

from steelyard.kit.errors import StorageFull, Unavailable

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)


def explain(number: int | None, message: str, folder: Path) -> StorageFull | Unavailable:
    """Return the error that says what errno `number` means for the attempt in `folder`."""
    if number in _NO_ROOM:
        return StorageFull(f"{folder} can't be written ({message}); make room on its disk and try again")
    return Unavailable(f"the machine refused ({message}); it is safe to ask again")
