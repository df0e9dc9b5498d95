"""The calls on secrets, built from plain arguments."""

import json
from urllib.parse import quote

from steelyard.client.call import Call
from steelyard.specs.secrets import SecretView
from steelyard.specs.views import ListView


def search(project: str) -> Call[ListView[SecretView]]:
    """Ask for the names."""
    return Call("GET", _path(project), ListView[SecretView].model_validate_json)


def put(project: str, name: str, value: str) -> Call[SecretView]:
    """Store a value; sending it twice stores it twice, which changes nothing but the version."""
    content = json.dumps({"value": value}).encode()
    return Call("PUT", _path(project, name), SecretView.model_validate_json, content=content)


def remove(project: str, name: str) -> Call[None]:
    """Forget a secret."""
    return Call("DELETE", _path(project, name), _nothing)


def _path(project: str, name: str | None = None) -> str:
    base = f"/v1/projects/{quote(project, safe='')}/secrets"
    return base if name is None else f"{base}/{quote(name, safe='')}"


def _nothing(_content: bytes) -> None:
    return None
