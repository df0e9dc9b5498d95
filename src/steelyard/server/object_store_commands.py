"""`python -m steelyard.server.object_store_commands push|check`: what `steelyard store` runs on the server.

Exit codes: 0 done, 1 something was damaged or the bucket is not as it was set, 2 no bucket is set or the
settings can't be right, 3 the bucket doesn't answer.
"""

import argparse
import json
import sys
from typing import Any

from steelyard.kit.errors import SteelyardError, Unavailable
from steelyard.server.console import print_error
from steelyard.server.home import HomeLayout
from steelyard.server.settings import Settings
from steelyard.storage.bucket_check import BucketFault, examine_bucket
from steelyard.storage.bucket_settings import URL_VARIABLE, BucketMisconfigured, uses_bucket
from steelyard.storage.object_folder import ObjectFolder
from steelyard.storage.object_migration import bring_everything

EXIT_FAULT = 1
EXIT_USAGE = 2
EXIT_UNREACHABLE = 3


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    options = _parser().parse_args(arguments)
    try:
        if not uses_bucket():
            raise BucketMisconfigured(f"no bucket is set; {URL_VARIABLE}=s3://BUCKET/PREFIX names one")
        told = options.run(Settings())
    except SteelyardError as error:
        print_error(error, "object_store_error", as_json=options.json)
        return EXIT_UNREACHABLE if isinstance(error, Unavailable) else EXIT_USAGE
    sys.stdout.write((json.dumps(told, indent=2) if options.json else _text(told)) + "\n")
    return EXIT_FAULT if told["faults"] else 0


def _push(settings: Settings) -> dict[str, Any]:
    objects = ObjectFolder.at(HomeLayout(settings.home).objects)
    count, faults = 0, list[dict[str, str]]()
    for brought in bring_everything(objects):
        if brought.fault is None:
            count += 1
        else:
            faults.append({"path": brought.path, "fault": brought.fault})
    return {"message": f"{count} artifacts are in the bucket", "count": count, "faults": faults}


def _check(_settings: Settings) -> dict[str, Any]:
    found = examine_bucket()
    if isinstance(found, BucketFault):
        fault = {"path": "", "fault": f"{found.message}; {found.remedy}"}
        return {"message": "the bucket can't be used as it was set", "faults": [fault]}
    return {"message": found, "faults": []}


def _text(told: dict[str, Any]) -> str:
    lines = [str(told["message"])]
    lines += [": ".join(part for part in (fault["path"], fault["fault"]) if part) for fault in told["faults"]]
    return "\n".join(lines)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="steelyard store", description=__doc__)
    verbs = parser.add_subparsers(required=True)
    for name, run in (("push", _push), ("check", _check)):
        verb = verbs.add_parser(name)
        verb.add_argument("--json", action="store_true")
        verb.set_defaults(run=run)
    return parser


if __name__ == "__main__":
    sys.exit(main())
