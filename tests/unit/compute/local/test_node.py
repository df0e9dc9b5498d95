"""Cores and memory under the limits of control groups, old and new."""

import os
from pathlib import Path

import psutil
import pytest

from steelyard.compute.local import node
from steelyard.compute.local.node import detect_node


def test_sees_this_machine() -> None:
    found = detect_node()
    assert 1 <= found.cpus <= len(os.sched_getaffinity(0))
    assert 0 < found.memory_bytes <= psutil.virtual_memory().total
    assert found.name


def test_simulates_gpus_on_request() -> None:
    found = detect_node(simulated_gpus=2)
    assert (found.gpu_ids, found.gpus_simulated) == (("simulated-0", "simulated-1"), True)


@pytest.mark.parametrize("quota", ["max 100000", "50000 100000"])
def test_heeds_a_quota_of_cores_in_v2(tmp_path: Path, quota: str) -> None:
    (tmp_path / "cpu.max").write_text(f"{quota}\n")
    expected = len(os.sched_getaffinity(0)) if quota.startswith("max") else 1
    assert node.usable_cpus(tmp_path) == expected


@pytest.mark.parametrize("quota", [-1, 100000])
def test_heeds_a_quota_of_cores_in_v1(tmp_path: Path, quota: int) -> None:
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text(f"{quota}\n")
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    expected = len(os.sched_getaffinity(0)) if quota < 0 else 1
    assert node.usable_cpus(tmp_path) == expected


def test_heeds_limits_of_memory_in_both(tmp_path: Path) -> None:
    assert node.usable_memory_bytes(tmp_path) == psutil.virtual_memory().total
    (tmp_path / "memory.max").write_text("3000000\n")
    assert node.usable_memory_bytes(tmp_path) == 3_000_000
    (tmp_path / "memory").mkdir()
    (tmp_path / "memory" / "memory.limit_in_bytes").write_text("2000000\n")
    assert node.usable_memory_bytes(tmp_path) == 2_000_000
