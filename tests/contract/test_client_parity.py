"""`Client` and `AsyncClient` are one SDK: the same methods, parameters, answers and words."""

import inspect
from typing import Any, get_type_hints

import pytest

import steelyard
from steelyard.client.async_budgets import AsyncBudgets, AsyncCosts
from steelyard.client.async_datasets import AsyncDatasets
from steelyard.client.async_evaluations import AsyncEvaluations, AsyncSuites
from steelyard.client.async_identity import (
    AsyncOrganizations,
    AsyncProjects,
    AsyncServiceAccounts,
    AsyncTokens,
    AsyncUsers,
)
from steelyard.client.async_jobs import AsyncJobs
from steelyard.client.async_lineage import AsyncLineage
from steelyard.client.async_pool import AsyncPool, AsyncQuotas
from steelyard.client.async_registry import AsyncApprovals, AsyncModels
from steelyard.client.async_rules import AsyncRules
from steelyard.client.async_secrets import AsyncSecrets
from steelyard.client.async_trials import AsyncTrials
from steelyard.client.async_webhooks import AsyncWebhooks
from steelyard.client.budgets import Budgets, Costs
from steelyard.client.datasets import Datasets
from steelyard.client.evaluations import Evaluations, Suites
from steelyard.client.identity import Organizations, Projects, ServiceAccounts, Tokens, Users
from steelyard.client.jobs import Jobs
from steelyard.client.lineage import Lineage
from steelyard.client.pool import Pool, Quotas
from steelyard.client.registry import Approvals, Models
from steelyard.client.rules import Rules
from steelyard.client.secrets import Secrets
from steelyard.client.trials import Trials
from steelyard.client.webhooks import Webhooks

PAIRS = [
    (steelyard.Client, steelyard.AsyncClient),
    (Jobs, AsyncJobs),
    (Projects, AsyncProjects),
    (Organizations, AsyncOrganizations),
    (Users, AsyncUsers),
    (ServiceAccounts, AsyncServiceAccounts),
    (Tokens, AsyncTokens),
    (Datasets, AsyncDatasets),
    (Lineage, AsyncLineage),
    (Trials, AsyncTrials),
    (Secrets, AsyncSecrets),
    (Evaluations, AsyncEvaluations),
    (Suites, AsyncSuites),
    (Models, AsyncModels),
    (Approvals, AsyncApprovals),
    (Rules, AsyncRules),
    (Webhooks, AsyncWebhooks),
    (Budgets, AsyncBudgets),
    (Costs, AsyncCosts),
    (Pool, AsyncPool),
    (Quotas, AsyncQuotas),
]
_ENTER_AND_LEAVE = {"__enter__": "__aenter__", "__exit__": "__aexit__"}
METHODS = [
    pytest.param(blocking, awaited, name, id=f"{blocking.__name__}.{name}")
    for blocking, awaited in PAIRS
    for name in vars(blocking)
    if inspect.isfunction(vars(blocking)[name]) and name not in _ENTER_AND_LEAVE and name != "__repr__"
]


@pytest.mark.parametrize(("blocking", "awaited"), PAIRS)
def test_the_names_are_the_same(blocking: type, awaited: type) -> None:
    expected = {_ENTER_AND_LEAVE.get(name, name) for name in vars(blocking)}
    assert set(vars(awaited)) == expected


@pytest.mark.parametrize(("blocking", "awaited", "name"), METHODS)
def test_parameters_are_the_same(blocking: type, awaited: type, name: str) -> None:
    one, other = (inspect.signature(getattr(kind, name)) for kind in (blocking, awaited))

    assert _comparable(one) == _comparable(other)


@pytest.mark.parametrize(("blocking", "awaited", "name"), METHODS)
def test_answers_are_the_same(blocking: type, awaited: type, name: str) -> None:
    one, other = (get_type_hints(getattr(kind, name))["return"] for kind in (blocking, awaited))

    assert str(one).replace("Iterator", "AsyncIterator") == str(other)


@pytest.mark.parametrize(("blocking", "awaited", "name"), METHODS)
def test_what_waits_is_awaited(blocking: type, awaited: type, name: str) -> None:
    one, other = getattr(blocking, name), getattr(awaited, name)
    if name == "__init__":
        return

    if inspect.isgeneratorfunction(one):
        assert inspect.isasyncgenfunction(other)
    else:
        assert inspect.iscoroutinefunction(other)


@pytest.mark.parametrize(("blocking", "awaited", "name"), METHODS)
def test_words_are_the_same(blocking: type, awaited: type, name: str) -> None:
    assert inspect.getdoc(getattr(blocking, name)) == inspect.getdoc(getattr(awaited, name))


def test_the_sdk_is_loaded_on_first_use() -> None:
    assert steelyard.Client.__name__ == "Client"
    assert steelyard.AsyncClient.__name__ == "AsyncClient"


def _comparable(signature: inspect.Signature) -> list[Any]:
    transports = {"Transport", "AsyncTransport"}
    return [
        (one.name, one.kind, one.default)
        for one in signature.parameters.values()
        if getattr(one.annotation, "__name__", "") not in transports
    ]
