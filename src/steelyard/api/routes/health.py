"""Whether the process lives, and whether it can serve."""

from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from sqlalchemy import text

from steelyard.api.access import CurrentServices
from steelyard.api.metrics import metrics_registry
from steelyard.api.permits import permits
from steelyard.kit.errors import SteelyardError

router = APIRouter(tags=["health"])


@router.get("/healthz", openapi_extra=permits("public"))
async def healthz() -> dict[str, str]:
    """Say that the process answers."""
    return {"status": "ok"}


@router.get("/readyz", openapi_extra=permits("public"))
async def readyz(services: CurrentServices) -> JSONResponse:
    """Say whether jobs can be accepted: the database answers."""
    checks: dict[str, Any] = {}
    try:
        async with services.database.transaction() as session:
            await session.execute(text("SELECT 1"))
        checks["database"] = "ok"
    except SteelyardError as error:
        checks["database"] = error.message
    ready = all(value == "ok" for value in checks.values())
    return JSONResponse({"status": "ok" if ready else "unavailable", "checks": checks}, 200 if ready else 503)


@router.get("/metrics", include_in_schema=False, openapi_extra=permits("public"))
async def metrics() -> Response:
    """Prometheus figures of all api processes of this server."""
    return Response(generate_latest(metrics_registry()), media_type=CONTENT_TYPE_LATEST)
