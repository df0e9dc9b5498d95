"""Does reinforcement learning learn, and what it costs: `python -m bench.rl [--json]`.

A task whose true reward is known (`rl_task.py`): a tiny model that was taught docstrings, pairs of its
answers compared by a rule with one error in ten, a reward model of those pairs, and policies trained by ppo,
grpo and dpo, each as an attempt runs them. Before and after, on 256 held-out prompts with one answer each:
the reward model's score, the share that keeps the rule (which no trainer ever saw), with 95 % intervals, and
beside them the divergence from the start. `ppo, keen` is PPO with thrice the learning rate: where its score
rises and the rule is kept less, the reward model was outwitted.

Then seconds a step of dpo, by the platform's trainer and by TRL as a script of one's own (`plain_dpo.py`), in
turn, same model, rows, arguments and one thread each; ratios are ours by theirs, per round.
"""
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch

from bench.live import machine, print_table, read_steps, spread
from bench.rl_task import (
    ANSWER_TOKENS,
    Row,
    Training,
    Writer,
    compare,
    judge,
    questions,
    run_module,
    train,
)
from steelyard.trainers.builtin import ensure_builtin
from steelyard.trainers.reward_model import Scorer, open_scorer

_REWARD_MODEL = "models/liked@1"
_BATCH = {"per_device_train_batch_size": 32, "gradient_accumulation_steps": 2}
_ONLINE = {"reward_model": _REWARD_MODEL, "max_completion_length": ANSWER_TOKENS, "beta": 0.05}
_SKIPPED = 5
_LORA = {"r": 8, "lora_alpha": 16}


