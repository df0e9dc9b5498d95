"""JSON as RFC 8259 has it, and no more: no NaN, no repeated keys, no half surrogates, no deep nests."""

import json
from typing import Any, NoReturn


class BadJson(ValueError):
    """Text that is not strict JSON; the message says what is wrong with it, without a place."""

    text = ""
    """The beginning of the text, where whoever read it says so."""


_ESCAPED_SURROGATE = "\\u"


def parse_strict(text: str | bytes) -> Any:
    """Parse one JSON value.

    Raises:
        BadJson: the text isn't UTF-8 or JSON, repeats a key, or holds NaN or an infinity.
    """
    try:
        if isinstance(text, bytes):
            text = text.decode("utf-8")
        value = _DECODER.decode(text)
        if _ESCAPED_SURROGATE in text:
            _check_pairs(value)
    except UnicodeDecodeError as error:
        raise BadJson(f"invalid UTF-8 at byte {error.start + 1}") from error
    except json.JSONDecodeError as error:
        raise BadJson(f"invalid JSON at column {error.colno}: {error.msg}") from error
    except RecursionError as error:
        raise BadJson("nested too deeply") from error
    except ValueError as error:
        raise BadJson(str(error)) from error
    return value


def decode_at(text: str, start: int) -> tuple[Any, int]:
    """Parse the value that begins at `start`, and return it with the place where it ends.

    Raises:
        json.JSONDecodeError: no whole value is there (yet).
        BadJson: the value breaks one of the rules above.
    """
    try:
        return _DECODER.raw_decode(text, start)
    except json.JSONDecodeError:
        raise
    except RecursionError as error:
        raise BadJson("nested too deeply") from error
    except ValueError as error:
        raise BadJson(str(error)) from error


def _check_pairs(value: Any) -> None:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise ValueError("an escape names half of a surrogate pair, which is no character") from error


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _refuse_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) == len(pairs):
        return values
    seen: set[str] = set()
    for key, _ in pairs:
        if key in seen:
            raise ValueError(f"key {key[:80]!r} comes twice in one object")
        seen.add(key)
    return values


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant, object_pairs_hook=_refuse_repeats)
