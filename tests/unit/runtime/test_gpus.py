"""The GPU meter, against a stand-in for NVIDIA's library, which needs its driver."""

from types import SimpleNamespace
from typing import Any

import pytest

from steelyard.runtime.gpus import GpuMeter


class NoDriverError(Exception):
    """NVML's error."""


def library(*percents: int, init: Exception | None = None) -> Any:
    """A library whose GPUs work so hard, one sample after the other."""
    samples = iter(percents)

    def start() -> None:
        if init is not None:
            raise init

    def find(name: str) -> str:
        return name

    def look(_handle: str) -> Any:
        return SimpleNamespace(gpu=next(samples))

    return SimpleNamespace(
        NVMLError=NoDriverError,
        nvmlInit=start,
        nvmlDeviceGetHandleByUUID=find,
        nvmlDeviceGetUtilizationRates=look,
    )


def test_samples_are_averaged_over_gpus_and_time() -> None:
    meter = GpuMeter("GPU-a,GPU-b", lambda: library(100, 0, 0, 0))
    assert meter.read() == 0.5
    assert meter.read() == pytest.approx(0.375)


def test_without_gpus_library_or_driver_nothing_is_known() -> None:
    def missing() -> Any:
        raise ImportError

    assert GpuMeter("", lambda: library(50)).read() is None
    assert GpuMeter("GPU-a", missing).read() is None
    assert GpuMeter("GPU-a", lambda: library(50, init=NoDriverError())).read() is None
