"""Files from elsewhere: `s3://BUCKET/PREFIX`, and `hf://datasets/OWNER/NAME[@REVISION][/PATH]`.

Only these two schemes exist and neither has room for a host: endpoints and credentials come from the
environment of the process, never from the URI, so no URI can be made to reach another machine.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from steelyard.datasets import bucket_files, hub_files
from steelyard.kit.errors import InvalidDataset, StorageFull


def download(uri: str, scratch: Path) -> Iterator[tuple[str, Path]]:
    """Fetch what `uri` stands for into `scratch`, and yield each file's URI and local path.

    Local names are made from a count and the file's ending, never from the remote name. A file of a hub is
    named with the commit that it was read at.

    Raises:
        InvalidDataset: the scheme isn't known, or nothing to read is there.
        StorageFull: what is there doesn't fit on the disk.
        Unavailable: the store or the hub doesn't answer.
    """
    scheme = urlsplit(uri).scheme
    if scheme == "s3":
        return bucket_files.fetch(uri, scratch, require_room)
    if scheme == "hf":
        return hub_files.fetch(uri, scratch, require_room)
    raise InvalidDataset(f"{uri}: unknown scheme {scheme!r}; known are s3:// and hf://datasets/OWNER/NAME")


def require_room(size_bytes: int, folder: Path) -> None:
    """Refuse what the disk has no room for, before it is full.

    Raises:
        StorageFull: it hasn't.
    """
    free = shutil.disk_usage(folder).free
    if size_bytes > free:
        raise StorageFull(
            f"{size_bytes >> 20} MiB are to be read, and {free >> 20} MiB are free below {folder}; name fewer"
            " files, or free some room"
        )
