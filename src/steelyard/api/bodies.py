"""Request bodies, bounded."""

from fastapi import Request

from steelyard.kit.errors import InvalidRequest

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
