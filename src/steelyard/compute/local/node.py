"""What this machine has to give: the facts that the scheduler plans with."""

import math
import os
import socket
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import psutil

SIMULATED = "simulated-"
"""How the names of GPUs begin that aren't there."""
_CGROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class LocalNode:
    """A machine: cores that we may use, memory in bytes, and the names of its GPUs."""

    name: str
    cpus: int
    memory_bytes: int
    gpu_ids: tuple[str, ...] = ()
    gpus_simulated: bool = False


def detect_node(simulated_gpus: int = 0) -> LocalNode:
    """Look at this machine, with the limits of the control group and CPU mask that we run under.

    Args:
        simulated_gpus: names of so many GPUs that aren't there, for trying schedulers out; instead of
            looking for real ones.
    """
    gpus = tuple(f"{SIMULATED}{number}" for number in range(simulated_gpus)) or _gpu_ids()
    return LocalNode(node_name(), usable_cpus(), usable_memory_bytes(), gpus, simulated_gpus > 0)


def node_name() -> str:
    """Return the name of this machine."""
    return socket.gethostname()


def usable_cpus(root: Path = _CGROUP) -> int:
    usable = len(os.sched_getaffinity(0))
    quotas = [*_quotas_v2(root), *_quotas_v1(root)]
    return max(1, min([usable, *(math.ceil(quota) for quota in quotas)]))


def _quotas_v2(root: Path) -> Iterator[float]:
    for folder in _own_folders(root, ""):
        words = _read(folder / "cpu.max").split()
        if len(words) == 2 and words[0] != "max":
            yield int(words[0]) / int(words[1])


def _quotas_v1(root: Path) -> Iterator[float]:
    for folder in _own_folders(root / "cpu", "cpu"):
        quota, period = _read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us")
        if quota and period and int(quota) > 0:
            yield int(quota) / int(period)


def usable_memory_bytes(root: Path = _CGROUP) -> int:
    limits = [psutil.virtual_memory().total]
    for folder in _own_folders(root, ""):
        limits += _number(folder / "memory.max")
    for folder in _own_folders(root / "memory", "memory"):
        limits += _number(folder / "memory.limit_in_bytes")
    return min(limits)


def _own_folders(mount: Path, controller: str) -> list[Path]:
    """Return our control group's folder and all above it, up to the mount: each can hold a limit."""
    folders = [mount]
    for line in _read(Path("/proc/self/cgroup")).splitlines():
        _, names, path = line.split(":", 2)
        if controller in names.split(","):
            folder = mount / path.lstrip("/")
            folders += [folder, *(each for each in folder.parents if mount in each.parents)]
    return folders


def _gpu_ids() -> tuple[str, ...]:
    """Return the UUIDs of NVIDIA's GPUs, nothing where the library or the driver is missing."""
    with suppress(ImportError):
        library: Any = import_module("pynvml")
        try:
            library.nvmlInit()
        except library.NVMLError:
            return ()
        handles = [library.nvmlDeviceGetHandleByIndex(n) for n in range(library.nvmlDeviceGetCount())]
        return tuple(str(library.nvmlDeviceGetUUID(handle)) for handle in handles)
    return ()


def _number(path: Path) -> list[int]:
    text = _read(path)
    return [int(text)] if text.isdigit() else []


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
