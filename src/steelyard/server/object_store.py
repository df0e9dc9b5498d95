"""The look that a worker takes at the object store before it takes any work."""

import asyncio

import structlog

from steelyard.storage.bucket_check import examine_bucket
from steelyard.storage.bucket_settings import BucketMisconfigured, uses_bucket

_log = structlog.get_logger()


async def require_object_store() -> None:
    """Try the bucket, where there is one. One that doesn't answer now holds nobody up: work waits for it.

    Raises:
        BucketMisconfigured: it won't work like this; names the remedy.
    """
    if not uses_bucket():
        return
    found = await asyncio.to_thread(examine_bucket)
    if isinstance(found, str):
        _log.info("the object store is ready", message=found)
    elif found.passing:
        _log.warning("the object store can't be used yet", message=found.message, remedy=found.remedy)
    else:
        raise BucketMisconfigured(f"{found.message}; {found.remedy}")
