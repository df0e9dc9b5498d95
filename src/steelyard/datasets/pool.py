"""The same pure function over many tasks, on all cores; results in the order of the tasks."""

import ctypes
import multiprocessing
import os
import signal
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

Task = TypeVar("Task")
Result = TypeVar("Result")

_PR_SET_PDEATHSIG = 1
_POLARS_THREADS = "POLARS_MAX_THREADS"


class Pool:
    """Worker processes, started when there is more than one task and more than one core to use.

    Tasks must not depend on which process runs them. Workers die with the process that made them, and
    leave Ctrl-C to it.
    """

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._executor: ProcessPoolExecutor | None = None

    def map(
        self, work: Callable[[Task], Result], tasks: Sequence[Task], note: Callable[[Result], None]
    ) -> list[Result]:
        """Return `work` of each task; `note` is called with each result, in order.

        Raises:
            Exception: what `work` raised for the first task, in order, that failed.
        """
        results: list[Result] = []
        for result in self._run(work, tasks):
            note(result)
            results.append(result)
        return results

    def _run(self, work: Callable[[Task], Result], tasks: Sequence[Task]) -> Iterator[Result]:
        if self._workers == 1 or len(tasks) <= 1:
            return map(work, tasks)
        if self._executor is None:
            self._executor = ProcessPoolExecutor(
                self._workers, multiprocessing.get_context("spawn"), _begin, (os.getpid(),)
            )
        with _one_thread_each():
            return self._executor.map(work, tasks)

    def close(self, *, kill: bool) -> None:
        """Let the workers go; with `kill`, at once."""
        if self._executor is None:
            return
        processes = list((self._executor._processes or {}).values())  # pyright: ignore[reportPrivateUsage]
        if kill:
            for process in processes:
                process.kill()
        self._executor.shutdown(wait=True, cancel_futures=True)
        self._executor = None


@contextmanager
def open_pool(workers: int | None) -> Generator[Pool]:
    """Open a pool of so many workers; None: one per core that this process may use."""
    pool = Pool(workers or len(os.sched_getaffinity(0)))
    try:
        yield pool
    except BaseException:
        pool.close(kill=True)
        raise
    pool.close(kill=False)


@contextmanager
def _one_thread_each() -> Generator[None]:
    """Workers start while tasks are handed over, and each has one core: more threads would only contend."""
    before = os.environ.get(_POLARS_THREADS)
    os.environ[_POLARS_THREADS] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_POLARS_THREADS]
        else:
            os.environ[_POLARS_THREADS] = before


def _begin(parent: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
