"""The FastAPI application, made from services."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from steelyard.api.bodies import BODY_MODELS
from steelyard.api.errors import register_error_handlers
from steelyard.api.middleware import RequestMiddleware
from steelyard.api.refusals import RefusalMiddleware
from steelyard.api.routes import (
    attempts,
    audit,
    budgets,
    commands,
    costs,
    datasets,
    evaluations,
    health,
    jobs,
    lineage,
    login,
    mlflow,
    models,
    organizations,
    pool,
    projects,
    promotions,
    rules,
    schemas,
    secrets,
    service_accounts,
    sessions,
    streams,
    tokenized,
    tokens,
    trials,
    uploads,
    users,
    webhooks,
)
from steelyard.api.services import Services
from steelyard.specs.ingests import DeriveRequest, IngestRequest, UploadOrder
from steelyard.specs.job import SPEC_CLASSES

Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]

_ROUTERS = (
    health,
    schemas,
    commands,
    jobs,
    trials,
    streams,
    attempts,
    datasets,
    tokenized,
    uploads,
    models,
    evaluations,
    promotions,
    rules,
    webhooks,
    lineage,
    audit,
    budgets,
    costs,
    pool,
    secrets,
    organizations,
    projects,
    users,
    service_accounts,
    tokens,
    sessions,
    login,
    mlflow,
)


def create_app(services: Services, version: str, lifespan: Lifespan | None = None) -> FastAPI:
    """Make the application. It owns nothing: whoever made `services` closes them."""
    app = FastAPI(
        title="Steelyard",
        version=version,
        summary="Trains language models for many teams on one pool, and weighs each before it leaves.",
        lifespan=lifespan,
    )
    app.state.services = services
    app.add_middleware(RefusalMiddleware, recorder=services.refusals)
    app.add_middleware(RequestMiddleware, max_in_flight=services.max_requests_in_flight)
    register_error_handlers(app)
    for module in _ROUTERS:
        app.include_router(module.router)
    app.openapi = lambda: _openapi(app)
    return app


def _openapi(app: FastAPI) -> dict[str, object]:
    """The document, with the five specs among its schemas and the token as its security."""
    if app.openapi_schema:
        return app.openapi_schema
    document = get_openapi(title=app.title, version=app.version, summary=app.summary, routes=app.routes)
    schemas_part = document["components"]["schemas"]
    for model in (*SPEC_CLASSES.values(), IngestRequest, DeriveRequest, UploadOrder, *BODY_MODELS.values()):
        schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas_part.update(schema.pop("$defs", {}))
        schemas_part[model.__name__] = schema
    document["components"]["securitySchemes"] = {"bearer": {"type": "http", "scheme": "bearer"}}
    document["security"] = [{"bearer": []}]
    app.openapi_schema = document
    return document
