"""Sparse matrices as the tensors of a safetensors file, and a few of their rows."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
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


def dense_rows(matrix: sparse.csr_array, rows: npt.NDArray[np.integer]) -> np.ndarray:
    """A few rows (r, c), c being the columns in which one of them is not 0, ascending.

    For products of these rows it is some times as quick as SciPy's own selection.
    """
    first = matrix.indptr[rows]
    length = matrix.indptr[rows + 1] - first
    end = np.cumsum(length)
    entry = np.arange(length.sum()) + np.repeat(first - end + length, length)
    columns, place = np.unique(matrix.indices[entry], return_inverse=True)
    dense = np.zeros((len(rows), len(columns)), dtype=matrix.dtype)
    dense[np.repeat(np.arange(len(rows)), length), place] = matrix.data[entry]
    return dense
