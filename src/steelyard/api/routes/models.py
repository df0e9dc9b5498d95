"""Registered models and their versions."""

from fastapi import APIRouter

from steelyard.api.access import CurrentActor, CurrentServices
from steelyard.api.errors import ERROR_RESPONSES
from steelyard.api.permits import permits
from steelyard.specs.access import Permission
from steelyard.specs.models import ModelVersionView, ModelView
from steelyard.specs.views import ListView

router = APIRouter(prefix="/v1/projects/{project}/models", tags=["models"], responses=ERROR_RESPONSES)


@router.get("", openapi_extra=permits(Permission.MODEL_READ))
async def list_models(project: str, actor: CurrentActor, services: CurrentServices) -> ListView[ModelView]:
    """Return all models of a project by name."""
    return ListView[ModelView](data=await services.models.search(actor, project))


@router.get("/{name}", openapi_extra=permits(Permission.MODEL_READ))
async def get_model(project: str, name: str, actor: CurrentActor, services: CurrentServices) -> ModelView:
    """Return one model, with where its aliases point."""
    return await services.models.get(actor, project, name)


@router.get("/{name}/versions", openapi_extra=permits(Permission.MODEL_READ))
async def list_versions(
    project: str, name: str, actor: CurrentActor, services: CurrentServices
) -> ListView[ModelVersionView]:
    """Return a model's versions, newest first, each with its lineage and figures."""
    return ListView[ModelVersionView](data=await services.models.versions(actor, project, name))
