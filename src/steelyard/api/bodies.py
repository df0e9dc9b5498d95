"""Request bodies, bounded."""

from typing import Any, TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError

from steelyard.kit.errors import InvalidRequest

Body = TypeVar("Body", bound=BaseModel)

MAX_BODY_BYTES = 2 * 1024 * 1024


async def read_body(request: Request, max_bytes: int = MAX_BODY_BYTES) -> bytes:
    """Read a body of at most `max_bytes`.

    Raises:
        InvalidRequest: it is longer.
    """
    pieces: list[bytes] = []
    size = 0
    async for piece in request.stream():
        size += len(piece)
        if size > max_bytes:
            raise InvalidRequest(f"the body is larger than {max_bytes} bytes; send less")
        pieces.append(piece)
    return b"".join(pieces)


def body_schema(model: type[BaseModel]) -> dict[str, Any]:
    """Return what a route's `openapi_extra` says of a body that the route reads itself."""
    content = {"application/json": {"schema": model.model_json_schema()}}
    return {"requestBody": {"required": True, "content": content}}


def parse_body(body: bytes, model: type[Body], refusal: type[InvalidRequest] = InvalidRequest) -> Body:
    """Parse a JSON body; strict models accept from JSON text what they refuse from Python values.

    Raises:
        InvalidRequest: `refusal`, with the path of the first field at fault as `param`.
    """
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        param = ".".join(str(part) for part in first["loc"])
        raise refusal(f"{param}: {first['msg']}", param=param or None) from error
