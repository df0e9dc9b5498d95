"""The look at the object store before anything starts that would need it."""

from collections.abc import Sequence
from pathlib import Path

import structlog

from steelyard.kit.errors import SteelyardError
from steelyard.runtime.layout import list_checkpoints
from steelyard.server.home import HomeLayout
from steelyard.specs.run import RUN_NAME, RunConfig
from steelyard.storage.bucket_check import examine_bucket
from steelyard.storage.bucket_settings import BucketMisconfigured, uses_bucket
from steelyard.storage.object_folder import ObjectFolder

_log = structlog.get_logger()


def bring_last_checkpoints(layout: HomeLayout, attempts: Sequence[str]) -> int:
    """Bring the newest checkpoint of each attempt that has gone to the bucket; return how many are there.

    For a node that is put away, perhaps with its disk: whoever watches the attempt next finds it there and
    publishes it. What can't be brought stays on the disk. Blocking.
    """
    if not uses_bucket():
        return 0
    count = 0
    for attempt in attempts:
        try:
            run = RunConfig.model_validate_json((layout.attempts / attempt / RUN_NAME).read_bytes())
            own = [each for each in list_checkpoints(Path(run.job_dir)) if each.epoch == run.epoch]
            for newest in own[:1]:
                ObjectFolder.at(layout.objects).push_folder(newest.path)
                count += 1
        except (OSError, ValueError, SteelyardError) as error:
            _log.warning("a last checkpoint is not in the object store", attempt=attempt, error=str(error))
    return count


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
