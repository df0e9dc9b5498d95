"""The fork server: a process that has imported the training stack already and forks attempts off itself.

`python -m steelyard.compute.local.forkserver --socket PATH`. It listens once everything is imported, so
whoever finds nobody there starts a fresh process. One request is one line of JSON, `{"folder": PATH}`,
with the launch lock's descriptor beside it; the new shim itself answers. It serves its own user alone,
runs nothing but what the attempt's folder says, and leaves when its socket was removed or replaced.

There must be one thread only when it forks: locks that other threads hold would stay locked for ever in
the child. It checks before each fork and refuses rather than risk it.
"""

import argparse
import contextlib
import gc
import importlib
import importlib.util
import json
import logging
import os
import random
import select
import signal
import socket
import struct
import sys
import traceback
from pathlib import Path
from typing import Any, NoReturn

from steelyard.compute.local.environment import without_platform
from steelyard.compute.local.figures import FORKS, REFUSALS, answer_scrape, open_figures
from steelyard.compute.local.files import Launch
from steelyard.compute.local.processes import MARKER, set_name, stamp_marker
from steelyard.compute.local.shim import serve
from steelyard.compute.local.signals import block_signals, reset_signals

_PRELOAD = "steelyard.trainers.preload"
_WITHOUT_PRELOAD = ("torch", "transformers", "trl", "peft")
_READY = "STEELYARD_FORKSERVER"
_MARKER_ROOM = "-" * 128
_REQUEST_BYTES = 1 << 16
_REQUEST_SECONDS = 1.0
_LOOK_SECONDS = 1.0
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS")
_NO_ARROW_THREAD = {"JE_ARROW_MALLOC_CONF": "background_thread:false"}
"""pyarrow's allocator starts a thread on import unless told not to."""
_LOG = logging.getLogger("steelyard.forkserver")


def main() -> int:
    """Import the training stack and serve until SIGTERM."""
    parser = argparse.ArgumentParser(prog="steelyard-forkserver")
    parser.add_argument("--socket", type=Path, required=True)
    parser.add_argument("--metrics-port", type=int)
    arguments = parser.parse_args()
    address: Path = arguments.socket
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    if os.environ.get(_READY) != "1":
        _start_anew()
    del os.environ[_READY]
    preload()
    threads = _threads()
    if threads > 1:
        _LOG.error("importing the training stack left %d threads: attempts start afresh instead", threads)
        return 1
    set_name("steelyard-forks")
    listen(address, arguments.metrics_port)
    return 0


def preload() -> None:
    """Import what trainers need, settle on one thread, and keep the collector off what was imported."""
    try:
        importlib.import_module(_PRELOAD)
    except ModuleNotFoundError as error:
        _LOG.warning("%s can't be imported (%s): taking the libraries alone", _PRELOAD, error)
        for name in _WITHOUT_PRELOAD:
            if importlib.util.find_spec(name) is not None:
                importlib.import_module(name)
    torch: Any = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(1)
    gc.collect()
    gc.freeze()


def listen(address: Path, metrics_port: int | None = None) -> None:
    """Take requests at `address` until SIGTERM, or until the socket there is no longer this one."""
    signal.signal(signal.SIGTERM, _leave)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.ExitStack() as sockets:
        listener = sockets.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        figures = sockets.enter_context(open_figures(metrics_port)) if metrics_port else None
        listeners = [each for each in (listener, figures) if each is not None]
        own = _bind(listener, address)
        _LOG.info("ready at %s, pid %d", address, os.getpid())
        while _inode(address) == own:
            ready, _, _ = select.select(listeners, [], [], _LOOK_SECONDS)
            if figures in ready:
                answer_scrape(figures)
            if listener in ready:
                connection, _ = listener.accept()
                with connection:
                    _take(connection, listeners)
        _LOG.info("%s is no longer ours: leaving", address)


