"""Models that need no network: `python -m steelyard.trainers.builtin NAME --cache DIR`.

Made once and kept in a cache folder that is named by the digest of what it was made from.
"""

import fcntl
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree

from steelyard.kit.canonical import digest_bytes, digest_file, digest_json
from steelyard.runtime.failures import bad_config
from steelyard.runtime.files import replace_folder
from steelyard.runtime.layout import partial_dir
from steelyard.runtime.manifests import read_manifest, verify_manifest, write_manifest
from steelyard.specs.models import BUILTIN_MODELS
from steelyard.specs.states import Reason

PREFIX = "builtin/"


@dataclass(frozen=True)
class ResolvedModel:
    """A model as a local folder. `digest` is over its files: equal files, equal digest.

    `revision` is the commit of a Hugging Face id.
    """

    path: Path
    digest: str
    revision: str | None = None


@dataclass(frozen=True)
class _Recipe:
    source_digest: str
    make: Callable[[Path], None]


def ensure_builtin(name: str, cache: Path) -> ResolvedModel:
    """Return the built-in model `name`, made now where the cache does not have it whole.

    Safe to call from any number of processes at once: one makes it, the others wait.

    Raises:
        RunFailure: there is no such model, or the package that holds it is not installed.
    """
    recipe = _find(name)
    folder = cache / "builtin" / f"{name.removeprefix(PREFIX)}-{recipe.source_digest[7:23]}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _locked(folder.with_name(f"{folder.name}.lock")):
        if verify_manifest(folder) is not None:
            _make(recipe, folder)
    return ResolvedModel(folder, read_manifest(folder).digest())


def _find(name: str) -> _Recipe:
    # Each recipe needs libraries of its own; only the one that is asked for is loaded.
    if name == "builtin/tiny-random":
        from steelyard.trainers import tiny_random  # noqa: PLC0415

        return _Recipe(digest_bytes(tiny_random.RECIPE.encode()), tiny_random.make_tiny_random)
    if name == "builtin/smollm2-135m-instruct":
        from steelyard.trainers import smollm  # noqa: PLC0415

        source = digest_file(smollm.find_weights())
        return _Recipe(digest_json([smollm.RECIPE, source]), smollm.make_smollm)
    raise bad_config(
        Reason.MODEL_NOT_FOUND,
        f"There is no {name!r}: use {' or '.join(BUILTIN_MODELS)}.",
        param="model.name_or_path",
    )


def _make(recipe: _Recipe, folder: Path) -> None:
    partial = partial_dir(folder)
    rmtree(partial, ignore_errors=True)
    partial.mkdir()
    recipe.make(partial)
    write_manifest(partial, kind="model", job_id="builtin", attempt_id="builtin", epoch=0, step=0)
    replace_folder(partial, folder)


@contextmanager
def _locked(path: Path) -> Generator[None]:
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


if __name__ == "__main__":
    # The command's one home is `models`; this name of it is kept short for people.
    from steelyard.trainers.models import resolve_command

    sys.exit(resolve_command(sys.argv[1:]))