def main() -> None:
    """Run the bench."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=60, help="steps of the online methods")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--errors", type=float, default=0.1, help="share of comparisons that are wrong")
    parser.add_argument("--rounds", type=int, default=3, help="of the comparison of speed; 0: none")
    parser.add_argument("--dpo-steps", type=int, default=25)
    parser.add_argument("--dpo-model", default="builtin/smollm2-135m-instruct")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    found: dict[str, Any] = {"before": machine(), "steps": options.steps, "seed": options.seed}
    with tempfile.TemporaryDirectory() as folder:
        bench = _Bench(Path(folder), options)
        found |= bench.learn()
        if options.rounds:
            found["dpo_speed"] = bench.compare_speed()
    found["after"] = machine()
    if options.json:
        print(json.dumps(found))
        return
    _print(found)


class _Bench:
    def __init__(self, scratch: Path, options: argparse.Namespace) -> None:
        self._scratch = scratch
        self._data = scratch / "pairs.jsonl"
        self._options = options
        self._rows, self._heldout = questions(256, options.seed)
        self._pairs: list[Row] = []
        self._held_pairs: list[Row] = []
        self._last_losses: list[float] = []

    def learn(self) -> dict[str, Any]:
        """Train one after another, and judge each."""
        start = self._teach()
        base = Writer.open(start)
        self._pairs = compare(base, self._rows, self._options.errors, self._options.seed + 1)
        self._held_pairs = compare(base, self._heldout, 0.0, self._options.seed + 2)
        reward = self._train("reward", "reward", start, max_steps=200, learning_rate=1e-3)
        scorer = open_scorer(str(reward.folder), _REWARD_MODEL, "cpu")
        online = {"online": _ONLINE}, str(reward.folder)
        steps = self._options.steps
        policies = {
            "ppo": self._train("ppo", "ppo", start, *online, max_steps=steps, learning_rate=3e-4, **_BATCH),
            "ppo, keen": self._train(
                "keen", "ppo", start, *online, max_steps=steps, learning_rate=1e-3, **_BATCH
            ),
            "grpo": self._train(
                "grpo", "grpo", start, *online, max_steps=steps, learning_rate=3e-4, **_BATCH
            ),
            "dpo": self._train("dpo", "dpo", start, max_steps=200, learning_rate=3e-4),
        }
        return {
            "pairs": len(self._pairs),
            "held_out_pairs": len(self._held_pairs),
            "reward_model": reward.outcome.metrics,
            "policies": {
                "before": self._judge(base, scorer),
                **{name: self._judged(each, scorer) for name, each in policies.items()},
            },
            "curves": {
                name: [_point(line) for line in each.curve]
                for name, each in policies.items()
                if name != "dpo"
            },
        }

    def compare_speed(self) -> dict[str, Any]:
        """Take turns: the platform's dpo trainer, and TRL's by hand."""
        model = ensure_builtin(self._options.dpo_model, self._scratch / "cache").path
        ours: list[float] = []
        theirs: list[float] = []
        self._data.write_text("".join(json.dumps(row) + "\n" for row in self._pairs))
        for number in range(self._options.rounds):
            turns = [(ours, self._our_speed), (theirs, self._their_speed)]
            for times, take in turns if number % 2 == 0 else reversed(turns):
                times.append(take(model, number))
        ratios = [mine / its for mine, its in zip(ours, theirs, strict=True)]
        return {
            "ours_s": spread(ours),
            "theirs_s": spread(theirs),
            "ratio": spread(ratios),
            # Equal losses say that both did the same work.
            "last_losses": sorted(set(self._last_losses)),
        }

    def _teach(self) -> Path:
        base = ensure_builtin("builtin/tiny-random", self._scratch / "cache").path
        spec = self._spec("sft", {}, max_steps=600, learning_rate=3e-3, warmup_steps=20)
        rows = {"train": self._rows, "validation": self._heldout}
        return train(
            self._scratch, "sft", {"spec": spec, "model_path": str(base)}, rows, "prompt_completion"
        ).folder

    def _train(
        self,
        name: str,
        method: str,
        start: Path,
        blocks: dict[str, Any] | None = None,
        reward_model: str | None = None,
        **training: Any,
    ) -> Training:
        began = time.monotonic()
        orders = {
            "spec": self._spec(method, blocks or {}, **training),
            "model_path": str(start),
            "reward_model_path": reward_model,
        }
        rows = {"train": self._pairs, "validation": self._held_pairs}
        done = train(self._scratch, name, orders, rows, "preference")
        print(f"{name}: {time.monotonic() - began:.0f} s", file=sys.stderr)
        return done

    def _spec(self, method: str, blocks: dict[str, Any], **training: Any) -> dict[str, Any]:
        settings = {
            "per_device_train_batch_size": 16,
            "max_length": 128,
            "overlong": "drop",
            "seed": self._options.seed,
        }
        return {
            "api_version": "steelyard/v1",
            "type": "fine_tune",
            "name": "bench",
            "model": {"name_or_path": "docstrings"},
            "dataset": {"ref": "docstrings"},
            "method": method,
            "training": settings | training,
            "checkpoint": {"save_steps": 1_000_000},
            **blocks,
        }

    def _judge(self, writer: Writer, scorer: Scorer) -> dict[str, float]:
        return judge(writer, scorer, self._heldout, self._options.seed + 3)

    def _judged(self, training: Training, scorer: Scorer) -> dict[str, float]:
        metrics = training.outcome.metrics
        told = {"kl": metrics["policy/kl"]}
        if "rewards/accuracies" in metrics:
            told["pairs_right"] = metrics["rewards/accuracies"]
        return self._judge(Writer.open(training.folder), scorer) | told

    def _our_speed(self, model: Path, number: int) -> float:
        training = {"max_steps": self._options.dpo_steps, "per_device_train_batch_size": 2}
        spec = self._spec("dpo", {"peft": {"type": "lora", **_LORA}}, **training)
        rows = {"train": self._pairs, "validation": []}
        name = f"ours{number}"
        train(self._scratch, name, {"spec": spec, "model_path": str(model)}, rows, "preference")
        return self._seconds_a_step(self._scratch / name / "attempts" / "a1" / "metrics.jsonl")

    def _their_speed(self, model: Path, number: int) -> float:
        folder = self._scratch / f"theirs{number}"
        folder.mkdir()
        steps = folder / "steps.jsonl"
        orders = {
            "model_path": str(model),
            "data": str(self._data),
            "out": str(folder / "out"),
            "steps_file": str(steps),
            "threads": 1,
            "lora": {**_LORA, "target_modules": "all-linear"},
            "arguments": {
                "learning_rate": 2.0e-4,
                "max_steps": self._options.dpo_steps,
                "per_device_train_batch_size": 2,
                "max_length": 128,
                "seed": self._options.seed,
                "data_seed": self._options.seed,
                "logging_steps": 1,
                "save_strategy": "no",
                "report_to": "none",
                "disable_tqdm": True,
                "use_cpu": True,
                "bf16": False,
                "gradient_checkpointing": False,
                "dataloader_pin_memory": False,
            },
        }
        (folder / "orders.json").write_text(json.dumps(orders))
        if run_module("bench.plain_dpo", folder / "orders.json", folder / "log"):
            raise RuntimeError((folder / "log").read_text()[-3000:])
        return self._seconds_a_step(steps)

    def _seconds_a_step(self, path: Path) -> float:
        steps = [step for step in read_steps(path) if step[0] > _SKIPPED]
        self._last_losses.append(steps[-1][2])
        return (steps[-1][1] - steps[0][1]) / (len(steps) - 1)


def _point(line: dict[str, Any]) -> dict[str, float]:
    values = line["values"]
    return {"step": line["step"], "reward": values["reward"], "kl": values["kl"]}


def _print(found: dict[str, Any]) -> None:
    print(f"machine {found['before']} .. {found['after']}")
    told = found["reward_model"]
    print(
        f"{found['pairs']} pairs; reward model right on {told['reward/accuracy']:.3f} of "
        f"{told['reward/accuracy_n']:.0f} held out"
    )
    for name, each in found["policies"].items():
        print(
            f"  {name:<10} score {each['reward']:6.2f} +- {each['reward_halfwidth']:.2f}   "
            f"keeps the rule {each['wanted']:.3f} +- {each['wanted_halfwidth']:.3f}   "
            f"kl {each.get('kl', 0.0):.3f} nats/token   ended {each['ended']:.2f}   "
            f"different {each['different']:.2f}   pairs right {each.get('pairs_right', 0.0):.3f}"
        )
    if "dpo_speed" in found:
        speed = found["dpo_speed"]
        rows = [("dpo, ours", speed["ours_s"]), ("dpo by hand", speed["theirs_s"]), ("ratio", speed["ratio"])]
        print_table("seconds a step", rows)


if __name__ == "__main__":
    main()
