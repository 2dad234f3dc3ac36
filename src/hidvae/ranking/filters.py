"""What a user asks of a list besides that it be good: only here, never there, not all alike."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from hidvae.data.given import given_ids, whole_number
from hidvae.errors import ConfigError, DataError
from hidvae.features.tags.vocabulary import PATH_SEPARATOR, TagVocabulary

POOL = 5
"""A diverse list of k items is chosen among so many times k."""


@dataclass(frozen=True, kw_only=True)
class Filters:
    """What a list of recommendations keeps to without exception.

    A tag path is written as the catalogue's category path from its first tag level on, such as
    ``"Beauty > Makeup"``; upper and lower case count alike. Paths and ids may stand in any list,
    array or column.
    """

    under: tuple[str, ...] = ()
    """Only items under one of these tag paths; none means all."""
    not_under: tuple[str, ...] = ()
    """No item under any of these tag paths."""
    without: tuple[str, ...] = ()
    """None of these items (item ids)."""
    most_per_tag: int = 0
    """Most items of one tag at ``tag_level``; 0 sets no limit."""
    tag_level: int = 0
    """Level of ``most_per_tag``, 0 is the coarsest."""
    diversity: float = 0.0
    """What an item loses, in nats of its score, for having all its tags in common with one further
    up in the list; less for fewer. Chosen among the best ``POOL`` times k items."""

    def __post_init__(self) -> None:
        for name in ("under", "not_under", "without"):
            if isinstance(getattr(self, name), str):
                raise ConfigError(
                    f"Filters.{name}: expected a list; found the text {getattr(self, name)!r}"
                )
            listed = given_ids(getattr(self, name), f"Filters.{name}", in_order=False)
            object.__setattr__(self, name, tuple(listed))
        for name in ("most_per_tag", "tag_level"):
            object.__setattr__(self, name, whole_number(getattr(self, name), f"Filters.{name}"))
        diversity: object = self.diversity
        if not isinstance(diversity, Real) or diversity != diversity:
            raise ConfigError(f"Filters.diversity: expected a number; found {self.diversity!r}")
        for name in ("most_per_tag", "diversity"):
            if getattr(self, name) < 0:
                raise ConfigError(
                    f"Filters.{name}: expected at least 0; found {getattr(self, name)}"
                )


class ItemTagIndex:
    """Which items lie under which tag.

    An item's tag is that of the catalogue; where it has none, the one that its semantic ID stands
    for.
    """

    def __init__(
        self, vocabulary: TagVocabulary, own_tags: np.ndarray, predicted_tags: np.ndarray
    ) -> None:
        """Join both kinds of tags.

        Args:
            vocabulary: Of L levels.
            own_tags: (N, L), -1 where the catalogue knows none.
            predicted_tags: (N, L), -1 where nothing predicts one; or (N, 0).
        """
        self.tag_ids = own_tags.copy()  # (N, L)
        for level in range(min(own_tags.shape[1], predicted_tags.shape[1])):
            # A predicted tag below an own one of another branch would contradict the catalogue.
            above = slice(0, level)
            agrees = (self.tag_ids[:, above] == predicted_tags[:, above]).all(axis=1)
            missing = (self.tag_ids[:, level] < 0) & agrees
            self.tag_ids[missing, level] = predicted_tags[missing, level]
        self._places = {
            path.casefold(): (level, tag)
            for level, paths in enumerate(vocabulary.paths)
            for tag, path in enumerate(paths)
        }
        self._paths = [path for paths in vocabulary.paths for path in paths]

    def is_under(self, path: str) -> np.ndarray:
        """(N,) whether each item lies under a tag path.

        Raises:
            DataError: If there is no such tag; names the nearest ones.
        """
        wanted = PATH_SEPARATOR.join(part.strip() for part in path.split(PATH_SEPARATOR.strip()))
        place = self._places.get(wanted.casefold())
        if place is None:
            raise DataError(
                f"expected a tag path of the catalogue; found {path!r}; {self._nearest(wanted)}"
            )
        level, tag = place
        under: np.ndarray = self.tag_ids[:, level] == tag
        return under

    def allowed(self, filters: Filters, without: Sequence[int] | np.ndarray) -> np.ndarray:
        """(N,) whether each item may be recommended.

        Args:
            filters: Their tag paths count here.
            without: item_index of items that may not.

        Raises:
            DataError: If a tag path does not exist.
        """
        allowed = np.ones(len(self.tag_ids), dtype=bool)
        if filters.under:
            allowed = np.any([self.is_under(path) for path in filters.under], axis=0)
        for path in filters.not_under:
            allowed &= ~self.is_under(path)
        allowed[np.asarray(without, dtype=np.int64)] = False
        return allowed

    def limit(self, filters: Filters) -> TagLimit | None:
        """What ``most_per_tag`` asks for.

        Raises:
            ConfigError: If there is no such level.
        """
        if not filters.most_per_tag:
            return None
        num_levels = self.tag_ids.shape[1]
        if not 0 <= filters.tag_level < num_levels:
            raise ConfigError(
                f"Filters.tag_level: expected a level from 0 to {num_levels - 1}; found "
                f"{filters.tag_level}"
            )
        return TagLimit(self.tag_ids[:, filters.tag_level], filters.most_per_tag)

    def _nearest(self, wanted: str) -> str:
        if not self._paths:
            return "this run has no tags"
        lower = {path.casefold(): path for path in self._paths}
        # A label alone, or the end of a path, is what is most often given in place of a path.
        ends = [path for key, path in lower.items() if key.endswith(wanted.casefold())]
        close = difflib.get_close_matches(wanted.casefold(), lower, n=3, cutoff=0.4)
        found = list(dict.fromkeys([*ends, *(lower[key] for key in close)]))[:3]
        return "did you mean " + ", ".join(repr(path) for path in found or self._paths[:3]) + "?"


class TagLimit(NamedTuple):
    """Most items of one tag in a list."""

    tags: npt.NDArray[np.integer]
    """(N,) tag of each item; those of tag -1 are not limited."""
    most: int
    """At least 1."""


def within_limit(tags: npt.NDArray[np.integer], most: int) -> npt.NDArray[np.bool_]:
    """Which items of ranked lists are among the first of their tag.

    Args:
        tags: (U, R) of the items, best first; those of tag -1 are not limited.
        most: Of one tag.

    Returns: (U, R).
    """
    order = np.argsort(tags, axis=1, kind="stable")
    by_tag = np.take_along_axis(tags, order, axis=1)
    place = np.broadcast_to(np.arange(tags.shape[1]), tags.shape)
    is_first = np.ones(tags.shape, dtype=bool)
    is_first[:, 1:] = by_tag[:, 1:] != by_tag[:, :-1]
    earlier = place - np.maximum.accumulate(np.where(is_first, place, 0), axis=1)
    keeps = np.empty(tags.shape, dtype=bool)
    np.put_along_axis(keeps, order, (earlier < most) | (by_tag < 0), axis=1)
    return keeps


def pool_for(k: int, filters: Filters, limit: TagLimit | None) -> tuple[int, TagLimit | None]:
    """Length and limit of the ranked list that ``chosen`` needs.

    With diversity that is POOL times k items, and POOL times as many of each tag as the limit
    leaves: among so many are k that keep to it, or all there are.
    """
    if not filters.diversity:
        return k, limit
    return POOL * k, limit and limit._replace(most=POOL * limit.most)


def chosen(
    items: npt.NDArray[np.integer],
    scores: npt.NDArray[np.floating],
    k: int,
    filters: Filters,
    tag_ids: npt.NDArray[np.integer],
    limit: TagLimit | None,
) -> list[list[int]]:
    """The places in ranked lists of the k items that make each of U lists, in their order.

    Args:
        items: (U, P) item_index, best first, -1 at the end; P and what is in them by ``pool_for``.
        scores: (U, P) in nats.
        k: At most so many are chosen.
        filters: Their diversity counts here.
        tag_ids: (N, L), -1 where unknown.
        limit: From ``ItemTagIndex.limit``.
    """
    places = np.broadcast_to(np.arange(items.shape[1]), items.shape)
    if filters.diversity:
        places = diversified(items, scores, tag_ids, filters.diversity)
    in_order = np.take_along_axis(items, places, axis=1)
    keeps = in_order >= 0
    if limit is not None:
        keeps &= within_limit(np.append(limit.tags, -1)[in_order], limit.most)
    return [row[kept][:k].tolist() for row, kept in zip(places, keeps, strict=True)]


def diversified(
    items: np.ndarray, scores: np.ndarray, tag_ids: np.ndarray, penalty: float
) -> np.ndarray:
    """Places (U, P) of a pool in an order that trades score for variety.

    Greedy: the next item is the one of the largest score minus ``penalty`` times its likeness to
    the item already chosen that is most like it (maximal marginal relevance, Carbonell and
    Goldstein 1998). Two items are as alike as the share of levels on which their tag paths agree.

    Args:
        items: (U, P) item_index, best first, -1 at the end.
        scores: (U, P) in nats.
        tag_ids: (N, L), -1 where unknown; such levels agree with nothing.
        penalty: In nats.
    """
    num_users, size = items.shape
    tags = np.where((items >= 0)[:, :, None], tag_ids[items], -1)  # (U, P, L)
    rows = np.arange(num_users)
    left = np.where(items >= 0, scores, -np.inf).astype(np.float64)
    closest = np.zeros((num_users, size))
    order = np.empty((num_users, size), dtype=np.int64)
    is_chosen = np.zeros((num_users, size), dtype=bool)
    for place in range(size):
        values = np.where(is_chosen, -np.inf, left - penalty * closest)
        # Where only padding is left, it comes in its order.
        best = np.where(np.isneginf(values).all(axis=1), is_chosen.argmin(axis=1), values.argmax(1))
        order[:, place] = best
        is_chosen[rows, best] = True
        chosen = tags[rows, best][:, None]  # (U, 1, L)
        agrees = np.cumprod((tags == chosen) & (tags >= 0), axis=2)
        closest = np.maximum(closest, agrees.mean(axis=2))
    return order
