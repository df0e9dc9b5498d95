"""Signals as readable bytes, so that a single-threaded loop can wait for them beside other things."""

import contextlib
import os
import signal
from types import FrameType

_IGNORED = (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGPIPE)


class SignalPipe:
    """Turns SIGTERM and SIGCHLD into bytes on `descriptor`. For a process's main thread alone."""

    def __init__(self) -> None:
        self.descriptor, self._inner = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(self._inner, warn_on_full_buffer=False)
        for number in _IGNORED:
            signal.signal(number, signal.SIG_IGN)
        for number in (signal.SIGTERM, signal.SIGCHLD):
            signal.signal(number, _be_noted)

    def take(self) -> set[int]:
        """Return the numbers of the signals that came since the last call."""
        found: set[int] = set()
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self.descriptor, 512):
                found.update(data)
        return found

    def forget(self) -> None:
        """Undo all this, for a forked child that goes on to be another program."""
        signal.set_wakeup_fd(-1)
        os.close(self.descriptor)
        os.close(self._inner)
        reset_signals()


def block_signals() -> set[int]:
    """Hold back all signals; returns the mask to go back to."""
    return {int(each) for each in signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())}


def reset_signals() -> None:
    """Give signals the effects that a freshly started Python has."""
    for number in (signal.SIGTERM, signal.SIGCHLD, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)


def _be_noted(_number: int, _frame: FrameType | None) -> None:
    """Nothing to do: the wake-up descriptor has the byte already."""
