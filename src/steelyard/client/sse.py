"""Server-sent events, decoded line by line (WHATWG HTML, section 9.2.6)."""

from typing import NamedTuple


class ServerSentEvent(NamedTuple):
    """One event. `id` is the last one seen, as a reconnect sends it back."""

    id: str | None
    event: str
    data: str


class SseDecoder:
    """Feed it lines without their ends; it gives an event at each blank line that closes one."""

    def __init__(self) -> None:
        self._last_id: str | None = None
        self._event = ""
        self._data: list[str] = []

    def feed(self, line: str) -> ServerSentEvent | None:
        """Take one line. Comments (a leading colon) and unknown fields are passed over."""
        if line:
            self._take(line)
            return None
        event, data = self._event, self._data
        self._event, self._data = "", []
        if not data and not event:
            return None
        return ServerSentEvent(self._last_id, event or "message", "\n".join(data))

    def _take(self, line: str) -> None:
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
        elif name == "event":
            self._event = value
        elif name == "id" and "\0" not in value:
            self._last_id = value
