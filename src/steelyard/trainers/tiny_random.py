"""`builtin/tiny-random`: a Llama of 150,000 random weights, made in a second, equal on every machine."""
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from steelyard.trainers.model_files import (
    LlamaShape,
    SpecialTokens,
    use_byte_level,
    write_llama_config,
    write_tokenizer,
)
from steelyard.trainers.weights import Array, write_weights

RECIPE = "tiny-random-1"
"""Change it with anything below: caches are named by it."""

_SHAPE = LlamaShape(
    vocab_size=512,
    hidden_size=64,
    intermediate_size=160,
    layers=2,
    heads=4,
    kv_heads=2,
    context_length=2048,
    rope_theta=10_000.0,
    norm_epsilon=1e-5,
)
_SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
_TOKENS = SpecialTokens(
    bos="<|im_start|>", eos="<|im_end|>", pad="<|endoftext|>", unknown="<|endoftext|>", default_system=""
)
_SEED = 20_240_229
_CORPUS = [
    "A steelyard is the balance on which goods are weighed before they leave the yard.",
    "What does the function return? It returns the value of the given key, or a default.",
    "The quick brown fox jumps over the lazy dog while the user asks the assistant a question.",
    "Return a new list of the items in order; raise an error where the object is not a number.",
    "Read the file from the path, write the string to the stream, and close the connection.",
    "user assistant system module class method name type data error time set get",
]


def make_tiny_random(folder: Path) -> None:
    """Fill `folder` with a model that can be trained and knows nothing."""
    tokenizer = _train_tokenizer()
    write_weights(folder / "model.safetensors", _draw_weights())
    write_llama_config(folder, _SHAPE, "float32", (1, 2, 0))
    write_tokenizer(folder, tokenizer, _TOKENS, _SHAPE.context_length)


def _train_tokenizer() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(unk_token=None))
    use_byte_level(tokenizer)
    trainer = trainers.BpeTrainer(
        vocab_size=_SHAPE.vocab_size,
        special_tokens=_SPECIAL,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_CORPUS * 4, trainer)
    return tokenizer


def _draw_weights() -> dict[str, Array]:
    draw = np.random.Generator(np.random.PCG64(_SEED))
    shape = _SHAPE

    def normal(rows: int, columns: int) -> Array:
        return (draw.standard_normal((rows, columns)) * 0.02).astype(np.float32)

    ones = np.ones(shape.hidden_size, dtype=np.float32)
    kv_width = shape.kv_heads * shape.head_dim
    tensors = {
        "model.embed_tokens.weight": normal(shape.vocab_size, shape.hidden_size),
        "model.norm.weight": ones,
    }
    for layer in range(shape.layers):
        at = f"model.layers.{layer}"
        tensors |= {
            f"{at}.self_attn.q_proj.weight": normal(shape.hidden_size, shape.hidden_size),
            f"{at}.self_attn.k_proj.weight": normal(kv_width, shape.hidden_size),
            f"{at}.self_attn.v_proj.weight": normal(kv_width, shape.hidden_size),
            f"{at}.self_attn.o_proj.weight": normal(shape.hidden_size, shape.hidden_size),
            f"{at}.mlp.gate_proj.weight": normal(shape.intermediate_size, shape.hidden_size),
            f"{at}.mlp.up_proj.weight": normal(shape.intermediate_size, shape.hidden_size),
            f"{at}.mlp.down_proj.weight": normal(shape.hidden_size, shape.intermediate_size),
            f"{at}.input_layernorm.weight": ones,
            f"{at}.post_attention_layernorm.weight": ones,
        }
    return tensors
