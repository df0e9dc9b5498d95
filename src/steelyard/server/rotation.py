"""`python -m steelyard.server.rotation list|rotate`: what `steelyard keys` runs, on the server's machine.

A rotation adds the new key first, so that every process can open what is sealed with it, and then wraps the
secrets anew. Cut short anywhere, everything still opens, and the next rotation goes on. Exit codes: 0 done,
2 wrong usage, 3 no database.
"""

import argparse
import asyncio
import fcntl
import json
import os
import sys
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import func, select

from steelyard.governance import audit
from steelyard.governance.identity import Actor
from steelyard.governance.secrets.service import SecretService
from steelyard.kit.errors import Conflict, SteelyardError, Unavailable
from steelyard.server.console import print_error
from steelyard.server.home import HomeLayout, worker_login
from steelyard.server.settings import Settings
from steelyard.storage.database import Database
from steelyard.storage.encryption import KeyFile, add_key, drop_keys, read_keys
from steelyard.storage.tables import SecretRow

EXIT_USAGE = 2
EXIT_UNREACHABLE = 3


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    options = _parser().parse_args(arguments)
    settings = Settings()
    try:
        told = asyncio.run(options.run(settings, options))
    except SteelyardError as error:
        print_error(error, "keys_error", as_json=options.json)
        return EXIT_UNREACHABLE if isinstance(error, Unavailable) else EXIT_USAGE
    sys.stdout.write((json.dumps(told, indent=2) if options.json else _text(told)) + "\n")
    return 0


async def _list(settings: Settings, _options: argparse.Namespace) -> dict[str, Any]:
    layout, database = _open(settings)
    try:
        used = await _usage(database)
    finally:
        await database.close()
    return {
        "payload_keys": list(read_keys(layout.payload_key)),
        "secret_keys": [
            {"id": key_id, "secrets": used.get(key_id, 0)} for key_id in read_keys(layout.secret_keys)
        ],
    }


async def _rotate(settings: Settings, options: argparse.Namespace) -> dict[str, Any]:
    layout, database = _open(settings)
    try:
        with _alone(layout):
            # Before any file is touched: without the database the secrets couldn't be wrapped anew.
            await _usage(database)
            payload_key = add_key(layout.payload_key)
            secret_key = add_key(layout.secret_keys)
            wrapped = await SecretService(database, KeyFile(layout.secret_keys)).rewrap_all()
            retired = await _retire(layout, database) if options.retire else []
            told = {
                "payload_key": payload_key, "secret_key": secret_key, "secrets_wrapped": wrapped,
                "retired": retired,
            }  # fmt: skip
            async with database.transaction() as session:
                operator = Actor(kind="system", id=f"operator:{os.geteuid()}")
                await audit.record(session, operator, "keys.rotate", "keys", secret_key, detail=told)
    finally:
        await database.close()
    return told


async def _retire(layout: HomeLayout, database: Database) -> list[str]:
    used = await _usage(database)
    before = read_keys(layout.secret_keys)
    drop_keys(layout.secret_keys, {key_id for key_id in before if key_id not in used})
    return [key_id for key_id in before if key_id not in read_keys(layout.secret_keys)]


async def _usage(database: Database) -> dict[str, int]:
    async with database.transaction() as session:
        rows = await session.execute(select(SecretRow.key_id, func.count()).group_by(SecretRow.key_id))
        return {row[0]: row[1] for row in rows}


def _open(settings: Settings) -> tuple[HomeLayout, Database]:
    login = worker_login(settings.home, settings.worker_database_dsn, settings.database_dsn)
    database = Database(login.dsn, pool_size=1, name="steelyard-keys", takes_on=login.takes_on)
    return HomeLayout(settings.home), database


@contextmanager
def _alone(layout: HomeLayout) -> Generator[None]:
    with (layout.secrets / "rotation.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Conflict("another rotation runs; wait until it is through") from None
        yield


def _text(told: dict[str, Any]) -> str:
    return "\n".join(f"{name.replace('_', ' ')}: {value}" for name, value in told.items())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="steelyard keys")
    commands = parser.add_subparsers(required=True)
    for name, run in (("list", _list), ("rotate", _rotate)):
        command = commands.add_parser(name)
        command.add_argument("--json", action="store_true")
        if name == "rotate":
            command.add_argument("--retire", action="store_true")
        command.set_defaults(run=run)
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
