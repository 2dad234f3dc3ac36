"""What a user asks of a list besides that it be good: only here, never there, not all alike."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hidvae.errors import ConfigError, DataError
from hidvae.features.tags.vocabulary import PATH_SEPARATOR, TagVocabulary

POOL = 5
"""A diverse list of k items is chosen among so many times k."""


@dataclass(frozen=True, kw_only=True)
class Orders:
    """Orders that a list of recommendations keeps without exception.

    A tag path is written as the catalogue's category path from its first tag level on, such as
    ``"Beauty > Makeup"``; upper and lower case count alike.
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
                    f"Orders.{name}: expected a list; found the text {getattr(self, name)!r}"
                )
        for name in ("most_per_tag", "diversity"):
            if getattr(self, name) < 0:
                raise ConfigError(
                    f"Orders.{name}: expected at least 0; found {getattr(self, name)}"
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

    def is_allowed(self, orders: Orders, without: Sequence[int] | np.ndarray) -> np.ndarray:
        """(N,) whether each item may be recommended.

        Args:
            orders: Their tag paths count here.
            without: item_index of items that may not.

        Raises:
            DataError: If a tag path does not exist.
        """
        allowed = np.ones(len(self.tag_ids), dtype=bool)
        if orders.under:
            allowed = np.any([self.is_under(path) for path in orders.under], axis=0)
        for path in orders.not_under:
            allowed &= ~self.is_under(path)
        allowed[np.asarray(without, dtype=np.int64)] = False
        return allowed

    def tags_at(self, level: int) -> np.ndarray:
        """(N,) tag of each item at a level.

        Raises:
            ConfigError: If there is no such level.
        """
        num_levels = self.tag_ids.shape[1]
        if not 0 <= level < num_levels:
            raise ConfigError(
                f"Orders.tag_level: expected a level from 0 to {num_levels - 1}; found {level}"
            )
        tags: np.ndarray = self.tag_ids[:, level]
        return tags

    def _nearest(self, wanted: str) -> str:
        if not self._paths:
            return "this run has no tags"
        lower = {path.casefold(): path for path in self._paths}
        # A label alone, or the end of a path, is what is most often given in place of a path.
        ends = [path for key, path in lower.items() if key.endswith(wanted.casefold())]
        close = difflib.get_close_matches(wanted.casefold(), lower, n=3, cutoff=0.4)
        found = list(dict.fromkeys([*ends, *(lower[key] for key in close)]))[:3]
        return "did you mean " + ", ".join(repr(path) for path in found or self._paths[:3]) + "?"


def choose(items: Sequence[int], k: int, tags: np.ndarray | None, most_per_tag: int) -> list[int]:
    """Places of the first k items of which no tag has more than ``most_per_tag``.

    Args:
        items: item_index, best first.
        k: Most to choose.
        tags: (N,) tag of each item; those of tag -1 are not limited. None limits nothing.
        most_per_tag: At least 1 where there are tags.
    """
    chosen: list[int] = []
    counts: dict[int, int] = {}
    for place, item in enumerate(items):
        if len(chosen) == k:
            break
        tag = -1 if tags is None else int(tags[item])
        if tag >= 0 and counts.get(tag, 0) >= most_per_tag:
            continue
        counts[tag] = counts.get(tag, 0) + 1
        chosen.append(place)
    return chosen


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
