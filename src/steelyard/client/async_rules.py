"""`client.rules` for asyncio: the same methods as in `rules`."""

from collections.abc import Mapping, Sequence
from typing import Any

from steelyard.client import rule_calls
from steelyard.client.async_transport import AsyncTransport
from steelyard.specs.policies import ApprovalPolicy, FreezeView, GateView, PolicyView


class AsyncRules:
    """What promotions of one project must keep to: gates, approval policies, freeze windows.

    With `organization=` an owner sets a rule for all projects of an organization; none of them loosens it.
    """

    def __init__(self, transport: AsyncTransport, project: str) -> None:
        self._transport = transport
        self._project = project

    async def gates(self, alias: str | None = None) -> list[GateView]:
        """Return the gates, the organization's among them."""
        return (await self._transport.send(rule_calls.gates(self._project, alias))).data

    async def set_gate(
        self, alias: str, gate: Mapping[str, Any], *, organization: str | None = None
    ) -> GateView:
        """Put a gate before an alias, such as `{"metric": "smoke/accuracy", "min": 0.8}`."""
        return await self._transport.send(rule_calls.set_gate(self._project, alias, gate, organization))

    async def remove_gate(self, gate: str, *, organization: str | None = None) -> None:
        """Take a gate away, by its id."""
        return await self._transport.send(rule_calls.remove_gate(self._project, gate, organization))

    async def policies(self) -> list[PolicyView]:
        """Return the policy of each alias, and where it comes from."""
        return (await self._transport.send(rule_calls.policies(self._project))).data

    async def set_policy(
        self, alias: str, policy: ApprovalPolicy, *, organization: str | None = None
    ) -> ApprovalPolicy:
        """Say who must agree before an alias moves."""
        return await self._transport.send(rule_calls.set_policy(self._project, alias, policy, organization))

    async def remove_policy(self, alias: str, *, organization: str | None = None) -> None:
        """Forget what was set for an alias."""
        return await self._transport.send(rule_calls.remove_policy(self._project, alias, organization))

    async def freezes(self) -> list[FreezeView]:
        """Return the freeze windows, the organization's among them."""
        return (await self._transport.send(rule_calls.freezes(self._project))).data

    async def add_freeze(
        self,
        window: Mapping[str, Any],
        *,
        aliases: Sequence[str] = ("prod",),
        reason: str,
        organization: str | None = None,
    ) -> FreezeView:
        """Let aliases not be promoted for a time (`SpanWindow` or `WeeklyWindow`, as JSON has it)."""
        return await self._transport.send(
            rule_calls.add_freeze(self._project, window, aliases, reason, organization)
        )

    async def remove_freeze(self, freeze: str, *, organization: str | None = None) -> None:
        """Take a freeze window away, by its id."""
        return await self._transport.send(rule_calls.remove_freeze(self._project, freeze, organization))
