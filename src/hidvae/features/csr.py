"""Sparse matrices as the tensors of a safetensors file."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy import sparse

_PARTS = ("data", "indices", "indptr")


def csr_to_tensors(name: str, matrix: sparse.csr_array) -> dict[str, np.ndarray]:
    """The tensors ``<name>.data``, ``<name>.indices`` and ``<name>.indptr``."""
    return {f"{name}.{part}": np.ascontiguousarray(getattr(matrix, part)) for part in _PARTS}


def csr_from_tensors(
    name: str, tensors: Mapping[str, np.ndarray], shape: tuple[int, int]
) -> sparse.csr_array:
    """What ``csr_to_tensors`` was given.

    Raises:
        KeyError: If a tensor is missing.
        ValueError: If they are no matrix of this shape.
    """
    matrix = sparse.csr_array(tuple(tensors[f"{name}.{part}"] for part in _PARTS), shape=shape)
    matrix.check_format()
    return matrix
