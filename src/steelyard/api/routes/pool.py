"""The pool and its parts: flavors, nodes, rules of the scheduler, quotas of projects."""

from typing import Annotated

from fastapi import APIRouter, Path, Request

from steelyard.api.access import CurrentActor, CurrentServices
from steelyard.api.bodies import body_schema, parse_body, read_body
from steelyard.api.errors import ERROR_RESPONSES
from steelyard.api.permits import permits
from steelyard.specs.access import Permission
from steelyard.specs.pool import (
    FlavorSpec,
    FlavorView,
    IdlePolicy,
    Interruption,
    NodeView,
    PoolSettings,
    PoolView,
    ProjectQuotas,
    QuotaChange,
)

router = APIRouter(prefix="/v1", tags=["pool"], responses=ERROR_RESPONSES)

FlavorName = Annotated[str, Path(pattern=r"^[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?$")]


@router.get("/pool", openapi_extra=permits(Permission.POOL_READ))
async def get_pool(actor: CurrentActor, services: CurrentServices) -> PoolView:
    """Return settings, flavors and nodes, and how many jobs run and wait."""
    return await services.pool.show(actor)


@router.put("/pool/settings", openapi_extra={**body_schema(PoolSettings), **permits(Permission.POOL_WRITE)})
async def put_pool_settings(request: Request, actor: CurrentActor, services: CurrentServices) -> PoolSettings:
    """Set currency and rules of the scheduler, in place of those before."""
    settings = parse_body(await read_body(request), PoolSettings)
    return await services.pool.put_settings(actor, settings)


@router.put(
    "/pool/flavors/{flavor}", openapi_extra={**body_schema(FlavorSpec), **permits(Permission.POOL_WRITE)}
)
async def put_flavor(
    flavor: FlavorName, request: Request, actor: CurrentActor, services: CurrentServices
) -> FlavorView:
    """Set what a flavor is and costs."""
    spec = parse_body(await read_body(request), FlavorSpec)
    return await services.pool.put_flavor(actor, flavor, spec)


@router.post(
    "/nodes/{node}/interruption",
    status_code=202,
    openapi_extra={**body_schema(Interruption), **permits(Permission.POOL_WRITE)},
)
async def interrupt_node(
    node: str, request: Request, actor: CurrentActor, services: CurrentServices
) -> NodeView:
    """Announce that a node is taken away: its jobs save and queue again, and it gets no new ones."""
    notice = parse_body(await read_body(request) or b"{}", Interruption)
    return await services.interruptions.interrupt(actor, node, notice)


@router.delete("/nodes/{node}/interruption", openapi_extra=permits(Permission.POOL_WRITE))
async def restore_node(node: str, actor: CurrentActor, services: CurrentServices) -> NodeView:
    """Let a node take work again."""
    return await services.interruptions.restore(actor, node)


@router.get("/projects/{project}/quotas", openapi_extra=permits(Permission.QUOTA_READ))
async def get_quotas(project: str, actor: CurrentActor, services: CurrentServices) -> ProjectQuotas:
    """Return what a project may have, holds, lends, and has used lately."""
    return await services.quotas.show(actor, project)


@router.put(
    "/projects/{project}/quotas/{flavor}",
    openapi_extra={**body_schema(QuotaChange), **permits(Permission.QUOTA_WRITE)},
)
async def put_quota(
    project: str, flavor: FlavorName, request: Request, actor: CurrentActor, services: CurrentServices
) -> ProjectQuotas:
    """Set a project's quota of one flavor, and its weight where the body names one."""
    change = parse_body(await read_body(request), QuotaChange)
    return await services.quotas.put(actor, project, flavor, change)


@router.put(
    "/projects/{project}/idle-policy",
    openapi_extra={**body_schema(IdlePolicy), **permits(Permission.QUOTA_WRITE)},
)
async def put_idle_policy(
    project: str, request: Request, actor: CurrentActor, services: CurrentServices
) -> ProjectQuotas:
    """Set what happens to attempts of a project that hold GPUs and don't use them."""
    policy = parse_body(await read_body(request), IdlePolicy)
    return await services.quotas.put_idle(actor, project, policy)


@router.delete("/projects/{project}/idle-policy", openapi_extra=permits(Permission.QUOTA_WRITE))
async def remove_idle_policy(project: str, actor: CurrentActor, services: CurrentServices) -> ProjectQuotas:
    """Let the installation's rule hold for a project again."""
    return await services.quotas.put_idle(actor, project, None)
