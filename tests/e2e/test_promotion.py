"""A promotion on a running platform whose every part is killed while it waits for its approvals."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from tests.e2e.platform import LivePlatform, wait_for_state, wait_until
from tests.e2e.specs import sums_spec

from steelyard.client import Client
from steelyard.server.home import read_platform
from steelyard.specs.promotions import Alias, PromotionState, PromotionView

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

MODEL = "to-prod"
_NAME = f"default.{MODEL}"
_REGISTERED = "/mlflow/api/2.0/mlflow/registered-models"
_VERSIONS = "/mlflow/api/2.0/mlflow/model-versions"


@pytest.fixture(scope="module")
def admin(platform: LivePlatform) -> Iterator[Client]:
    with platform.client() as client:
        yield client


@pytest.fixture(scope="module")
def approvers(admin: Client, platform: LivePlatform) -> Iterator[list[Client]]:
    """Two people who may approve, with a token each."""
    found: list[Client] = []
    for name in ("ann", "ben"):
        user = _post(platform, "/v1/users", {"email": f"{name}@example.com"})["id"]
        _send(platform, "PUT", f"/v1/projects/default/members/{user}/roles/approver")
        token = _post(platform, f"/v1/users/{user}/tokens", {"name": "test"})["secret"]
        found.append(Client(api_url=admin.api_url, token=token))
    yield found
    for client in found:
        client.close()


def test_it_waits_through_every_kill_and_moves_once(
    platform: LivePlatform, admin: Client, approvers: list[Client]
) -> None:
    measured = {"suites": ["heldout"], "max_samples": 8}
    job = admin.jobs.submit(
        {**sums_spec(max_steps=20), "register_as": {"model_name": MODEL}, "evaluation": measured}
    )
    assert wait_for_state(admin, job.id, "succeeded", "failed").state == "succeeded"
    admin.models.promote(MODEL, 1, Alias.DEV)
    wait_until(lambda: admin.models.get(MODEL).aliases.get("dev"), "dev")
    staged = _waiting(admin, admin.models.promote(MODEL, 1, Alias.STAGING))
    _approve(approvers[0], staged)
    wait_until(lambda: admin.models.get(MODEL).aliases.get("staging"), "staging")
    asked = _waiting(admin, admin.models.promote(MODEL, 1, Alias.PROD))

    for part in ("temporal", "postgres"):
        platform.kill(part)
    _approve(approvers[0], asked)
    platform.kill("worker-1")
    _approve(approvers[1], asked)
    platform.kill("worker-1")

    wait_until(lambda: admin.models.get(MODEL).aliases.get("prod"), "prod", 120.0)
    done = admin.approvals.get(asked.id)
    assert done.state is PromotionState.PROMOTED
    assert all("with a token that admin made" in decision.notes for decision in done.decisions)
    assert len(admin.models.history(MODEL, Alias.PROD).data) == 1
    wait_until(lambda: _mlflow_aliases(platform).get("prod") == "1" or None, "MLflow's alias", 120.0)


def test_what_is_written_to_mlflow_directly_is_put_right(platform: LivePlatform, admin: Client) -> None:
    body = {"name": _NAME, "alias": "prod"}
    with _mlflow(platform) as http:
        assert http.request("DELETE", f"{_REGISTERED}/alias", json=body).is_success
    assert "prod" not in _mlflow_aliases(platform)
    wait_until(lambda: _mlflow_aliases(platform).get("prod") == "1" or None, "MLflow's alias", 90.0)
    types = [event.type for event in admin.models.events(MODEL, limit=200).data]
    assert "alias.restored" in types


def test_what_is_deleted_in_mlflow_comes_back_with_the_same_weights(
    platform: LivePlatform, admin: Client
) -> None:
    before = _mlflow_versions(platform)["1"]
    weights = _weights(platform, before)
    with _mlflow(platform) as http:
        gone = http.request("DELETE", f"{_VERSIONS}/delete", json={"name": _NAME, "version": "1"})
        assert gone.is_success
    assert "prod" not in _mlflow_aliases(platform)
    wait_until(lambda: _mlflow_aliases(platform).get("prod") == "2" or None, "another number", 120.0)
    again = _mlflow_versions(platform)["2"]
    assert (again["tags"], again["run_id"]) == (before["tags"], before["run_id"])
    assert _weights(platform, again) == weights
    assert admin.models.versions(MODEL)[0].mlflow_version == "2"

    with _mlflow(platform) as http:
        assert http.request("DELETE", f"{_REGISTERED}/delete", json={"name": _NAME}).is_success
    platform.kill("worker-1")
    wait_until(lambda: _mlflow_aliases(platform).get("prod") == "1" or None, "the model", 120.0)
    assert _mlflow_aliases(platform) == {"dev": "1", "staging": "1", "prod": "1"}
    assert _mlflow_versions(platform)["1"]["tags"] == before["tags"]
    assert _weights(platform, _mlflow_versions(platform)["1"]) == weights
    types = [event.type for event in admin.models.events(MODEL, limit=200).data]
    assert (types.count("version.restored"), types.count("model.restored")) == (1, 1)
    assert types.count("version.renumbered") == 2


def _waiting(client: Client, asked: PromotionView) -> PromotionView:
    def there() -> PromotionView | None:
        view = client.approvals.get(asked.id)
        assert view.state in (PromotionState.CHECKING, PromotionState.AWAITING_APPROVAL), view.message
        return view if view.state is PromotionState.AWAITING_APPROVAL else None

    return wait_until(there, "that it waits for approval")


def _approve(approver: Client, asked: PromotionView) -> None:
    assert asked.binding is not None
    approver.approvals.approve(asked.id, asked.binding)


def _mlflow_aliases(platform: LivePlatform) -> dict[str, str]:
    try:
        with _mlflow(platform) as http:
            answer = http.get(f"{_REGISTERED}/get", params={"name": _NAME})
    except httpx.TransportError:
        return {}
    if answer.status_code != 200:
        return {}
    aliases = answer.json()["registered_model"].get("aliases", [])
    return {each["alias"]: each["version"] for each in aliases}


def _mlflow_versions(platform: LivePlatform) -> dict[str, dict[str, Any]]:
    with _mlflow(platform) as http:
        found = http.get(f"{_VERSIONS}/search", params={"filter": f"name = '{_NAME}'"}).json()
    return {
        each["version"]: {**each, "tags": {tag["key"]: tag["value"] for tag in each["tags"]}}
        for each in found.get("model_versions", [])
    }


def _weights(platform: LivePlatform, version: dict[str, Any]) -> bytes:
    """Return the weights as whoever loads the version from MLflow gets them."""
    run = version["run_id"]
    assert version["source"] == f"runs:/{run}/model"
    with _mlflow(platform) as http:
        info = http.get("/mlflow/api/2.0/mlflow/runs/get", params={"run_id": run}).json()["run"]["info"]
        path = f"{info['experiment_id']}/{run}/artifacts/model/model.safetensors"
        answer = http.get(f"/mlflow/api/2.0/mlflow-artifacts/artifacts/{path}")
    assert answer.is_success, answer.text
    return answer.content


def _mlflow(platform: LivePlatform) -> httpx.Client:
    """MLflow itself, past every door of the api."""
    transport = httpx.HTTPTransport(uds=str(read_platform(platform.home).mlflow_socket))
    return httpx.Client(transport=transport, base_url="http://mlflow", timeout=30.0)


def _post(platform: LivePlatform, path: str, body: dict[str, Any]) -> Any:
    return _send(platform, "POST", path, body).json()


def _send(
    platform: LivePlatform, method: str, path: str, body: dict[str, Any] | None = None
) -> httpx.Response:
    with _http(platform) as http:
        answer = http.request(method, path, json=body)
    assert answer.is_success, answer.text
    return answer


def _http(platform: LivePlatform) -> httpx.Client:
    with platform.client() as client:
        url = client.api_url
    token = (platform.home / "secrets" / "admin.token").read_text().strip()
    return httpx.Client(base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=30.0)
