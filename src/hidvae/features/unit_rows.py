"""Scale the rows of a matrix to length 1."""

from __future__ import annotations

import numpy as np


def unit_rows(
    matrix: np.ndarray, *, out: np.ndarray | None = None, shortest: float = 0.0
) -> np.ndarray:
    """Rows of L2 length 1; a row of zeros stays, and so is similar to nothing.

    Args:
        matrix: (N, D) floats.
        out: Where to; ``matrix`` itself for none to be copied. A new array by default.
        shortest: Rows of this length or less stay as they are.

    Returns: (N, D) of the same type.
    """
    if out is None:
        out = matrix.copy()
    norms = np.linalg.norm(matrix, axis=1, keepdims=True)
    np.divide(matrix, norms, out=out, where=norms > shortest)
    return out
