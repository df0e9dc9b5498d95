"""Shapes of rows as people have them: found by their fields, and turned into canonical rows."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from steelyard.datasets.columns import Layout, Row, seal_json
from steelyard.datasets.conversations import RowFault, check_order, conversation_of, text_of
from steelyard.datasets.strict_json import BadJson, parse_strict
from steelyard.specs.blocks import DatasetFormat
from steelyard.specs.datasets import SourceFormat

_ENDS = ("assistant",)
_ASKS = ("user", "tool", "system")


@dataclass(frozen=True)
class Shape:
    """One source shape: the fields that it needs, and its canonical format."""

    source: SourceFormat
    needs: tuple[frozenset[str], ...]
    """Any one of these sets of fields says that a row has the shape."""
    format: DatasetFormat
    convert: Callable[[Row], Row]
    reads: frozenset[str]
    """All fields that `convert` looks at; others are left out."""

    def fits(self, row: Mapping[str, Any]) -> bool:
        """Whether the row has the fields."""
        return any(fields <= row.keys() for fields in self.needs)


def detect(row: Mapping[str, Any]) -> Shape | None:
    """Return the first shape that fits the row, or None."""
    return next((shape for shape in SHAPES.values() if shape.fits(row)), None)


def rename(row: Row, column_map: Mapping[str, str]) -> Row:
    """Return the row with its columns renamed; a mapped name wins over a column that has it already."""
    if not column_map:
        return row
    kept = {name: value for name, value in row.items() if name not in column_map}
    return kept | {target: row[source] for source, target in column_map.items() if source in row}


def layout_of(shape: Shape, row: Row) -> Layout:
    """Return the layout that a converted row has."""
    first = row[Layout(shape.format, False).texts[-1]]
    return Layout(shape.format, isinstance(first, list))


def _messages(row: Row) -> Row:
    messages = conversation_of(row.get("messages"), "messages")
    check_order(messages, "messages", first=None, last=_ENDS)
    return _with_tools({"messages": messages}, row)


def _sharegpt(row: Row) -> Row:
    turns: Any = row.get("conversations")
    keys = ("role", "content") if _has_roles(turns) else ("from", "value")
    messages = conversation_of(turns, "conversations", role_key=keys[0], text_key=keys[1])
    if row.get("system"):
        messages.insert(0, {"role": "system", "content": text_of(row["system"], "system")})
    check_order(messages, "conversations", first=None, last=_ENDS)
    return _with_tools({"messages": messages}, row)


def _has_roles(turns: Any) -> bool:
    if not isinstance(turns, list) or not turns:
        return False
    first: Any = turns[0]  # pyright: ignore[reportUnknownVariableType] - JSON
    return isinstance(first, dict) and "role" in first


def _alpaca(row: Row) -> Row:
    prompt = text_of(row.get("instruction"), "instruction")
    extra = row.get("input")
    if extra is not None and text_of(extra, "input", empty=True).strip():
        prompt = f"{prompt}\n\n{extra}"
    return {"prompt": prompt, "completion": text_of(row.get("output"), "output")}


def _text(row: Row) -> Row:
    return {"text": text_of(row.get("text"), "text")}


def _prompt_completion(row: Row) -> Row:
    prompt, completion = row.get("prompt"), row.get("completion")
    if not isinstance(prompt, list) and not isinstance(completion, list):
        return {"prompt": text_of(prompt, "prompt"), "completion": text_of(completion, "completion")}
    return _with_tools({"prompt": _asked(prompt), "completion": _answer(completion, "completion")}, row)


def _unpaired(row: Row) -> Row:
    label = row.get("label")
    if not isinstance(label, bool) and label not in (0, 1, "true", "false", "True", "False"):
        raise RowFault("label", "must be true or false")
    good = label.lower() == "true" if isinstance(label, str) else bool(label)
    return _prompt_completion(row) | {"label": good}


def _preference(row: Row) -> Row:
    row = _from_openai(row)
    chosen, rejected = row.get("chosen"), row.get("rejected")
    if isinstance(chosen, list) or isinstance(rejected, list):
        return _with_tools(_conversational_pair(row, chosen, rejected), row)
    chosen, rejected = text_of(chosen, "chosen"), text_of(rejected, "rejected")
    if row.get("prompt") is not None:
        return {"prompt": text_of(row["prompt"], "prompt"), "chosen": chosen, "rejected": rejected}
    return _split_text(chosen, rejected)


def _from_openai(row: Row) -> Row:
    asked = row.get("input")
    if "preferred_output" not in row or not isinstance(asked, dict):
        return row
    request: Row = asked  # pyright: ignore[reportUnknownVariableType] - JSON
    return {
        "prompt": request.get("messages"),
        "chosen": row.get("preferred_output"),
        "rejected": row.get("non_preferred_output"),
        "tools": request.get("tools"),
    }


def _conversational_pair(row: Row, chosen: Any, rejected: Any) -> Row:
    if row.get("prompt") is not None and not isinstance(row["prompt"], str):
        return {
            "prompt": _asked(row["prompt"]),
            "chosen": _answer(chosen, "chosen"),
            "rejected": _answer(rejected, "rejected"),
        }
    good, bad = conversation_of(chosen, "chosen"), conversation_of(rejected, "rejected")
    if good[0]["role"] == "assistant" and isinstance(row.get("prompt"), str):
        prompt = [{"role": "user", "content": text_of(row["prompt"], "prompt")}]
        return {
            "prompt": prompt,
            "chosen": _answer(chosen, "chosen"),
            "rejected": _answer(rejected, "rejected"),
        }
    return _split_messages(good, bad)


def _split_messages(chosen: list[Row], rejected: list[Row]) -> Row:
    """Take the messages that both begin with as the prompt, but for a last answer that they share."""
    check_order(chosen, "chosen", first=None, last=_ENDS)
    check_order(rejected, "rejected", first=None, last=_ENDS)
    shared = 0
    while shared < min(len(chosen), len(rejected)) and chosen[shared] == rejected[shared]:
        shared += 1
    while shared and (chosen[shared - 1]["role"] == "assistant" or shared == len(chosen) == len(rejected)):
        shared -= 1
    if not shared:
        raise RowFault(
            "chosen", "has no message in common with 'rejected' that could be the prompt; give 'prompt'"
        )
    return {"prompt": chosen[:shared], "chosen": chosen[shared:], "rejected": rejected[shared:]}


def _split_text(chosen: str, rejected: str) -> Row:
    """Take what both texts begin with as the prompt, up to a space; TRL's `extract_prompt` does the same."""
    shared = 0
    while shared < min(len(chosen), len(rejected)) and chosen[shared] == rejected[shared]:
        shared += 1
    cut = chosen.rfind(" ", 0, shared + 1) if shared else -1
    if cut <= 0:
        raise RowFault(
            "chosen", "has no beginning in common with 'rejected' that could be the prompt; give 'prompt'"
        )
    return {"prompt": chosen[:cut], "chosen": chosen[cut:], "rejected": rejected[cut:]}


