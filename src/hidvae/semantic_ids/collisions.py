"""Find, count and part items that share a semantic ID.

Codes are integers (N, L); row i is item_index i. Nothing here knows of models: an ID's
reconstruction is the sum of its codebook vectors, and that is all that ``reassign`` needs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hidvae.errors import DataError, ShapeError

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]

_ROWS_AT_ONCE = 8192
"""Rows of a distance matrix (rows, K) held at once."""


@dataclass(frozen=True, eq=False)
class Reassignment:
    """Semantic IDs without collisions, and what that cost."""

    codes: IntArray
    """(N, L); no two rows are equal."""
    moved: IntArray
    """(N_moved,) item_index of the items whose ID changed, ascending."""
    cost_before: float
    """Sum of squared distances between latent and reconstruction of the moved items, before."""
    cost_after: float
    """The same sum for their new IDs; every other item costs what it did."""


def collision_rate(codes: npt.NDArray[np.integer]) -> float:
    """1 − distinct IDs / items; 0.0 for no items.

    Args:
        codes: (N, L), integers of at least 0.
    """
    keys = _id_keys(codes)
    return 1.0 - (int(keys.max()) + 1) / len(keys) if len(keys) else 0.0


def colliding_groups(codes: npt.NDArray[np.integer]) -> list[IntArray]:
    """Items that share an ID, one ascending array of item_index per shared ID.

    Args:
        codes: (N, L), integers of at least 0.

    Returns: Arrays of two items or more, in lexicographic order of their IDs.
    """
    keys = _id_keys(codes)
    return _split_by(keys, _has_company(keys))


def disambiguate(codes: npt.NDArray[np.integer]) -> tuple[IntArray, int]:
    """Append a code that numbers the items of each ID, 0 upwards by item_index.

    Args:
        codes: (N, L), integers of at least 0.

    Returns: Codes (N, L + 1), all rows distinct, and the size of the last level (1 if nothing
        collided).
    Source: TIGER (arXiv:2305.05065), section 3.1, handling collisions.
    """
    number = _rank_within(_id_keys(codes))
    size = int(number.max()) + 1 if len(number) else 1
    return np.column_stack([codes, number]).astype(np.int64), size


def reassign(
    latents: npt.NDArray[np.floating],
    codebooks: Sequence[npt.NDArray[np.floating]],
    codes: npt.NDArray[np.integer],
) -> Reassignment:
    """Give every item an ID of its own, at the least cost in reconstruction.

    Giving item i the ID c costs ``‖z_i − Σ_l codebook_l[c_l]‖²``. Only items that share their ID
    move; every other item keeps its own. Level by level, where more items chose a code than
    IDs exist below it, the surplus moves to other codes of that level: the cheapest to move
    first, each to the nearest code that has room, so that the codes before it stay. On the last
    level a code has room for one item, and the items that collide under a prefix are assigned
    to the codes nobody else holds there at the least total cost, exactly.

    Args:
        latents: (N, D), finite; equal rows are parted too.
        codebooks: L arrays (K_l, D), finite.
        codes: (N, L), level l in [0, K_l).

    Returns: The new codes; the same input gives the same result.

    Raises:
        ShapeError: If the arrays disagree on N, L or D.
        DataError: If N exceeds the number of IDs, a code is out of range or a value not finite.
    Source: none; the paper leaves collisions open. Assignment by scipy's linear_sum_assignment.
    """
    books = [np.asarray(book, dtype=np.float64) for book in codebooks]
    _check_inputs(latents, books, codes)
    sizes = [len(book) for book in books]
    new = codes.astype(np.int64)  # a copy
    keys = _id_keys(codes)
    can_move = _has_company(keys)  # (N,) others keep their ID throughout
    if can_move.any():
        for level in range(len(books) - 1):
            room = min(math.prod(sizes[level + 1 :]), len(new))
            _move_surplus(latents, books, new, can_move, level, room)
        _part_last_codes(latents, books, new, can_move)
    moved = np.flatnonzero((new != codes).any(axis=1))
    return Reassignment(
        codes=new,
        moved=moved,
        cost_before=_total_cost(latents[moved], books, codes[moved]),
        cost_after=_total_cost(latents[moved], books, new[moved]),
    )


def _move_surplus(
    latents: npt.NDArray[np.floating],
    books: Sequence[FloatArray],
    codes: IntArray,
    can_move: npt.NDArray[np.bool_],
    level: int,
    room: int,
) -> None:
    """Leave at most ``room`` items under every prefix of ``level + 1`` codes; edits ``codes``."""
    parents = _id_keys(codes[:, :level])
    children = _id_keys(codes[:, : level + 1])
    is_overfull = np.bincount(children)[children] > room  # (N,)
    for family in _split_by(parents, _anywhere(parents, is_overfull)):
        counts = np.bincount(codes[family, level], minlength=len(books[level]))
        rows = family[is_overfull[family] & can_move[family]]
        residuals = _residuals(latents[rows], books[:level], codes[rows])
        chosen = _spread(residuals, books[level], codes[rows, level], counts, room)
        is_moved = chosen != codes[rows, level]
        rows, residuals = rows[is_moved], residuals[is_moved]
        codes[rows, level] = chosen[is_moved]
        for deeper in range(level + 1, len(books)):
            residuals = residuals - books[deeper - 1][codes[rows, deeper - 1]]
            every_code = np.ones(len(books[deeper]), dtype=bool)
            codes[rows, deeper] = _nearest(residuals, books[deeper], every_code)[0]


def _spread(
    residuals: FloatArray, book: FloatArray, own: IntArray, counts: IntArray, room: int
) -> IntArray:
    """Move items off codes that hold more than ``room``, the cheapest to move first.

    In each round the surplus of every overfull code proposes to its nearest code with room, and
    each code takes the cheapest proposals it has room for; so a round ends the work or fills a
    code, and there are at most K rounds.

    Args:
        residuals: (M, D) of the items that may move, all on overfull codes.
        book: (K, D).
        own: (M,) their codes.
        counts: (K,) items on each code, those that may not move included.
        room: Most items a code can hold; K · room is at least the sum of ``counts``.

    Returns: (M,) new codes.
    """
    chosen, counts = own.copy(), counts.copy()
    waiting = np.arange(len(own))
    own_cost = ((residuals - book[own]) ** 2).sum(axis=1)
    target = np.full(len(own), -1)
    extra = np.zeros(len(own))
    while (counts > room).any():
        waiting = waiting[counts[own[waiting]] > room]
        stale = waiting[(target[waiting] < 0) | (counts[target[waiting]] >= room)]
        target[stale], cost = _nearest(residuals[stale], book, counts < room)
        extra[stale] = cost - own_cost[stale]
        asking = waiting[np.argsort(extra[waiting], kind="stable")]
        asking = asking[_rank_within(own[asking]) < counts[own[asking]] - room]
        asking = asking[_rank_within(target[asking]) < room - counts[target[asking]]]
        chosen[asking] = target[asking]
        np.subtract.at(counts, own[asking], 1)
        np.add.at(counts, target[asking], 1)
        waiting = waiting[chosen[waiting] == own[waiting]]
    return chosen


def _part_last_codes(
    latents: npt.NDArray[np.floating],
    books: Sequence[FloatArray],
    codes: IntArray,
    can_move: npt.NDArray[np.bool_],
) -> None:
    """Assign the last codes under each prefix that has a collision; edits ``codes``."""
    from scipy.optimize import linear_sum_assignment
    from scipy.spatial.distance import cdist

    prefixes = _id_keys(codes[:, :-1])
    has_collision = _anywhere(prefixes, _has_company(_id_keys(codes)))
    for family in _split_by(prefixes, has_collision):
        rows = family[can_move[family]]
        held = codes[family[~can_move[family]], -1]
        free = np.setdiff1d(np.arange(len(books[-1])), held, assume_unique=True)
        residuals = _residuals(latents[rows], books[:-1], codes[rows])
        assigned, columns = linear_sum_assignment(cdist(residuals, books[-1][free], "sqeuclidean"))
        codes[rows[assigned], -1] = free[columns]


def _nearest(
    residuals: FloatArray, book: FloatArray, is_open: npt.NDArray[np.bool_]
) -> tuple[IntArray, FloatArray]:
    """The nearest open code of each residual (M,), lowest first on ties, and its distance² (M,)."""
    from scipy.spatial.distance import cdist  # only here: a table of IDs is read without scipy

    open_codes = np.flatnonzero(is_open)
    code = np.empty(len(residuals), dtype=np.int64)
    cost = np.empty(len(residuals))
    for start in range(0, len(residuals), _ROWS_AT_ONCE):
        block = slice(start, start + _ROWS_AT_ONCE)
        distance = cdist(residuals[block], book[open_codes], "sqeuclidean")  # (rows, K_open)
        best = distance.argmin(axis=1)
        code[block] = open_codes[best]
        cost[block] = distance[np.arange(len(best)), best]
    return code, cost


def _residuals(
    latents: npt.NDArray[np.floating], books: Sequence[FloatArray], codes: npt.NDArray[np.integer]
) -> FloatArray:
    """What the given levels leave of the latents, (M, D); later columns of codes are not read."""
    residuals = latents.astype(np.float64)
    for level, book in enumerate(books):
        residuals -= book[codes[:, level]]
    return residuals


def _total_cost(
    latents: npt.NDArray[np.floating], books: Sequence[FloatArray], codes: npt.NDArray[np.integer]
) -> float:
    return float((_residuals(latents, books, codes) ** 2).sum())


def _id_keys(codes: npt.NDArray[np.integer]) -> IntArray:
    """Number the distinct rows 0 upwards in lexicographic order, (N,).

    One level at a time, so that K^L beyond 64 bits cannot overflow; no columns give all 0.
    """
    keys = np.zeros(len(codes), dtype=np.int64)
    for column in codes.T.astype(np.int64):
        pairs = keys * (column.max(initial=0) + 1) + column
        keys = np.unique(pairs, return_inverse=True)[1].reshape(-1).astype(np.int64)
    return keys


def _has_company(keys: IntArray) -> npt.NDArray[np.bool_]:
    """Whether another row has the same key, (N,)."""
    return np.bincount(keys)[keys] > 1


def _anywhere(keys: IntArray, flags: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Whether the flag is set on any row of the same key, (N,)."""
    return (np.bincount(keys, weights=flags) > 0)[keys]


