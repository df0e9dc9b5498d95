"""`python -m steelyard.server.audit verify|prove|check-proof|export`: what the CLI's commands run.

On the server's machine it reads the database directly, past the api; `verify --export` and `check-proof` need
neither database nor platform. Exit codes: 0 intact, 1 tampered, 2 wrong usage, 3 no database, 4 no such row.
"""

import argparse
import asyncio
import json
import os
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from steelyard.governance.audit import export, repository
from steelyard.governance.audit.keys import load_signer, load_verifier
from steelyard.governance.audit.notes import Verifier
from steelyard.governance.audit.proofs import check_proof, make_proof, read_proof
from steelyard.governance.audit.publication import LATEST_NAME, PUBLIC_KEY_NAME
from steelyard.governance.audit.records import LooseRow, Record, Seal, SealedRow
from steelyard.governance.audit.selection import Selection
from steelyard.governance.audit.verification import KeptCheckpoint, Report, TrailCheck
from steelyard.kit.errors import InvalidRequest, NotFound, SteelyardError, TamperedTrail, Unavailable
from steelyard.server.console import print_error
from steelyard.server.home import HomeLayout, worker_login
from steelyard.server.settings import Settings
from steelyard.storage.database import Database

EXIT_TAMPERED = 1
EXIT_USAGE = 2
EXIT_UNREACHABLE = 3
EXIT_NOT_FOUND = 4
EXIT_BROKEN_PIPE = 141
_EXITS: tuple[tuple[type[SteelyardError], int], ...] = (
    (TamperedTrail, EXIT_TAMPERED),
    (Unavailable, EXIT_UNREACHABLE),
    (NotFound, EXIT_NOT_FOUND),
)


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    options = _parser().parse_args(arguments)
    try:
        return asyncio.run(options.run(options))
    except SteelyardError as error:
        print_error(error, "audit_error", as_json=getattr(options, "json", False))
        return next((code for kind, code in _EXITS if isinstance(error, kind)), EXIT_USAGE)


async def _verify(options: argparse.Namespace) -> int:
    kept = [_read_checkpoint(path) for path in options.checkpoint]
    if not options.export:
        kept = [*_published(), *kept]
    check = TrailCheck(_verifier(options.public_key), kept)
    if options.export:
        _verify_export(options.export, check)
    else:
        async with _reading() as session:
            async for record in repository.read_trail(session):
                check.take(record)
    report = check.finish()
    _print_report(report, as_json=options.json)
    return 0 if report.intact else EXIT_TAMPERED


def _verify_export(path: Path, check: TrailCheck) -> None:
    try:
        with path.open(encoding="utf-8") as lines:
            for record in export.read_export(iter(lines)):
                check.take(record)
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"{path} can't be read: {error}") from error


async def _prove(options: argparse.Namespace) -> int:
    async with _reading() as session:
        await repository.open_trail(session)
        sealed = await repository.find_sealed(session, options.row)
        seal = await repository.last_seal(session)
        if sealed is None or seal is None:
            raise NotFound(
                f"there is no sealed row {options.row}; `steelyard audit search` shows ids, and a new row is "
                "sealed within seconds while the platform runs"
            )
        hashes = await repository.leaf_hashes(session, seal.size)
    _write(make_proof(sealed, hashes, seal).model_dump_json(indent=2))
    return 0


async def _check_proof(options: argparse.Namespace) -> int:
    try:
        text = options.file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"{options.file} can't be read: {error}") from error
    proof = read_proof(text)
    row, checkpoint = check_proof(proof, _verifier(options.public_key))
    if options.json:
        _write({"holds": True, "row": row, "position": proof.position, "size": checkpoint.size})
    else:
        _write(
            f"The proof holds: row {row['id']} ({row['verb']} {row['object_id']} by {row['actor']} at "
            f"{row['at']}) is number {proof.position} of the first {checkpoint.size} rows of "
            f"{checkpoint.origin}."
        )
    return 0


async def _export(options: argparse.Namespace) -> int:
    selection = Selection(
        actor=options.actor,
        object_id=options.object,
        verb=options.verb,
        project_id=options.project,
        since=options.since,
        until=options.until,
    )
    async with _reading() as session:
        if options.format == "csv":
            _write(export.csv_header())
        else:
            _write(export.header_line(complete=selection.is_everything))
        async for record in repository.read_trail(session):
            if (line := _export_line(record, selection, options.format)) is not None:
                _write(line)
    return 0


def _export_line(record: Record, selection: Selection, format_: str) -> str | None:
    if isinstance(record, Seal):
        whole = format_ == "jsonl" and selection.is_everything
        return export.record_line(record) if whole else None
    if not selection.is_everything and (record.row is None or not selection.takes(record.row)):
        return None
    return _line_writer(format_)(record)