def _asked(value: Any) -> list[Row]:
    if isinstance(value, str):
        return [{"role": "user", "content": text_of(value, "prompt")}]
    messages = conversation_of(value, "prompt")
    check_order(messages, "prompt", first=None, last=_ASKS)
    return messages


def _answer(value: Any, field: str) -> list[Row]:
    if isinstance(value, str):
        return [{"role": "assistant", "content": text_of(value, field)}]
    messages = conversation_of(value, field)
    check_order(messages, field, first="assistant", last=_ENDS)
    return messages


def _with_tools(converted: Row, row: Row) -> Row:
    tools = row.get("tools")
    if tools in (None, [], ""):
        return converted
    if isinstance(tools, str):
        try:
            tools = parse_strict(tools)
        except BadJson as error:
            raise RowFault("tools", str(error)) from error
    if not isinstance(tools, list):
        raise RowFault("tools", "must be a list of JSON schemas, or JSON text")
    return converted | {"tools": seal_json(tools)}


def _of(source: SourceFormat, format_: DatasetFormat, convert: Callable[[Row], Row], *needs: str) -> Shape:
    needed = tuple(frozenset(fields.split()) for fields in needs)
    return Shape(source, needed, format_, convert, _ALSO[source].union(*needed))


_ALSO: dict[SourceFormat, frozenset[str]] = {
    "preference": frozenset({"prompt", "input", "tools"}),
    "unpaired_preference": frozenset({"tools"}),
    "prompt_completion": frozenset({"tools"}),
    "messages": frozenset({"tools"}),
    "sharegpt": frozenset({"system", "tools"}),
    "alpaca": frozenset({"input"}),
    "text": frozenset(),
}
"""What a shape reads beside what it needs."""


SHAPES: dict[SourceFormat, Shape] = {
    shape.source: shape
    for shape in (
        _of(
            "preference",
            "preference",
            _preference,
            "chosen rejected",
            "preferred_output non_preferred_output",
        ),
        _of("unpaired_preference", "unpaired_preference", _unpaired, "prompt completion label"),
        _of("prompt_completion", "prompt_completion", _prompt_completion, "prompt completion"),
        _of("messages", "messages", _messages, "messages"),
        _of("sharegpt", "messages", _sharegpt, "conversations"),
        _of("alpaca", "prompt_completion", _alpaca, "instruction output"),
        _of("text", "text", _text, "text"),
    )
}
"""In the order in which they are tried: a shape with more fields stands before one with fewer."""
