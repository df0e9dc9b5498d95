"""Reward models: a classifier with one label over a language model, and scoring with a finished one."""
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForSequenceClassification, PreTrainedTokenizerBase, set_seed
from trl.trainer.reward_trainer import suppress_seqcls_warning

from steelyard.runtime.failures import RunFailure, bad_config
from steelyard.specs.blocks import ModelBlock
from steelyard.specs.states import Reason
from steelyard.trainers.model import weight_type
from steelyard.trainers.rows import Row
from steelyard.trainers.tokenizer import model_not_found, open_tokenizer
from steelyard.trainers.tokenizing import TEMPLATE_FAULTS

_PARAM = "online.reward_model"
_BATCH = 32
_KIND = "ForSequenceClassification"


def start_reward_model(path: Path, block: ModelBlock, pad_token_id: int, seed: int) -> Any:
    """Load a language model with a new head of one label, drawn by `seed`.

    Raises:
        RunFailure: the folder holds no model that can be loaded.
    """
    set_seed(seed)
    try:
        # That the head is new is no news here.
        with suppress_seqcls_warning():
            model: Any = AutoModelForSequenceClassification.from_pretrained(
                path, num_labels=1, dtype=weight_type(block.dtype)
            )
    except (OSError, ValueError) as error:
        raise model_not_found(path, block.name_or_path, error) from error
    # By this the model finds the last token, whose state is scored.
    model.config.pad_token_id = pad_token_id
    return model


class Scorer:
    """A finished reward model with its own tokenizer: a policy's texts are tokenized anew with it.

    Not thread-safe.
    """

    def __init__(self, model: Any, tokenizer: PreTrainedTokenizerBase) -> None:
        self.model = model.eval().requires_grad_(False)
        self._tokenizer: Any = tokenizer
        self._longest = getattr(model.config, "max_position_embeddings", None)

    def score(self, rows: Sequence[Row]) -> list[float]:
        """Score rows of `prompt` and `completion`, both plain text or both lists of messages.

        Plain text is scored as it stands: an answer that came to its end ends with this tokenizer's end token
        when it is meant to (`end_text`).

        Raises:
            RunFailure: the reward model has no chat template, or its template can't render a row.
        """
        encoded = [self._encode(row) for row in rows]
        scores: list[float] = []
        for start in range(0, len(encoded), _BATCH):
            scores += self._score_batch(encoded[start : start + _BATCH])
        return scores

    @property
    def end_text(self) -> str:
        """What ends a plain text that the reward model was trained on."""
        return str(self._tokenizer.eos_token)

    def _encode(self, row: Row) -> list[int]:
        if isinstance(row["prompt"], list):
            ids = self._render([*row["prompt"], *row["completion"]])
        else:
            ids = self._tokenizer(row["prompt"] + row["completion"])["input_ids"]
        # What came last counts most, where there are more tokens than the model has places.
        return ids if self._longest is None else ids[-self._longest :]

    def _render(self, messages: list[Any]) -> list[int]:
        if self._tokenizer.chat_template is None:
            raise bad_config(
                Reason.NO_CHAT_TEMPLATE,
                "The prompts are conversations, but the reward model's tokenizer has no chat template: train "
                "the reward model on conversations, with a model or model.chat_template that has one.",
                param=_PARAM,
            )
        try:
            return self._tokenizer.apply_chat_template(messages, tokenize=True, return_dict=True)["input_ids"]
        except TEMPLATE_FAULTS as error:
            raise bad_config(
                Reason.BAD_CHAT_TEMPLATE,
                f"The reward model's chat template can't render a prompt of the policy: {error}. Train the "
                "reward model with a model.chat_template that takes its roles.",
                param=_PARAM,
            ) from error

    @torch.no_grad()
    def _score_batch(self, batch: list[list[int]]) -> list[float]:
        padded = self._tokenizer.pad({"input_ids": batch}, padding_side="right", return_tensors="pt")
        logits = self.model(**padded.to(self.model.device), use_cache=False).logits
        return logits[:, 0].float().tolist()


def open_scorer(path: str | None, name: str, device: Any) -> Scorer:
    """Load a finished reward model.

    Args:
        path: its folder, as `run.json` has it.
        name: as the spec names it.

    Raises:
        RunFailure: there is none, or it is another kind of model.
    """
    if path is None or not Path(path, "config.json").exists():
        raise bad_config(
            Reason.MODEL_NOT_FOUND,
            f"The reward model {name} is not there (looked in {path}): train one with method reward.",
            param=_PARAM,
        )
    folder = Path(path)
    _require_reward_model(folder, name)
    try:
        model, found = AutoModelForSequenceClassification.from_pretrained(
            folder, dtype=weight_type(None), output_loading_info=True
        )
    except (OSError, ValueError) as error:
        raise _not_a_reward_model(name, str(error).splitlines()[0]) from error
    if found["missing_keys"]:
        raise _not_a_reward_model(name, f"its weights lack {sorted(found['missing_keys'])[0]}")
    tokenizer: Any = open_tokenizer(folder, name, None)
    model.config.pad_token_id = tokenizer.pad_token_id
    return Scorer(model.to(device), tokenizer)


def _require_reward_model(folder: Path, name: str) -> None:
    # The class below would put a new, random head on any language model and say so in a warning.
    try:
        config: Any = AutoConfig.from_pretrained(folder)
    except (OSError, ValueError) as error:
        raise _not_a_reward_model(name, str(error).splitlines()[0]) from error
    kinds = config.architectures or []
    if not any(kind.endswith(_KIND) for kind in kinds):
        raise _not_a_reward_model(name, f"it is a {', '.join(kinds) or 'model of no known kind'}")
    if config.num_labels != 1:
        raise _not_a_reward_model(name, f"it has {config.num_labels} labels in place of one")


def _not_a_reward_model(name: str, why: str) -> RunFailure:
    return bad_config(
        Reason.BAD_CONFIG,
        f"{name} can't be used as a reward model: {why}. Name a version that a job of method reward made.",
        param=_PARAM,
    )
