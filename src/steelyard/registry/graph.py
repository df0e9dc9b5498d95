"""The graph around a model, job or dataset: what went into it, and what came of it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, and_, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from steelyard.datasets.report_links import report_path
from steelyard.governance import access
from steelyard.governance.access import ProjectId
from steelyard.governance.identity import Actor
from steelyard.kit.errors import InvalidRequest, NotFound
from steelyard.specs.access import Permission
from steelyard.specs.lineage import LineageEdge, LineageGraph, LineageNode, NodeKind, Relation
from steelyard.storage.database import Database
from steelyard.storage.tables import DatasetVersionRow, JobRow, ModelVersionRow

MAX_HOPS = 6
MAX_NODES = 500
_ROOTS = ("model", "job", "dataset")


class GraphService:
    """Walks lineage within one project. A walk is one query a kind and hop, however many nodes there are."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def graph(self, actor: Actor, project: str, kind: str, ref: str, hops: int) -> LineageGraph:
        """Return what lies within `hops` of a model `NAME@V`, a job's id, or a dataset `NAME@vN`.

        Raises:
            InvalidRequest: another kind, or too many hops.
            NotFound: no such thing in the project.
        """
        if kind not in _ROOTS:
            raise InvalidRequest(
                f"lineage begins at one of {', '.join(_ROOTS)}, not at {kind!r}", param="kind"
            )
        if not 0 <= hops <= MAX_HOPS:
            raise InvalidRequest(f"hops go from 0 to {MAX_HOPS}", param="hops")
        root = f"{kind}:{ref}"
        async with self._database.transaction() as session:
            checked = await access.authorize(session, actor, project, Permission.MODEL_READ)
            walk = _Walk(session, checked)
            await walk.go(root, hops)
        if root not in walk.nodes:
            raise NotFound(f"no {kind} {ref!r} in project {project!r}", param="ref")
        kept = set(list(walk.nodes)[:MAX_NODES])
        return LineageGraph(
            root=root,
            hops=hops,
            nodes=[node for name, node in walk.nodes.items() if name in kept],
            edges=[edge for edge in walk.edges.values() if edge.source in kept and edge.target in kept],
            truncated=len(walk.nodes) > MAX_NODES,
        )


