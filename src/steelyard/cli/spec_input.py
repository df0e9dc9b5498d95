"""The spec that a command is given: a file or standard input, with `--set` applied, checked."""

import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

from steelyard.cli.overrides import apply_overrides
from steelyard.cli.validation import validate_spec
from steelyard.client.errors import UnprocessableEntity
from steelyard.client.spec_file import SpecFile, include_scripts, read_spec_file, read_spec_text
from steelyard.client.spec_text import format_path
from steelyard.kit.errors import InvalidSpec

_STDIN = "-"


def read_spec(file: str, assignments: Sequence[str]) -> SpecFile:
    """Read, override, include scripts, validate.

    Raises:
        InvalidSpec: with file, line and field.
    """
    spec = _read_stdin() if file == _STDIN else read_spec_file(Path(file))
    whole = include_scripts(apply_overrides(spec, assignments))
    validate_spec(whole)
    return whole


@contextmanager
def placing(spec: SpecFile) -> Generator[None]:
    """Give the platform's complaints about a field the place of that field in the file."""
    try:
        yield
    except UnprocessableEntity as error:
        paths = {format_path(path): path for path in (*spec.lines, *spec.origins)}
        path = paths.get(error.param or "")
        if path is None or error.code != "invalid_spec":
            raise
        raise InvalidSpec(
            f"{spec.place(path)}: {error.message}", param=error.param, **error.details
        ) from error


def _read_stdin() -> SpecFile:
    try:
        text = sys.stdin.read()
    except UnicodeDecodeError:
        raise InvalidSpec("standard input isn't UTF-8 text.") from None
    return read_spec_text(text, "<stdin>", Path.cwd())
