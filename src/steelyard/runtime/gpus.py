"""How hard this process's GPUs work, where NVIDIA's library can tell; whoever wants them back asks."""

import os
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from typing import Any

_VISIBLE = "CUDA_VISIBLE_DEVICES"
_NEWEST_PART = 0.25


class GpuMeter:
    """Samples the GPUs that the process was given. Not safe for several threads.

    Args:
        visible: their UUIDs or numbers, comma-separated as in `CUDA_VISIBLE_DEVICES`.
        load: imports NVML; raises ImportError where it isn't there.
    """

    def __init__(
        self, visible: str | None = None, load: Callable[[], Any] = lambda: import_module("pynvml")
    ) -> None:
        named = os.environ.get(_VISIBLE, "") if visible is None else visible
        self._mean: float | None = None
        self._library: Any = None
        self._handles: list[Any] = []
        if not named:
            return
        with suppress(ImportError):
            self._library = load()
            self._open(named.split(","))

    def read(self) -> float | None:
        """Return the part of the time in which the GPUs worked lately, 0 to 1; None where nobody knows.

        Each call takes a sample, of the driver's last second at most, so it is the mean of the last few.
        """
        if not self._handles:
            return None
        try:
            rates = [self._library.nvmlDeviceGetUtilizationRates(handle).gpu for handle in self._handles]
        except self._library.NVMLError:
            return self._mean
        now = sum(rates) / (100.0 * len(rates))
        before = now if self._mean is None else self._mean
        self._mean = min(1.0, max(0.0, before + _NEWEST_PART * (now - before)))
        return self._mean

    def _open(self, names: list[str]) -> None:
        try:
            self._library.nvmlInit()
            self._handles = [self._find(name) for name in names]
        except self._library.NVMLError:
            self._handles = []

    def _find(self, name: str) -> Any:
        if name.isdecimal():
            return self._library.nvmlDeviceGetHandleByIndex(int(name))
        return self._library.nvmlDeviceGetHandleByUUID(name)
