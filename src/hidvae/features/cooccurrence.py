"""Item vectors from what occurs together in the training histories; validation and test unseen."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import numpy as np
import scipy.sparse as sp

from hidvae.data.interactions import Sequences
from hidvae.features.unit_rows import unit_rows

_DEGREE_DAMPING = 5.0
"""Added to an item's degree, in direct transitions: rare items count less. On Beauty's validation
split 5 is slightly better than 0 or 1 at finding the next item among an item's neighbours."""
_DENSE_SIZE = 400
"""Up to this many items the whole matrix is decomposed, exactly."""
_LANCZOS_SIZE = 100_000
"""Up to this many items each eigenvector is computed to the last digit, however long it takes;
beyond, a fixed number of steps comes close enough (``_approximate_eigenpairs``)."""
_ROUNDING = 1e-12
"""Rows as short as this are what rounding left of zeros."""


def cooccurrence_embedding(
    train: Sequences, *, num_items: int, dim: int, window: int
) -> np.ndarray:
    """Spectral embedding of the items' transitions.

    A = D^-1/2 W D^-1/2 with W the symmetric matrix of pairs at most ``window`` steps apart,
    weighted 1 / distance, and D its damped degrees. An item's vector is its row of the leading
    eigenvectors, each scaled by the square root of its eigenvalue, so that inner products are those
    of the best positive semi-definite approximation of A; rows are L2-normalised at the end.

    Args:
        train: Training histories (``Split.train``) and nothing else.
        num_items: N.
        dim: Width of the result.
        window: Largest distance within a history, at least 1.

    Returns:
        (N, dim) float32, unit rows; zeros for items without a training transition. Columns beyond
        the number of positive eigenvalues are zero. Deterministic, signs included.
    """
    weights = cooccurrence_weights(train, num_items=num_items, window=window)
    degrees = np.asarray(weights.sum(axis=1)).ravel()
    active = np.flatnonzero(degrees > 0)
    embedding = np.zeros((num_items, dim), np.float32)
    if len(active) == 0 or dim == 0:
        return embedding
    scale = sp.diags_array(1 / np.sqrt(degrees[active] + _DEGREE_DAMPING))
    normalized = (scale @ weights[active][:, active] @ scale).tocsr()
    values, vectors = _leading_eigenpairs(normalized, dim)
    rows = vectors * np.sqrt(values)  # (N_active, <= dim)
    embedding[active, : rows.shape[1]] = unit_rows(rows, out=rows, shortest=_ROUNDING)
    return embedding


def cooccurrence_weights(train: Sequences, *, num_items: int, window: int) -> sp.csr_array:
    """Symmetric (N, N) weights: the sum of 1 / distance over all near pairs of different items."""
    total = sp.csr_array((num_items, num_items), dtype=np.float64)
    for distance, before, after in near_pairs(train, window):
        weight = np.full(len(before), 1 / distance)
        total = total + sp.coo_array((weight, (before, after)), shape=total.shape).tocsr()
    return (total + total.T).tocsr()


def near_pairs(train: Sequences, window: int) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Pairs of different items of one history, by how many steps they are apart.

    Args:
        train: Training histories.
        window: Most steps.

    Yields: A number of steps, and (P,) item_index of the earlier items and of the later ones.
    """
    items = np.asarray(train.items, np.int64)
    user = np.repeat(np.arange(len(train.offsets) - 1), np.diff(train.offsets))
    for distance in range(1, min(window, len(items) - 1) + 1):
        before, after = items[:-distance], items[distance:]
        is_pair = (user[:-distance] == user[distance:]) & (before != after)
        yield distance, before[is_pair], after[is_pair]


def _leading_eigenpairs(matrix: sp.csr_array, dim: int) -> tuple[np.ndarray, np.ndarray]:
    """Largest positive eigenvalues, falling, and their vectors with a fixed sign."""
    size = matrix.shape[0]
    if size <= _DENSE_SIZE or dim >= size - 1:
        values, vectors = np.linalg.eigh(matrix.toarray())
    elif size > _LANCZOS_SIZE:
        values, vectors = _approximate_eigenpairs(matrix, dim)
    else:
        from scipy.sparse.linalg import eigsh

        # A fixed start makes Lanczos deterministic; a random one meets every eigenvector.
        start = np.random.default_rng(0).standard_normal(size)
        values, vectors = eigsh(matrix, k=dim, which="LA", v0=start)
    order = np.argsort(-values, kind="stable")[:dim]
    order = order[values[order] > 1e-10]
    values, vectors = values[order], vectors[:, order]
    largest = np.argmax(np.abs(vectors), axis=0)
    signs = np.sign(vectors[largest, np.arange(len(order))])
    return values, vectors * signs


def _approximate_eigenpairs(
    matrix: sp.csr_array, dim: int, steps: int = 20
) -> tuple[np.ndarray, np.ndarray]:
    """As ``eigsh`` nearly; its time does not depend on how close eigenvalues are.

    Source: LOBPCG, Knyazev 2001.
    """
    from scipy.sparse.linalg import lobpcg

    start = np.random.default_rng(0).standard_normal((matrix.shape[0], dim))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that some have not converged
        values, vectors = lobpcg(matrix, start, largest=True, tol=1e-3, maxiter=steps)
    return values, vectors
