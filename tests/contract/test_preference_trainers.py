"""What trainers of preferences and reinforcement keep: bits over a stop, figures that mean something."""
# pyright: reportUnknownVariableType=false

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from safetensors.torch import load_file, save_file
from tests.preference_rows import CHAT_JUDGED, CHAT_PREFERENCES, JUDGED, PREFERENCES
from tests.run_factory import (
    TRAINING,
    fine_tune_spec,
    make_run,
    read_outcome,
    start_trainer,
    trainer_environment,
)

from steelyard.kit.canonical import digest_file
from steelyard.runtime.failures import RunFailure
from steelyard.runtime.layout import list_checkpoints
from steelyard.runtime.manifests import verify_manifest
from steelyard.runtime.tracking import MetricsLog, read_metrics
from steelyard.specs.outcome import ExitCode, Outcome, OutcomeKind
from steelyard.specs.states import Reason
from steelyard.trainers import dpo, grpo, kto, ppo, reward
from steelyard.trainers.reward_model import open_scorer

pytestmark = pytest.mark.training

_DEADLINE_SECONDS = 90
_LORA = {"r": 4, "lora_alpha": 8}
_ROWS: dict[str, tuple[str, list[Any]]] = {
    "reward": ("preference", PREFERENCES),
    "dpo": ("preference", PREFERENCES),
    "kto": ("unpaired_preference", JUDGED),
    "ppo": ("preference", PREFERENCES),
    "grpo": ("preference", PREFERENCES),
}
_CHATS: dict[str, tuple[str, list[Any]]] = {
    "reward": ("preference", CHAT_PREFERENCES),
    "dpo": ("preference", CHAT_PREFERENCES),
    "kto": ("unpaired_preference", CHAT_JUDGED),
    "ppo": ("preference", CHAT_PREFERENCES),
    "grpo": ("preference", CHAT_PREFERENCES),
}
_MODULES: dict[str, ModuleType] = {"reward": reward, "dpo": dpo, "kto": kto, "ppo": ppo, "grpo": grpo}


@pytest.fixture(autouse=True)
def _own_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Take back what a trainer does to its process, where that process is ours."""
    monkeypatch.setenv("STEELYARD_RUN", "")
    handler = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, handler)


def _spec(method: str, *, steps: int = 6, **changes: Any) -> dict[str, Any]:
    training = TRAINING | {"max_steps": steps, "per_device_train_batch_size": 4}
    return fine_tune_spec(method=method, training=training) | changes


def _run(job_dir: Path, method: str, *, chat: bool = False, **fields: Any) -> Path:
    shape, rows = (_CHATS if chat else _ROWS)[method]
    known: dict[str, Any] = {
        "shape": shape,
        "rows": rows,
        "validation": rows[:16],
        "spec": _spec(method),
    }
    return make_run(job_dir, **(known | fields))


def _finish(run_path: Path, method: str) -> tuple[Path, Outcome]:
    """Run a trainer in this process; return the folder of its model and the outcome."""
    code = _MODULES[method].main(run_path)
    outcome = read_outcome(run_path)
    assert code == ExitCode.DONE, outcome.message
    assert outcome.model_dir is not None
    folder = run_path.parents[2] / outcome.model_dir
    assert verify_manifest(folder) is None
    return folder, outcome


def _weights(folder: Path) -> str:
    (file,) = folder.glob("*model.safetensors")
    return digest_file(file)


def _figures(run_path: Path) -> list[dict[str, Any]]:
    return read_metrics(run_path.with_name("metrics.jsonl"), 0)[0]


@pytest.fixture(scope="module")
def reward_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A reward model of the preferences, as its trainer makes it, with an adapter merged in."""
    spec = _spec("reward", steps=30, peft=_LORA)
    run = _run(tmp_path_factory.mktemp("reward") / "job", "reward", spec=spec, rows=PREFERENCES[:24])
    return _finish(run, "reward")[0]


def _online(reward_model: Path, **changes: Any) -> dict[str, Any]:
    block = {"reward_model": "models/liked@1", "max_completion_length": 8, "num_generations": 2}
    return {"online": block | changes}


