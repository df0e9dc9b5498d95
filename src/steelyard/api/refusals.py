"""The edge where refused requests go on record, before the caller has his answer."""

from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from steelyard.api.acts import act_of
from steelyard.governance.audit.refusals import ANONYMOUS_ID, Refusal, RefusalRecorder
from steelyard.governance.identity import Actor

_ALWAYS = frozenset({401, 403})
_OF_CHANGES = frozenset({402, 404, 409, 422})
_READING = frozenset({"GET", "HEAD", "OPTIONS"})
# What passes through to MLflow gets MLflow's own answers, and a plan changes nothing.
_PASSED_THROUGH = "/mlflow"
_DRY_RUN = "/plan"


class RefusalMiddleware:
    """Records 401 and 403 always; 402, 404, 409 and 422 where the request would have changed something."""

    def __init__(self, app: ASGIApp, recorder: RefusalRecorder) -> None:
        self._app = app
        self._recorder = recorder

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start" and _is_refusal(scope, message["status"]):
                await self._recorder.record(_refusal_of(scope, message["status"]))
            await send(message)

        await self._app(scope, receive, answer)


def _is_refusal(scope: Scope, status: int) -> bool:
    if status in _ALWAYS:
        return True
    path: str = scope["path"]
    harmless = scope["method"] in _READING or path.startswith(_PASSED_THROUGH) or path.endswith(_DRY_RUN)
    return status in _OF_CHANGES and not harmless


def _refusal_of(scope: Scope, status: int) -> Refusal:
    state: dict[str, Any] = scope.get("state", {})
    code, param = state.get("error", (f"http_{status}", None))
    client = scope.get("client")
    source = client[0] if client else None
    actor = state.get("actor") or Actor("anonymous", ANONYMOUS_ID, state.get("request_id"), source)
    route = getattr(scope.get("route"), "path", None)
    act = act_of(scope["method"], route, scope["path"], scope.get("path_params", {}))
    return Refusal(actor, act.verb, act.object_kind, act.object_id, act.project_id, status, code, param)
