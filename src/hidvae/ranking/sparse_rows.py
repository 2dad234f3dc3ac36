"""Rows of a sparse matrix as tensors, a few of which are read for each user of a batch.

Symbols: B users, L rows of a user, N columns, E entries.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy import sparse
from torch import Tensor, nn


class SparseRows(nn.Module):
    """A sparse matrix with N columns, as an exported program can hold it."""

    start: Tensor
    """(rows + 1,) where the entries of each row start."""
    columns: Tensor
    """(E,) columns of the entries, side by side for each row."""
    values: Tensor
    """(E,) the entries."""

    def __init__(self, matrix: sparse.csr_array) -> None:
        """Keep a matrix; values become float32."""
        super().__init__()
        self.num_columns = int(matrix.shape[1])
        for name, array in (
            ("start", matrix.indptr.astype(np.int64)),
            ("columns", matrix.indices),
            ("values", matrix.data.astype(np.float32, copy=False)),
        ):
            self.register_buffer(name, torch.from_numpy(array), persistent=False)
        self._longest = int(np.diff(matrix.indptr).max(initial=0))

    def sums(self, rows: Tensor, weights: Tensor) -> Tensor:
        """N weighted sums (B, N, n) of L rows for each of B users; rows may occur more than once.

        Args:
            rows: (B, L).
            weights: (B, L, n), 0 where a row does not count.
        """
        columns, values = self._entries(rows)  # (B, L, most)
        weighted = (values.unsqueeze(3) * weights.unsqueeze(2)).flatten(1, 2)
        sums = values.new_zeros(rows.shape[0], self.num_columns, weights.shape[2])
        return sums.scatter_add(1, columns.flatten(1).unsqueeze(2).expand_as(weighted), weighted)

    def dots(self, vectors: Tensor, rows: Tensor) -> Tensor:
        """Inner products (B, C, n) of n vectors and C rows for each of B users.

        Args:
            vectors: (B, N, n).
            rows: (B, C).
        """
        columns, values = self._entries(rows)  # (B, C, most)
        user = torch.arange(rows.shape[0], device=rows.device).view(-1, 1, 1)
        return (vectors[user, columns] * values.unsqueeze(3)).sum(dim=2)

    def _entries(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Columns and values (B, n, most) of rows (B, n); 0 beyond a row's end."""
        first, end = self.start[rows].unsqueeze(2), self.start[rows + 1].unsqueeze(2)
        # The shapes of an exported program may not depend on the rows.
        is_exporting = torch.compiler.is_exporting()
        most = self._longest if is_exporting else int((end - first).max()) if end.numel() else 0
        entry = first + torch.arange(most, device=rows.device)
        is_there = entry < end
        entry = entry.clamp_max(max(0, len(self.columns) - 1))
        return self.columns[entry].long(), self.values[entry] * is_there
