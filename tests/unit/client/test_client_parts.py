"""The pure parts: lines, events, pauses, discovery."""

import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import steelyard
from steelyard.client.discovery import Endpoint, discover
from steelyard.client.errors import ConnectionFailed, CredentialsUnreadable
from steelyard.client.lines import LineSplitter
from steelyard.client.retries import Retries, RetryPolicy
from steelyard.client.sse import ServerSentEvent, SseDecoder

URL = "http://127.0.0.1:8123"


def cut(data: bytes, seed: int) -> list[bytes]:
    places = sorted(random.Random(seed).choices(range(len(data) + 1), k=5))
    return [data[start:end] for start, end in zip([0, *places], [*places, len(data)], strict=True)]


class TestLines:
    @given(st.text(), st.integers())
    def test_come_out_the_same_however_they_are_cut(self, text: str, seed: int) -> None:
        data = text.encode("utf-8", errors="replace")
        splitter = LineSplitter()
        lines = [line for chunk in cut(data, seed) for line in splitter.feed(chunk)]
        before_rest = splitter.consumed_bytes
        rest = splitter.finish()

        expected = data.decode().split("\n")
        assert lines == [line.removesuffix("\r") for line in expected[:-1]]
        assert rest == [expected[-1].removesuffix("\r")] * bool(expected[-1])
        assert before_rest == len(data) - len(expected[-1].encode())
        assert splitter.consumed_bytes == len(data)

    def test_a_line_without_end_is_given_out_in_pieces(self) -> None:
        splitter = LineSplitter(max_line_bytes=4)
        assert splitter.feed(b"abcdef") == ["abcdef"]
        assert splitter.feed(b"g\n") == ["g"]


class TestEvents:
    def decode(self, text: str) -> list[ServerSentEvent]:
        decoder = SseDecoder()
        return [found for line in text.split("\n") if (found := decoder.feed(line))]

    def test_fields_comments_and_ids(self) -> None:
        text = ": ping\n\nid: 7\nevent: a\ndata: one\ndata:two\nretry: 5\n\ndata: x\n\nevent: end\n\nid: 9"
        assert self.decode(text) == [
            ServerSentEvent("7", "a", "one\ntwo"),
            ServerSentEvent("7", "message", "x"),
            ServerSentEvent("7", "end", ""),
        ]


class TestPauses:
    def test_grow_within_bounds(self) -> None:
        retries = Retries(RetryPolicy(max_retries=6, base_seconds=1.0, cap_seconds=8.0))
        pauses = [retries.pause_seconds(ConnectionFailed("away")) for _ in range(7)]

        assert pauses[-1] is None
        for pause, ceiling in zip(pauses, [1, 2, 4, 8, 8, 8], strict=False):
            assert pause is not None
            assert ceiling / 2 <= pause <= ceiling

    def test_begin_anew_after_a_success(self) -> None:
        retries = Retries(RetryPolicy(max_retries=1))
        assert retries.pause_seconds(ConnectionFailed("away")) is not None
        assert retries.pause_seconds(ConnectionFailed("away")) is None
        retries.reset()
        assert retries.pause_seconds(ConnectionFailed("away")) is not None


@pytest.fixture
def make_home(tmp_path: Path) -> Callable[..., Path]:
    def make(name: str = "home", url: str = URL, token: str = "sy_home\n") -> Path:
        home = tmp_path / name
        (home / "secrets").mkdir(parents=True)
        (home / "endpoint.json").write_text(json.dumps({"api_url": url}))
        (home / "secrets" / "admin.token").write_text(token)
        return home

    return make


class TestDiscovery:
    def test_the_home_folder(self, make_home: Callable[..., Path]) -> None:
        found = discover(environment={"STEELYARD_HOME": str(make_home())})
        assert found == Endpoint(URL, "sy_home")

    def test_the_environment_goes_first(self, make_home: Callable[..., Path]) -> None:
        environment = {
            "STEELYARD_HOME": str(make_home()),
            "STEELYARD_API_URL": "https://far.invalid/base/",
            "STEELYARD_TOKEN": "sy_far",
        }
        assert discover(environment=environment) == Endpoint("https://far.invalid/base", "sy_far")

    def test_the_local_token_goes_nowhere_else(self, make_home: Callable[..., Path]) -> None:
        environment = {"STEELYARD_HOME": str(make_home()), "STEELYARD_API_URL": "https://far.invalid"}
        assert discover(environment=environment).token is None
        environment["STEELYARD_API_URL"] = URL + "/"
        assert discover(environment=environment).token == "sy_home"

    def test_arguments_go_before_all(self, make_home: Callable[..., Path]) -> None:
        environment = {"STEELYARD_API_URL": "https://far.invalid", "STEELYARD_TOKEN": "sy_far"}
        home = make_home()
        assert discover(home=home, environment=environment) == Endpoint(URL, "sy_far")
        assert discover(home=home, environment={}).token == "sy_home"
        assert discover("http://x.invalid", "sy_arg", environment=environment) == Endpoint(
            "http://x.invalid", "sy_arg"
        )

    def test_no_platform_yet(self, tmp_path: Path) -> None:
        with pytest.raises(ConnectionFailed, match="steelyard up"):
            discover(environment={"STEELYARD_HOME": str(tmp_path)})

    @pytest.mark.parametrize("text", ["", "[]", "{}", '{"api_url": 3}', "\x00"])
    def test_a_damaged_endpoint_file(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "endpoint.json").write_text(text)
        with pytest.raises(ConnectionFailed, match=r"endpoint\.json"):
            discover(home=tmp_path, environment={})

    @pytest.mark.parametrize("url", ["127.0.0.1:80", "ftp://x", "http://", "http://u:pass@x", "http://[x]"])
    def test_an_address_that_is_none(self, url: str) -> None:
        with pytest.raises(ConnectionFailed) as caught:
            discover(url, environment={})
        assert "pass" not in caught.value.message.replace("no password", "")

    @pytest.mark.parametrize("token", ["a b", "a\nb", "sy_é"])
    def test_a_token_that_is_none_is_not_repeated(self, token: str) -> None:
        with pytest.raises(CredentialsUnreadable) as caught:
            discover(URL, token, environment={})
        assert token not in caught.value.message

    def test_a_token_is_in_no_repr(self) -> None:
        endpoint = Endpoint(URL, "sy_secret")
        assert "sy_secret" not in repr(endpoint)
        with steelyard.Client(api_url=URL, token="sy_secret") as client:
            assert "sy_secret" not in repr(client) + repr(vars(client))

    def test_a_proxy_of_the_environment_is_not_for_this_machine(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HTTP_PROXY", "http://proxy.invalid:1")
        with (
            steelyard.Client(api_url="http://127.0.0.1:9", token="t", retry=RetryPolicy(0)) as client,
            pytest.raises(ConnectionFailed, match="refused"),
        ):
            client.jobs.get("job_1")
