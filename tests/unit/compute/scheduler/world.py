"""A little world that carries out the scheduler's decisions round by round, as the platform would."""

from collections import Counter
from dataclasses import replace

from tests.unit.compute.scheduler.pools import check, granted

from steelyard.compute.scheduler import (
    Allocation,
    Decisions,
    Node,
    NodeShare,
    Policy,
    Project,
    QueuedJob,
    Snapshot,
    WaitingCode,
    decide,
)

ROUND_SECONDS = 60.0
STOP_ROUNDS = 2


class World:
    """Jobs, nodes and time. `lengths`: seconds each job runs in all; a job not in it never ends."""

    def __init__(
        self,
        nodes: tuple[Node, ...],
        projects: tuple[Project, ...],
        jobs: tuple[QueuedJob, ...],
        policy: Policy,
        lengths: dict[str, float],
        start: float,
    ) -> None:
        self.now = start
        self.nodes = {node.name: node for node in nodes}
        self.projects = projects
        self.coming = sorted(jobs, key=lambda job: (job.submitted_seconds, job.id))
        self.queued: dict[str, QueuedJob] = {}
        self.running: dict[str, Allocation] = {}
        self.jobs = {job.id: job for job in jobs}
        self.policy = policy
        self.left = dict(lengths)
        self.ids: dict[str, dict[str, tuple[str, ...]]] = {}
        self.stopping: dict[str, int] = {}
        self.victims: dict[str, set[str]] = {}
        """For each queued job that room is made for: who was asked to leave."""
        self.evictions: Counter[str] = Counter()
        self.ran: dict[str, float] = dict.fromkeys(self.jobs, 0.0)
        self.done: set[str] = set()
        self.unschedulable: set[str] = set()
        self.made_for: set[tuple[str, str]] = set()
        """(victim, preemptor), ever."""

    def step(self) -> Decisions:
        """Let one round's time pass, then decide and carry it out."""
        self.now += ROUND_SECONDS
        self._end_and_evict()
        while self.coming and self.coming[0].submitted_seconds <= self.now:
            came = self.coming.pop(0)
            self.queued[came.id] = came
        ready = {job_id for job_id in self.victims if self._has_room(job_id)}
        snapshot = Snapshot(
            self.now,
            tuple(self.nodes.values()),
            tuple(self.queued.values()),
            tuple(self.running.values()),
            self.projects,
            policy=self.policy,
        )
        decisions = decide(snapshot)
        check(snapshot, decisions)
        assert ready <= set(granted(decisions)), "room was made for a job that didn't get it"
        self._carry_out(decisions)
        return decisions

    def _end_and_evict(self) -> None:
        for job_id in list(self.running):
            if job_id in self.stopping:
                self.stopping[job_id] -= 1
                if self.stopping[job_id] == 0:
                    del self.stopping[job_id]
                    self.ran[job_id] += self.now - self.running[job_id].started_seconds
                    self._release(job_id)
                    self.evictions[job_id] += 1
                    self.queued[job_id] = replace(
                        self.jobs[job_id],
                        evictions=self.evictions[job_id],
                        ran_seconds=self.ran[job_id],
                        made_way_for=tuple(sorted(b for a, b in self.made_for if a == job_id)),
                    )
                continue
            if job_id in self.left:
                self.left[job_id] -= ROUND_SECONDS
                if self.left[job_id] <= 0:
                    self._release(job_id)
                    self.done.add(job_id)

    def _has_room(self, job_id: str) -> bool:
        """Whether the job's victims have left, and nobody is leaving its nodes any more.

        Before that, one of two jobs with a promise on one node may take what the other's victim left.
        """
        leaving = {share.node for name in self.stopping for share in self.running[name].placements}
        return not (
            leaving & set(self.queued[job_id].nominated_nodes) or self.victims[job_id] & self.running.keys()
        )

    def _release(self, job_id: str) -> None:
        allocation = self.running.pop(job_id)
        for share in allocation.placements:
            node = self.nodes[share.node]
            self.nodes[share.node] = replace(
                node,
                free_cpus=node.free_cpus + share.cpus,
                free_memory_bytes=node.free_memory_bytes + share.memory_bytes,
                free_gpu_ids=(*node.free_gpu_ids, *self.ids[job_id][share.node]),
            )
        del self.ids[job_id]

    def _carry_out(self, decisions: Decisions) -> None:
        for grant in decisions.grants:
            job = self.queued.pop(grant.job_id)
            self.victims.pop(grant.job_id, None)
            self.ids[job.id] = {placed.node: placed.gpu_ids for placed in grant.placements}
            for placed in grant.placements:
                node = self.nodes[placed.node]
                self.nodes[placed.node] = replace(
                    node,
                    free_cpus=node.free_cpus - placed.cpus,
                    free_memory_bytes=node.free_memory_bytes - placed.memory_bytes,
                    free_gpu_ids=tuple(g for g in node.free_gpu_ids if g not in placed.gpu_ids),
                )
            shares = tuple(
                NodeShare(placed.node, placed.cpus, placed.memory_bytes, len(placed.gpu_ids))
                for placed in grant.placements
            )
            self.running[job.id] = Allocation(
                job.id,
                job.project,
                shares,
                self.now,
                job.priority,
                self.evictions[job.id],
                max_runtime_seconds=job.max_runtime_seconds,
                ran_seconds=self.ran[job.id],
                made_way_for=job.made_way_for,
            )
        nominated = {nomination.job_id: nomination.nodes for nomination in decisions.nominations}
        for job_id, job in self.queued.items():
            self.queued[job_id] = replace(job, nominated_nodes=nominated.get(job_id, ()))
        for preemption in decisions.preemptions:
            self.stopping[preemption.job_id] = STOP_ROUNDS
            victim = self.running[preemption.job_id]
            self.running[preemption.job_id] = replace(victim, stopping=True)
            self.victims.setdefault(preemption.for_job, set()).add(preemption.job_id)
            self.made_for.add((preemption.job_id, preemption.for_job))
        self.unschedulable = {
            reason.job_id
            for reason in decisions.waiting
            if reason.code in (WaitingCode.UNSCHEDULABLE, WaitingCode.QUOTA_EXCEEDED)
        }
