"""Proximal policy optimization against a reward model: `python -m steelyard.trainers.ppo run.json`.

TRL has no PPO any more, so this one is ours. Formulas: Schulman et al. 2017 (clipped objective), Schulman et
al. 2016 (generalized advantages), Ziegler et al. 2019 (reward with a penalty per token for leaving the
reference, and its control), Stiennon et al. 2020 and Ouyang et al. 2022 (the whole for language models);
details as in Huang et al. 2024, "The N+ Implementation Details of RLHF with PPO".
"""

from steelyard.trainers.ppo.training import main, train

__all__ = ["main", "train"]
