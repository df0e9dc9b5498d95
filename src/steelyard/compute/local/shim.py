"""The shim: one small process per attempt that starts the payload, keeps its log, and sees it out.

`python -m steelyard.compute.local.shim FOLDER LOCK_FD` forks itself away from its caller, claims the
attempt, and answers on its standard output. It is single-threaded, since the kernel binds the payload's
life to the thread that forked it.
"""

import contextlib
import errno
import fcntl
import json
import os
import select
import shutil
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import NoReturn

from steelyard.compute.local import files
from steelyard.compute.local.files import Exit, Launch, StopRequest
from steelyard.compute.local.log import SegmentedLog
from steelyard.compute.local.payload import Body, exec_payload, start_payload
from steelyard.compute.local.processes import (
    adopt_orphans,
    descendants,
    identify,
    kernel_memory_kills,
    proportional_bytes,
    resident_bytes,
    set_name,
    set_oom_score,
)
from steelyard.compute.local.signals import SignalPipe
from steelyard.specs.run import SECRETS_NAME

MEMORY_CHECK_SECONDS = 2.0
_CLEARING_SECONDS = 0.02
_PIPE_BYTES = 1 << 20
_READ_BYTES = 1 << 16
_F_SETPIPE_SZ = 1031
_OOM_SCORE = -500


def main() -> NoReturn:
    """Leave the caller and become the shim of the attempt whose folder argv names."""
    folder, lock = Path(sys.argv[1]), int(sys.argv[2])
    if os.fork() > 0:
        os._exit(0)
    serve(folder, 1, lock, exec_payload)


def serve(folder: Path, reply: int, lock: int, body: Body) -> NoReturn:
    """Be the attempt's shim until it has ended, in a process that was forked for nothing else.

    One line of JSON goes to `reply` when the claim is settled: `{"claimed": bool}`, or `{"errno": int,
    "message": str}` where nothing could be claimed. `reply` and the launch lock are closed then.
    """
    status = 1
    try:
        os.setsid()
        set_name("steelyard-shim")
        signals = SignalPipe()
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        launch = _settle_claim(folder, reply, lock)
        if launch is not None:
            _detach_output(folder, reply)
            Shim(folder, launch, signals, body).run()
        status = 0
    except BaseException:  # noqa: BLE001 - the edge of a process: `shim.log` is the last place to say it
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(status)


