"""A tensor of a safetensors file as memory that is read when it is looked at.

safetensors' own reader copies. A mapped matrix costs memory only where it is used, and processes on
one machine share it.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

_HEADER_SIZE_BYTES = 8
_DTYPES = {"F32": np.float32, "F64": np.float64}


def map_tensor(file: Path, name: str) -> np.ndarray:
    """A tensor of a file, mapped; writing to it changes this process's copy alone.

    Raises:
        OSError: If there is no such file.
        KeyError: If it has no such tensor, or one of numbers that are not floating point.
        ValueError: If the file is cut off or is no safetensors file.
    """
    with file.open("rb") as handle:
        header_size = int.from_bytes(handle.read(_HEADER_SIZE_BYTES), "little")
        if header_size > file.stat().st_size:
            raise ValueError("the file is shorter than its header")
        entry = json.loads(handle.read(header_size))[name]
    start = _HEADER_SIZE_BYTES + header_size + entry["data_offsets"][0]
    shape = tuple(entry["shape"])
    if 0 in shape:  # nothing to map
        return np.zeros(shape, _DTYPES[entry["dtype"]])
    return np.memmap(file, _DTYPES[entry["dtype"]], "c", start, shape)
