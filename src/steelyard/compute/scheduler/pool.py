"""Where a gang fits: the nodes' free capacity during one round, and what of it is spoken for.

Every node has two counts. `free` is what may be given away now. `future` is what will be free when
those that are stopping have left, less what is promised to others then. Both only shrink while a round
goes on, so a node that was too small for a shape stays so: each shape keeps a cursor that never goes
back, and all searches of a round together look at each node once per shape.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from steelyard.compute.scheduler.decisions import Placement
from steelyard.compute.scheduler.queue import Shape, SpotPolicy
from steelyard.compute.scheduler.snapshot import Allocation, Flavor, Node


class GroupKey(NamedTuple):
    """Nodes of one flavor, spot or not. A gang never spans two groups."""

    flavor: str
    spot: bool


@dataclass(slots=True)
class Group:
    """The nodes of one key that are up, by index into the pool."""

    key: GroupKey
    price: float
    indices: list[int] = field(default_factory=list[int])
    kept_for: str | None = None
    """The job that nodes of this group are kept for."""
    head_is_patient: bool = False
    """Whether the first job that doesn't fit lets others pass, as nobody knows how long it would wait."""
    kept_until_seconds: float | None = None
    """When it will be able to use them; None: nobody knows."""


@dataclass(slots=True)
class Kept:
    """Free capacity of a node that waits for a job."""

    cpus: int
    memory_bytes: int
    gpus: int


_NOTHING = Kept(0, 0, 0)
_NEVER = float("inf")


