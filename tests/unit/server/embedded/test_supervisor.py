import json
from pathlib import Path

import pytest

from steelyard.kit.errors import Conflict
from steelyard.server.embedded import launch, supervisor
from steelyard.server.embedded.__main__ import exit_code
from steelyard.server.embedded.lock import hold_home
from steelyard.server.embedded.spawning import rotate_log
from steelyard.server.embedded.state import Overall, ProcessRecord, ProcessState
from steelyard.server.home import HomeLayout

RUNNING, STARTING, RESTARTING = ProcessState.RUNNING, ProcessState.STARTING, ProcessState.RESTARTING


def _record(state: ProcessState, *, essential: bool = True, restarts: int = 0) -> ProcessRecord:
    return ProcessRecord(
        name="x",
        state=state,
        essential=essential,
        restarts=restarts,
        stop_signal=15,
        stop_phase=1,
        log="x.log",
    )


@pytest.mark.parametrize(
    ("records", "was_ready", "expected"),
    [
        ((_record(RUNNING), _record(ProcessState.DONE)), True, Overall.RUNNING),
        ((_record(STARTING),), False, Overall.STARTING),
        ((_record(RESTARTING),), False, Overall.STARTING),
        ((_record(RUNNING), _record(RESTARTING)), True, Overall.DEGRADED),
        ((_record(ProcessState.UNRESPONSIVE),), True, Overall.DEGRADED),
        # MLflow at its first start is as it should be; at a second one it isn't.
        ((_record(RUNNING), _record(STARTING, essential=False)), True, Overall.RUNNING),
        ((_record(RUNNING), _record(STARTING, essential=False, restarts=1)), True, Overall.DEGRADED),
        ((_record(RUNNING), _record(RESTARTING, essential=False)), True, Overall.DEGRADED),
        ((_record(RUNNING), _record(ProcessState.DISABLED, essential=False)), True, Overall.RUNNING),
    ],
)
def test_the_platform_is_as_well_as_its_processes(
    records: tuple[ProcessRecord, ...], was_ready: bool, expected: Overall
) -> None:
    assert supervisor.judge(records, was_ready) is expected


def test_exit_codes_tell_running_stopped_and_between() -> None:
    assert [exit_code(state) for state in (Overall.RUNNING, Overall.STOPPED)] == [0, 3]
    assert {exit_code(state) for state in (Overall.DEGRADED, Overall.STARTING, Overall.STOPPING)} == {1}


def test_one_home_has_one_owner(tmp_path: Path) -> None:
    layout = HomeLayout(tmp_path)
    layout.run.mkdir()
    layout.lock_file.write_text("1\n")
    with hold_home(layout), pytest.raises(Conflict, match="steelyard down"), hold_home(layout):
        pass
    with hold_home(layout):
        pass


def test_grace_is_what_down_asked_for_or_the_default(tmp_path: Path) -> None:
    layout = HomeLayout(tmp_path)
    assert supervisor.read_grace(layout) == supervisor.DEFAULT_GRACE_SECONDS
    layout.run.mkdir()
    (layout.run / "stop.json").write_text(json.dumps({"grace_seconds": 3}))
    assert supervisor.read_grace(layout) == 3
    (layout.run / "stop.json").write_text("{half")
    assert supervisor.read_grace(layout) == supervisor.DEFAULT_GRACE_SECONDS


def test_a_supervisor_that_breaks_at_once_is_quoted(tmp_path: Path) -> None:
    layout = HomeLayout(tmp_path / "home")
    program = ("/bin/sh", "-c", "echo 'no such module' >&2; exit 1")
    with pytest.raises(launch.StartFailed, match="no such module"):
        launch.start_platform(layout, timeout_seconds=10, on_progress=lambda _state: None, supervisor=program)


def test_a_large_log_moves_aside_and_the_oldest_goes(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    for number in range(6):
        with log.open("wb") as file:
            file.write(b"%d" % number)
            file.truncate(17 << 20)
        rotate_log(log)
    kept = {path.name: path.read_bytes()[:1] for path in tmp_path.iterdir()}
    assert kept == {"a.log.1": b"5", "a.log.2": b"4", "a.log.3": b"3"}
    log.write_bytes(b"small")
    rotate_log(log)
    assert log.exists()
