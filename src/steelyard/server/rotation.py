"""`python -m steelyard.server.rotation list|rotate`: what `steelyard keys` runs, on the server's machine.

A rotation adds the new keys first, so that every process can open what is sealed with them, and then wraps
the secrets anew. Cut short anywhere, everything still opens, and the next rotation goes on. A key that signs
tokens stays until none that it signed can be good any more. Exit codes: 0 done, 2 wrong usage, 3 no database.
"""

import argparse
import asyncio
import fcntl
import json
import os
import sys
from collections.abc import Generator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import func, select

from steelyard.governance import audit
from steelyard.governance.identity import LONGEST_SESSION, Actor
from steelyard.governance.secrets.service import SecretService
from steelyard.kit.clock import utc_now
from steelyard.kit.errors import Conflict, SteelyardError, Unavailable
from steelyard.server import keys
from steelyard.server.console import print_error
from steelyard.server.home import HomeLayout, worker_login
from steelyard.server.settings import Settings
from steelyard.storage.database import Database
from steelyard.storage.encryption import KeyFile, add_key, drop_keys, read_keys
from steelyard.storage.tables import AttemptRow, SecretRow

EXIT_USAGE = 2
EXIT_UNREACHABLE = 3
_GRACE = timedelta(minutes=1)
"""Clocks of several machines differ, and a process may be between reading a key and signing with it."""


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
        kept = await _kept_for(layout, database)
    finally:
        await database.close()
    return {
        "token_keys": [
            {"id": key_id, "kept_for": kept.get(key_id)} for key_id in read_keys(layout.token_key)
        ],
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
            token_key = keys.add_token_key(layout, utc_now())
            payload_key = add_key(layout.payload_key)
            secret_key = add_key(layout.secret_keys)
            wrapped = await SecretService(database, KeyFile(layout.secret_keys)).rewrap_all()
            retired = await _retire(layout, database) if options.retire else []
            ended = await _retire_token_keys(layout, database, options) if options.retire else []
            told = {
                "token_key": token_key, "payload_key": payload_key, "secret_key": secret_key,
                "secrets_wrapped": wrapped, "retired": retired, "token_keys_retired": ended,
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


async def _retire_token_keys(
    layout: HomeLayout, database: Database, options: argparse.Namespace
) -> list[str]:
    kept = {} if options.end_tokens else await _kept_for(layout, database)
    unused = [key_id for key_id in keys.replaced_at(layout) if key_id not in kept]
    drop_keys(layout.token_key, set(unused))
    return unused


async def _kept_for(layout: HomeLayout, database: Database) -> dict[str, str]:
    """Say of each older key that signed tokens what may still be good of them; the others can go."""
    now, kept = utc_now(), dict[str, str]()
    for key_id, replaced in keys.replaced_at(layout).items():
        if (until := replaced + LONGEST_SESSION + _GRACE) > now:
            kept[key_id] = f"sessions, until {until:%Y-%m-%d %H:%M} UTC"
        elif running := await _running_since(database, replaced + _GRACE):
            kept[key_id] = f"{running} attempts that run since before"
    return kept


async def _running_since(database: Database, moment: datetime) -> int:
    query = select(func.count()).where(AttemptRow.state != "ended", AttemptRow.started_at < moment)
    async with database.transaction() as session:
        return await session.scalar(query) or 0


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
            command.add_argument("--end-tokens", action="store_true")
        command.set_defaults(run=run)
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
