"""`client.jobs` for asyncio: the same methods as `jobs.Jobs`, which has their full description."""

import builtins
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import suppress

from steelyard.client import job_calls
from steelyard.client.async_transport import AsyncTransport
from steelyard.client.errors import ClientError, NotFound
from steelyard.client.following import JobWatch, LogCursor, OnOutage, Outage, events_of_job
from steelyard.client.job_calls import SpecLike
from steelyard.client.models import CancelResult
from steelyard.kit.paging import MAX_LIMIT, Page
from steelyard.specs.views import (
    AttemptView,
    CheckpointView,
    EventView,
    ExplainView,
    JobSummary,
    JobView,
    PlanView,
)


class AsyncJobs:
    """The jobs of one project.

    Every method raises a `SteelyardApiError` where the platform refuses and a `ConnectionFailed` where it
    doesn't answer, after the retries of the client's policy. Commands may be repeated without harm.
    """

    def __init__(self, transport: AsyncTransport, project: str) -> None:
        self._transport = transport
        self._project = project

    async def submit(self, spec: SpecLike, *, idempotency_key: str | None = None) -> JobView:
        """Submit a job, exactly once.

        Each call makes a fresh key, so two calls are two jobs; every retry inside the call carries the
        same one. Where a call fails in the end, the exception's `idempotency_key` makes it safe to call
        again.

        Args:
            spec: a dict, a spec model, or the path of a YAML or JSON file.
            idempotency_key: your own key: the same key and spec give the same job, always.
        """
        return await self._transport.send(job_calls.submit(self._project, spec, idempotency_key))

    async def plan(self, spec: SpecLike) -> PlanView:
        """Say what a submission would do, and do nothing."""
        return await self._transport.send(job_calls.plan(self._project, spec))

    async def list(
        self,
        *,
        limit: int = 50,
        after: str | None = None,
        states: Sequence[str] = (),
        type: str | None = None,  # noqa: A002 - the word of the API
        tags: Mapping[str, str] | None = None,
        name: str | None = None,
        parent: str | None = None,
        children: bool = False,
    ) -> Page[JobSummary]:
        """Return one page of jobs, newest first; `page.next` goes into `after`.

        What searches and pipelines have made is left out, but with `parent`, the id of one of them, or with
        `children`.
        """
        return await self._transport.send(
            job_calls.list_jobs(
                self._project,
                limit=limit,
                after=after,
                states=states,
                type=type,
                tags=tags or {},
                name=name,
                parent=parent,
                children=children,
            )
        )

    async def iterate(
        self,
        *,
        states: Sequence[str] = (),
        type: str | None = None,  # noqa: A002 - the word of the API
        tags: Mapping[str, str] | None = None,
        name: str | None = None,
        parent: str | None = None,
        children: bool = False,
    ) -> AsyncIterator[JobSummary]:
        """Give all jobs, newest first, page by page; filters are those of `list`."""
        after = None
        while True:
            page = await self.list(
                limit=MAX_LIMIT,
                after=after,
                states=states,
                type=type,
                tags=tags,
                name=name,
                parent=parent,
                children=children,
            )
            for item in page.data:
                yield item
            after = page.next
            if not page.has_more or after is None:
                return

    async def get(self, job: str) -> JobView:
        """Return a job, whole."""
        return await self._transport.send(job_calls.get(self._project, job))

    async def cancel(self, job: str) -> JobView:
        """Ask for a job's end. It saves a checkpoint where it can."""
        return await self._transport.send(job_calls.cancel(self._project, job))

    async def cancel_many(
        self, jobs: Sequence[str] = (), *, tag: tuple[str, str] | None = None, everything: bool = False
    ) -> builtins.list[CancelResult]:
        """Ask for the end of many jobs: those named, those with a tag (key, value), or everything."""
        return (await self._transport.send(job_calls.cancel_many(self._project, jobs, tag, everything))).data

    async def pause(self, job: str) -> JobView:
        """Ask for a checkpoint and a stop; the job's resources become free."""
        return await self._transport.send(job_calls.pause(self._project, job))

    async def resume(self, job: str) -> JobView:
        """Ask for a paused job to go on from its checkpoint."""
        return await self._transport.send(job_calls.resume(self._project, job))

    async def retry(self, job: str, *, checkpoint: str | None = None, step: int | None = None) -> JobView:
        """Ask for a failed or cancelled job to go on, from its newest checkpoint or the one named."""
        return await self._transport.send(job_calls.retry(self._project, job, checkpoint, step))

    async def set_priority(self, job: str, priority: int) -> JobView:
        """Ask for another priority, 0 to 1000; higher goes first."""
        return await self._transport.send(job_calls.set_priority(self._project, job, priority))

    async def attempts(self, job: str) -> builtins.list[AttemptView]:
        """Return all launches of a job."""
        return (await self._transport.send(job_calls.attempts(self._project, job))).data

    async def checkpoints(self, job: str) -> builtins.list[CheckpointView]:
        """Return the published checkpoints of a job."""
        return (await self._transport.send(job_calls.checkpoints(self._project, job))).data

    async def explain(self, job: str) -> ExplainView:
        """Say why a job is where it is, and what would move it."""
        return await self._transport.send(job_calls.explain(self._project, job))

    async def events(
        self,
        job: str,
        *,
        follow: bool = False,
        after: str | None = None,
        on_outage: OnOutage | None = None,
        max_outage_seconds: float | None = 600.0,
    ) -> AsyncIterator[EventView]:
        """Give a job's events, oldest first, each once.

        Args:
            job: its id.
            follow: go on until the job has ended, across restarts of the platform.
            after: id of an event; those after it are given.
            on_outage: told of each failed try to take up a broken stream.
            max_outage_seconds: how long the platform may be away; None is for ever.
        """
        if not follow:
            async for item in self._stored_events(job, after):
                yield item
            return
        cursor = events_of_job(self._project, job, after)
        outage = Outage(self._transport.policy, max_outage_seconds, on_outage)
        while not cursor.finished:
            pause = self._transport.policy.base_seconds
            try:
                async with self._transport.stream(cursor.open()) as stream:
                    async for chunk in stream.chunks():
                        outage.over()
                        for item in cursor.feed(chunk):
                            yield item
                        if cursor.finished:
                            return
            except ClientError as error:
                pause = outage.pause_seconds(error)
            await self._transport.sleep(pause)

    async def logs(
        self,
        job: str,
        *,
        attempt: int | None = None,
        follow: bool = False,
        tail_lines: int | None = None,
        on_outage: OnOutage | None = None,
        max_outage_seconds: float | None = 600.0,
    ) -> AsyncIterator[str]:
        """Give the lines of a job's log, without line ends, each once.

        Args:
            job: its id.
            attempt: number of an attempt; else the newest, and with `follow` also those that come after.
            follow: go on until the attempt (or, with none named, the job) has ended.
            tail_lines: begin so many lines before the end.
            on_outage: told of each failed try to take up a broken stream.
            max_outage_seconds: how long the platform may be away; None is for ever.
        """
        cursor = LogCursor(self._project, job, attempt, follow, tail_lines)
        outage = Outage(self._transport.policy, max_outage_seconds, on_outage)
        while not cursor.finished:
            pause = self._transport.policy.look_seconds
            try:
                if cursor.aim(await self._transport.send_once(job_calls.get(self._project, job))):
                    async for item in self._read_log(cursor, outage):
                        yield item
            except ClientError as error:
                pause = outage.pause_seconds(error)
            if not cursor.finished:
                await self._transport.sleep(pause)

    async def watch(
        self,
        *jobs: str,
        timeout_seconds: float | None = None,
        on_outage: OnOutage | None = None,
        max_outage_seconds: float | None = 600.0,
    ) -> AsyncIterator[JobView]:
        """Give each job as it is now, and again at every change, until all have ended.

        Raises:
            WaitTimedOut: not all have ended in `timeout_seconds` (late by one call at most).
        """
        watch = JobWatch(jobs, timeout_seconds)
        outage = Outage(self._transport.policy, max_outage_seconds, on_outage)
        while pending := watch.pending():
            pause = self._transport.policy.look_seconds
            try:
                for job in pending:
                    view = await self._transport.send_once(job_calls.get(self._project, job))
                    outage.over()
                    if watch.take(job, view):
                        yield view
            except ClientError as error:
                pause = outage.pause_seconds(error)
            if watch.pending():
                await self._transport.sleep(watch.pause_seconds(pause))

    async def wait(
        self,
        job: str,
        *,
        timeout_seconds: float | None = None,
        on_progress: Callable[[JobView], object] | None = None,
        on_outage: OnOutage | None = None,
        max_outage_seconds: float | None = 600.0,
    ) -> JobView:
        """Wait until a job has ended, well or not, and return it; look at its `state`.

        Raises:
            WaitTimedOut: it hasn't ended in `timeout_seconds`.
        """
        view: JobView | None = None
        async for view in self.watch(
            job,
            timeout_seconds=timeout_seconds,
            on_outage=on_outage,
            max_outage_seconds=max_outage_seconds,
        ):
            if on_progress:
                on_progress(view)
        assert view is not None
        return view

    async def _stored_events(self, job: str, after: str | None) -> AsyncIterator[EventView]:
        while True:
            page = await self._transport.send(job_calls.events(self._project, job, after, MAX_LIMIT))
            for item in page.data:
                yield item
            after = page.next
            if not page.has_more or after is None:
                return

    async def _read_log(self, cursor: LogCursor, outage: Outage) -> AsyncIterator[str]:
        # An attempt that has only just begun has no log yet.
        with suppress(NotFound):
            async with self._transport.stream(cursor.open()) as stream:
                cursor.begin(stream.headers)
                async for chunk in stream.chunks():
                    outage.over()
                    for item in cursor.feed(chunk):
                        yield item
        for item in cursor.end():
            yield item
