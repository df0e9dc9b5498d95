"""The JSON Schemas of the five job specs."""

from functools import cache
from typing import Any

from fastapi import APIRouter

from steelyard.api.errors import ERROR_RESPONSES
from steelyard.api.permits import permits
from steelyard.kit.errors import NotFound
from steelyard.specs.job import SPEC_CLASSES

router = APIRouter(prefix="/v1/schemas", tags=["schemas"], responses=ERROR_RESPONSES)


@router.get("", openapi_extra=permits("public"))
async def list_schemas() -> dict[str, Any]:
    """Return all five schemas."""
    return {"data": [{"type": name, "schema": _schema(name)} for name in SPEC_CLASSES]}


@router.get("/{job_type}", openapi_extra=permits("public"))
async def get_schema(job_type: str) -> dict[str, Any]:
    """Return the schema of one job type."""
    if job_type not in SPEC_CLASSES:
        raise NotFound(f"no job type {job_type!r}; the types are {', '.join(SPEC_CLASSES)}", param="job_type")
    return _schema(job_type)


@cache
def _schema(job_type: str) -> dict[str, Any]:
    return SPEC_CLASSES[job_type].model_json_schema()
