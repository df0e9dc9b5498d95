"""What is refused gets a row up to a rate, and beyond it a count; its act has the words of the trail."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steelyard.api.acts import Act, act_of
from steelyard.governance.audit.refusals import Rate, RefusalLimiter

JOBS = "/v1/projects/{project}/jobs"


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class TestLimiter:
    def test_a_source_has_a_burst_and_then_a_rate(self) -> None:
        clock = Clock()
        limiter = RefusalLimiter(Rate(3, 1), Rate(1000, 1000), clock)

        assert [limiter.admits("a", "x") for _ in range(5)] == [True, True, True, False, False]
        clock.now = 2.0
        assert [limiter.admits("a", "x") for _ in range(3)] == [True, True, False]
        assert limiter.take_count() == (3, {"a": 3})
        assert limiter.take_count() == (0, {})

    def test_one_who_floods_silences_nobody_else(self) -> None:
        limiter = RefusalLimiter(Rate(3, 1), Rate(100, 1), Clock())
        for _ in range(1000):
            limiter.admits("flood", "x")

        assert limiter.admits("b", "x")
        assert limiter.admits("flood", "another")

    @given(st.lists(st.tuples(st.integers(0, 10_000), st.floats(0, 5)), max_size=300))
    def test_all_sources_together_are_bounded(self, calls: list[tuple[int, float]]) -> None:
        clock = Clock()
        limiter = RefusalLimiter(Rate(5, 1), Rate(20, 2), clock)
        admitted = 0
        for source, pause in calls:
            clock.now += pause
            admitted += limiter.admits(str(source), "x")

        assert admitted <= 20 + 2 * clock.now + 1
        assert admitted + limiter.take_count()[0] == len(calls)

    def test_memory_is_bounded(self) -> None:
        limiter = RefusalLimiter(Rate(1, 1), Rate(1, 0), Clock())
        for source in range(20_000):
            limiter.admits(str(source), "x")

        count, sources = limiter.take_count()
        assert count == 19_999
        assert len(sources) == 10


class TestActs:
    @pytest.mark.parametrize(
        ("method", "route", "parameters", "expected"),
        [
            ("POST", JOBS, {}, Act("job.submit", "job", "p", "p")),
            ("POST", f"{JOBS}/cancel", {}, Act("job.cancel", "job", "p", "p")),
            ("POST", f"{JOBS}/{{job}}/cancel", {"job": "job_1"}, Act("job.cancel", "job", "job_1", "p")),
            ("POST", f"{JOBS}/{{job}}/priority", {"job": "j"}, Act("job.set_priority", "job", "j", "p")),
            ("GET", f"{JOBS}/{{job}}", {"job": "j"}, Act("job.read", "job", "j", "p")),
            (
                "POST",
                "/v1/projects/{project}/datasets/{name}/ingests",
                {"name": "d"},
                Act("data.ingest", "data", "d", "p"),
            ),
            ("PUT", "/v1/projects/{project}/budget", {}, Act("budget.set", "budget", "p", "p")),
            (
                "DELETE",
                "/v1/projects/{project}/members/{principal}/roles/{role}",
                {"principal": "ada", "role": "admin"},
                Act("member.revoke", "member", "ada", "p"),
            ),
            ("POST", "/v1/projects/{project}/archive", {}, Act("project.archive", "project", "p", "p")),
            ("DELETE", "/v1/projects/{project}", {}, Act("project.delete", "project", "p", "p")),
        ],
    )
    def test_in_a_project(self, method: str, route: str, parameters: dict[str, str], expected: Act) -> None:
        assert act_of(method, route, "/path", {"project": "p", **parameters}) == expected

    def test_outside_of_projects(self) -> None:
        route = "/v1/attempts/{attempt}/report"
        assert act_of("POST", route, "/x", {"attempt": "a"}) == Act("attempt.report", "attempt", "a", None)
        assert act_of("POST", "/v1/sessions", "/v1/sessions", {}) == Act(
            "session.create", "session", "/v1/sessions", None
        )

    def test_where_no_route_is(self) -> None:
        assert act_of("POST", None, "/nowhere", {}) == Act("request.post", "request", "/nowhere", None)
