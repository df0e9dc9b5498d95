"""What is adjusted from step to step: the weight of the divergence, and the scale of scores."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

_LIMIT = 0.2
_HORIZON_STEPS = 10.0
_SMALLEST_DEVIATION = 1e-4


@dataclass
class BetaControl:
    """Steers beta so that an answer's divergence comes near `target_kl`, nats; without a target beta stays.

    Ziegler et al. 2019, section 2.2: e = clip(KL / target - 1, -0.2, 0.2), beta *= 1 + e / horizon, here with
    a horizon of ten steps: beta moves by 2 % a step at most.
    """

    beta: float
    target_kl: float | None

    def update(self, kl_per_answer: float) -> None:
        """Take a step's divergence into account."""
        if self.target_kl is None or not math.isfinite(kl_per_answer):
            return
        error = min(max(kl_per_answer / self.target_kl - 1.0, -_LIMIT), _LIMIT)
        self.beta *= 1.0 + error / _HORIZON_STEPS


@dataclass
class ScoreScale:
    """Standard deviation of all scores so far (Welford 1962; Chan et al. 1979 for many at once)."""

    enabled: bool
    count: int = 0
    mean: float = 0.0
    squares: float = 0.0

    def scale(self, scores: Sequence[float]) -> list[float]:
        """Take scores into account, and return them by the deviation; as they are when not enabled."""
        if not self.enabled:
            return list(scores)
        self._add(scores)
        if self.count < 2:
            return list(scores)
        deviation = math.sqrt(self.squares / (self.count - 1))
        return [score / max(deviation, _SMALLEST_DEVIATION) for score in scores]

    def _add(self, scores: Sequence[float]) -> None:
        count, mean = len(scores), sum(scores) / len(scores)
        delta, total = mean - self.mean, self.count + count
        self.squares += sum((score - mean) ** 2 for score in scores)
        self.squares += delta**2 * self.count * count / total
        self.mean += delta * count / total
        self.count = total


@dataclass
class Controls:
    """Both, as one thing to save."""

    beta: BetaControl
    scale: ScoreScale

    def as_json(self) -> dict[str, Any]:
        """Return plain numbers, exact."""
        return asdict(self)

    @classmethod
    def from_json(cls, saved: dict[str, Any]) -> "Controls":
        """Make them from what was saved."""
        return cls(BetaControl(**saved["beta"]), ScoreScale(**saved["scale"]))
