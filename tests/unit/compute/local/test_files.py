"""Claims, wishes, and ends, as files."""

import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from steelyard.compute.local import files
from steelyard.compute.local.files import Exit, StopRequest
from steelyard.compute.local.processes import Identity, identify, is_alive


def test_of_many_claims_one_holds(tmp_path: Path) -> None:
    claimants = [Identity(number, number, "boot") for number in range(16)]
    with ThreadPoolExecutor(16) as pool:
        won = list(pool.map(partial(files.claim, tmp_path), claimants))
    assert sum(won) == 1
    assert files.read_claim(tmp_path) == claimants[won.index(True)]


def test_a_damaged_claim_is_of_a_process_that_does_not_live(tmp_path: Path) -> None:
    (tmp_path / files.CLAIM_FILE).write_bytes(b"")
    claim = files.read_claim(tmp_path)
    assert claim is not None
    assert not is_alive(claim)
    assert not files.claim(tmp_path, Identity(1, 1, "boot"))


def test_a_pid_used_again_is_another_process() -> None:
    own = identify(os.getpid())
    assert own is not None
    assert is_alive(own)
    assert not is_alive(own._replace(start_ticks=own.start_ticks + 1))
    assert not is_alive(own._replace(boot_id="another"))


def test_wishes_add_up_to_the_hardest_and_earliest(tmp_path: Path) -> None:
    files.write_stop(tmp_path, StopRequest("checkpoint", "preempted", 100.0, 60.0))
    files.write_stop(tmp_path, StopRequest("checkpoint", "paused_by_user", 200.0, 160.0))
    assert files.read_stop(tmp_path) == StopRequest("checkpoint", "preempted", 100.0, 60.0)
    files.write_stop(tmp_path, StopRequest("kill", "stalled", 50.0, 0.0))
    files.write_stop(tmp_path, StopRequest("checkpoint", "preempted", 150.0, 60.0))
    assert files.read_stop(tmp_path) == StopRequest("kill", "preempted", 50.0, 0.0)


def test_an_end_fits_into_the_room_that_the_claim_took(tmp_path: Path) -> None:
    files.claim(tmp_path, Identity(1, 1, "boot"))
    (reserve,) = tmp_path.glob(".exit*")
    room = reserve.stat().st_size
    end = Exit("payload", 0, None, "2026-01-01T00:00:00Z", "2026-01-01T00:00:01Z", "m" * 1000)
    files.write_exit(tmp_path, end)
    assert files.read_exit(tmp_path) == end
    assert (tmp_path / files.EXIT_FILE).stat().st_size == room


def test_a_newer_versions_file_is_understood(tmp_path: Path) -> None:
    text = '{"pid": 7, "start_ticks": 8, "boot_id": "b", "invented_later": [1]}'
    (tmp_path / files.CLAIM_FILE).write_text(text)
    assert files.read_claim(tmp_path) == Identity(7, 8, "b")
