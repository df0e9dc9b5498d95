"""`client.pool` and `client.quotas`, blocking."""

from steelyard.client import pool_calls
from steelyard.client.transport import Transport
from steelyard.specs.pool import (
    FlavorSpec,
    FlavorView,
    IdlePolicy,
    Interruption,
    NodeView,
    PoolSettings,
    PoolView,
    ProjectQuotas,
    QuotaChange,
)


class Pool:
    """The pool that all projects share. For who operates the installation."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def show(self) -> PoolView:
        """Return settings, flavors, nodes, and how many jobs run and wait."""
        return self._transport.send(pool_calls.show())

    def put_settings(self, settings: PoolSettings) -> PoolSettings:
        """Set currency and rules of the scheduler, in place of those before."""
        return self._transport.send(pool_calls.put_settings(settings))

    def put_flavor(self, name: str, flavor: FlavorSpec) -> FlavorView:
        """Set what a flavor is and costs."""
        return self._transport.send(pool_calls.put_flavor(name, flavor))

    def interrupt(self, node: str, notice: Interruption) -> NodeView:
        """Announce that a node is taken away: its jobs save and queue again, and it gets no new ones."""
        return self._transport.send(pool_calls.interrupt(node, notice))

    def restore(self, node: str) -> NodeView:
        """Let a node take work again."""
        return self._transport.send(pool_calls.restore(node))


class Quotas:
    """A project's part of the pool. Projects read theirs; who operates the installation sets them."""

    def __init__(self, transport: Transport, project: str) -> None:
        self._transport = transport
        self._project = project

    def get(self) -> ProjectQuotas:
        """Return what the project may have, holds, lends, and has used lately."""
        return self._transport.send(pool_calls.quotas(self._project))

    def put(self, flavor: str, change: QuotaChange) -> ProjectQuotas:
        """Set the project's quota of one flavor, and its weight where one is named."""
        return self._transport.send(pool_calls.put_quota(self._project, flavor, change))

    def put_idle_policy(self, policy: IdlePolicy) -> ProjectQuotas:
        """Set what happens to attempts of the project that hold GPUs and don't use them."""
        return self._transport.send(pool_calls.put_idle_policy(self._project, policy))

    def remove_idle_policy(self) -> ProjectQuotas:
        """Let the installation's rule for idle attempts hold again."""
        return self._transport.send(pool_calls.remove_idle_policy(self._project))