def _line_writer(format_: str) -> Callable[[SealedRow | LooseRow], str]:
    return export.csv_line if format_ == "csv" else export.record_line


@asynccontextmanager
async def _reading() -> AsyncGenerator[AsyncSession]:
    """Open one unchanging view of the database."""
    settings = Settings()
    login = worker_login(settings.home, settings.worker_database_dsn, settings.database_dsn)
    database = Database(login.dsn, pool_size=1, name="steelyard-audit", takes_on=login.takes_on)
    try:
        async with database.transaction() as session:
            await repository.freeze(session)
            yield session
    except Unavailable as error:
        raise Unavailable(
            "the database doesn't answer; `steelyard up` starts the embedded one, "
            "STEELYARD_DATABASE_DSN names another"
        ) from error
    except SQLAlchemyError as error:
        raise Unavailable(
            f"the database's trail can't be read ({type(error).__name__}: {str(error).splitlines()[0]}); is "
            "it migrated? `steelyard status` says more"
        ) from error
    finally:
        await database.close()


def _published() -> list[KeptCheckpoint]:
    folder = _layout().audit_checkpoints
    if not folder.is_dir():
        return []
    hourly = sorted(path for path in folder.glob("*.checkpoint") if path.name != LATEST_NAME)
    newest = [folder / LATEST_NAME] if (folder / LATEST_NAME).exists() else []
    return [_read_checkpoint(path) for path in (*hourly, *newest)]


def _read_checkpoint(path: Path) -> KeptCheckpoint:
    try:
        return KeptCheckpoint(str(path), path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"the checkpoint {path} can't be read: {error}") from error


def _verifier(path: Path | None) -> Verifier:
    """The key that was given, or else the one beside the checkpoints, or else that of the signer."""
    if path is not None:
        return load_verifier(path)
    layout = _layout()
    beside = layout.audit_checkpoints / PUBLIC_KEY_NAME
    if not beside.exists() and layout.audit_key.exists():
        return load_signer(layout.audit_key).verifier
    return load_verifier(beside)


def _layout() -> HomeLayout:
    return HomeLayout(Settings().home.expanduser().absolute())


def _print_report(report: Report, *, as_json: bool) -> None:
    if as_json:
        _write(_report_json(report))
        return
    for fault in report.faults:
        _write(f"{fault.kind.value}: {fault.message}")
    waiting = f", {report.unsealed} more wait to be sealed" if report.unsealed else ""
    held = f", held against {len(report.checkpoints)} kept checkpoints" if report.checkpoints else ""
    verdict = "INTACT" if report.intact else "TAMPERED"
    _write(f"{verdict}: {report.size} sealed rows in {report.seals} rounds{held}{waiting}.")
    if report.intact and not report.checkpoints:
        _write(
            "No checkpoint was held against it, so a trail that was rewritten whole would look like this; "
            "give one that you kept by --checkpoint."
        )


def _report_json(report: Report) -> dict[str, Any]:
    return {
        "intact": report.intact,
        "size": report.size,
        "root": report.root.hex(),
        "link": report.link.hex(),
        "seals": report.seals,
        "unsealed": report.unsealed,
        "checkpoints": list(report.checkpoints),
        "faults": [vars(fault) | {"kind": fault.kind.value} for fault in report.faults],
    }


def _write(value: str | dict[str, Any]) -> None:
    text = value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False)
    try:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()
    except BrokenPipeError:
        # Not an error of the database, within whose transaction we write: the reader has seen enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(EXIT_BROKEN_PIPE) from None


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.astimezone()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="steelyard audit")
    commands = parser.add_subparsers(required=True)

    verify = commands.add_parser("verify")
    verify.add_argument("--checkpoint", type=Path, action="append", default=[], metavar="FILE")
    _add_public_key(verify)
    verify.add_argument("--export", type=Path, default=None, metavar="FILE")
    verify.add_argument("--json", action="store_true")
    verify.set_defaults(run=_verify)

    prove = commands.add_parser("prove")
    prove.add_argument("row", type=int, metavar="ROW")
    prove.add_argument("--json", action="store_true")
    prove.set_defaults(run=_prove)

    check = commands.add_parser("check-proof")
    check.add_argument("file", type=Path, metavar="FILE")
    _add_public_key(check)
    check.add_argument("--json", action="store_true")
    check.set_defaults(run=_check_proof)

    export_ = commands.add_parser("export")
    export_.add_argument("--format", choices=("jsonl", "csv"), default="jsonl")
    for name in ("actor", "object", "verb", "project"):
        export_.add_argument(f"--{name}", default=None)
    for name in ("since", "until"):
        export_.add_argument(f"--{name}", type=_moment, default=None)
    export_.set_defaults(run=_export)
    return parser


def _add_public_key(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--public-key", type=Path, default=None, metavar="FILE")


if __name__ == "__main__":
    raise SystemExit(main())
