"""How the server's own commands, which run in the CLI's place, tell of an error."""

import sys

from steelyard.kit.errors import SteelyardError
from steelyard.specs.views import ErrorBody, ErrorResponse


def print_error(error: SteelyardError, kind: str, *, as_json: bool) -> None:
    """Write an error to standard error, as the CLI does.

    Args:
        kind: `type` of the JSON form.
    """
    if as_json:
        body = ErrorBody(type=kind, code=error.code, message=error.message, param=error.param)
        sys.stderr.write(ErrorResponse(error=body).model_dump_json() + "\n")
    else:
        sys.stderr.write(f"Error: {error.message}\n")
