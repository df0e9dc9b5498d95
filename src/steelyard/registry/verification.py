"""Verification: every digest of a model's lineage computed anew and set beside what was sealed."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

from steelyard.datasets import catalogue
from steelyard.datasets.catalogue import DatasetVersion
from steelyard.governance import access
from steelyard.governance.audit.notes import Verifier
from steelyard.governance.identity import Actor
from steelyard.kit.canonical import digest_bytes, digest_json
from steelyard.kit.errors import InvalidSpec, SteelyardError
from steelyard.registry import repository
from steelyard.registry.checks import compare
from steelyard.registry.envelopes import InvalidEnvelope, open_envelope
from steelyard.registry.model_files import ModelFiles, model_files
from steelyard.registry.repository import ModelRecord
from steelyard.registry.sealing import statement_file
from steelyard.registry.software import code_digest, environment_digest
from steelyard.registry.statements import subject_digests
from steelyard.registry.verified_results import check_results
from steelyard.runtime.manifests import digest_folder
from steelyard.specs.access import Permission
from steelyard.specs.datasets import VersionVerification
from steelyard.specs.lineage import LineageCheck, ModelVerification
from steelyard.storage.database import Database

_FAULTS = ("differs", "missing")
ExamineDataset = Callable[[DatasetVersion], Awaitable[VersionVerification]]


class VerificationService:
    """Checks registered models. Reads every byte of them: about a second per gigabyte, two at a time.

    Args:
        examine: reads a dataset version again.
        load_key: returns the public key of the statements; may raise a `SteelyardError`.
        objects: this node's folder of objects. None: the one that a version was registered from.
    """

    def __init__(
        self,
        database: Database,
        examine: ExamineDataset,
        load_key: Callable[[], Verifier],
        objects: Path | None = None,
    ) -> None:
        self._database = database
        self._examine = examine
        self._load_key = load_key
        self._objects = objects
        self._turns = asyncio.Semaphore(2)

    async def verify(self, actor: Actor, project: str, name: str, version: int) -> ModelVerification:
        """Compute everything anew.

        Raises:
            NotFound: no such version in the project.
        """
        async with self._database.transaction() as session:
            checked = await access.authorize(session, actor, project, Permission.MODEL_READ)
            record = await repository.get_record(session, checked, name, version)
            dataset = await _dataset_of(session, checked, record)
        async with self._turns:
            checks = await asyncio.to_thread(self._check_model, record)
        checks += await self._check_dataset(record, dataset)
        checks += _check_software(record)
        verified = not any(check.status in _FAULTS for check in checks)
        return ModelVerification(name=name, version=version, verified=verified, checks=checks)

    def _check_model(self, record: ModelRecord) -> list[LineageCheck]:
        files = model_files(record.version, self._objects)
        checks = [_check_files(files)]
        checks += self._check_statement(record, files)
        checks.append(compare("config", record.version.lineage.get("config"), digest_json(record.job.spec)))
        script: dict[str, Any] | None = record.job.spec.get("script")
        if script is not None:
            found = digest_bytes(str(script["source"]).encode())
            checks.append(compare("script", record.version.lineage.get("script"), found))
        return [*checks, *_check_sources(record, files)]

    def _check_statement(self, record: ModelRecord, files: ModelFiles) -> Iterator[LineageCheck]:
        row = record.statement
        if row is None:
            yield LineageCheck(
                subject="statement", status="missing", message="the version has no signed statement"
            )
            return
        try:
            statement = open_envelope(row.envelope, self._load_key())
        except (InvalidEnvelope, SteelyardError) as error:
            yield LineageCheck(subject="statement", status="differs", message=str(error))
            return
        yield compare("statement", row.digest, digest_bytes(row.envelope.encode()))
        yield _check_published(files, row.digest)
        name = f"{record.version.name}@{record.version.version}"
        sealed = subject_digests(statement).get(name)
        yield compare(
            "manifest", sealed, record.version.manifest_digest, "the database's digest of the files"
        )
        yield from _check_sealed_lineage(statement, record)
        yield from check_results(statement, record, files)

    async def _check_dataset(self, record: ModelRecord, dataset: DatasetVersion | None) -> list[LineageCheck]:
        sealed = record.version.lineage.get("dataset")
        if sealed is None:
            return []
        if dataset is None:
            return [
                LineageCheck(
                    subject="dataset", status="missing", sealed=sealed, message="the version is gone"
                )
            ]
        if dataset.digest != sealed:
            return [compare("dataset", sealed, dataset.digest)]
        verdict = await self._examine(dataset)
        if verdict.faults:
            return [
                LineageCheck(subject="dataset", status="differs", sealed=sealed, message=verdict.faults[0])
            ]
        return [compare("dataset", sealed, dataset.digest)]


def _check_files(files: ModelFiles) -> LineageCheck:
    damage = files.check()
    if damage is not None:
        status = "missing" if damage.kind in ("missing", "no_manifest") else "differs"
        return LineageCheck(
            subject=f"files/{damage.file}", status=status, sealed=files.digest, message=damage.message
        )
    return compare("files", files.digest, files.digest)


def _check_published(files: ModelFiles, sealed: str) -> LineageCheck:
    found = files.statement_digest()
    if found is None:
        told = f"{statement_file(files.folder).name} is gone"
        return LineageCheck(subject="statement_file", status="missing", sealed=sealed, message=told)
    return compare("statement_file", sealed, found)


def _check_sealed_lineage(statement: dict[str, Any], record: ModelRecord) -> Iterator[LineageCheck]:
    """The database's lineage against the signed one: whoever changed a row hasn't got the key."""
    definition = statement["predicate"]["buildDefinition"]
    lineage = record.version.lineage
    sealed = {
        dependency["name"]: f"sha256:{dependency['digest']['sha256']}"
        for dependency in definition["resolvedDependencies"]
    }
    for name, digest in sealed.items():
        key = "code_digest" if name == "code" else "base_model" if name == "parent_model" else name
        yield compare(f"sealed_{name}", digest, lineage.get(key), "the database's lineage")
    yield compare(
        "sealed_config", definition["internalParameters"]["config"], lineage.get("config"),
        "the database's lineage",
    )  # fmt: skip


def _check_sources(record: ModelRecord, files: ModelFiles) -> Iterator[LineageCheck]:
    """The models that it was made from, read again where they lie."""
    for subject, place in (("base_model", "model_path"), ("reward_model", "reward_model_path")):
        sealed, path = record.version.lineage.get(subject), record.job.prepared.get(place)
        if sealed is not None and path is not None:
            yield _check_source(subject, sealed, Path(path), files)


def _check_source(subject: str, sealed: str, folder: Path, files: ModelFiles) -> LineageCheck:
    if folder.is_relative_to(files.objects.root):
        files.objects.pull_folder(folder, sealed)
    if not folder.is_dir():
        told = f"{folder} was cleared away"
        return LineageCheck(subject=subject, status="missing", sealed=sealed, message=told)
    return compare(subject, sealed, digest_folder(folder))


def _check_software(record: ModelRecord) -> list[LineageCheck]:
    lineage = record.version.lineage
    present = {"code": ("code_digest", code_digest()), "environment": ("environment", environment_digest())}
    return [
        LineageCheck(
            subject=subject,
            status="ok" if lineage[key] == now else "changed_since",
            sealed=lineage[key],
            found=now,
            message="" if lineage[key] == now else "other software is installed now than trained it",
        )
        for subject, (key, now) in present.items()
        if key in lineage
    ]


async def _dataset_of(session: Any, project: access.ProjectId, record: ModelRecord) -> DatasetVersion | None:
    ref = record.version.lineage.get("dataset_ref")
    if ref is None:
        return None
    try:
        return await catalogue.resolve(session, project, ref, deleted_too=True)
    except InvalidSpec:
        return None
