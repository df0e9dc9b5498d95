"""The stages of a run, in order."""

from typing import Any

REGISTER = "register"


def stages_from(stage: str, spec: dict[str, Any]) -> list[str]:
    """Return the stages that need attempts, from `stage` on. Registration needs none."""
    stages: list[str] = []
    while stage != REGISTER:
        stages.append(stage)
        stage = stage_after(stage, spec)
    return stages


def stage_after(stage: str, spec: dict[str, Any]) -> str:
    """Return what comes after a stage."""
    if stage == "train" and spec.get("evaluation") is not None:
        return "evaluate"
    return REGISTER
