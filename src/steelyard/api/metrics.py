"""The Prometheus registry: of one process, or of all workers where `PROMETHEUS_MULTIPROC_DIR` is set."""

import os

from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.multiprocess import MultiProcessCollector


def metrics_registry() -> CollectorRegistry:
    """Return the registry to expose."""
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        return REGISTRY
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # pyright: ignore[reportUnknownMemberType]
    return registry
