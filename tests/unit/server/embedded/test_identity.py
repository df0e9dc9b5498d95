import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from steelyard.server.embedded.identity import identify, is_alive, session_members


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    environment = {**os.environ, "MARK": "api@home"}
    script = "import subprocess, sys; subprocess.run([sys.executable, '-S', '-c', 'input()'])"
    with subprocess.Popen(
        [sys.executable, "-S", "-c", script], env=environment, stdin=subprocess.PIPE, start_new_session=True
    ) as process:
        yield process
        process.kill()


def test_a_process_is_itself_until_it_ends(sleeper: subprocess.Popen[bytes]) -> None:
    identity = identify(sleeper.pid)
    assert identity is not None
    assert is_alive(identity)
    assert not is_alive(identity.model_copy(update={"start": identity.start + 1}))
    assert not is_alive(identity.model_copy(update={"boot": "another"}))
    sleeper.kill()
    # A zombie is dead, though its number is still taken.
    os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)
    assert not is_alive(identity)
    assert identify(sleeper.pid) is None


def test_members_of_a_session_are_known_by_their_mark(sleeper: subprocess.Popen[bytes]) -> None:
    while len(members := session_members(sleeper.pid, "MARK=api@home")) < 2:
        assert sleeper.poll() is None
    assert sleeper.pid in [member.pid for member in members]
    assert session_members(sleeper.pid, "MARK=api@other") == []
    assert session_members(os.getpid(), "MARK=api@home") == []
