"""A few rows of a sparse matrix, against SciPy's own selection."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from hidvae.features.csr import dense_rows


def test_dense_rows_are_the_rows_without_empty_columns() -> None:
    rng = np.random.default_rng(0)
    full = rng.random((9, 40)) * (rng.random((9, 40)) < 0.2)
    full[4] = 0
    matrix = sparse.csr_array(full.astype(np.float32))
    for rows in ([2, 7, 2], [4], [4, 0, 8], []):
        index = np.array(rows, dtype=np.int64)
        taken = full[index].astype(np.float32)
        found = dense_rows(matrix, index)
        np.testing.assert_array_equal(found, taken[:, (taken != 0).any(axis=0)])
        assert found.dtype == np.float32
