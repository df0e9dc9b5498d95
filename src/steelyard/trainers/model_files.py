"""The small files of a model folder: configuration, tokenizer, chat template."""
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import json
from dataclasses import dataclass
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from steelyard.trainers.templates import chatml_with


@dataclass(frozen=True)
class LlamaShape:
    """Sizes of a Llama with tied embeddings."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    layers: int
    heads: int
    kv_heads: int
    context_length: int
    rope_theta: float
    norm_epsilon: float

    @property
    def head_dim(self) -> int:
        """Width of one head."""
        return self.hidden_size // self.heads


@dataclass(frozen=True)
class SpecialTokens:
    """Texts of the tokens with a meaning, and the system turn that a conversation without one gets."""

    bos: str
    eos: str
    pad: str
    unknown: str
    default_system: str


def write_llama_config(folder: Path, shape: LlamaShape, dtype: str, token_ids: tuple[int, int, int]) -> None:
    """Write config.json and generation_config.json; `token_ids` are of begin, end and padding."""
    bos, eos, pad = token_ids
    special = {"bos_token_id": bos, "eos_token_id": eos, "pad_token_id": pad}
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": shape.vocab_size,
        "hidden_size": shape.hidden_size,
        "intermediate_size": shape.intermediate_size,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.head_dim,
        "max_position_embeddings": shape.context_length,
        "rms_norm_eps": shape.norm_epsilon,
        "rope_parameters": {"rope_type": "default", "rope_theta": shape.rope_theta},
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": True,
        "initializer_range": 0.02,
        "dtype": dtype,
        **special,
    }
    _write_json(folder / "config.json", config)
    _write_json(folder / "generation_config.json", special)


def write_tokenizer(folder: Path, tokenizer: Tokenizer, special: SpecialTokens, context_length: int) -> None:
    """Write tokenizer.json and its companions, with a ChatML template that has generation marks."""
    tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": special.bos,
        "eos_token": special.eos,
        "pad_token": special.pad,
        "unk_token": special.unknown,
        "model_max_length": context_length,
        "clean_up_tokenization_spaces": False,
        "add_prefix_space": False,
    }
    _write_json(folder / "tokenizer_config.json", config)
    (folder / "chat_template.jinja").write_text(chatml_with(special.default_system), encoding="utf-8")


def byte_level_bpe(vocab: dict[str, int], merges: list[tuple[str, str]], special: list[str]) -> Tokenizer:
    """Make a GPT-2 style tokenizer over bytes that splits numbers into digits."""
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges, fuse_unk=False))
    use_byte_level(tokenizer)
    tokenizer.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in special])
    return tokenizer


def use_byte_level(tokenizer: Tokenizer) -> None:
    """Split on digits and GPT-2's words, over bytes."""
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=True, use_regex=True),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n", encoding="utf-8")
