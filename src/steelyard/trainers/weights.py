"""Writing safetensors files from numpy, bfloat16 included, without torch."""
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import TensorSpec, serialize_file

Array = np.ndarray[Any, Any]


def round_to_bfloat16(values: Array) -> Array:
    """Round float32 to the nearest bfloat16, ties to even; the result holds the 16 bits as uint16."""
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    rounding = np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
    return ((bits + rounding) >> np.uint32(16)).astype(np.uint16)


def write_weights(path: Path, tensors: Mapping[str, Array]) -> None:
    """Write tensors of float32, or of bfloat16 bits in uint16, as one file that transformers loads."""
    # The arrays must outlive the call: only their addresses are handed over.
    dense = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
    specs = {
        name: TensorSpec(
            dtype="bfloat16" if tensor.dtype == np.uint16 else "float32",
            shape=tensor.shape,
            data_ptr=tensor.ctypes.data,
            data_len=tensor.nbytes,
        )
        for name, tensor in dense.items()
    }
    serialize_file(specs, str(path), metadata={"format": "pt"})
