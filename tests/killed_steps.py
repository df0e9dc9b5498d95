"""Forked children that die by SIGKILL at their statements, each a little later than the one before."""

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import Engine

MOST = 400


def fork_until_one_lives(numbers: Iterable[int], act: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Let children do `act`, each dying before the statement of its number, until one lives to the end.

    Prints how each ended. Commits count as statements, so that one dies just before and one just after.
    """
    for number in numbers:
        child = os.fork()
        if child == 0:
            _count_down(number)
            asyncio.run(act())
            os._exit(0)
        _, status = os.waitpid(child, 0)
        code = os.waitstatus_to_exitcode(status)
        sys.stdout.write(f"{code}\n")
        if code == 0:
            return
    raise SystemExit("it never got through")


def _count_down(number: int) -> None:
    left = [number]

    def step(*_arguments: Any) -> None:
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left[0] -= 1

    for name in ("before_cursor_execute", "commit"):
        event.listen(Engine, name, step)
