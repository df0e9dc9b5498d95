"""What a spec may use at most. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import ROUND_FLOOR, Decimal

from steelyard.governance.ledger.amounts import SECONDS_PER_HOUR, Amount, cost_of
from steelyard.specs.budgets import Unit
from steelyard.specs.job import EvalOnlySpec, FineTuneSpec, HpoSpec, JobSpec, RetrainSpec, RlhfSpec


@dataclass(frozen=True)
class Demand:
    """GPUs over all nodes, seconds of running at most, and how many times over (trials of a search)."""

    gpus: int
    seconds: Decimal
    times: int = 1

    def amount(self, price_per_gpu_hour: Decimal) -> Amount:
        """Return the most that it can cost."""
        return cost_of(self.gpus, self.seconds * self.times, price_per_gpu_hour)

    def seconds_for(self, unit: Unit, left: Decimal, price_per_gpu_hour: Decimal) -> int:
        """Return the longest runtime, in whole seconds, whose cost is at most `left` of a unit."""
        per_hour = Decimal(self.gpus * self.times)
        if unit == "money":
            per_hour *= price_per_gpu_hour
        if not per_hour:
            return int(self.seconds)
        return int((left * SECONDS_PER_HOUR / per_hour).to_integral_value(ROUND_FLOOR))


@dataclass(frozen=True)
class Price:
    """A price of a GPU-hour, and the flavor that it is asked for."""

    flavor: str | None
    per_gpu_hour: Decimal


FREE = Price(None, Decimal(0))


def demand_of(spec: JobSpec, used_seconds: float = 0.0) -> Demand:
    """Return what a job may use: GPUs x nodes x longest runtime x trials; over all stages of a pipeline.

    Args:
        spec: of the job.
        used_seconds: how much of its runtime it has had already. Of a search or a pipeline: how much of all
            its children's runtimes together they have had, or will not have any more.
    """
    source = _source(spec)
    used = Decimal(str(round(used_seconds, 6)))
    nodes = 1 if isinstance(source, EvalOnlySpec) else source.distributed.num_nodes
    times = spec.search.trials if isinstance(spec, HpoSpec) else 1
    if times > 1 and used > 0:
        return Demand(source.resources.gpus * nodes, max(Decimal(0), _longest(source) * times - used))
    return Demand(source.resources.gpus * nodes, max(Decimal(0), _longest(source) - used), times)


def highest(prices: Iterable[Price]) -> Price:
    """Return the highest price; nothing costs nothing."""
    return max(prices, key=lambda price: price.per_gpu_hour, default=FREE)


def _longest(source: FineTuneSpec | EvalOnlySpec | RlhfSpec) -> Decimal:
    if isinstance(source, RlhfSpec):
        return Decimal(sum(limits.max_runtime_seconds for limits in source.stage_limits.values()))
    return Decimal(source.limits.max_runtime_seconds)


def _source(spec: JobSpec) -> FineTuneSpec | EvalOnlySpec | RlhfSpec:
    """Return the spec whose resources and limits one launch has."""
    if isinstance(spec, HpoSpec):
        return spec.trial
    return spec.template if isinstance(spec, RetrainSpec) else spec
