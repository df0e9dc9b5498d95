"""Errors as answers: one shape for all of them."""

from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy.exc import DBAPIError
from starlette.exceptions import HTTPException

from steelyard.kit.errors import SteelyardError
from steelyard.specs.views import ErrorBody, ErrorResponse
from steelyard.storage.database import sqlstate_of

_log = structlog.get_logger()

_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "budget_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    409: "conflict_error",
    413: "invalid_request_error",
    422: "invalid_request_error",
    429: "rate_limit_error",
    501: "not_supported_error",
    503: "unavailable_error",
    507: "unavailable_error",
}
_RETRY_AFTER_SECONDS = "1"
_UNSTORABLE = {
    "22000": "a value is not of a kind that can be stored, such as a number beyond 64 bits",
    "22003": "a number is out of range",
    "22008": "a date is out of range",
    "22021": "a text holds a character that can't be stored, such as NUL",
    "22P05": "a text holds a character that can't be stored, such as NUL",
}
"""SQLSTATEs of values that PostgreSQL (or its driver: 22000) can't hold, and what is wrong with them."""

ERROR_RESPONSES: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorResponse, "description": description}
    for status, description in {
        401: "No token, or one that is not known.",
        404: "No such thing, or not the caller's to know of.",
        422: "The request breaks a rule; `param` names the field.",
        429: "The control plane sheds load; come back after `Retry-After`.",
        503: "Something the platform needs doesn't answer just now.",
    }.items()
}
"""For `responses=` of every router: what may come back beside the answer."""


def register_error_handlers(app: FastAPI) -> None:
    """Answer every error of `app` in the one shape."""
    app.add_exception_handler(SteelyardError, _answer_own)
    app.add_exception_handler(RequestValidationError, _answer_invalid)
    app.add_exception_handler(HTTPException, _answer_http)
    app.add_exception_handler(DBAPIError, _answer_unstorable)
    app.add_exception_handler(Exception, _answer_unexpected)


def error_response(
    request_id: str | None,
    status: int,
    code: str,
    message: str,
    param: str | None = None,
    details: dict[str, Any] | None = None,
) -> JSONResponse:
    """Make an error answer."""
    body = ErrorResponse(
        error=ErrorBody(
            type=_TYPES.get(status, "internal_error"),
            code=code,
            message=message,
            param=param,
            request_id=request_id,
            details=details or {},
        )
    )
    headers = {"Retry-After": _RETRY_AFTER_SECONDS} if status in (429, 503) else None
    return JSONResponse(body.model_dump(mode="json"), status, headers)


def _request_id(request: Request) -> str | None:
    return getattr(request.state, "request_id", None)


async def _answer_own(request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, SteelyardError):
        raise error
    request.state.error = (error.code, error.param)
    return error_response(
        _request_id(request), error.http_status, error.code, error.message, error.param, dict(error.details)
    )


async def _answer_invalid(request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, RequestValidationError):
        raise error
    faults = [
        {"param": ".".join(str(part) for part in item["loc"]), "message": item["msg"]}
        for item in error.errors()
    ]
    first = faults[0]
    request.state.error = ("invalid_request", first["param"])
    return error_response(
        _request_id(request), 422, "invalid_request", f"{first['param']}: {first['message']}",
        first["param"], {"faults": faults},
    )  # fmt: skip


async def _answer_http(request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, HTTPException):
        raise error
    code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "http_error")
    request.state.error = (code, None)
    message = f"{error.detail}: {request.method} {request.url.path}; the routes are at /docs"
    return error_response(_request_id(request), error.status_code, code, message)


async def _answer_unstorable(request: Request, error: Exception) -> JSONResponse:
    """Refuse what passed all checks of its form and can't be stored or looked for: the sender's fault."""
    fault = _UNSTORABLE.get(sqlstate_of(error) or "") if isinstance(error, DBAPIError) else None
    if fault is None:
        raise error
    request.state.error = ("invalid_request", None)
    return error_response(_request_id(request), 422, "invalid_request", f"{fault}; send another")


async def _answer_unexpected(request: Request, error: Exception) -> JSONResponse:
    _log.error("unexpected error", path=request.url.path, request_id=_request_id(request), exc_info=error)
    return error_response(
        _request_id(request), 500, "internal_error",
        "something went wrong on the server; its log has the details under this request_id",
    )  # fmt: skip
