"""What each route needs, declared where the route is: the walk over all routes reads it.

The check itself is the service's, inside the transaction that acts. A route without a declaration fails the
tests.
"""

from collections.abc import Mapping
from typing import Any, Literal

from steelyard.specs.access import Permission

KEY = "x-permission"
Special = Literal["public", "authenticated", "attempt", "mlflow"]
"""Anybody; anybody who is known, about themselves; a training process, about its own attempt; what
`api.mlflow_gate` says of each path below /mlflow."""


def permits(permission: Permission | Special) -> dict[str, Any]:
    """Return what a route's `openapi_extra` must be, so that clients see it in the document too."""
    return {KEY: str(permission)}


def declared(openapi_extra: Mapping[str, Any] | None) -> str | None:
    """Return what a route declared, or None."""
    return (openapi_extra or {}).get(KEY)
