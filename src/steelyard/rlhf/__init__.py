"""RLHF as one job: preferences, a reward model, a policy, and a check of its safety. Pure."""

from steelyard.rlhf.pipeline import next_step

__all__ = ["next_step"]
