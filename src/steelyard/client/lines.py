"""Lines out of chunks of bytes, split at line feeds alone."""


class LineSplitter:
    """Holds the unfinished last line between chunks.

    Only `\\n` ends a line: `str.splitlines` also cuts at U+2028 and others, which JSON may hold unescaped.
    """

    def __init__(self, max_line_bytes: int = 1 << 20) -> None:
        self._rest = b""
        self._max_line_bytes = max_line_bytes
        self.consumed_bytes = 0
        """Bytes of all lines given out, their ends included: where to read on after a break."""

    def feed(self, chunk: bytes) -> list[str]:
        """Take a chunk, return the lines it ends. A line over the limit is given out in pieces."""
        whole, newline, rest = (self._rest + chunk).rpartition(b"\n")
        self._rest = rest
        lines = [_text(line) for line in whole.split(b"\n")] if newline else []
        self.consumed_bytes += len(whole) + len(newline)
        if len(rest) > self._max_line_bytes:
            lines += self.finish()
        return lines

    def finish(self) -> list[str]:
        """Return the unfinished last line, if there is one."""
        rest, self._rest = self._rest, b""
        self.consumed_bytes += len(rest)
        return [_text(rest)] if rest else []

    def restart(self, offset_bytes: int) -> None:
        """Forget the unfinished line; what comes next starts at `offset_bytes`."""
        self._rest = b""
        self.consumed_bytes = offset_bytes


def _text(line: bytes) -> str:
    return line.decode("utf-8", errors="replace").removesuffix("\r")
