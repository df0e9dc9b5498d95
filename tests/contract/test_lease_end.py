"""A real trainer whose lease nobody renews any more: it saves at a step's end and leaves, all by itself."""

import subprocess
import time
from pathlib import Path

from tests.attempt_api import AttemptApi, serve_attempt_api
from tests.run_factory import make_run, read_outcome, start_trainer

from steelyard.runtime.layout import list_checkpoints
from steelyard.runtime.manifests import verify_manifest
from steelyard.specs.outcome import ExitCode, OutcomeKind
from steelyard.specs.states import Reason

LEASE_SECONDS = 2.0
_SLACK_SECONDS = 15.0
ENDLESS = """
import time
from steelyard import runtime

context = runtime.init()
step = 0
while True:
    step += 1
    time.sleep(0.02)
    context.report(step=step, total_steps=100000, loss=1.0)
    if context.leave_after(step, lambda folder: (folder / "state").write_text(str(step))):
        break
"""
SPEC = {
    "api_version": "steelyard/v1",
    "type": "fine_tune",
    "name": "endless",
    "method": "script",
    "script": {"filename": "train.py", "source": ENDLESS},
    "checkpoint": {"save_steps": 1_000_000},
}


def test_with_the_api_gone_it_saves_and_leaves_within_its_lease(tmp_path: Path) -> None:
    with serve_attempt_api() as api:
        api.answers["report"] = (200, {"lease_seconds": LEASE_SECONDS})
        run_path = make_run(tmp_path / "job", spec=SPEC, api_url=api.url, lease_seconds=60.0)
        process = start_trainer(run_path, "steelyard.trainers.script")
        _until_it_trains(api, process)
        for verb in ("report", "checkpoints", "events", "result"):
            api.answers[verb] = (503, {})
        gone = time.time()
        code = process.wait(60)

    outcome = read_outcome(run_path)
    assert (code, outcome.kind) == (ExitCode.CHECKPOINTED, OutcomeKind.CHECKPOINTED)
    assert outcome.reason is Reason.LEASE_LOST
    newest = list_checkpoints(tmp_path / "job")[0]
    assert newest.step == outcome.step > 0
    assert verify_manifest(newest.path) is None
    saved = (newest.path / "state").stat().st_mtime
    assert LEASE_SECONDS - 1.5 <= saved - gone <= LEASE_SECONDS + _SLACK_SECONDS


def test_an_api_that_grants_no_more_and_says_stop_is_obeyed_at_once(tmp_path: Path) -> None:
    with serve_attempt_api() as api:
        run_path = make_run(tmp_path / "job", spec=SPEC, api_url=api.url, lease_seconds=60.0)
        process = start_trainer(run_path, "steelyard.trainers.script")
        _until_it_trains(api, process)
        api.answers["report"] = (200, {"lease_seconds": 30.0, "stop": True})
        assert process.wait(60) == ExitCode.CHECKPOINTED
        assert api.bodies("result")[0]["outcome"]["kind"] == "checkpointed"
        assert len(api.bodies("checkpoints")) == 1


def _until_it_trains(api: AttemptApi, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + 60
    while not any(body["step"] > 5 for body in api.bodies("report")):
        assert process.poll() is None, "the trainer has ended"
        assert time.monotonic() < deadline, "no step in a minute"
        time.sleep(0.02)  # poll of another process
