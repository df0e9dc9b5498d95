"""`open`."""

import webbrowser

import pytest
from tests.scripted_api import ScriptedApi, ok
from tests.unit.cli.conftest import Steelyard

LINK = "http://127.0.0.1:1/session?code=abc&to=%2Fmlflow%2F"


@pytest.fixture
def visited(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    urls: list[str] = []

    def visit(url: str) -> bool:
        urls.append(url)
        return True

    monkeypatch.setattr(webbrowser, "open", visit)
    return urls


def test_a_browser_is_sent_to_the_page_by_a_link_that_signs_it_in(
    steelyard: Steelyard, api: ScriptedApi, visited: list[str]
) -> None:
    api.on("POST", "/v1/sessions", ok({"url": LINK, "expires_in_seconds": 900}))
    result = steelyard("open", "/v1/projects/default/datasets/chats@v1/report?form=html")
    assert result.code == 0
    assert visited == [LINK]
    assert LINK in result.out
    (asked,) = api.calls("POST", "/v1/sessions")
    assert asked.query["to"] == "/v1/projects/default/datasets/chats@v1/report?form=html"


def test_without_a_browser_the_link_is_printed_alone(
    steelyard: Steelyard, api: ScriptedApi, visited: list[str]
) -> None:
    api.on("POST", "/v1/sessions", ok({"url": LINK, "expires_in_seconds": 900}))
    assert steelyard("open", "--json").json == {"url": LINK}
    assert LINK in steelyard("open", "--no-browser").out
    assert visited == []