def run_module(launch: Launch) -> NoReturn:
    """Be the payload, in an image that has imported its libraries: run the trainer's `main(run_file)`.

    A module without `main` fails with a traceback. Ends by `os._exit`, since the exit
    handlers of the image belong to the fork server.
    """
    os.environ.clear()
    os.environ.update(launch.environment)
    stamp_marker(launch.attempt_id)
    _renew_random_state()
    sys.argv = [launch.module, launch.run_file]
    code = _call(launch.module, launch.run_file)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


def _start_anew() -> NoReturn:
    """Become the same program with a clean environment: it is every forked trainer's to read.

    It also holds the variables that libraries read once, and room for the marker (see `stamp_marker`).
    """
    environment = without_platform(os.environ)
    environment |= {**dict.fromkeys(_THREAD_VARIABLES, "1"), _READY: "1", MARKER: _MARKER_ROOM}
    environment |= {"TOKENIZERS_PARALLELISM": "false", "OMP_WAIT_POLICY": "passive"}
    environment |= {"CUDA_VISIBLE_DEVICES": "", **_NO_ARROW_THREAD}
    os.closerange(3, 4096)
    argv = [sys.executable, "-P", "-m", "steelyard.compute.local.forkserver", *sys.argv[1:]]
    os.execve(sys.executable, argv, environment)  # noqa: S606 - no shell is wanted


def _bind(listener: socket.socket, address: Path) -> int | None:
    """Bind to a path that only this user can reach, replacing whatever server had it before."""
    address.parent.mkdir(parents=True, exist_ok=True)
    temporary = address.with_name(f".{address.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    mask = os.umask(0o177)
    try:
        listener.bind(str(temporary))
    finally:
        os.umask(mask)
    listener.listen(128)
    os.replace(temporary, address)
    return _inode(address)


def _take(connection: socket.socket, listeners: list[socket.socket]) -> None:
    """Read one request and fork its shim; a bad one gets no answer."""
    locks: list[int] = []
    try:
        if not _is_own_user(connection):
            return
        connection.settimeout(_REQUEST_SECONDS)
        data, locks, _, _ = socket.recv_fds(connection, _REQUEST_BYTES, 1)
        folder = Path(json.loads(data)["folder"])
        if len(locks) == 1 and folder.is_absolute() and _threads() == 1:
            _fork_shim(folder, connection, locks[0], listeners)
            FORKS.inc()
    except (OSError, ValueError, KeyError, TypeError) as error:
        REFUSALS.inc()
        _LOG.warning("refused a request: %s", error)
    finally:
        for lock in locks:
            os.close(lock)


def _fork_shim(folder: Path, connection: socket.socket, lock: int, listeners: list[socket.socket]) -> None:
    """Fork twice, so that the shim is nobody's child here and no zombie stays."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    mask = block_signals()
    child = os.fork()
    if child == 0:
        if os.fork() > 0:
            os._exit(0)
        for listener in listeners:
            listener.close()
        gc.enable()
        reset_signals()
        connection.setblocking(True)
        serve(folder, connection.detach(), lock, run_module)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    os.waitpid(child, 0)


def _call(module: str, run_file: str) -> int:
    """Run the trainer and return its exit code, by the rules of `python -m`."""
    try:
        found = importlib.import_module(module)
        return int(found.main(run_file) or 0)
    except SystemExit as error:
        if error.code is None or isinstance(error.code, int):
            return error.code or 0
        sys.stderr.write(f"{error.code}\n")
    except BaseException:  # noqa: BLE001 - the edge of a process, where Python itself would print and end
        traceback.print_exc()
    return 1


def _renew_random_state() -> None:
    """Give the child random numbers of its own, where a trainer sets no seed."""
    random.seed()
    seed = int.from_bytes(os.urandom(4), "little")
    numpy: Any = sys.modules.get("numpy")
    if numpy is not None:
        numpy.random.seed(seed)
    torch: Any = sys.modules.get("torch")
    if torch is not None:
        torch.manual_seed(seed)


def _is_own_user(connection: socket.socket) -> bool:
    size = struct.calcsize("3i")
    _, uid, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
    return uid == os.geteuid()


def _threads() -> int:
    return len(os.listdir("/proc/self/task"))


def _inode(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except OSError:
        return None


def _leave(_number: int, _frame: object) -> NoReturn:
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
