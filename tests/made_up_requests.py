"""Requests made up from the OpenAPI document: path, query and body that a route can at least parse."""

import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from fastapi.routing import APIRoute


@dataclass(frozen=True)
class Asking:
    """One request, for whoever sends it."""

    method: str
    url: str
    query: dict[str, str]
    body: bytes | None


def make_up(document: dict[str, Any], route: APIRoute, method: str, names: dict[str, str]) -> Asking:
    """Make a request of a route; `names` are values for parameters of its path."""
    described = document["paths"].get(route.path, {}).get(method.lower(), {})
    url = route.path.replace(":path}", "}")
    query: dict[str, str] = {}
    for parameter in described.get("parameters", []):
        name, schema = parameter["name"], parameter.get("schema", {})
        if parameter["in"] == "path":
            value = names.get(name) or str(_value(document, schema, name))
            url = url.replace(f"{{{name}}}", quote(value, safe=""))
        elif parameter["in"] == "query" and parameter.get("required"):
            query[name] = str(_value(document, schema, name))
    content = described.get("requestBody", {}).get("content", {})
    body = None
    if (media := content.get("application/json")) is not None:
        examples = [each["value"] for each in media.get("examples", {}).values()]
        root = media["schema"]
        local = {"components": document["components"], "$defs": root.get("$defs", {})}
        body = json.dumps(examples[0] if examples else _value(local, root, "body")).encode()
    elif content:
        body = b"bytes"
    return Asking(method, url, query, body)


def _value(document: dict[str, Any], schema: dict[str, Any], name: str) -> Any:
    if "$ref" in schema:
        return _value(document, _resolve(document, schema["$ref"]), name)
    if schema.get("examples"):
        return schema["examples"][0]
    for key in ("const", "default"):
        if schema.get(key) is not None:
            return schema[key]
    if "enum" in schema:
        return schema["enum"][0]
    for key in ("anyOf", "oneOf", "allOf"):
        if key in schema:
            options = [each for each in schema[key] if each.get("type") != "null"]
            return _value(document, options[0], name)
    match schema.get("type"):
        case "object":
            properties = schema.get("properties", {})
            return {key: _value(document, properties[key], key) for key in schema.get("required", [])}
        case "array":
            return [_value(document, schema.get("items", {}), name)] * schema.get("minItems", 0)
        case "integer":
            return int(schema.get("minimum", schema.get("exclusiveMinimum", 0) + 1))
        case "number":
            return schema.get("minimum", schema.get("exclusiveMinimum", 0) + 1)
        case "boolean":
            return False
        case _:
            return _text(schema, name)


def _resolve(document: dict[str, Any], reference: str) -> dict[str, Any]:
    found: Any = document
    for part in reference.removeprefix("#/").split("/"):
        found = found[part]
    return found


def _text(schema: dict[str, Any], name: str) -> str:
    pattern = schema.get("pattern", "")
    if "[A-Z]" in pattern:
        return "MADE_UP"
    if schema.get("format") == "date-time":
        return "2026-01-31T12:00:00Z"
    return "made-up".ljust(schema.get("minLength", 1), "-")[: schema.get("maxLength", 200)]
