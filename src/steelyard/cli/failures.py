"""Errors as users see them: one line with the remedy, or the API's JSON shape, always on stderr."""

import json
import sys

from rich.text import Text
from typer import TyperException

from steelyard.cli.exits import ExitCode, exit_code_of_error
from steelyard.cli.output import Screen, printable
from steelyard.client.errors import (
    ClientError,
    ConnectionFailed,
    ConnectionTimedOut,
    SteelyardApiError,
    WaitTimedOut,
)
from steelyard.kit.errors import SteelyardError
from steelyard.specs.views import ErrorBody, ErrorResponse

SUBMISSION_KEY_PREFIX = "idem_"

Failure = ClientError | SteelyardError | TyperException


def report(error: Failure, as_json: bool) -> ExitCode:
    """Print an error to stderr and return the code to end with."""
    if isinstance(error, TyperException) and not error.format_message():
        return ExitCode.USAGE  # no arguments: the help has been printed
    body = _body_of(error)
    if as_json:
        sys.stderr.write(ErrorResponse(error=body).model_dump_json() + "\n")
    else:
        _print(body)
    return ExitCode.USAGE if isinstance(error, TyperException) else exit_code_of_error(error)


def _body_of(error: Failure) -> ErrorBody:
    if isinstance(error, TyperException):
        message = f"{error.format_message().rstrip('.')}. `steelyard --help` lists what there is."
        return ErrorBody(type="usage_error", code="usage", message=message)
    if isinstance(error, SteelyardError):
        return ErrorBody(
            type="invalid_request_error" if error.http_status < 500 else "internal_error",
            code=error.code,
            message=error.message,
            param=error.param,
            details=_plain(error.details),
        )
    return _body_of_client_error(error)


def _body_of_client_error(error: ClientError) -> ErrorBody:
    key = error.idempotency_key
    extra = {"idempotency_key": key} if key and key.startswith(SUBMISSION_KEY_PREFIX) else {}
    if isinstance(error, SteelyardApiError):
        return ErrorBody(
            type=error.type,
            code=error.code,
            message=error.message,
            param=error.param,
            request_id=error.request_id,
            details={**error.details, **(extra if error.http_status >= 500 else {})},
        )
    codes: tuple[tuple[type[ClientError], str, str], ...] = (
        (ConnectionTimedOut, "connection_error", "connection_timed_out"),
        (ConnectionFailed, "connection_error", "connection_failed"),
        (WaitTimedOut, "timeout_error", "wait_timed_out"),
    )
    for kind, group, code in codes:
        if isinstance(error, kind):
            return ErrorBody(type=group, code=code, message=error.message, details=extra)
    return ErrorBody(type="client_error", code="client_error", message=error.message, details=extra)


def _print(body: ErrorBody) -> None:
    screen = Screen(stderr=True)
    screen.print(Text.assemble(("Error: ", "bold red"), printable(body.message)))
    if key := body.details.get("idempotency_key"):
        screen.print(
            f"The job may have been accepted all the same. The same command with --idempotency-key {key} "
            "submits it at most once."
        )
    if body.request_id:
        screen.print(Text(f"Request {body.request_id}", style="dim"))


def _plain(details: dict[str, object]) -> dict[str, object]:
    return json.loads(json.dumps(details, default=str))