def _split_by(keys: IntArray, is_wanted: npt.NDArray[np.bool_]) -> list[IntArray]:
    """Rows that are wanted, one ascending array per key, keys ascending."""
    rows = np.flatnonzero(is_wanted)
    rows = rows[np.argsort(keys[rows], kind="stable")]
    return np.split(rows, np.flatnonzero(np.diff(keys[rows])) + 1) if len(rows) else []


def _rank_within(groups: IntArray) -> IntArray:
    """How many earlier entries are in the same group, (N,)."""
    order = np.argsort(groups, kind="stable")
    position = np.arange(len(groups))
    starts_group = np.diff(groups[order], prepend=-1) != 0
    start = np.maximum.accumulate(np.where(starts_group, position, 0))
    rank = np.empty_like(position)
    rank[order] = position - start
    return rank


def _check_inputs(
    latents: npt.NDArray[np.floating],
    books: Sequence[FloatArray],
    codes: npt.NDArray[np.integer],
) -> None:
    if latents.ndim != 2 or codes.ndim != 2 or len(latents) != len(codes):
        raise ShapeError(
            f"expected latents (N, D) and codes (N, L) of the same N; found {latents.shape} and "
            f"{codes.shape}; pass one row per item of the catalogue to both"
        )
    if not books or codes.shape[1] != len(books):
        raise ShapeError(
            f"expected one codebook per level; found {len(books)} codebooks and codes of "
            f"{codes.shape[1]} levels; drop a disambiguation code before reassigning"
        )
    for level, book in enumerate(books):
        if book.ndim != 2 or book.shape[1] != latents.shape[1]:
            raise ShapeError(
                f"codebook of level {level}: expected (K, {latents.shape[1]}) like the latents; "
                f"found {book.shape}; pass the codebooks of the tokenizer that made the latents"
            )
    sizes = np.array([len(book) for book in books])
    capacity = math.prod(sizes.tolist())
    if len(codes) > capacity:
        shape = f"{sizes[0]}^{len(sizes)}" if len(set(sizes.tolist())) == 1 else "prod(K_l)"
        raise DataError(
            f"catalogue of {len(codes)} items does not fit {shape} = {capacity} IDs; raise "
            "TokenizerConfig.codebook_size or num_levels"
        )
    wrong = np.argwhere((codes < 0) | (codes >= sizes))
    if len(wrong):
        row, level = wrong[0]
        raise DataError(
            f"codes row {row}, level {level}: expected a code in [0, {sizes[level]}); found "
            f"{codes[row, level]}; encode the items again with the tokenizer of these codebooks"
        )
    for name, values in [
        ("latents", latents),
        *((f"codebook {i}", b) for i, b in enumerate(books)),
    ]:
        if not np.isfinite(values).all():
            row, column = np.argwhere(~np.isfinite(values))[0]
            raise DataError(
                f"{name} row {row}, column {column}: expected a finite number; found "
                f"{values[row, column]}; check the item embeddings, then train again"
            )