@dataclass
class _Walk:
    session: AsyncSession
    project: ProjectId
    nodes: dict[str, LineageNode] = field(default_factory=dict[str, LineageNode])
    edges: dict[tuple[str, str], LineageEdge] = field(default_factory=dict[tuple[str, str], LineageEdge])

    async def go(self, root: str, hops: int) -> None:
        """Breadth first: each hop adds the neighbours of what the hop before found."""
        frontier = {root}
        for hop in range(hops + 1):
            found = await self._visit(frontier)
            if hop == hops or len(self.nodes) > MAX_NODES:
                break
            frontier = found - self.nodes.keys()
            if not frontier:
                break
        self.edges = {
            key: edge
            for key, edge in self.edges.items()
            if edge.source in self.nodes and edge.target in self.nodes
        }

    async def _visit(self, frontier: set[str]) -> set[str]:
        """Add the nodes of a frontier that exist; return the names of their neighbours."""
        before = set(self.edges)
        await self._visit_models(_refs(frontier, "model"))
        await self._visit_jobs(_refs(frontier, "job"))
        await self._visit_datasets(_refs(frontier, "dataset"))
        for name in frontier:
            if name.startswith("base_model:"):
                self._add("base_model", name.removeprefix("base_model:"))
        fresh = [edge for key, edge in self.edges.items() if key not in before]
        return {end for edge in fresh for end in (edge.source, edge.target)}

    async def _visit_models(self, refs: Sequence[str]) -> None:
        conditions = [_is_model(name, number) for name, number in _numbered(refs, "@")]
        for row in await self._rows(ModelVersionRow, conditions):
            ref = f"{row.name}@{row.version}"
            self._add("model", ref, row.manifest_digest)
            self._link(f"job:{row.job_id}", f"model:{ref}", "trained")
        parents = [f"models/{ref}" for ref in refs]
        named = (JobRow.lineage[key].astext.in_(parents) for key in ("base_model_name", "reward_model_name"))
        for job in await self._jobs(or_(*named)):
            self._link_job(job)

    async def _visit_jobs(self, ids: Sequence[str]) -> None:
        for job in await self._jobs(JobRow.id.in_(ids)):
            self._add("job", job.id, job.lineage.get("config"), job.name)
            self._link_job(job)
        for child in await self._jobs(JobRow.parent_id.in_(ids)):
            self._link_job(child)
        query = select(ModelVersionRow).where(
            ModelVersionRow.project_id == self.project, ModelVersionRow.job_id.in_(ids)
        )
        for row in await self.session.scalars(query):
            self._link(f"job:{row.job_id}", f"model:{row.name}@{row.version}", "trained")

    async def _visit_datasets(self, refs: Sequence[str]) -> None:
        conditions = [_is_dataset(name, number) for name, number in _numbered(refs, "@v")]
        digests: dict[str, str] = {}
        for row in await self._rows(DatasetVersionRow, conditions):
            ref = f"{row.name}@v{row.version}"
            digests[row.digest] = ref
            self._add("dataset", ref, row.digest)
            await self._link_parents(ref, row)
        for job in await self._jobs(JobRow.lineage["dataset_ref"].astext.in_(refs)):
            self._link_job(job)
        await self._link_children(digests)

    async def _link_parents(self, ref: str, row: DatasetVersionRow) -> None:
        digests = [parent["digest"] for parent in row.manifest.get("parents", []) if parent.get("digest")]
        if not digests:
            return
        query = select(DatasetVersionRow).where(
            DatasetVersionRow.project_id == self.project, DatasetVersionRow.digest.in_(digests)
        )
        for parent in await self.session.scalars(query):
            self._link(f"dataset:{parent.name}@v{parent.version}", f"dataset:{ref}", "derived_from")

    async def _link_children(self, digests: dict[str, str]) -> None:
        for digest, ref in digests.items():
            holds = DatasetVersionRow.manifest["parents"].contains([{"digest": digest}])
            query = select(DatasetVersionRow).where(DatasetVersionRow.project_id == self.project, holds)
            for child in await self.session.scalars(query.limit(MAX_NODES)):
                self._link(f"dataset:{ref}", f"dataset:{child.name}@v{child.version}", "derived_from")

    def _link_job(self, job: JobRow) -> None:
        name, lineage = f"job:{job.id}", job.lineage
        if ref := lineage.get("dataset_ref"):
            self._link(f"dataset:{ref}", name, "used")
        if base := lineage.get("base_model_name"):
            parent = base.removeprefix("models/")
            source = f"model:{parent}" if parent != base else f"base_model:{base}"
            self._link(source, name, "based_on")
        if reward := lineage.get("reward_model_name"):
            self._link(f"model:{reward.removeprefix('models/')}", name, "used")
        if job.parent_id is not None:
            self._link(f"job:{job.parent_id}", name, "made")
        if repeated := lineage.get("reproduces"):
            self._link(f"model:{repeated}", name, "repeats")

    async def _jobs(self, condition: ColumnElement[bool]) -> Iterable[JobRow]:
        query = select(JobRow).where(JobRow.project_id == self.project, condition)
        return await self.session.scalars(query.order_by(JobRow.id.desc()).limit(MAX_NODES))

    async def _rows(self, row: Any, conditions: Sequence[ColumnElement[bool]]) -> Iterable[Any]:
        if not conditions:
            return ()
        return await self.session.scalars(select(row).where(row.project_id == self.project, or_(*conditions)))

    def _add(self, kind: NodeKind, ref: str, digest: str | None = None, label: str | None = None) -> None:
        name = f"{kind}:{ref}"
        report = report_path(self.project, ref) if kind == "dataset" else None
        self.nodes[name] = LineageNode(id=name, kind=kind, label=label or ref, digest=digest, report=report)

    def _link(self, source: str, target: str, relation: Relation) -> None:
        self.edges[(source, target)] = LineageEdge(source=source, target=target, relation=relation)


def _refs(frontier: set[str], kind: NodeKind) -> list[str]:
    return sorted(name.removeprefix(f"{kind}:") for name in frontier if name.startswith(f"{kind}:"))


def _is_model(name: str, number: int) -> ColumnElement[bool]:
    return and_(ModelVersionRow.name == name, ModelVersionRow.version == number)


def _is_dataset(name: str, number: int) -> ColumnElement[bool]:
    return and_(DatasetVersionRow.name == name, DatasetVersionRow.version == number)


def _numbered(refs: Sequence[str], mark: str) -> list[tuple[str, int]]:
    parts = (ref.rpartition(mark) for ref in refs)
    return [(name, int(number)) for name, _, number in parts if number.isascii() and number.isdigit()]
