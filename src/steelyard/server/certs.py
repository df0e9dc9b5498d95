"""`python -m steelyard.server.certs dev`: what `steelyard certs dev` runs. Exit codes: 0 made, 2 refused."""

import argparse
import json
import sys

from steelyard.kit.errors import SteelyardError
from steelyard.server.certificates import make_development_certificates
from steelyard.server.console import print_error
from steelyard.server.home import HomeLayout
from steelyard.server.settings import Settings

EXIT_REFUSED = 2


def main(arguments: list[str] | None = None) -> int:
    """Make certificates; returns the exit code."""
    options = _parser().parse_args(arguments)
    settings = Settings()
    folder = settings.tls_folder or HomeLayout(settings.home.expanduser().absolute()).certificates
    try:
        made = make_development_certificates(folder, options.name)
    except SteelyardError as error:
        print_error(error, "certs_error", as_json=options.json)
        return EXIT_REFUSED
    if options.json:
        sys.stdout.write(json.dumps({"files": [str(path) for path in made]}) + "\n")
        return 0
    sys.stdout.write(
        "\n".join(str(path) for path in made) + "\n\nFor development: the authority's key was thrown away.\n"
        "Start the platform with them:  STEELYARD_TLS=server steelyard up  (mutual: clients show theirs)\n"
    )
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="steelyard certs")
    commands = parser.add_subparsers(required=True)
    dev = commands.add_parser("dev")
    dev.add_argument("--name", action="append", default=[])
    dev.add_argument("--json", action="store_true")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
