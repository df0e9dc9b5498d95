"""The payload: the training process, child of the shim and bound to its life."""

import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from steelyard.compute.local.files import Launch
from steelyard.compute.local.processes import die_with_parent, set_name, set_oom_score
from steelyard.compute.local.signals import SignalPipe, block_signals

PARENT_VARIABLE = "STEELYARD_PARENT_PID"
"""Names the shim to the trainer: a rank whose shim is gone has no business to go on."""

Body = Callable[[Launch], NoReturn]
"""What the payload does once it is set up: `exec_payload`, or the fork server's own."""


def start_payload(
    folder: Path, launch: Launch, output: int, signals: SignalPipe, body: Body, others: tuple[int, ...]
) -> int:
    """Fork the payload and return its pid.

    It leads a session of its own, writes to the pipe `output`, and is killed by the kernel when the
    calling thread ends. Signals are held back meanwhile, so that a SIGTERM for the new process waits
    until it can be felt. `others` are descriptors that it must not hold.

    Raises:
        OSError: no process could be made.
    """
    shim = os.getpid()
    mask = block_signals()
    try:
        pid = os.fork()
        if pid == 0:
            _become_payload(folder, launch, output, signals, body, others, shim)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    return pid


def exec_payload(launch: Launch) -> NoReturn:
    """Become a fresh Python: the trainer itself, or torchrun where there are several ranks."""
    argv = [launch.python, "-P", "-u", "-m", launch.module, launch.run_file]
    if launch.processes > 1:
        ranks = ["--standalone", "--nproc-per-node", str(launch.processes)]
        argv[3:] = ["-m", "torch.distributed.run", *ranks, "-m", launch.module, launch.run_file]
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    os.execve(launch.python, argv, launch.environment)  # noqa: S606 - no shell is wanted


def _become_payload(
    folder: Path,
    launch: Launch,
    output: int,
    signals: SignalPipe,
    body: Body,
    others: tuple[int, ...],
    shim: int,
) -> NoReturn:
    try:
        die_with_parent(shim)
        os.setsid()
        set_oom_score(0)
        set_name("steelyard-train")
        signals.forget()
        _take_output(output, others)
        os.chdir(folder)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        body(launch._replace(environment={**launch.environment, PARENT_VARIABLE: str(shim)}))
    except BaseException:  # noqa: BLE001 - the edge of a process: all that is left is to say it and end
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(127)


def _take_output(output: int, others: tuple[int, ...]) -> None:
    empty = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((empty, 0), (output, 1), (output, 2)):
        os.dup2(source, target)
    for descriptor in (empty, output, *others):
        os.close(descriptor)
