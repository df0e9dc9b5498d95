"""The console's entry point: Ctrl-C ends a command quietly, also while its commands are being imported."""

import sys

_INTERRUPTED = 130
"""`exits.ExitCode.INTERRUPTED`, which is not imported yet."""


def run() -> None:
    """Run the command line and exit with its code."""
    try:
        # It takes a second, and who has mistyped presses Ctrl-C in it.
        from steelyard.cli.main import main  # noqa: PLC0415

        code = main(sys.argv[1:])
    except KeyboardInterrupt:
        code = _INTERRUPTED
    sys.exit(code)
