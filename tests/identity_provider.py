"""A real OpenID Connect provider for tests, in a process of its own. `python -m tests.identity_provider`."""

import contextlib
import json
import subprocess
import sys
from collections.abc import Generator, Sequence
from typing import Any


@contextlib.contextmanager
def run_provider(users: Sequence[dict[str, Any]]) -> Generator[str]:
    """Run a provider that knows these users (`sub` and further claims); yields the issuer."""
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "tests.identity_provider"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(json.dumps(list(users)) + "\n")
        process.stdin.flush()
        yield process.stdout.readline().strip()
    finally:
        process.stdin.close()
        process.wait(10)
        process.stdout.close()


def main() -> None:
    """Serve until standard input ends."""
    # Only this process may see the warnings of its imports.
    import oidc_provider_mock  # noqa: PLC0415

    users = [
        oidc_provider_mock.User(sub=user.pop("sub"), claims=user) for user in json.loads(sys.stdin.readline())
    ]
    with oidc_provider_mock.run_server_in_thread(require_nonce=True, user_claims=users) as server:
        print(f"http://localhost:{server.server_port}", flush=True)  # noqa: T201 - what its parent waits for
        sys.stdin.read()


if __name__ == "__main__":
    main()
