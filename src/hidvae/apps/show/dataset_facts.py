"""What there is to see in a dataset, as frozen types that the renderers only format."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

_NUM_RANKS = 300
_TOP_SHARES = {"1 %": 0.01, "10 %": 0.1}


@dataclass(frozen=True)
class Bin:
    """Things whose number is in [low, high]."""

    low: int
    high: int
    count: int

    @property
    def label(self) -> str:
        """``5`` or ``6–8``."""
        return str(self.low) if self.low == self.high else f"{self.low}–{self.high}"


@dataclass(frozen=True, eq=False)
class Distribution:
    """How a whole number is spread over things: events over users, or over items."""

    values: NDArray[np.int64]
    """(V,) the distinct numbers, rising."""
    counts: NDArray[np.int64]
    """(V,) how many things have each."""

    @classmethod
    def of(cls, numbers: ArrayLike) -> Distribution:
        """The distribution of (n,) whole numbers, one per thing; n is at least 1."""
        values, counts = np.unique(np.asarray(numbers, dtype=np.int64), return_counts=True)
        return cls(values, counts.astype(np.int64))

    @property
    def size(self) -> int:
        """Things in all."""
        return int(self.counts.sum())

    @property
    def mean(self) -> float:
        """Mean number."""
        return float(self.values @ self.counts) / self.size

    @property
    def quartiles(self) -> list[int]:
        """Smallest number, lower quartile, median, upper quartile, largest.

        Each is a number that occurs: the smallest that a quarter (half, …) of the things reach.
        """
        reached = np.cumsum(self.counts)
        wanted = np.ceil(np.array([0, 0.25, 0.5, 0.75, 1]) * self.size)
        return [int(number) for number in self.values[np.searchsorted(reached, wanted)]]

    def share_at_least(self, number: int) -> float:
        """Share of things that have this number or more."""
        return float(self.counts[self.values >= number].sum()) / self.size

    def bins(self, max_bins: int = 12) -> list[Bin]:
        """A histogram whose bins grow in proportion, as such numbers spread over magnitudes."""
        low, high = int(self.values[0]), int(self.values[-1])
        if high - low < max_bins:
            edges = np.arange(low, high + 2)
        else:  # a first bin of its own for 0, which has no proportion
            start = max(low, 1)
            grown = np.geomspace(start, high + 1, max_bins + (low > 0)).round().astype(np.int64)
            edges = np.unique(np.concatenate([[low], grown]))
        sums, _ = np.histogram(self.values, bins=edges, weights=self.counts)
        return [
            Bin(int(first), int(after) - 1, int(count))
            for first, after, count in zip(edges[:-1], edges[1:], sums, strict=True)
        ]


@dataclass(frozen=True)
class Count:
    """One number of the stage's manifest."""

    name: str
    """As in the manifest."""
    value: float
    share: float | None = None
    """Of ``whole``, where the number is a part of something known."""
    whole: str = ""
    """What it is a share of: users, events read, …"""
    meaning: str = ""
    """What is counted; empty for a name that is not known here."""


@dataclass(frozen=True, eq=False)
class Popularity:
    """How the events are spread over the items."""

    events: Distribution
    """Events per item, items without any among them."""
    top_shares: dict[str, float]
    """Share of the events that the most popular items have, such as "1 %" of them."""
    num_for_half: int
    """Fewest items that have half of the events."""
    ranks: NDArray[np.int64]
    """(R,) ranks, 1 is the most popular item; a few hundred, closer at the start."""
    events_at_rank: NDArray[np.int64]
    """(R,) events of the item at each rank."""

    @classmethod
    def of(cls, per_item: NDArray[np.int64]) -> Popularity:
        """The popularity of items with (N,) events each; N is at least 1."""
        falling = np.sort(per_item)[::-1]
        reached = np.cumsum(falling)
        num_events = max(int(reached[-1]), 1)
        ranks = np.unique(np.geomspace(1, falling.size, _NUM_RANKS).round().astype(np.int64))
        return cls(
            events=Distribution.of(per_item),
            top_shares={
                name: float(reached[int(np.ceil(share * falling.size)) - 1]) / num_events
                for name, share in _TOP_SHARES.items()
            },
            num_for_half=int(np.searchsorted(reached, num_events / 2)) + 1,
            ranks=ranks,
            events_at_rank=falling[ranks - 1],
        )


