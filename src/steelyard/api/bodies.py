"""Request bodies, bounded."""

from typing import Any, TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError

from steelyard.kit.errors import InvalidRequest

Body = TypeVar("Body", bound=BaseModel)

MAX_BODY_BYTES = 2 * 1024 * 1024
BODY_MODELS: dict[str, type[BaseModel]] = {}
"""Models of bodies that are parsed by hand, for the OpenAPI document to hold."""


def body_schema(model: type[BaseModel]) -> dict[str, Any]:
    """Return what a route's `openapi_extra` must hold, where it parses a body of `model` by hand."""
    BODY_MODELS[model.__name__] = model
    schema = {"$ref": f"#/components/schemas/{model.__name__}"}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


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
