"""The activities of a family's workflow. Each may be tried any number of times."""

from temporalio import activity

from steelyard.activities.edge import heartbeats
from steelyard.jobs.families import FamilyService
from steelyard.jobs.preparation import PreparationService
from steelyard.jobs.registration import RegistrationService
from steelyard.workflows.messages import FamilyPlan, FamilyStanding, GiveUp


class FamilyActivities:
    """Bound to the services of one worker process."""

    def __init__(
        self, families: FamilyService, preparation: PreparationService, registration: RegistrationService
    ) -> None:
        self._families = families
        self._preparation = preparation
        self._registration = registration

    @activity.defn(name="prepare_family")
    async def prepare_family(self, job_id: str) -> FamilyPlan:
        """Make data and base model ready, once for all children."""
        async with heartbeats():
            prepared = await self._preparation.prepare(job_id)
        return FamilyPlan(prepared.ready, prepared.reason, prepared.message)

    @activity.defn(name="advance_family")
    async def advance_family(self, job_id: str, run_number: int) -> FamilyStanding:
        """Do what is due for a family."""
        standing = await self._families.advance(job_id, run_number)
        return FamilyStanding(standing.state, standing.over, standing.chosen is not None)

    @activity.defn(name="give_up_family")
    async def give_up_family(self, wish: GiveUp) -> None:
        """Let the run fail with a reason."""
        await self._families.give_up(wish.job_id, wish.run_number, wish.reason, wish.message)

    @activity.defn(name="register_family")
    async def register_family(self, job_id: str, run_number: int) -> None:
        """Judge the gates of the child whose model is the result, and register it under the family's name."""
        chosen = (await self._families.advance(job_id, run_number)).chosen
        if chosen is None:
            return
        async with heartbeats():
            found = await self._registration.register(chosen)
        await self._families.note_registration(
            job_id, run_number, accepted=found.accepted, reason=found.reason, message=found.message
        )
