"""The tokenizer that a dataset spec names, as a local folder: for counting, with no model loaded."""

import asyncio
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from steelyard.kit.errors import InvalidSpec, Unavailable

TOKENIZER_PARAM = "spec.statistics.tokenizer"

_LOCAL_PREFIXES = ("/", ".", "~")
_BAD_CONFIG_EXIT = 64


def refuse_tokenizer(name: str, roots: Sequence[Path]) -> str | None:
    """Return why a tokenizer may not be read from the platform's disk; None where it may, or isn't there.

    Args:
        roots: the folders that an API user may name something in; none allow nothing.
    """
    if not name.startswith(_LOCAL_PREFIXES):
        return None
    folder = Path(name).expanduser().resolve()
    if any(folder.is_relative_to(root.expanduser().resolve()) for root in roots):
        return None
    listed = ", ".join(str(root) for root in roots) or "nowhere"
    return (
        f"{name}: tokenizers are read from folders below {listed} (STEELYARD_MODEL_ROOTS); name a model,"
        " such as builtin/smollm2-135m-instruct or a Hugging Face id"
    )


class TokenizerLocator:
    """Finds tokenizers by the names of their models. Doing it again finds what is there already.

    Args:
        cache: folder of converted and downloaded base models.
        refuse: says why a name may not be used, if so.
        python: the interpreter that has the training libraries.
    """

    def __init__(
        self, cache: Path, refuse: Callable[[str], str | None], python: str = sys.executable
    ) -> None:
        self._cache = cache
        self._refuse = refuse
        self._python = python

    async def locate(self, name: str) -> Path:
        """Return a folder that holds the tokenizer of the model `name`.

        Raises:
            InvalidSpec: there is none, or it may not be read.
            Unavailable: the hub didn't answer; try again.
        """
        reason = self._refuse(name)
        if reason is not None:
            raise InvalidSpec(reason, param=TOKENIZER_PARAM)
        process = await asyncio.create_subprocess_exec(
            self._python, "-m", "steelyard.trainers.models", "resolve", name,
            "--cache", str(self._cache), "--only-tokenizer",
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        try:
            output, errors = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
        if process.returncode == 0:
            return Path(json.loads(output)["path"])
        if process.returncode == _BAD_CONFIG_EXIT:
            raise InvalidSpec(json.loads(output)["error"]["message"], param=TOKENIZER_PARAM)
        tail = errors.decode(errors="replace")[-500:]
        raise Unavailable(f"the tokenizer of {name!r} could not be made ready: {tail}")
