"""A small task whose true reward is known: answers that begin as a style guide wants, from a model that knows
the standard library's docstrings a little.

PEP 257 asks docstrings to prescribe ("Return the name"), not to describe ("Returns the name"). A tiny model
is first taught the library's own docstrings; then an annotator with a given share of errors compares its
answers by that rule. The rule is what trainers never see: they see the comparisons, and it judges them
afterwards.
"""
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import json
import math
import os
import random
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from steelyard.datasets.stdlib_questions import stdlib_questions
from steelyard.specs.outcome import OUTCOME_NAME, Outcome
from steelyard.specs.run import RUN_NAME, RunConfig
from steelyard.trainers.generation import sample_answers, sampling_for
from steelyard.trainers.reward_model import Scorer
from steelyard.trainers.tokenizer import open_tokenizer
from steelyard.trainers.tokenizing import tokenize_prompts

Row = dict[str, Any]

WANTED = "Return "
ANSWER_TOKENS = 40
_ANSWERS_PER_PROMPT = 6
_BATCH = 64


def questions(heldout: int, seed: int) -> tuple[list[Row], list[Row]]:
    """Return rows to learn from and rows held out: real docstrings of 80 characters at most."""
    rows = stdlib_questions(max_characters=80)
    random.Random(seed).shuffle(rows)
    return rows[heldout:], rows[:heldout]


def is_wanted(text: str) -> bool:
    """The rule."""
    return text.strip().startswith(WANTED)


@dataclass(frozen=True)
class Writer:
    """A model with its tokenizer."""

    model: Any
    tokenizer: Any

    @classmethod
    def open(cls, folder: Path) -> "Writer":
        """Load a whole model."""
        model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        return cls(model.eval(), open_tokenizer(folder, str(folder), None))

    def write(self, prompts: Sequence[str], seed: int) -> list[tuple[str, bool]]:
        """Return one answer to each prompt, and whether it came to its end."""
        sampling = sampling_for(self.tokenizer, ANSWER_TOKENS, 1.0)
        torch.manual_seed(seed)
        found: list[tuple[str, bool]] = []
        for start in range(0, len(prompts), _BATCH):
            answers = sample_answers(
                self.model, tokenize_prompts(prompts[start : start + _BATCH], self.tokenizer), sampling
            )
            texts = self.tokenizer.batch_decode(answers.answer_ids(), skip_special_tokens=True)
            found += zip(texts, answers.ended.tolist(), strict=True)
        return found


def compare(writer: Writer, rows: Sequence[Row], errors: float, seed: int) -> list[Row]:
    """Let an annotator compare answers of a model: one pair a prompt, where the rule tells them apart."""
    chance = random.Random(seed)
    prompts = [row["prompt"] for row in rows]
    drawn = [writer.write(prompts, seed + number) for number in range(_ANSWERS_PER_PROMPT)]
    pairs: list[Row] = []
    for prompt, answers in zip(prompts, zip(*drawn, strict=True), strict=True):
        good = [text for text, ended in answers if ended and is_wanted(text)]
        bad = [text for text, ended in answers if ended and not is_wanted(text)]
        if good and bad:
            chosen, rejected = good[0], bad[0]
            if chance.random() < errors:
                chosen, rejected = rejected, chosen
            pairs.append({"prompt": prompt, "chosen": chosen, "rejected": rejected})
    return pairs


def judge(writer: Writer, scorer: Scorer, rows: Sequence[Row], seed: int) -> dict[str, float]:
    """Return what the reward model and the rule say of a model's answers, with 95 % half-widths."""
    prompts = [row["prompt"] for row in rows]
    answers = writer.write(prompts, seed)
    scores = scorer.score(
        [
            {"prompt": prompt, "completion": text + (scorer.end_text if ended else "")}
            for prompt, (text, ended) in zip(prompts, answers, strict=True)
        ]
    )
    wanted = [float(is_wanted(text)) for text, _ in answers]
    return {
        "reward": fmean(scores),
        "reward_halfwidth": _halfwidth(scores),
        "wanted": fmean(wanted),
        "wanted_halfwidth": _halfwidth(wanted),
        "ended": fmean(float(ended) for _, ended in answers),
        "different": len({text for text, _ in answers}) / len(answers),
        "n": float(len(answers)),
    }


def _halfwidth(values: Sequence[float]) -> float:
    return 1.96 * stdev(values) / math.sqrt(len(values))


@dataclass(frozen=True)
class Training:
    """A finished run of a trainer."""

    folder: Path
    outcome: Outcome
    curve: list[dict[str, Any]]


def train(
    scratch: Path, name: str, orders: dict[str, Any], rows: dict[str, list[Row]], shape: str
) -> Training:
    """Run one of the platform's trainers as a process of its own, as an executor would.

    Raises:
        RuntimeError: it failed.
    """
    job = scratch / name
    attempt = job / "attempts" / "a1"
    attempt.mkdir(parents=True)
    files = {split: _write(job / f"{split}.jsonl", part) for split, part in rows.items()}
    run = RunConfig.model_validate_json(
        json.dumps(
            {
                "stage": "train",
                "project": "bench",
                "job_id": name,
                "job_name": name,
                "attempt_id": name,
                "attempt_number": 1,
                "epoch": 1,
                "job_dir": str(job),
                "attempt_dir": str(attempt),
                "dataset": {
                    "digest": "none",
                    "format": shape,
                    "train": [files["train"]],
                    "validation": [files["validation"]],
                },
                "resume_from": None,
                "api_url": None,
                "tracking": None,
                **orders,
            }
        )
    )
    (attempt / RUN_NAME).write_text(run.model_dump_json())
    method = orders["spec"]["method"]
    result = run_module(f"steelyard.trainers.{method}", attempt / RUN_NAME, attempt / "log")
    if result != 0:
        raise RuntimeError(f"{name}: {(attempt / 'log').read_text()[-3000:]}")
    outcome = Outcome.model_validate_json((attempt / OUTCOME_NAME).read_bytes())
    curve = [json.loads(line) for line in (attempt / "metrics.jsonl").read_text().splitlines()]
    return Training(job / (outcome.model_dir or ""), outcome, curve)


def run_module(module: str, argument: Path, log: Path) -> int:
    """Run a Python module with one compute thread; return its exit code."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}
    with log.open("ab") as file:
        return subprocess.run(
            [sys.executable, "-m", module, str(argument)],
            env=environment,
            stdout=file,
            stderr=subprocess.STDOUT,
            check=False,
        ).returncode


def _write(path: Path, rows: Sequence[Row]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)
