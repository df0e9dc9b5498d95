"""From a model's name to a local folder: `python -m steelyard.trainers.models resolve NAME --cache DIR`.

The control plane runs this as a subprocess. Standard output is one JSON object: `path`, `digest`,
`revision`, or `error` with `code`, `message`, `param` and exit code 64 (75 where trying again may help).
"""

# pyright: reportUnknownVariableType=false

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from steelyard.runtime.failures import RunFailure, bad_config
from steelyard.runtime.manifests import digest_folder, read_manifest
from steelyard.specs.manifest import MANIFEST_NAME
from steelyard.specs.outcome import ExitCode
from steelyard.specs.states import Reason
from steelyard.trainers.builtin import PREFIX, ResolvedModel, ensure_builtin

_PATTERNS = ["*.json", "*.safetensors", "*.model", "*.jinja", "*.txt"]
_TOKENIZER_PATTERNS = ["tokenizer.json"]


def resolve_model(
    name: str, revision: str | None, cache: Path, *, only_tokenizer: bool = False
) -> ResolvedModel:
    """Make `name` a local folder: a built-in model, a folder of this node, or a Hugging Face id.

    An id is downloaded below `cache` and pinned to the commit that `revision` names now; with
    `only_tokenizer` without its weights, and a folder needs none.

    Raises:
        RunFailure: there is no such model (never retried), or the hub does not answer (transient).
    """
    if name.startswith(PREFIX):
        return ensure_builtin(name, cache)
    if name.startswith(("/", ".", "~")):
        return _resolve_folder(Path(name).expanduser(), "tokenizer.json" if only_tokenizer else "config.json")
    return _download(name, revision, cache, _TOKENIZER_PATTERNS if only_tokenizer else _PATTERNS)


def resolve_command(arguments: Sequence[str]) -> int:
    """The command line; prints one JSON object and returns the exit code."""
    parser = argparse.ArgumentParser(prog="steelyard.trainers.models", description=__doc__)
    parser.add_argument("name")
    parser.add_argument("--revision")
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--only-tokenizer", action="store_true")
    options = parser.parse_args(arguments)
    try:
        model = resolve_model(
            options.name, options.revision, options.cache.absolute(), only_tokenizer=options.only_tokenizer
        )
    except RunFailure as failure:
        error = {"code": failure.reason, "message": failure.message, "param": failure.param}
        print(json.dumps({"error": error}))  # noqa: T201 - the answer
        return failure.exit_code
    answer = {"path": str(model.path), "digest": model.digest, "revision": model.revision}
    print(json.dumps(answer))  # noqa: T201 - the answer
    return ExitCode.DONE


def _resolve_folder(folder: Path, needed: str) -> ResolvedModel:
    folder = folder.resolve()
    if not (folder / needed).exists():
        raise _not_found(f"The folder {folder} holds no model (no {needed}): name one on this node.")
    return ResolvedModel(folder, _digest(folder))


def _download(name: str, revision: str | None, cache: Path, patterns: list[str]) -> ResolvedModel:
    try:
        path = snapshot_download(
            name, revision=revision, cache_dir=cache / "huggingface", allow_patterns=patterns
        )
    except GatedRepoError as error:
        raise _not_found(
            f"{name!r} is gated: accept its licence on huggingface.co and set HF_TOKEN."
        ) from error
    except (RepositoryNotFoundError, RevisionNotFoundError, ValueError) as error:
        told = f"Hugging Face has no model {name!r}" + (f" at revision {revision!r}" if revision else "")
        raise _not_found(f"{told}: check the name, or use a folder or a builtin/ model.") from error
    except LocalEntryNotFoundError as error:
        raise _not_found(
            f"{name!r} is not in the cache and Hugging Face does not answer: check the network, or use a "
            "folder or builtin/smollm2-135m-instruct, which need none."
        ) from error
    except (HfHubHTTPError, OSError) as error:
        raise RunFailure(
            Reason.TRANSIENT_FAILURE,
            ExitCode.TRANSIENT,
            f"Hugging Face broke off while {name!r} was read ({type(error).__name__}): try again.",
        ) from error
    folder = Path(path)
    return ResolvedModel(folder, _digest(folder), folder.name)


def _digest(folder: Path) -> str:
    """Digest of a folder's files by the manifest's formula; taken from the manifest where it has one."""
    if (folder / MANIFEST_NAME).exists():
        return read_manifest(folder).digest()
    return digest_folder(folder)


def _not_found(message: str) -> RunFailure:
    return bad_config(Reason.MODEL_NOT_FOUND, message, param="model.name_or_path")


if __name__ == "__main__":
    words = sys.argv[1:]
    sys.exit(resolve_command(words[1:] if words[:1] == ["resolve"] else words))
