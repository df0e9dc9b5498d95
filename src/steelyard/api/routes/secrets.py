"""Secrets of a project: set, named, removed. No route gives a value back."""

from typing import Annotated

from fastapi import APIRouter, Path, Request, Response

from steelyard.api.access import CurrentActor, CurrentServices
from steelyard.api.bodies import parse_body, read_body
from steelyard.api.errors import ERROR_RESPONSES
from steelyard.api.permits import permits
from steelyard.specs.access import Permission
from steelyard.specs.secrets import MAX_SECRET_CHARACTERS, SecretValue, SecretView
from steelyard.specs.views import ListView

router = APIRouter(prefix="/v1/projects/{project}/secrets", tags=["secrets"], responses=ERROR_RESPONSES)

Name = Annotated[str, Path(pattern=r"^[A-Z][A-Z0-9_]{0,63}$", description="As `HF_TOKEN`.")]
# A character takes six bytes of JSON at most.
_MAX_BODY_BYTES = 6 * MAX_SECRET_CHARACTERS + 64
_BODY = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": SecretValue.model_json_schema()}},
    }
}


@router.get("", openapi_extra=permits(Permission.SECRET_READ))
async def list_secrets(project: str, actor: CurrentActor, services: CurrentServices) -> ListView[SecretView]:
    """Return the names of a project's secrets."""
    return ListView[SecretView](data=await services.secrets.search(actor, project))


@router.put("/{name}", openapi_extra={**permits(Permission.SECRET_WRITE), **_BODY})
async def put_secret(
    project: str, name: Name, request: Request, actor: CurrentActor, services: CurrentServices
) -> SecretView:
    """Store a value under a name, in place of the one before."""
    body = parse_body(await read_body(request, _MAX_BODY_BYTES), SecretValue)
    return await services.secrets.put(actor, project, name, body.value.get_secret_value())


@router.delete("/{name}", status_code=204, openapi_extra=permits(Permission.SECRET_WRITE))
async def remove_secret(project: str, name: Name, actor: CurrentActor, services: CurrentServices) -> Response:
    """Forget a secret."""
    await services.secrets.remove(actor, project, name)
    return Response(status_code=204)