@dataclass(frozen=True, eq=False)
class Level:
    """The tags (or category labels) of one level."""

    name: str
    """``level 0``, or ``depth 0`` of a category path."""
    num_items: int
    """Items in all."""
    classes: pl.DataFrame
    """path, name and count (items); the largest first."""
    sources: dict[str, int]
    """Items by what gave them their tag, where the stage wrote it down."""

    @property
    def num_tagged(self) -> int:
        """Items with a tag."""
        return int(self.classes["count"].sum())

    @property
    def coverage(self) -> float:
        """Share of items with a tag."""
        return self.num_tagged / max(self.num_items, 1)

    @property
    def num_classes(self) -> int:
        """Different tags."""
        return self.classes.height

    @property
    def num_singletons(self) -> int:
        """Tags of one item."""
        return int((self.classes["count"] == 1).sum())

    @property
    def majority_share(self) -> float:
        """Share of the largest class among the items with a tag: what always guessing it gets."""
        return float(self.classes["count"][0]) / max(self.num_tagged, 1) if self.num_classes else 0

    def largest(self, count: int) -> list[tuple[str, int]]:
        """The largest classes, name and items."""
        return self.classes.head(count).select("name", "count").rows()

    def smallest(self, count: int) -> list[tuple[str, int]]:
        """The smallest classes, the smallest last, that ``largest(count)`` does not hold."""
        rest = self.classes.slice(count)
        return rest.tail(count).select("name", "count").rows()


@dataclass(frozen=True, eq=False)
class Hierarchy:
    """Tags from coarse to fine, or the category paths where there are no tags yet."""

    is_made: bool
    """Whether ``hidvae tag`` made them; category paths are as the data has them."""
    levels: Sequence[Level]
    nodes: pl.DataFrame
    """Items by the tags that they really carry together: id, parent (an id, "" at the top), name,
    depth and count. An item counts at every depth down to its first unknown tag."""

    @property
    def title(self) -> str:
        """What the levels are levels of."""
        return "tags" if self.is_made else "category paths"


@dataclass(frozen=True)
class Column:
    """One column of the items."""

    name: str
    kind: str
    """Its type."""
    num_missing: int
    """Items where it is null or an empty list."""
    missing_share: float
    num_distinct: int | None
    """Different values; None for lists, which are not compared."""
    example: str
    """The first value there is; empty if there is none."""


@dataclass(frozen=True)
class SampleItem:
    """An item to look at."""

    item_id: str
    title: str
    tags: list[str]
    """Tag per level as far as they are known; else the category path."""
    num_events: int
    fields: dict[str, str]
    """Further columns that it has, as text."""


@dataclass(frozen=True)
class SampleUser:
    """A user to look at."""

    user_id: str
    num_events: int
    latest: list[tuple[str, str]]
    """(what the event is for, title), oldest first: train, validation or test."""


@dataclass(frozen=True, eq=False)
class DatasetFacts:
    """All that a view of a dataset shows."""

    name: str
    num_users: int
    num_items: int
    num_events: int
    settings: dict[str, str]
    """Settings of the stage that are not the defaults."""
    counts: list[Count]
    """What prepare counted beside the sizes, lengths and ties: left out, mended, repeated."""
    ties: list[Count]
    """Events of equal time, and the targets that depend on how their order was decided."""
    lengths: Distribution
    """Events per user."""
    popularity: Popularity
    category_depth: Distribution
    """Length of each item's category path; 0 where there is none."""
    hierarchy: Hierarchy
    columns: list[Column]
    items: list[SampleItem]
    users: list[SampleUser]
    notes: list[str]
    """What a reader has to know about this view."""

    @property
    def density(self) -> float:
        """Events per pair of a user and an item; 1 − sparsity."""
        return self.num_events / max(self.num_users * self.num_items, 1)
