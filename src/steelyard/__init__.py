"""Steelyard: a self-hosted platform that trains language models and weighs each before it leaves.

`steelyard.Client` and `steelyard.AsyncClient` are loaded on first use, so that a training process that
imports `steelyard.runtime` pays nothing for them.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from steelyard.client import AsyncClient, Client

__version__ = "0.1.0"
__all__ = ["AsyncClient", "Client", "__version__"]


def __getattr__(name: str) -> object:
    if name in ("AsyncClient", "Client"):
        return getattr(import_module("steelyard.client"), name)
    raise AttributeError(f"module 'steelyard' has no attribute {name!r}")
