"""Which tags an item could carry: the children of the tag above that are most similar to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hidvae.errors import ShapeError
from hidvae.features.tags.vocabulary import OTHER, TagVocabulary
from hidvae.features.unit_rows import unit_rows

_ROOT = 0
"""The one parent of all tags of level 0."""
_DECIMALS = 5
"""Similarities are rounded: the last bits differ between machines, the order must not."""


@dataclass(frozen=True)
class Candidates:
    """Candidate tags of N items by the similarity of text vectors."""

    vocabulary: TagVocabulary
    item_vectors: np.ndarray
    """(N, D), of any length."""
    tag_vectors: Sequence[np.ndarray]
    """Per level (C_l, D), by the same encoder."""

    def check_shapes(self, ids: np.ndarray, num_texts: int) -> None:
        """Refuse arrays that do not belong together.

        Raises:
            ShapeError: Names what disagrees.
        """
        expected = (num_texts, self.vocabulary.num_levels)
        if ids.shape != expected or len(self.item_vectors) != num_texts:
            raise ShapeError(
                f"expected tags of shape {expected} and {num_texts} item vectors, one per text; "
                f"found {ids.shape} and {len(self.item_vectors)}; pass those of one catalogue"
            )
        sizes = [len(vectors) for vectors in self.tag_vectors]
        widths = {vectors.shape[1] for vectors in self.tag_vectors if len(vectors)}
        dim = self.item_vectors.shape[1]
        if sizes != self.vocabulary.sizes or widths - {dim}:
            raise ShapeError(
                f"expected vectors of {self.vocabulary.sizes} tags per level, {dim} wide as those "
                f"of the items; found {sizes} of width {sorted(widths)}; encode both with one "
                "encoder"
            )

    def open_items(self, ids: np.ndarray, level: int) -> np.ndarray:
        """Rows of the items that lack a tag on a level and have candidates for it.

        Args:
            ids: (N, L), -1 unknown.
            level: Where an unknown tag above leaves no candidates.
        """
        _, parents = self._children(level)
        return np.flatnonzero((ids[:, level] < 0) & np.isin(_tags_above(ids, level), parents))

    def nearest(
        self, ids: np.ndarray, level: int, items: np.ndarray, num_candidates: int
    ) -> list[np.ndarray]:
        """Per item at most ``num_candidates`` tag ids, the most similar first.

        Args:
            ids: (N, L); those of ``level - 1`` say whose children are candidates.
            level: Level of the candidates.
            items: Rows of the items, such as ``open_items`` gives.
            num_candidates: Most candidates of an item.
        """
        children, parents = self._children(level)
        above = _tags_above(ids, level)[items]
        nearest: list[np.ndarray] = [children[:0]] * len(items)
        for parent in np.unique(above):
            rows = np.flatnonzero(above == parent)
            siblings = children[parents == parent]
            similarity = (
                unit_rows(self.item_vectors[items[rows]].astype(np.float32))
                @ unit_rows(self.tag_vectors[level][siblings].astype(np.float32)).T
            )  # (rows, siblings)
            order = np.argsort(-similarity.round(_DECIMALS), axis=1, kind="stable")
            best = siblings[order[:, :num_candidates]]
            for row, tag_ids in zip(rows.tolist(), best, strict=True):
                nearest[row] = tag_ids
        return nearest

    def _children(self, level: int) -> tuple[np.ndarray, np.ndarray]:
        """The tags of a level that can be chosen, and their parents; (C,) each.

        The class of rare tags says nothing about an item. Below level 0 it has no parent.
        """
        if level:
            parents = self.vocabulary.parents[level]
            children = np.flatnonzero(parents >= 0)
            return children, parents[children]
        names = np.array(self.vocabulary.names[0], dtype=object)
        children = np.flatnonzero(names != OTHER)
        return children, np.full(len(children), _ROOT)


def with_known_parents(ids: np.ndarray, vocabulary: TagVocabulary) -> np.ndarray:
    """A copy of the tags (N, L) in which the tags above every known one are known as well."""
    filled = ids.astype(np.int64)
    for level in range(vocabulary.num_levels - 1, 0, -1):
        follows = (filled[:, level] >= 0) & (filled[:, level - 1] < 0)
        filled[follows, level - 1] = vocabulary.parents[level][filled[follows, level]]
    return filled


def _tags_above(ids: np.ndarray, level: int) -> np.ndarray:
    """(N,) tag of every item on the level above; -1 unknown."""
    return ids[:, level - 1] if level else np.full(len(ids), _ROOT)
