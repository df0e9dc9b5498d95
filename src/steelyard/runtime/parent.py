"""A trainer dies with the process that started it, so that no attempt runs without its keeper."""

import ctypes
import os
import signal
import sys

PARENT_VARIABLE = "STEELYARD_PARENT_PID"
_PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """Ask the kernel for SIGKILL when this process's parent dies; leave at once where it already has.

    `STEELYARD_PARENT_PID` names the expected parent; without it, nothing is done. Below torchrun the parent
    is torchrun's agent, which is bound to its own parent in turn, so only the binding is made. Linux only.
    """
    expected = os.environ.get(PARENT_VARIABLE)
    if expected is None or not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if "TORCHELASTIC_RUN_ID" in os.environ:
        return
    if os.getppid() != int(expected):
        os._exit(int(signal.SIGKILL) + 128)