class TestFigures:
    def test_a_reward_model_is_one_whole_classifier_that_orders_what_it_has_not_seen(
        self, reward_model: Path
    ) -> None:
        outcome = read_outcome(reward_model.parents[1] / "attempts" / "a1" / "run.json")
        assert outcome.metrics["reward/accuracy"] == 1.0
        assert outcome.metrics["reward/accuracy_n"] == 16
        assert outcome.metrics["reward/margin"] > 0.5
        assert not list(reward_model.glob("adapter*"))
        config = json.loads((reward_model / "config.json").read_text())
        assert (config["architectures"], config["pad_token_id"]) == (["LlamaForSequenceClassification"], 0)
        scorer = open_scorer(str(reward_model), "models/liked@1", "cpu")
        liked, disliked = scorer.score(
            [
                {"prompt": "What is 77 and 77?", "completion": f" It is 154, the double.{scorer.end_text}"},
                {"prompt": "What is 77 and 77?", "completion": f" The dog jumps.{scorer.end_text}"},
            ]
        )
        assert liked > disliked

    @pytest.mark.parametrize(
        ("method", "peft", "chat"),
        [("dpo", None, False), ("dpo", _LORA, True), ("kto", None, True), ("kto", _LORA, False)],
    )
    def test_a_policy_learns_the_preferences_and_how_far_it_went_is_told(
        self, tmp_path: Path, method: str, peft: Any, chat: bool
    ) -> None:
        run = _run(tmp_path / "job", method, spec=_spec(method, steps=16, peft=peft), chat=chat)
        metrics = _finish(run, method)[1].metrics
        assert metrics["rewards/accuracies"] > 0.9
        assert metrics["rewards/accuracies_n"] == 16
        assert metrics["rewards/margins"] > 0.2
        assert 0.0 < metrics["policy/kl"] < 1.0
        assert metrics["policy/kl_n"] == (16 if method == "dpo" else 8)
        first, last = _figures(run)[0]["values"], _figures(run)[-1]["values"]
        assert last["loss"] < first["loss"]
        assert {"rewards/margins", "tokens_per_second"} <= last.keys()

    @pytest.mark.parametrize(("method", "chat"), [("ppo", True), ("grpo", False)])
    def test_reward_and_divergence_are_told_of_every_step(
        self, tmp_path: Path, method: str, chat: bool, reward_model: Path
    ) -> None:
        spec = _spec(method, steps=4, peft=_LORA, **_online(reward_model))
        run = _run(tmp_path / "job", method, spec=spec, chat=chat, reward_model_path=str(reward_model))
        metrics = _finish(run, method)[1].metrics
        figures = [line["values"] for line in _figures(run)]
        assert len(figures) == 4
        assert all({"reward", "kl", "loss", "entropy"} <= each.keys() for each in figures)
        assert figures[0]["kl"] == pytest.approx(0.0, abs=1e-6), "the policy begins as its reference"
        assert metrics["policy/kl"] > 0.0
        assert metrics["policy/reward_n"] == 16
        assert metrics["policy/reward_stderr"] > 0.0

    def test_without_held_out_rows_nothing_is_made_up(self, tmp_path: Path) -> None:
        run = _run(tmp_path / "job", "reward")
        Path(json.loads(run.read_text())["dataset"]["validation"][0]).write_text("")
        assert _finish(run, "reward")[1].metrics.keys() == {"train/loss"}


_RESUMED = [
    ("reward", _LORA),
    ("reward", None),
    ("dpo", _LORA),
    ("kto", None),
    ("ppo", None),
    ("ppo", _LORA),
    ("grpo", _LORA),
]
_STEPS, _STOPPED = 10, 7