class Shim:
    """The life of one attempt, from the payload's start to the last of its processes."""

    def __init__(self, folder: Path, launch: Launch, signals: SignalPipe, body: Body) -> None:
        self._folder = folder
        self._launch = launch
        self._signals = signals
        self._body = body
        self._log = SegmentedLog(folder / files.LOG_FOLDER, launch.log_segment_bytes, launch.log_segments)
        self._poll = select.poll()
        self._poll.register(signals.descriptor, select.POLLIN)
        self._output = -1
        self._payload = -1
        self._recorded = False
        self._status: int | None = None
        self._cause: str | None = None
        self._message = ""
        self._asked = False
        self._deadline: float | None = None
        self._memory_check = time.monotonic() + MEMORY_CHECK_SECONDS
        self._kernel_kills = kernel_memory_kills()

    def run(self) -> None:
        """Start the payload, see to it until it ends, clear away what it left, and write `exit.json`."""
        started_at = _now()
        adopt_orphans()
        set_oom_score(_OOM_SCORE)
        try:
            if self._start():
                while self._status is None:
                    self._turn()
        finally:
            self._clear()
            shutil.rmtree(self._folder / SECRETS_NAME, ignore_errors=True)
            self._finish(started_at)

    def _start(self) -> bool:
        if files.read_stop(self._folder) is not None:
            self._cause, self._message = "not_started", "asked to stop before it was started"
            return False
        self._output, inner = os.pipe2(os.O_CLOEXEC)
        with contextlib.suppress(OSError):
            _enlarge_pipe(inner)
        os.set_blocking(self._output, False)
        others = (self._output, *self._log.descriptors())
        try:
            self._payload = start_payload(
                self._folder, self._launch, inner, self._signals, self._body, others
            )
        except OSError as error:
            self._cause, self._message = "error", f"no process could be made: {error.strerror}"
            return False
        finally:
            os.close(inner)
        self._poll.register(self._output, select.POLLIN)
        self._record_payload()
        return True

    def _turn(self) -> None:
        ready = self._poll.poll(self._patience() * 1000)
        numbers = self._signals.take()
        if any(descriptor == self._output for descriptor, _ in ready):
            self._copy_output()
        if signal.SIGTERM in numbers:
            self._heed_stop()
        self._reap()
        if self._status is not None:
            return
        now = time.monotonic()
        if self._deadline is not None and now >= self._deadline:
            self._kill("grace", "did not leave within its grace and was killed")
        if now >= self._memory_check:
            self._check_memory()
            self._record_payload()

    def _patience(self) -> float:
        due = self._memory_check if self._deadline is None else min(self._memory_check, self._deadline)
        return max(0.0, due - time.monotonic())

    def _copy_output(self) -> bool:
        """Move what the pipe holds, at most one buffer; False where it held nothing."""
        try:
            data = os.read(self._output, _READ_BYTES)
        except BlockingIOError:
            return False
        if not data:
            self._poll.unregister(self._output)
            os.close(self._output)
            self._output = -1
            return False
        self._log.write(data)
        return True

    def _heed_stop(self) -> None:
        stop = files.read_stop(self._folder) or self._stop_of_our_own()
        if stop.mode == "kill":
            self._kill("stop", f"killed on request ({stop.reason})")
            return
        if self._cause is not None:
            return
        self._deadline = stop.deadline
        if not self._asked:
            self._asked = True
            self._note(f"asked to save and leave ({stop.reason}), grace {stop.grace_seconds:g} s")
            os.kill(self._payload, signal.SIGTERM)

    def _stop_of_our_own(self) -> StopRequest:
        """Make the wish that a bare SIGTERM stands for: the machine is going down."""
        grace = self._launch.grace_seconds
        stop = StopRequest("checkpoint", "platform_stopped", time.monotonic() + grace, grace)
        with contextlib.suppress(OSError):
            files.write_stop(self._folder, stop)
        return stop

    def _kill(self, cause: str, message: str) -> None:
        self._deadline = None
        if self._cause is None:
            self._cause, self._message = cause, message
            self._note(message)
        _kill_all(descendants(os.getpid()))

    def _check_memory(self) -> None:
        self._memory_check = time.monotonic() + MEMORY_CHECK_SECONDS
        self._kernel_kills = kernel_memory_kills()
        limit = self._launch.memory_limit_bytes
        if limit is None:
            return
        pids = descendants(os.getpid())
        # The cheap figure counts shared pages more than once: it can clear the payload, not convict it.
        if resident_bytes(pids) > limit and (used := proportional_bytes(pids)) > limit:
            self._kill("memory", f"used {used >> 20} MiB of memory, its limit is {limit >> 20} MiB")

    def _reap(self) -> bool:
        """Take the ends of children; False once there is no child left."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            if pid == self._payload:
                self._status = status

    def _clear(self) -> None:
        """Kill until nothing is left: as subreaper this process has every orphan of the tree as child."""
        while self._reap():
            _kill_all(descendants(os.getpid()))
            self._drain()
            self._poll.poll(_CLEARING_SECONDS * 1000)
            self._signals.take()
        self._drain()

    def _drain(self) -> None:
        while self._output >= 0 and self._copy_output():
            pass

    def _finish(self, started_at: str) -> None:
        code = None if self._status is None else os.waitstatus_to_exitcode(self._status)
        by_kernel = code == -signal.SIGKILL and kernel_memory_kills() > self._kernel_kills
        cause = self._cause or ("kernel_memory" if by_kernel else "payload")
        files.write_exit(
            self._folder,
            Exit(
                cause=cause,
                exit_code=code if code is not None and code >= 0 else None,
                signal=-code if code is not None and code < 0 else None,
                started_at=started_at,
                ended_at=_now(),
                message=self._message,
                processes=self._launch.processes,
            ),
        )
        self._log.close()

    def _record_payload(self) -> None:
        """Write down the payload's pid; tried again at every memory check while the disk is full."""
        identity = None if self._recorded else identify(self._payload)
        if identity is None:
            return
        with contextlib.suppress(OSError):
            files.write_payload(self._folder, identity)
            self._recorded = True

    def _note(self, text: str) -> None:
        self._log.write(f"steelyard: {text}\n".encode())


def _settle_claim(folder: Path, reply: int, lock: int) -> Launch | None:
    """Claim the attempt and tell the launcher; returns the orders, or None where it has a shim."""
    try:
        launch = files.read_launch(folder)
        identity = identify(os.getpid())
        mine = identity is not None and files.claim(folder, identity)
        answer: dict[str, object] = {"claimed": mine}
    except (OSError, ValueError, TypeError) as error:
        launch, mine = None, False
        number = error.errno if isinstance(error, OSError) else errno.EINVAL
        answer = {"errno": number, "message": str(error)}
    with contextlib.suppress(OSError):
        os.write(reply, json.dumps(answer).encode() + b"\n")
    os.close(lock)
    return launch if mine else None


def _detach_output(folder: Path, reply: int) -> None:
    """Leave the caller's standard files; closes `reply`, which may be one of them."""
    empty = os.open(os.devnull, os.O_RDWR)
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        record = os.open(folder / files.SHIM_LOG, flags, 0o644)
    except OSError:
        record = os.dup(empty)
    for source, target in ((empty, 0), (record, 1), (record, 2)):
        os.dup2(source, target)
    for descriptor in {empty, record, reply} - {0, 1, 2}:
        os.close(descriptor)


def _kill_all(pids: list[int]) -> None:
    for pid in pids:
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)


def _enlarge_pipe(descriptor: int) -> None:
    fcntl.fcntl(descriptor, _F_SETPIPE_SZ, _PIPE_BYTES)


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


if __name__ == "__main__":
    main()
