"""The calls on models, promotions and approvals, built from plain arguments."""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from urllib.parse import quote

from steelyard.client.call import Call
from steelyard.kit.ids import new_id
from steelyard.kit.paging import Page
from steelyard.specs.models import ModelVersionView, ModelView
from steelyard.specs.promotions import PromotionSummary, PromotionView, RegistryEventView, TransitionView
from steelyard.specs.views import ListView


def list_models(project: str) -> Call[ListView[ModelView]]:
    """Ask for all models."""
    return Call("GET", f"{_project(project)}/models", ListView[ModelView].model_validate_json)


def get_model(project: str, name: str) -> Call[ModelView]:
    """Ask for one model and its aliases."""
    return Call("GET", _model(project, name), ModelView.model_validate_json)


def versions(project: str, name: str) -> Call[ListView[ModelVersionView]]:
    """Ask for a model's versions."""
    path = f"{_model(project, name)}/versions"
    return Call("GET", path, ListView[ModelVersionView].model_validate_json)


def history(project: str, name: str, alias: str, limit: int, after: str | None) -> Call[Page[TransitionView]]:
    """Ask for one page of an alias's moves."""
    path = f"{_model(project, name)}/aliases/{quote(alias, safe='')}/history"
    return Call("GET", path, Page[TransitionView].model_validate_json, query=_page(limit, after))


def at(project: str, name: str, alias: str, time: datetime) -> Call[TransitionView]:
    """Ask which version an alias pointed to at a moment."""
    path = f"{_model(project, name)}/aliases/{quote(alias, safe='')}/at"
    query = (("time", time.isoformat()),)
    return Call("GET", path, TransitionView.model_validate_json, query=query)


def events(project: str, name: str, limit: int, after: str | None) -> Call[Page[RegistryEventView]]:
    """Ask for one page of a model's events."""
    path = f"{_model(project, name)}/events"
    return Call("GET", path, Page[RegistryEventView].model_validate_json, query=_page(limit, after))


def event_stream(project: str, name: str, after: str | None) -> Call[bytes]:
    """Open the stream of a model's events, from the one after `after`."""
    headers = {"Accept": "text/event-stream", **({"Last-Event-ID": after} if after else {})}
    return Call("GET", f"{_model(project, name)}/events/stream", bytes, headers=headers)


def promote(
    project: str,
    name: str,
    version: int,
    to: str,
    reason: str,
    override_freeze: bool,
    idempotency_key: str | None,
) -> Call[PromotionView]:
    """Ask for a promotion. The key is made here, once, so that every try carries the same one."""
    body = {"version": version, "to": to, "reason": reason, "override_freeze": override_freeze}
    return Call(
        "POST",
        f"{_model(project, name)}/promotions",
        PromotionView.model_validate_json,
        headers={"Idempotency-Key": idempotency_key or new_id("idem")},
        content=_json(body),
    )


def roll_back(
    project: str, name: str, alias: str, to: int | None, reason: str, idempotency_key: str | None
) -> Call[TransitionView]:
    """Ask for a rollback. Its key keeps a second try from going back twice."""
    return Call(
        "POST",
        f"{_model(project, name)}/rollbacks",
        TransitionView.model_validate_json,
        headers={"Idempotency-Key": idempotency_key or new_id("idem")},
        content=_json({"alias": alias, "to": to, "reason": reason}),
    )


def list_promotions(
    project: str, states: Sequence[str], model: str | None, limit: int, after: str | None
) -> Call[Page[PromotionSummary]]:
    """Ask for one page of promotions."""
    query = [*_page(limit, after), *(("state", str(state)) for state in states)]
    if model is not None:
        query.append(("model", model))
    path = f"{_project(project)}/promotions"
    return Call("GET", path, Page[PromotionSummary].model_validate_json, query=tuple(query))


def get_promotion(project: str, promotion: str) -> Call[PromotionView]:
    """Ask for one promotion, whole."""
    return Call("GET", _promotion(project, promotion), PromotionView.model_validate_json)


def decide(project: str, promotion: str, verb: str, binding: str, reason: str) -> Call[PromotionView]:
    """Approve or reject what `binding` stands for; twice is once."""
    return Call(
        "POST",
        f"{_promotion(project, promotion)}/{verb}",
        PromotionView.model_validate_json,
        content=_json({"binding": binding, "reason": reason}),
    )


def withdraw(project: str, promotion: str) -> Call[PromotionView]:
    """Take a request back."""
    return Call("POST", f"{_promotion(project, promotion)}/withdraw", PromotionView.model_validate_json)


def _project(project: str) -> str:
    return f"/v1/projects/{quote(project, safe='')}"


def _model(project: str, name: str) -> str:
    return f"{_project(project)}/models/{quote(name, safe='')}"


def _promotion(project: str, promotion: str) -> str:
    if not promotion.strip("."):
        raise ValueError("a promotion is named by its id, such as promo_06dq...")
    return f"{_project(project)}/promotions/{quote(promotion, safe='')}"


def _page(limit: int, after: str | None) -> tuple[tuple[str, str], ...]:
    return (("limit", str(limit)), *((("after", after),) if after else ()))


def _json(value: dict[str, Any]) -> bytes:
    return json.dumps(value, allow_nan=False, separators=(",", ":")).encode()