class TestResume:
    """Rows are few, so that a stop falls into the second pass over them."""

    def _run(self, folder: Path, method: str, peft: Any, reward_model: Path, **fields: Any) -> Path:
        changes: dict[str, Any] = {"peft": peft, "checkpoint": {"save_steps": 100}}
        if method in ("ppo", "grpo"):
            changes |= _online(reward_model, use_score_scaling=method == "ppo", temperature=1.3)
            fields |= {"reward_model_path": str(reward_model)}
        spec = _spec(method, steps=_STEPS, **changes)
        few = 8 if method == "grpo" else 16
        return _run(folder, method, spec=spec, rows=_ROWS[method][1][:few], **fields)

    @pytest.mark.parametrize(("method", "peft"), _RESUMED)
    def test_sigterm_saves_at_a_step_end_and_the_rest_gives_the_same_bits(
        self, tmp_path: Path, method: str, peft: Any, reward_model: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        undisturbed = self._run(tmp_path / "undisturbed", method, peft, reward_model)
        expected = _weights(_finish(undisturbed, method)[0])
        first = self._run(tmp_path / "job", method, peft, reward_model)
        with monkeypatch.context() as patched:
            _signal_after(patched, _STOPPED)
            assert _MODULES[method].main(first) == ExitCode.CHECKPOINTED
        (newest,) = list_checkpoints(tmp_path / "job")
        assert newest.step == read_outcome(first).step
        assert _STOPPED <= newest.step < _STEPS
        resumed = self._run(
            tmp_path / "job", method, peft, reward_model, epoch=2, resume_from=str(newest.path)
        )
        folder, outcome = _finish(resumed, method)
        assert _weights(folder) == expected
        assert outcome.metrics == read_outcome(undisturbed).metrics
        assert _figures(resumed)[0]["step"] == newest.step + 1

    def test_a_checkpoint_of_ppo_holds_nothing_that_could_run(
        self, tmp_path: Path, reward_model: Path
    ) -> None:
        run = _run(
            tmp_path / "job",
            "ppo",
            spec=_spec("ppo", steps=2, **_online(reward_model)),
            reward_model_path=str(reward_model),
        )
        _finish(run, "ppo")
        names = {path.suffix for path in list_checkpoints(tmp_path / "job")[0].path.iterdir()}
        assert names == {".json", ".safetensors"}

    @pytest.mark.parametrize("method", ["dpo", "ppo"])
    def test_sigkill_repeats_at_most_an_interval_and_gives_the_same_bits(
        self, tmp_path: Path, method: str, reward_model: Path
    ) -> None:
        def run(folder: Path, **fields: Any) -> Path:
            spec = _spec(method, steps=24, checkpoint={"save_steps": 4})
            if method == "ppo":
                spec |= _online(reward_model)
                fields |= {"reward_model_path": str(reward_model)}
            return _run(folder, method, spec=spec, **fields)

        expected = _weights(_finish(run(tmp_path / "undisturbed"), method)[0])
        first = run(tmp_path / "job")
        process = start_trainer(first, f"steelyard.trainers.{method}")
        _wait_for_step(first, 6)
        process.kill()
        assert process.wait(_DEADLINE_SECONDS) == -signal.SIGKILL
        newest = list_checkpoints(tmp_path / "job")[0]
        assert len(_figures(first)) - newest.step <= 4
        second = run(tmp_path / "job", epoch=2, resume_from=str(newest.path))
        assert _weights(_finish(second, method)[0]) == expected


def _signal_after(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Get this process a SIGTERM when the figures of a step are written."""
    append = MetricsLog.append

    def append_and_signal(self: MetricsLog, at: int, values: Any) -> None:
        append(self, at, values)
        if at == step:
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(MetricsLog, "append", append_and_signal)


def _wait_for_step(run_path: Path, step: int) -> None:
    metrics = run_path.with_name("metrics.jsonl")
    deadline = time.monotonic() + _DEADLINE_SECONDS
    while time.monotonic() < deadline:
        lines = metrics.read_text().splitlines() if metrics.exists() else []
        if len(lines) >= step:
            return
        time.sleep(0.005)  # poll of a file that another process writes
    raise AssertionError(run_path.with_name("log").read_text())


class TestRefusals:
    def _refused(self, run_path: Path, method: str, code: int = ExitCode.BAD_CONFIG) -> Outcome:
        assert _MODULES[method].main(run_path) == code
        outcome = read_outcome(run_path)
        assert outcome.kind is OutcomeKind.FAILED
        assert list_checkpoints(run_path.parents[2]) == []
        return outcome

    @pytest.mark.parametrize("method", ["reward", "dpo"])
    def test_a_pair_of_equal_answers_is_named(self, tmp_path: Path, method: str) -> None:
        rows = [*PREFERENCES[:4], {"prompt": "a", "chosen": "same", "rejected": "same"}]
        outcome = self._refused(_run(tmp_path / "job", method, rows=rows), method)
        assert outcome.message.startswith("Row 5 of the train split can't be learned from")

    @pytest.mark.parametrize("method", ["reward", "dpo", "kto"])
    def test_an_overlong_row_is_named_with_its_length(self, tmp_path: Path, method: str) -> None:
        shape, rows = _ROWS[method]
        long = [*rows[:3], rows[3] | {"prompt": "word " * 200}]
        outcome = self._refused(_run(tmp_path / "job", method, rows=long, shape=shape), method)
        assert outcome.reason is Reason.SEQUENCE_TOO_LONG
        assert outcome.message.startswith("Row 4 of the train split has ")

    def test_prompts_that_leave_no_room_for_an_answer_leave_no_row(self, tmp_path: Path) -> None:
        rows = [row | {"prompt": "word " * 200} for row in PREFERENCES]
        spec = _spec("dpo", training=TRAINING | {"overlong": "truncate"})
        outcome = self._refused(_run(tmp_path / "job", "dpo", rows=rows, spec=spec), "dpo")
        assert outcome.reason is Reason.DATASET_EMPTY

    @pytest.mark.parametrize("method", ["reward", "dpo", "kto"])
    def test_no_pairs(self, tmp_path: Path, method: str) -> None:
        outcome = self._refused(_run(tmp_path / "job", method, rows=[]), method)
        assert outcome.reason is Reason.DATASET_EMPTY

    @pytest.mark.parametrize("method", ["reward", "dpo", "kto", "grpo"])
    def test_rows_of_another_shape(self, tmp_path: Path, method: str) -> None:
        changes = _online(tmp_path) if method == "grpo" else {}
        run = _run(
            tmp_path / "job", method, shape="text", rows=[{"text": "a"}], spec=_spec(method, **changes)
        )
        outcome = self._refused(run, method)
        assert outcome.reason in (Reason.BAD_CONFIG, Reason.MODEL_NOT_FOUND)

    @pytest.mark.parametrize("method", ["reward", "dpo", "kto", "ppo"])
    def test_conversations_need_a_chat_template(
        self, tmp_path: Path, method: str, reward_model: Path
    ) -> None:
        fields: dict[str, Any] = {}
        if method == "ppo":
            spec = _spec(method, **_online(reward_model))
            fields = {"reward_model_path": str(reward_model), "spec": spec}
        run = _run(tmp_path / "job", method, chat=True, **fields)
        (template,) = (tmp_path / "cache" / "builtin").glob("*/chat_template.jinja")
        template.unlink()
        assert self._refused(run, method).reason is Reason.NO_CHAT_TEMPLATE

    @pytest.mark.parametrize("method", ["reward", "dpo", "ppo"])
    def test_what_is_no_number_stops_and_saves_nothing(
        self, tmp_path: Path, method: str, reward_model: Path
    ) -> None:
        fields: dict[str, Any] = {}
        if method == "ppo":
            spec = _spec(method, **_online(reward_model))
            fields = {"reward_model_path": str(_poisoned(reward_model, tmp_path / "model")), "spec": spec}
        run = _run(tmp_path / "job", method, **fields)
        if method != "ppo":
            (weights,) = (tmp_path / "cache" / "builtin").glob("*/model.safetensors")
            _poison(weights)
        assert self._refused(run, method, 1).reason is Reason.NAN_LOSS

    @pytest.mark.parametrize("method", ["ppo", "grpo"])
    def test_a_reward_model_that_is_not_there_or_is_none(self, tmp_path: Path, method: str) -> None:
        spec = _spec(method, **_online(tmp_path))
        missing = self._refused(_run(tmp_path / "a" / "job", method, spec=spec), method)
        assert missing.reason is Reason.MODEL_NOT_FOUND
        run = _run(tmp_path / "b" / "job", method, spec=spec)
        policy = json.loads(run.read_text())["model_path"]
        other = _run(tmp_path / "c" / "job", method, spec=spec, reward_model_path=policy)
        outcome = self._refused(other, method)
        assert outcome.reason is Reason.BAD_CONFIG
        assert "LlamaForCausalLM" in outcome.message

    def test_an_adapter_of_a_reward_model_is_not_sharded(self, tmp_path: Path) -> None:
        spec = _spec("reward", peft=_LORA, distributed={"strategy": "fsdp"})
        assert (
            "use strategy ddp" in self._refused(_run(tmp_path / "job", "reward", spec=spec), "reward").message
        )

    def test_kto_needs_answers_to_mismatch(self, tmp_path: Path) -> None:
        spec = _spec("kto", training=TRAINING | {"per_device_train_batch_size": 1})
        assert "to 2 or more" in self._refused(_run(tmp_path / "job", "kto", spec=spec), "kto").message

    def test_ppo_trains_in_one_process(self, tmp_path: Path, reward_model: Path) -> None:
        run = _run(
            tmp_path / "job",
            "ppo",
            spec=_spec("ppo", **_online(reward_model)),
            reward_model_path=str(reward_model),
        )
        told = json.loads(run.read_text())
        told["spec"]["distributed"] = {"strategy": "ddp", "num_nodes": 1, "processes_per_node": 2}
        run.write_text(json.dumps(told))
        # Such a spec is refused where it is submitted, so the trainer can't even read it.
        assert "distributed.strategy must be none" in self._refused(run, "ppo").message

    def test_groups_are_whole(self, tmp_path: Path, reward_model: Path) -> None:
        spec = _spec("grpo", **_online(reward_model, num_generations=3))
        run = _run(tmp_path / "job", "grpo", spec=spec, reward_model_path=str(reward_model))
        assert "make it a multiple" in self._refused(run, "grpo").message


def _poison(weights: Path) -> None:
    data = bytearray(weights.read_bytes())
    # The last four bytes belong to some weight: make it a NaN.
    data[-4:] = b"\x00\x00\xc0\x7f"
    weights.write_bytes(data)


def _poisoned(model: Path, target: Path) -> Path:
    shutil.copytree(model, target)
    _poison(target / "model.safetensors")
    return target


class TestScoring:
    def test_a_reward_model_reads_a_policys_words_with_its_own_tokenizer(
        self, tmp_path: Path, reward_model: Path
    ) -> None:
        other = tmp_path / "other"
        shutil.copytree(reward_model, other)
        words = json.loads((other / "tokenizer.json").read_text())
        words["model"]["merges"] = []
        (other / "tokenizer.json").write_text(json.dumps(words))
        row = {"prompt": "What is 1 and 1?", "completion": " It is 2."}
        same, bytewise = (open_scorer(str(path), "m", "cpu").score([row]) for path in (reward_model, other))
        assert same != bytewise
        spec = _spec("ppo", steps=2, **_online(reward_model))
        run = _run(tmp_path / "job", "ppo", spec=spec, reward_model_path=str(other))
        _finish(run, "ppo")

    def test_what_it_cannot_read_is_refused_in_words(self, tmp_path: Path, reward_model: Path) -> None:
        strict, headless = tmp_path / "strict", tmp_path / "headless"
        shutil.copytree(reward_model, strict)
        template = "{{ raise_exception('only the user may speak') }}"
        (strict / "chat_template.jinja").write_text(template)
        row = {"prompt": CHAT_PREFERENCES[0]["prompt"], "completion": CHAT_PREFERENCES[0]["chosen"]}
        with pytest.raises(RunFailure, match="only the user may speak") as refused:
            open_scorer(str(strict), "m", "cpu").score([row])
        assert refused.value.reason is Reason.BAD_CHAT_TEMPLATE
        shutil.copytree(reward_model, headless)
        weights = load_file(headless / "model.safetensors")
        del weights["score.weight"]
        save_file(weights, headless / "model.safetensors", metadata={"format": "pt"})
        with pytest.raises(RunFailure, match=r"its weights lack score\.weight"):
            open_scorer(str(headless), "m", "cpu")


class TestDdp:
    @pytest.mark.parametrize("method", ["reward", "dpo"])
    def test_two_ranks_train_as_one(self, tmp_path: Path, method: str) -> None:
        spec = _spec(method, steps=6, distributed={"strategy": "ddp", "processes_per_node": 2})
        run = _run(tmp_path / "job", method, spec=spec)
        module = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
        with run.with_name("log").open("ab") as log:
            agent = subprocess.run(
                [sys.executable, *module, "-m", f"steelyard.trainers.{method}", str(run)],
                stdout=log,
                stderr=subprocess.STDOUT,
                env=trainer_environment(),
                check=False,
                timeout=_DEADLINE_SECONDS,
            )
        assert agent.returncode == 0, run.with_name("log").read_text()
        outcome = read_outcome(run)
        assert (outcome.step, outcome.kind) == (6, OutcomeKind.SUCCEEDED)
        newest = list_checkpoints(tmp_path / "job")[0]
        assert {"rng_state_0.pth", "rng_state_1.pth"} <= {path.name for path in newest.path.iterdir()}
