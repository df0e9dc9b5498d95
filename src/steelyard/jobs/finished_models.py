"""The model that a job has finished, on whatever node asks for it."""

import asyncio
from pathlib import Path

from steelyard.jobs.lifecycle import Folders
from steelyard.runtime.manifests import Damage, DamageKind
from steelyard.storage.bucket import DamagedFile
from steelyard.storage.tables import JobRow


async def finished_model(folders: Folders, job: JobRow) -> Path | None:
    """Return the folder of a job's finished model, fetched where this node lacks it; None where it has none.

    Whether it is whole is for whoever reads it.

    Raises:
        BucketUnavailable, StorageFull: it isn't here, and may be later.
    """
    if job.model_dir is None:
        return None
    folder = folders.job(job.project_id, job.id) / job.model_dir
    await asyncio.to_thread(_pull, folders, folder)
    return folder


async def keep_model(folders: Folders, folder: Path) -> Damage | None:
    """Have a finished model whole, here and in the bucket; return what is wrong where that can't be.

    Raises:
        BucketUnavailable, StorageFull: try again.
    """
    return await asyncio.to_thread(_keep, folders, folder)


def _pull(folders: Folders, folder: Path) -> None:
    objects = folders.store
    if objects.bucket is not None:
        objects.pull_folder(folder, None)


def _keep(folders: Folders, folder: Path) -> Damage | None:
    objects = folders.store
    damage = objects.pull_folder(folder, None)
    if damage is not None:
        return damage
    try:
        objects.push_folder(folder)
    except (DamagedFile, OSError) as error:
        return Damage(DamageKind.CHANGED, folder.name, f"it can't be brought to the object store: {error}")
    return None
