"""Every command takes --json, or prints by its nature what is no document."""

from collections.abc import Iterator
from typing import Any

import typer

from steelyard.cli.main import APP

NO_DOCUMENT = {
    "audit export": "lines of a file for others to verify",
    "card": "Markdown",
    "evals samples": "JSON lines",
    "token": "the token",
}


def test_every_command_takes_json_and_says_what_it_does() -> None:
    commands = dict(_walk(typer.main.get_command(APP), ()))
    assert len(commands) > 80
    without = {name for name, command in commands.items() if "--json" not in _options(command)}
    assert without == set(NO_DOCUMENT)
    assert [name for name, command in commands.items() if not command.help] == []


def _walk(command: Any, path: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    inner: dict[str, Any] | None = getattr(command, "commands", None)
    if inner is None:
        yield " ".join(path), command
        return
    for name, each in inner.items():
        yield from _walk(each, (*path, name))


def _options(command: Any) -> set[str]:
    return {option for parameter in command.params for option in parameter.opts}
