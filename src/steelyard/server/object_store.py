"""The look at the object store before anything starts that would need it."""

import structlog

from steelyard.storage.bucket_check import examine_bucket
from steelyard.storage.bucket_settings import BucketMisconfigured, uses_bucket

_log = structlog.get_logger()


def require_object_store() -> None:
    """Try the bucket, where there is one. One that doesn't answer now holds nobody up: work waits for it.

    Blocking, for seconds where the store is away.

    Raises:
        BucketMisconfigured: it won't work like this; names the remedy.
    """
    if not uses_bucket():
        return
    found = examine_bucket()
    if isinstance(found, str):
        _log.info("the object store is ready", message=found)
    elif found.passing:
        _log.warning("the object store can't be used yet", message=found.message, remedy=found.remedy)
    else:
        raise BucketMisconfigured(f"{found.message}; {found.remedy}")
