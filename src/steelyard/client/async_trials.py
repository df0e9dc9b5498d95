"""`client.trials` for asyncio: the same methods as `trials.Trials`."""

import builtins
from collections.abc import AsyncIterator

from steelyard.client import job_calls, trial_calls
from steelyard.client.async_transport import AsyncTransport
from steelyard.client.errors import ClientError
from steelyard.client.following import OnOutage, Outage
from steelyard.kit.paging import MAX_LIMIT, Page
from steelyard.specs.states import TERMINAL_STATES
from steelyard.specs.trials import TrialOrder, TrialView


class AsyncTrials:
    """The trials of searches of one project."""

    def __init__(self, transport: AsyncTransport, project: str) -> None:
        self._transport = transport
        self._project = project

    async def list(
        self,
        job: str,
        *,
        limit: int = 50,
        after: str | None = None,
        sort: TrialOrder = "number",
        curves: bool = False,
    ) -> Page[TrialView]:
        """Return one page of a search's trials; `page.next` goes into `after`.

        Args:
            job: id of the search.
            limit: trials at most.
            after: number of the last trial seen.
            sort: by `number`, or by `value`: the best first.
            curves: with the curve of each, as far as it is kept.
        """
        return await self._transport.send(trial_calls.trials(self._project, job, limit, after, sort, curves))

    async def all(
        self, job: str, *, sort: TrialOrder = "number", curves: bool = False
    ) -> builtins.list[TrialView]:
        """Return all trials of a search."""
        found: builtins.list[TrialView] = []
        after = None
        while True:
            page = await self.list(job, limit=MAX_LIMIT, after=after, sort=sort, curves=curves)
            found += page.data
            after = page.next
            if not page.has_more or after is None:
                return found

    async def watch(
        self,
        job: str,
        *,
        sort: TrialOrder = "number",
        curves: bool = False,
        on_outage: OnOutage | None = None,
        max_outage_seconds: float | None = 600.0,
    ) -> AsyncIterator[builtins.list[TrialView]]:
        """Give all trials as they are now, and again at every change, until the search has ended.

        Args:
            job: id of the search.
            sort: by `number`, or by `value`: the best first.
            curves: with the curve of each, as far as it is kept.
            on_outage: told of each failed try to look again.
            max_outage_seconds: how long the platform may be away; None is for ever.
        """
        outage = Outage(self._transport.policy, max_outage_seconds, on_outage)
        seen: builtins.list[TrialView] | None = None
        while True:
            pause = self._transport.policy.look_seconds
            try:
                view = await self._transport.send_once(job_calls.get(self._project, job))
                found = await self.all(job, sort=sort, curves=curves)
                outage.over()
                if found != seen:
                    seen = found
                    yield found
                if view.state in TERMINAL_STATES:
                    return
            except ClientError as error:
                pause = outage.pause_seconds(error)
            await self._transport.sleep(pause)
