"""What goes to the terminal. With `--json`, stdout holds JSON alone; errors always go to stderr."""

import json
import os
import re
import sys
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel
from rich.console import Console

from steelyard.cli.exits import ExitCode

_PIPE_WIDTH = 1000
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class Screen(Console):
    """A console that prints text as it is: no markup, no guessed colours; a pipe gets whole lines."""

    def __init__(self, *, stderr: bool = False) -> None:
        stream = sys.stderr if stderr else sys.stdout
        super().__init__(
            file=stream,
            markup=False,
            emoji=False,
            highlight=False,
            width=None if stream.isatty() else _PIPE_WIDTH,
        )

    def on_broken_pipe(self) -> None:
        """End quietly: the reader (`head`, a closed pager) has seen enough."""
        leave_broken_pipe()


def write_json(value: BaseModel | Sequence[BaseModel] | dict[str, Any]) -> None:
    """Print the one JSON document of a command. A sequence of models becomes `{"data": [...]}`."""
    if isinstance(value, BaseModel):
        write_line(value.model_dump_json(indent=2))
    elif isinstance(value, dict):
        write_line(json.dumps(value, indent=2, ensure_ascii=False))
    else:
        write_json({"data": [item.model_dump(mode="json") for item in value]})


def write_json_line(value: BaseModel | dict[str, Any]) -> None:
    """Print one line of a stream of JSON, at once."""
    is_model = isinstance(value, BaseModel)
    write_line(value.model_dump_json() if is_model else json.dumps(value, ensure_ascii=False))


def write_line(text: str) -> None:
    """Print a line to stdout, as it is, at once."""
    rest = memoryview((text + "\n").encode(sys.stdout.encoding, errors="replace"))
    try:
        sys.stdout.flush()
        # With PYTHONUNBUFFERED, text streams lose what a short write leaves over.
        while rest:
            rest = rest[sys.stdout.buffer.write(rest) :]
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        leave_broken_pipe()


def tell_removed(kind: str, name: str, words: str, as_json: bool) -> None:
    """Say that something is gone: in words, or as `{kind: name, "removed": true}`."""
    if as_json:
        write_json({kind: name, "removed": True})
    else:
        Screen().print(words)


def leave_broken_pipe() -> None:
    """End the process as a broken pipe ends others, with nothing left to flush."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    raise SystemExit(ExitCode.BROKEN_PIPE)


def printable(text: str) -> str:
    """Return text that can't move the cursor or recolour the terminal: control characters are dropped."""
    return _CONTROL.sub("", text)
