"""An ingest: one long activity that can be tried again at any point."""

from temporalio import workflow
from temporalio.exceptions import ActivityError

with workflow.unsafe.imports_passed_through():
    from steelyard.workflows import timeouts


@workflow.defn(name="ingest")
class IngestWorkflow:
    """One ingest; its id is `ingest/<id>`."""

    @workflow.run
    async def run(self, ingest_id: str) -> None:
        """Build and publish. What keeps failing for no fault of the data is written down as failed."""
        try:
            await workflow.execute_activity(
                "run_ingest",
                ingest_id,
                start_to_close_timeout=timeouts.INGEST,
                heartbeat_timeout=timeouts.HEARTBEAT,
                retry_policy=timeouts.SOME_TRIES,
            )
        except ActivityError as error:
            await workflow.execute_activity(
                "fail_ingest",
                args=[ingest_id, str(error.cause or error)],
                start_to_close_timeout=timeouts.SHORT,
                retry_policy=timeouts.UNTIL_IT_WORKS,
            )
