"""One message and one conversation: the fields that are known, their types, and the order of roles."""

from typing import Any

from steelyard.datasets.columns import MESSAGE_FIELDS, Row, seal_message
from steelyard.datasets.strict_json import BadJson, parse_strict

_ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "model": "assistant",
    "bot": "assistant",
    "tool": "tool",
    "function": "tool",
    "observation": "tool",
    "function_call": "function_call",
}
READ_FIELDS = frozenset({*MESSAGE_FIELDS, "function_call", "from", "value"})
"""All fields of a message that are looked at, however the shape calls them."""
_FOLLOWERS = {
    "system": ("system", "user"),
    "user": ("assistant",),
    "assistant": ("user",),
    "tool": ("tool", "assistant"),
}


class RowFault(ValueError):
    """A row that breaks the schema; `field` is the path of what is at fault."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field
        self.message = message


def text_of(value: Any, field: str, *, empty: bool = False) -> str:
    """Return `value`, a string with something in it.

    Raises:
        RowFault: it isn't one.
    """
    if not isinstance(value, str):
        raise RowFault(field, f"is {_name(value)}, must be text")
    if not empty and not value.strip():
        raise RowFault(field, "is empty")
    return value


def conversation_of(
    value: Any, field: str, *, role_key: str = "role", text_key: str = "content"
) -> list[Row]:
    """Return `value` as messages in canonical form, their order not looked at.

    Raises:
        RowFault: something isn't a message.
    """
    if not isinstance(value, list):
        raise RowFault(field, f"is {_name(value)}, must be a list of messages")
    if not value:
        raise RowFault(field, "is empty")
    messages: list[Any] = value  # pyright: ignore[reportUnknownVariableType] - JSON
    return [_message(item, f"{field}[{index}]", role_key, text_key) for index, item in enumerate(messages)]


def check_order(messages: list[Row], field: str, *, first: str | None, last: tuple[str, ...]) -> None:
    """Hold a conversation to the order of roles.

    Args:
        messages: canonical messages, at least one.
        field: path of the list.
        first: role that it begins with; None: a system message or the user.
        last: roles that it may end with.

    Raises:
        RowFault: at the first message that stands where it may not.
    """
    opening = ("system", "user") if first is None else (first,)
    _expect(messages[0], f"{field}[0].role", opening, "begins the conversation")
    for index in range(1, len(messages)):
        before = messages[index - 1]
        allowed = ("tool",) if before.get("tool_calls") else _FOLLOWERS[before["role"]]
        _expect(messages[index], f"{field}[{index}].role", allowed, f"comes after {before['role']!r}")
    if messages[-1]["role"] not in last:
        raise RowFault(
            f"{field}[{len(messages) - 1}].role",
            f"the last message is from {messages[-1]['role']!r}, must be from {_either(last)}",
        )


def _expect(message: Row, field: str, allowed: tuple[str, ...], where: str) -> None:
    if message["role"] not in allowed:
        raise RowFault(field, f"{message['role']!r} {where}, expected {_either(allowed)}")


def _message(value: Any, field: str, role_key: str, text_key: str) -> Row:
    if not isinstance(value, dict):
        raise RowFault(field, f"is {_name(value)}, must be an object")
    item: Row = value  # pyright: ignore[reportUnknownVariableType] - JSON
    role = _role(item.get(role_key), f"{field}.{role_key}")
    if role == "function_call":
        return _called_by_text(item, field, text_key)
    calls = _tool_calls(item, field)
    content = _content(item.get(text_key), f"{field}.{text_key}", optional=calls is not None, role=role)
    message: Row = {"role": role, "content": content}
    if calls is not None:
        if role != "assistant":
            raise RowFault(f"{field}.tool_calls", f"a message from {role!r} can't call tools")
        message["tool_calls"] = calls
    for name in MESSAGE_FIELDS:
        if name not in message and item.get(name) is not None:
            message[name] = text_of(item[name], f"{field}.{name}", empty=True)
    return seal_message(message)


def _role(value: Any, field: str) -> str:
    if not isinstance(value, str):
        raise RowFault(field, "is missing" if value is None else f"is {_name(value)}, must be text")
    role = _ROLES.get(value)
    if role is None:
        raise RowFault(field, f"unknown role {value[:40]!r}; known are system, user, assistant and tool")
    return role


def _content(value: Any, field: str, *, optional: bool, role: str) -> str | None:
    if value is None and optional:
        return None
    if value is None:
        raise RowFault(field, "is missing")
    if isinstance(value, list):
        parts: list[Any] = value  # pyright: ignore[reportUnknownVariableType] - JSON
        value = "".join(_part(part, f"{field}[{index}]") for index, part in enumerate(parts))
    return text_of(value, field, empty=optional or role == "tool")


def _part(part: Any, field: str) -> str:
    if isinstance(part, dict) and part.get("type") == "text":  # pyright: ignore[reportUnknownMemberType]
        return text_of(part.get("text"), f"{field}.text", empty=True)  # pyright: ignore[reportUnknownMemberType]
    raise RowFault(field, "only parts of type 'text' can be trained on; take images and audio out")


def _tool_calls(item: Row, field: str) -> list[Any] | None:
    legacy = item.get("function_call")
    calls = item.get("tool_calls")
    if calls is None and legacy is not None:
        calls = [{"type": "function", "function": legacy}]
        field = f"{field}.function_call"
    else:
        field = f"{field}.tool_calls"
    if calls is None:
        return None
    if isinstance(calls, str):
        calls = _parsed(calls, field)
    if not isinstance(calls, list):
        raise RowFault(field, f"is {_name(calls)}, must be a list")
    listed: list[Any] = calls  # pyright: ignore[reportUnknownVariableType] - JSON
    for index, call in enumerate(listed):
        _check_call(call, f"{field}[{index}]")
    return listed or None


def _parsed(text: str, field: str) -> Any:
    """Tool calls of columnar files are JSON text, as no column type fits them all."""
    try:
        return parse_strict(text)
    except BadJson as error:
        raise RowFault(field, str(error)) from error


def _check_call(call: Any, field: str) -> None:
    function: Any = call.get("function") if isinstance(call, dict) else None  # pyright: ignore
    if not isinstance(function, dict):
        raise RowFault(
            f"{field}.function", "is missing; a tool call has function.name and function.arguments"
        )
    named: Row = function  # pyright: ignore[reportUnknownVariableType] - JSON
    text_of(named.get("name"), f"{field}.function.name")
    arguments = named.get("arguments")
    if not isinstance(arguments, (str, dict)):
        raise RowFault(f"{field}.function.arguments", "must be an object, or JSON text")


def _called_by_text(item: Row, field: str, text_key: str) -> Row:
    """ShareGPT writes a tool call as a message of its own, whose text is the call as JSON."""
    field = f"{field}.{text_key}"
    try:
        called = parse_strict(text_of(item.get(text_key), field))
    except BadJson as error:
        raise RowFault(field, f"a function_call's text must be the call as JSON: {error}") from error
    listed: list[Any] = called if isinstance(called, list) else [called]  # pyright: ignore[reportUnknownVariableType]
    calls: list[Row] = [{"type": "function", "function": call} for call in listed]
    for index, call in enumerate(calls):
        _check_call(call, f"{field}[{index}]")
    return seal_message({"role": "assistant", "content": None, "tool_calls": calls})


def _either(roles: tuple[str, ...]) -> str:
    return " or ".join(repr(role) for role in roles)


def _name(value: Any) -> str:
    for kind, name in _TYPE_NAMES:
        if isinstance(value, kind):
            return name
    return "a number"


_TYPE_NAMES: tuple[tuple[type, str], ...] = (
    (type(None), "null"),
    (dict, "an object"),
    (list, "a list"),
    (str, "text"),
    (bool, "true or false"),
)
