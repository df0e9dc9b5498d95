"""Where the last lines of an attempt's log begin."""

from pathlib import Path

from steelyard.compute.executor import Executor


async def find_tail(executor: Executor, attempt_dir: Path, lines: int) -> int:
    """Return the offset of the first of the last `lines` lines of the log as it is now."""
    starts: list[int] = []
    end = 0
    at_line_start = True
    async for chunk in executor.read_log(attempt_dir, 0):
        position = chunk.offset
        for line in chunk.data.splitlines(keepends=True):
            if at_line_start:
                starts.append(position)
            at_line_start = line.endswith(b"\n")
            position += len(line)
        end = position
        del starts[: -max(lines, 1)]
    if lines == 0 or not starts:
        return end
    return starts[-lines] if len(starts) >= lines else starts[0]
