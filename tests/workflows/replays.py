"""What tests of all workflows share: the sandbox they run in, and the replay of saved histories."""

import json
from pathlib import Path

from temporalio.client import WorkflowHistory
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import Replayer
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions


def sandbox() -> SandboxedWorkflowRunner:
    """Return the runner of workflows, with what the worker lets through."""
    return SandboxedWorkflowRunner(
        restrictions=SandboxRestrictions.default.with_passthrough_modules("steelyard", "pydantic")
    )


async def replay(workflow: type, path: Path) -> None:
    """Replay a saved history; a workflow that would go another way raises."""
    replayer = Replayer(
        workflows=[workflow], data_converter=pydantic_data_converter, workflow_runner=sandbox()
    )
    await replayer.replay_workflow(WorkflowHistory.from_json(path.stem, json.loads(path.read_text())))
