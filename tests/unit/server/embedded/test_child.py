"""Children are real processes here; only their program is small."""

import asyncio
import dataclasses
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from steelyard.kit.errors import Unavailable
from steelyard.server.embedded import child as child_module
from steelyard.server.embedded.child import Child
from steelyard.server.embedded.identity import identify
from steelyard.server.embedded.process import ProcessSpec
from steelyard.server.embedded.state import ProcessRecord, ProcessState

_SLEEP = ("/bin/sleep", "600")


class Nursery:
    """Children of one test, and a way to wait for what becomes of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ready: dict[str, asyncio.Event] = {}
        self.changed = asyncio.Event()
        self.tasks: list[tuple[Child, asyncio.Task[None]]] = []

    def add(self, name: str, argv: tuple[str, ...] = _SLEEP, **fields: Any) -> Child:
        spec = dataclasses.replace(ProcessSpec(name, argv, dict(os.environ)), **fields)
        self.ready.setdefault(name, asyncio.Event())
        child = Child(spec, self.folder / f"{name}.log", self.ready, self.changed.set)
        self.tasks.append((child, asyncio.create_task(child.run())))
        return child

    async def until(self, child: Child, condition: Callable[[ProcessRecord], bool]) -> ProcessRecord:
        async with asyncio.timeout(20):
            while not condition(child.record()):
                self.changed.clear()
                await self.changed.wait()
        return child.record()

    async def close(self) -> None:
        for child, task in self.tasks:
            await child.stop()
            task.cancel()
            await asyncio.wait([task])


@pytest.fixture
async def nursery(tmp_path: Path) -> Any:
    nursery = Nursery(tmp_path)
    yield nursery
    await nursery.close()


def _runs(record: ProcessRecord) -> bool:
    return record.state is ProcessState.RUNNING


async def test_it_runs_comes_back_after_a_kill_and_stops(nursery: Nursery) -> None:
    child = nursery.add("a")
    first = (await nursery.until(child, _runs)).identity
    assert first is not None
    os.kill(first.pid, signal.SIGKILL)
    second = await nursery.until(child, lambda record: _runs(record) and record.identity != first)
    assert second.restarts == 1
    assert second.failures == 1
    await child.stop()
    assert child.record().state is ProcessState.STOPPED
    assert second.identity is not None
    assert identify(second.identity.pid) is None


async def test_pauses_between_starts_grow(nursery: Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child_module, "_FIRST_PAUSE_SECONDS", 0.01)
    began = asyncio.get_running_loop().time()
    child = nursery.add("a", ("/bin/sh", "-c", "echo words; exit 3"), probe=_never)
    record = await nursery.until(child, lambda record: record.failures == 5)
    # 10 + 20 + 40 + 80 ms.
    assert asyncio.get_running_loop().time() - began >= 0.15
    assert record.message == "ended with exit code 3"
    assert "words" in (nursery.folder / "a.log").read_text()


async def test_it_isnt_ready_before_its_probe_and_its_settling_say_so(nursery: Nursery) -> None:
    asked, settled = asyncio.Event(), asyncio.Event()
    tries: list[int] = []

    async def settle() -> None:
        tries.append(1)
        if len(tries) == 1:
            raise Unavailable("not yet")
        settled.set()

    async def probe() -> bool:
        return asked.is_set()

    child = nursery.add("a", probe=probe, on_ready=settle)
    await nursery.until(child, lambda record: record.identity is not None)
    assert child.record().state is ProcessState.STARTING
    asked.set()
    await nursery.until(child, _runs)
    assert settled.is_set()
    assert len(tries) == 2


async def test_one_that_never_gets_ready_is_started_again(nursery: Nursery) -> None:
    child = nursery.add("a", probe=_never, start_timeout_seconds=0.05)
    record = await nursery.until(child, lambda record: record.restarts >= 1)
    assert record.failures >= 1
    assert not nursery.ready["a"].is_set()


async def test_a_dependency_is_waited_for_and_politeness_ends(nursery: Nursery) -> None:
    nursery.ready = {"first": asyncio.Event(), "shy": asyncio.Event()}
    second = nursery.add("second", depends_on=("first",))
    polite = nursery.add("polite", yields_to=("shy", "unknown"), yield_seconds=0.05)
    await nursery.until(polite, _runs)
    assert second.record().state is ProcessState.WAITING
    await nursery.until(nursery.add("first"), _runs)
    await nursery.until(second, _runs)


async def test_one_that_runs_once_is_done_and_lets_others_go(nursery: Nursery) -> None:
    marker = nursery.folder / "seen"
    script = f"test -e {marker} && exit 0; touch {marker}; exit 1"
    once = nursery.add("once", ("/bin/sh", "-c", script), once=True)
    later = nursery.add("later", depends_on=("once",))
    await nursery.until(later, _runs)
    assert once.record().state is ProcessState.DONE
    assert once.record().restarts == 1
    await once.stop()
    assert once.record().state is ProcessState.DONE


async def test_what_cant_be_started_or_prepared_says_why(nursery: Nursery) -> None:
    missing = nursery.add("missing", ("/no/such/program",))
    assert "No such file" in str((await nursery.until(missing, lambda record: record.failures > 0)).message)

    def prepare() -> None:
        raise Unavailable("make room first")

    unprepared = nursery.add("unprepared", prepare=prepare)
    record = await nursery.until(unprepared, lambda record: record.failures > 0)
    assert record.message == "make room first"


@pytest.mark.parametrize("turns", range(6))
async def test_a_life_that_ends_while_its_probe_answers_is_seen_to_end(
    nursery: Nursery, tmp_path: Path, turns: int
) -> None:
    asked: list[asyncio.Future[bool]] = []

    async def probe() -> bool:
        asked.append(asyncio.get_running_loop().create_future())
        nursery.changed.set()
        return await asked[-1]

    go = tmp_path / "go"
    child = nursery.add("p", ("/bin/sh", "-c", f"until [ -e {go} ]; do :; done; exit 3"), probe=probe)
    await nursery.until(child, lambda _: bool(asked))
    care = next(task for task in asyncio.all_tasks() if "_accompany" in repr(task.get_coro()))
    asked[-1].set_result(False)
    for _ in range(turns):
        await asyncio.sleep(0)
    care.cancel()
    await asyncio.wait([care], timeout=5)
    assert care.cancelled()
    go.touch()
    await nursery.until(child, lambda record: record.failures > 0)


async def test_a_disabled_one_blocks_nobody(nursery: Nursery) -> None:
    disabled = nursery.add("disabled", disabled="not installed")
    await nursery.until(nursery.add("later", depends_on=("disabled",)), _runs)
    assert disabled.record().state is ProcessState.DISABLED
    assert disabled.record().message == "not installed"


async def test_one_that_ignores_its_stop_signal_is_killed_with_its_session(nursery: Nursery) -> None:
    script = (
        "import os, signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); os.fork();"
        "open(f'{os.getpid()}.pid', 'w').close(); time.sleep(600)"
    )
    argv = ("/bin/sh", "-c", f'cd "{nursery.folder}" && exec {sys.executable} -S -c "{script}"')

    async def both() -> bool:
        return len(list(nursery.folder.glob("*.pid"))) == 2

    child = nursery.add("a", argv, probe=both, stop_grace_seconds=0.1)
    await nursery.until(child, _runs)
    await child.stop()
    # The others of its session have got their SIGKILL, but die in their own time.
    pids = [int(path.stem) for path in nursery.folder.glob("*.pid")]
    async with asyncio.timeout(10):
        for pid in pids:
            await _gone(pid)


async def test_it_leaves_when_its_supervisor_is_killed(tmp_path: Path) -> None:
    script = (
        "import os, sys; from pathlib import Path;"
        "from steelyard.server.embedded.process import ProcessSpec;"
        "from steelyard.server.embedded.spawning import spawn;"
        "child = spawn(ProcessSpec('a', ('/bin/sleep', '600'), dict(os.environ)), Path(sys.argv[1]));"
        "print(child.pid, flush=True); input()"
    )
    supervisor = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        script,
        str(tmp_path / "log"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert supervisor.stdout is not None
    pid = int(await supervisor.stdout.readline())
    assert identify(pid) is not None
    supervisor.kill()
    await supervisor.wait()
    async with asyncio.timeout(10):
        await _gone(pid)


async def _gone(pid: int) -> None:
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    ended = asyncio.Event()
    asyncio.get_running_loop().add_reader(descriptor, ended.set)
    await ended.wait()
    asyncio.get_running_loop().remove_reader(descriptor)
    os.close(descriptor)


async def _never() -> bool:
    return False
