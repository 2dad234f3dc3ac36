"""An ID for one more item, which nobody else holds; all others keep theirs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from hidvae.errors import DataError

_IntArray = npt.NDArray[np.int64]


def free_id(
    latent: npt.NDArray[np.floating],
    codebooks: Sequence[npt.NDArray[np.floating]],
    codes: _IntArray,
    taken: _IntArray,
    num_numbers: int = 0,
) -> _IntArray:
    """The item's own codes if they are free, else those nearest to it that are.

    The last code gives way first: each level takes the code nearest to the residual below which an
    ID is left, so that the item stays under its prefix for as long as there is room.

    Args:
        latent: (D,) of the item.
        codebooks: L arrays (K_l, D).
        codes: (L,) that the tokenizer gives it.
        taken: (N, M) IDs that others hold, of L codes, or of one more with a disambiguation code.
        num_numbers: Size of that further level; 0 where there is none.

    Returns: (M,).

    Raises:
        DataError: If every ID is taken.
    """
    found = _search(latent, list(codebooks), codes, taken, num_numbers, 0)
    if found is None:
        raise DataError(
            f"expected a free semantic ID; found all of them taken by {len(taken)} items; "
            "train again with a larger TokenizerConfig.codebook_size"
        )
    return np.array(found, dtype=np.int64)


def _search(
    residual: npt.NDArray[np.floating],
    codebooks: list[npt.NDArray[np.floating]],
    codes: _IntArray | None,
    taken: _IntArray,
    num_numbers: int,
    level: int,
) -> list[int] | None:
    """The codes from ``level`` on; ``taken`` holds the IDs under the prefix, None is no ID left.

    ``codes`` are the tokenizer's while the prefix is its own; elsewhere there are none.
    """
    if level == len(codebooks):  # the disambiguation code, where there is one
        free = np.setdiff1d(np.arange(num_numbers), taken[:, level])
        return [int(free[0])] if len(free) else None
    distances = ((codebooks[level] - residual) ** 2).sum(axis=1)
    if codes is not None:
        distances[codes[level]] = -1.0
    is_last = level == len(codebooks) - 1 and not num_numbers
    if is_last:
        distances[taken[:, level]] = np.inf
        best = int(distances.argmin())
        return [best] if np.isfinite(distances[best]) else None
    for code in np.argsort(distances, kind="stable").tolist():
        rest = _search(
            residual - codebooks[level][code],
            codebooks,
            codes if codes is not None and codes[level] == code else None,
            taken[taken[:, level] == code],
            num_numbers,
            level + 1,
        )
        if rest is not None:
            return [code, *rest]
    return None
