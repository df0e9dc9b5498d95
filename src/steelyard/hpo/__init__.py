"""Searches over hyperparameters: which trial is next, which stops, and which is the best. Pure."""

from steelyard.hpo.search import next_step

__all__ = ["next_step"]
