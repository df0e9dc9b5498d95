"""The application as a whole: help, usage, errors, pipes."""

import subprocess
import sys
from pathlib import Path

import pytest
from tests.scripted_api import JOBS, ScriptedApi, job, ok
from tests.unit.cli.conftest import Steelyard

from steelyard import __version__
from steelyard.cli.exits import MEANINGS

RUN = "from steelyard.cli.entry import run; run()"
HEAVY = (
    "torch", "transformers", "mlflow", "temporalio", "sqlalchemy", "fastapi", "polars", "pyarrow", "pandas",
    "numpy", "asyncpg", "cryptography", "uvicorn",
)  # fmt: skip


def test_help_lists_every_exit_code(steelyard: Steelyard) -> None:
    result = steelyard("--help")

    assert result.code == 0
    for code, meaning in MEANINGS.items():
        assert f"{code.value}  {meaning}" in result.out


def test_version(steelyard: Steelyard) -> None:
    assert steelyard("--version") == (0, f"steelyard {__version__}\n", "")


@pytest.mark.parametrize("arguments", [("lst",), ("get",), ("get", "a", "b"), ("list", "--nope")])
def test_wrong_usage(steelyard: Steelyard, arguments: tuple[str, ...]) -> None:
    human, machine = steelyard(*arguments), steelyard(*arguments, "--json")

    assert (human.code, machine.code) == (2, 2)
    assert human.err.startswith("Error: ")
    assert machine.error["code"] == "usage"


def test_no_arguments_print_the_help(steelyard: Steelyard) -> None:
    result = steelyard()
    assert result.code == 2
    assert "submit" in result.out
    assert result.err == ""


def test_no_platform_names_the_remedy(
    steelyard: Steelyard, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("STEELYARD_API_URL", raising=False)
    monkeypatch.setenv("STEELYARD_HOME", str(tmp_path))

    result = steelyard("list")

    assert result.code == 3
    assert "steelyard up" in result.err


def test_the_command_imports_nothing_heavy() -> None:
    code = f"import sys, steelyard.cli.main; print([name for name in {HEAVY!r} if name in sys.modules])"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "[]"


def test_a_closed_pipe_ends_quietly(api: ScriptedApi) -> None:
    many = [job(id=f"job_{number}") for number in range(3000)]
    api.on("GET", JOBS, ok({"data": many, "has_more": False, "next": None}))

    with subprocess.Popen(
        [sys.executable, "-c", RUN, "list", "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as command:
        assert command.stdout is not None
        assert command.stderr is not None
        assert command.stdout.readline() == b"{\n"
        command.stdout.close()
        assert command.stderr.read() == b""
        assert command.wait(20) == 141


def test_ctrl_c_while_commands_are_imported_is_no_traceback(tmp_path: Path) -> None:
    # Typer is imported by the commands alone: this one sends us the signal at that moment, which another
    # thread may be the one to take, and which is ignored below a shell's background job.
    (tmp_path / "typer.py").write_text(
        "import os, signal, time\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "os.kill(os.getpid(), signal.SIGINT)\n"
        "for _ in range(1000):\n    time.sleep(0.01)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(tmp_path)!r}); {RUN}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (130, "")