class Pool:
    """The nodes of a snapshot, indexed. Owned by one round and changed by it."""

    def __init__(
        self,
        nodes: Iterable[Node],
        flavors: Iterable[Flavor],
        running: Iterable[Allocation],
        now_seconds: float,
    ) -> None:
        self.nodes = sorted(nodes, key=lambda node: node.name)
        self.index = {node.name: i for i, node in enumerate(self.nodes)}
        self.now_seconds = now_seconds
        self.running = running
        self.steps = 0
        self.free_cpus = [node.free_cpus for node in self.nodes]
        self.free_memory = [node.free_memory_bytes for node in self.nodes]
        self.free_gpus = [len(node.free_gpu_ids) for node in self.nodes]
        self.future_cpus = self.free_cpus.copy()
        self.future_memory = self.free_memory.copy()
        self.future_gpus = self.free_gpus.copy()
        self._kept: dict[int, Kept] = {}
        self._given = [0] * len(self.nodes)
        self._prices = {flavor.name: flavor.price_per_gpu_hour for flavor in flavors}
        self.groups: dict[GroupKey, Group] = {}
        self.group_of: list[Group] = []
        """Each node's group; that of a node that is down has not got it among its indices."""
        self._group_nodes()
        self._candidates: dict[Shape, list[Group]] = {}
        self._cursors: dict[tuple[Shape, GroupKey], tuple[list[int], int]] = {}
        self.keeps_for_a_time = False
        """Whether any group has kept nodes that short jobs may use."""
        self._limits_are_known = any(each.max_runtime_seconds is not None for each in running)
        self._unfit_beside: set[tuple[Shape, GroupKey]] = set()
        self._expect_stopping()

    def candidates(self, shape: Shape) -> list[Group]:
        """Return the groups whose nodes, were they empty, could hold `shape`, the best first."""
        found = self._candidates.get(shape)
        if found is None:
            groups = (group for group in self.groups.values() if group.indices)
            allowed = [group for group in groups if self.allows(group.indices[0], shape)]
            found = [group for group in allowed if self._can_ever_hold(group.indices, shape)]
            found.sort(key=lambda group: _preference(group, shape))
            self._candidates[shape] = found
        return found

    def allows(self, i: int, shape: Shape, *, at_any_price: bool = False) -> bool:
        """Whether flavor, spot policy and price cap of `shape` admit node `i`."""
        key = self.group_of[i].key
        if shape.flavors and key.flavor not in shape.flavors:
            return False
        if key.spot and shape.spot is SpotPolicy.NEVER:
            return False
        if not key.spot and shape.spot is SpotPolicy.ONLY:
            return False
        cap = shape.max_price_per_gpu_hour
        return at_any_price or cap is None or shape.gpus == 0 or self.price(i) <= cap

    def price(self, i: int) -> float:
        """Return what a GPU-hour on node `i` costs."""
        return self.group_of[i].price

    def flavor_of(self, name: str) -> str:
        """Return the flavor of a node by name; empty if the node is not known any more."""
        i = self.index.get(name)
        return "" if i is None else self.nodes[i].flavor

    def idle(self, i: int) -> tuple[int, int, int]:
        """Return GPUs, CPUs and memory of node `i` that nobody uses, those kept for a job included."""
        kept = self._kept.get(i, _NOTHING)
        return (
            self.free_gpus[i] + kept.gpus,
            self.free_cpus[i] + kept.cpus,
            self.free_memory[i] + kept.memory_bytes,
        )

    def find(self, group: Group, shape: Shape) -> list[int] | None:
        """Return the nodes on which the whole gang fits now, fullest first, or nothing."""
        cursor = self._cursors.get((shape, group.key))
        order, start = cursor or (self._order(group, shape), 0)
        found: list[int] = []
        place = start
        while place < len(order) and len(found) < shape.nodes:
            self.steps += 1
            if self.fits(order[place], shape):
                found.append(order[place])
            elif not found:
                start = place + 1
            place += 1
        if len(found) < shape.nodes:
            self._cursors[shape, group.key] = ([], 0)
            return None
        self._cursors[shape, group.key] = (order, start)
        return found

    def may_backfill(self, group: Group, shape: Shape, runtime_seconds: float | None) -> bool:
        """Whether a job of this limit is over before the kept nodes of `group` are needed."""
        until = group.kept_until_seconds
        if until is None or runtime_seconds is None or (shape, group.key) in self._unfit_beside:
            return False
        return self.now_seconds + runtime_seconds <= until

    def find_beside(self, group: Group, shape: Shape) -> list[int] | None:
        """Like `find`, with kept capacity counted as free; only where `may_backfill` says yes."""
        self.steps += len(group.indices)
        fitting = [i for i in group.indices if self._fits_beside(i, shape)]
        if len(fitting) >= shape.nodes:
            return fitting[: shape.nodes]
        self._unfit_beside.add((shape, group.key))
        return None

    def fits(self, i: int, shape: Shape) -> bool:
        """Whether one member of the gang fits on node `i` now."""
        return (
            self.free_gpus[i] >= shape.gpus
            and self.free_cpus[i] >= shape.cpus
            and self.free_memory[i] >= shape.memory_bytes
        )

    def take(self, i: int, shape: Shape) -> Placement:
        """Give one member of the gang its part of node `i`, which must fit."""
        node = self.nodes[i]
        self._borrow_kept(i, shape)
        first = self._given[i]
        self._given[i] = first + shape.gpus
        self.free_cpus[i] -= shape.cpus
        self.free_memory[i] -= shape.memory_bytes
        self.free_gpus[i] -= shape.gpus
        self._spend_future(i, shape)
        ids = node.free_gpu_ids[first : first + shape.gpus]
        return Placement(node.name, shape.cpus, shape.memory_bytes, ids)

    def fits_future(self, i: int, shape: Shape) -> bool:
        """Whether one member of the gang fits on node `i` when all that stop have left."""
        return (
            self.future_gpus[i] >= shape.gpus
            and self.future_cpus[i] >= shape.cpus
            and self.future_memory[i] >= shape.memory_bytes
        )

    def promise(self, indices: Iterable[int], shape: Shape) -> None:
        """Set aside the future of these nodes for a gang: others get only what is left beside it."""
        for i in indices:
            self._spend_future(i, shape)
            self.free_cpus[i] = min(self.free_cpus[i], max(0, self.future_cpus[i]))
            self.free_memory[i] = min(self.free_memory[i], max(0, self.future_memory[i]))
            self.free_gpus[i] = min(self.free_gpus[i], max(0, self.future_gpus[i]))

    def expect(self, i: int, share_cpus: int, share_memory: int, share_gpus: int) -> None:
        """Count capacity of node `i` that its holder is about to leave."""
        self.future_cpus[i] += share_cpus
        self.future_memory[i] += share_memory
        self.future_gpus[i] += share_gpus

    def keep(self, group: Group, shape: Shape, job_id: str, *, patient: bool) -> None:
        """Keep the nodes of `group` that will be empty enough first for a gang that doesn't fit yet.

        Only jobs whose limit ends before that moment may use them. When nobody knows that moment, as a job
        in the way has no limit, the nodes might stand idle for days: then a `patient` job keeps none. At
        most one gang per group is waited for: the first, or the first whose patience has ended.
        """
        if patient and group.head_is_patient:
            return
        if patient and not self._limits_are_known:
            group.head_is_patient = True
            return
        self.steps += len(group.indices)
        chosen = self._soonest(group, shape)
        until = _latest(when for when, _ in chosen)
        if until is None and patient:
            group.head_is_patient = True
            return
        group.kept_for = job_id
        group.kept_until_seconds = until
        self.keeps_for_a_time |= until is not None
        for _, i in chosen:
            cpus = max(0, min(shape.cpus, self.free_cpus[i]))
            memory = max(0, min(shape.memory_bytes, self.free_memory[i]))
            gpus = max(0, min(shape.gpus, self.free_gpus[i]))
            self._kept[i] = Kept(cpus, memory, gpus)
            self.free_cpus[i] -= cpus
            self.free_memory[i] -= memory
            self.free_gpus[i] -= gpus
            self._spend_future(i, shape)

    def release(self, group: Group, shape: Shape) -> None:
        """Take back a `keep`: what was kept is free again, but for what short jobs have borrowed."""
        for i in group.indices:
            kept = self._kept.pop(i, None)
            if kept is None:
                continue
            self.free_cpus[i] += kept.cpus
            self.free_memory[i] += kept.memory_bytes
            self.free_gpus[i] += kept.gpus
            self.future_cpus[i] += shape.cpus
            self.future_memory[i] += shape.memory_bytes
            self.future_gpus[i] += shape.gpus
        group.kept_for = None
        group.kept_until_seconds = None

    def _can_ever_hold(self, indices: Iterable[int], shape: Shape) -> bool:
        return sum(is_large_enough(self.nodes[i], shape) for i in indices) >= shape.nodes

    def _group_nodes(self) -> None:
        for i, node in enumerate(self.nodes):
            key = GroupKey(node.flavor, node.spot)
            group = self.groups.get(key)
            if group is None:
                group = self.groups[key] = Group(key, self._prices.get(node.flavor, 0.0))
            self.group_of.append(group)
            if node.up:
                group.indices.append(i)

    def _expect_stopping(self) -> None:
        for allocation in self.running:
            if not allocation.stopping:
                continue
            for share in allocation.placements:
                i = self.index.get(share.node)
                if i is not None:
                    self.expect(i, share.cpus, share.memory_bytes, share.gpus)

    def _order(self, group: Group, shape: Shape) -> list[int]:
        """Sort the nodes that fit so that the fullest are used up first."""
        self.steps += len(group.indices)
        fitting = [i for i in group.indices if self.fits(i, shape)]
        fitting.sort(key=lambda i: (self.free_gpus[i], self.free_cpus[i], i))
        return fitting

    def _fits_beside(self, i: int, shape: Shape) -> bool:
        kept = self._kept.get(i, _NOTHING)
        return (
            self.free_gpus[i] + kept.gpus >= shape.gpus
            and self.free_cpus[i] + kept.cpus >= shape.cpus
            and self.free_memory[i] + kept.memory_bytes >= shape.memory_bytes
        )

    def _borrow_kept(self, i: int, shape: Shape) -> None:
        """Move what a short job needs of kept capacity over to what is free."""
        kept = self._kept.get(i)
        if kept is None:
            return
        cpus = min(kept.cpus, max(0, shape.cpus - self.free_cpus[i]))
        memory = min(kept.memory_bytes, max(0, shape.memory_bytes - self.free_memory[i]))
        gpus = min(kept.gpus, max(0, shape.gpus - self.free_gpus[i]))
        self.free_cpus[i] += cpus
        self.free_memory[i] += memory
        self.free_gpus[i] += gpus
        kept.cpus -= cpus
        kept.memory_bytes -= memory
        kept.gpus -= gpus

    def _spend_future(self, i: int, shape: Shape) -> None:
        self.future_cpus[i] -= shape.cpus
        self.future_memory[i] -= shape.memory_bytes
        self.future_gpus[i] -= shape.gpus

    def _soonest(self, group: Group, shape: Shape) -> list[tuple[float | None, int]]:
        """Return the gang's nodes that will hold a member first, each with that moment or None."""
        by_node: dict[int, list[tuple[float, int, int, int]]] = {}
        for allocation in self.running:
            if allocation.max_runtime_seconds is None:
                continue
            end = allocation.started_seconds + allocation.max_runtime_seconds
            for share in allocation.placements:
                i = self.index.get(share.node, -1)
                by_node.setdefault(i, []).append((end, share.cpus, share.memory_bytes, share.gpus))
        ranked: list[tuple[float, int, int, int]] = []
        for i in group.indices:
            if is_large_enough(self.nodes[i], shape):
                when = self._ready(i, shape, by_node.get(i, []))
                ranked.append((when, -self.free_gpus[i], -self.free_cpus[i], i))
        ranked.sort()
        return [(None if row[0] == _NEVER else row[0], row[3]) for row in ranked[: shape.nodes]]

    def _ready(self, i: int, shape: Shape, ends: list[tuple[float, int, int, int]]) -> float:
        cpus, memory, gpus = self.free_cpus[i], self.free_memory[i], self.free_gpus[i]
        when = self.now_seconds
        for end, more_cpus, more_memory, more_gpus in sorted(ends):
            if cpus >= shape.cpus and memory >= shape.memory_bytes and gpus >= shape.gpus:
                return when
            cpus, memory, gpus = cpus + more_cpus, memory + more_memory, gpus + more_gpus
            when = max(when, end)
        enough = cpus >= shape.cpus and memory >= shape.memory_bytes and gpus >= shape.gpus
        return when if enough else _NEVER


def is_large_enough(node: Node, shape: Shape) -> bool:
    """Whether the node, were it empty, could hold one member of the gang."""
    return (
        len(node.gpu_ids) >= shape.gpus
        and node.cpus >= shape.cpus
        and node.memory_bytes >= shape.memory_bytes
    )


def _preference(group: Group, shape: Shape) -> tuple[int, int, float, str, bool]:
    """Sort key: the job's own order of flavors, spot if preferred, price, then name."""
    flavor = shape.flavors.index(group.key.flavor) if shape.flavors else 0
    spot_first = 0 if group.key.spot or shape.spot is not SpotPolicy.PREFER else 1
    return spot_first, flavor, group.price, group.key.flavor, group.key.spot


def _latest(moments: Iterable[float | None]) -> float | None:
    known = list(moments)
    if any(moment is None for moment in known):
        return None
    return max((moment for moment in known if moment is not None), default=None)
