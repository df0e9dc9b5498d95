"""Which figures a trial measures: what a search may choose its best by."""

from steelyard.specs.evaluations import BUILT_IN_SUITES
from steelyard.specs.gates import POLICY_KL
from steelyard.specs.job import FineTuneSpec
from steelyard.specs.methods import REWARD_ACCURACY

_OF_SUITES = {"heldout": ("loss", "perplexity"), "choices": ("accuracy", "accuracy_sum")}
_OF_METHODS: dict[str, tuple[str, ...]] = {
    "reward": (REWARD_ACCURACY, "reward/margin"),
    "dpo": ("rewards/accuracies", "rewards/margins", "rewards/loss", POLICY_KL),
    "kto": ("rewards/accuracies", "rewards/margins", POLICY_KL),
    "ppo": ("policy/reward", "policy/reward_gain", POLICY_KL),
    "grpo": ("policy/reward", "policy/reward_gain", POLICY_KL),
}
LOSSES = ("train/loss", "eval/loss")
"""What has a curve."""


def is_measured(metric: str, trial: FineTuneSpec) -> bool:
    """Whether a trial may measure a metric. Of suites of files only the suite is known, not its figures."""
    if metric in _own(trial):
        return True
    suite, _, figure = metric.rpartition("/")
    if suite not in _suites(trial) or not figure:
        return False
    return suite not in BUILT_IN_SUITES or figure in _OF_SUITES[suite]


def measured(trial: FineTuneSpec) -> list[str]:
    """Return the metrics that a trial measures, for people."""
    found = _own(trial)
    for suite in _suites(trial):
        found += [f"{suite}/{figure}" for figure in _OF_SUITES.get(suite, ("METRIC",))]
    return found


def _own(trial: FineTuneSpec) -> list[str]:
    # What PPO minimizes says nothing of how good a policy is, so its trainer names no loss.
    loss = [] if trial.method == "ppo" else ["train/loss"]
    looks = [] if trial.training.eval_steps is None else ["eval/loss"]
    return [*loss, *looks, *_OF_METHODS.get(trial.method, ())]


def _suites(trial: FineTuneSpec) -> list[str]:
    return [] if trial.evaluation is None else trial.evaluation.suite_names
