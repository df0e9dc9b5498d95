"""Tokenized caches of dataset versions."""

from fastapi import APIRouter

from steelyard.api.access import CurrentActor, CurrentServices
from steelyard.api.errors import ERROR_RESPONSES
from steelyard.api.permits import permits
from steelyard.specs.access import Permission
from steelyard.specs.tokens import TokenCacheView
from steelyard.specs.views import ListView

router = APIRouter(prefix="/v1/projects/{project}", tags=["datasets"], responses=ERROR_RESPONSES)


@router.get("/datasets/{ref}/tokenized", openapi_extra=permits(Permission.DATASET_READ))
async def list_tokenized(
    project: str, ref: str, actor: CurrentActor, services: CurrentServices
) -> ListView[TokenCacheView]:
    """Return the tokenized caches of a version, the one used last first."""
    return ListView[TokenCacheView](data=await services.tokenized.of_version(actor, project, ref))
