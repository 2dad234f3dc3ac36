"""The built-in demo: a catalogue with a planted hierarchy and a log with a planted rule.

The right answers are known: every item has two successors, and a user's next event is a successor
of the last one more often than not. A model that reads the sequence can therefore beat popularity
by far, and nothing has to be downloaded to see it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from hidvae.data.schema import Columns

GENERATOR_VERSION = 1
"""Raised whenever the same settings give other tables than before."""

SUCCESSOR_PROBABILITIES = (0.5, 0.2)
"""Chance that the next event is the first or the second successor; else taste decides."""

_ITEMS_PER_DEPARTMENT = 60
_TASTES = 3
_SHORTEST, _LONGEST = 5, 30
_REDRAWS = 10
_FIRST_SECOND = 1_600_000_000
_DAY_SECONDS = 86_400


@dataclass(frozen=True, eq=False)
class Demo:
    """The generated tables and the truth behind them; indices are rows of ``items``."""

    items: pl.DataFrame
    """item_id, title, brand, price, categories (root, department, aisle, shelf)."""
    interactions: pl.DataFrame
    """user_id, item_id, timestamp (seconds since 1970), in time order."""
    successors: NDArray[np.int64]
    """(N, 2) what tends to follow an item: its complement on the next shelf, and one item of
    another aisle of the department."""
    aisle: NDArray[np.int64]
    """(N,) level-2 category of an item, as a number in [0, A)."""
    tastes: NDArray[np.float64]
    """(U, A) share of each aisle in a user's other events; rows sum to 1. Row u is ``u{u}``."""


@dataclass(frozen=True, eq=False)
class _Shelves:
    """Where the items stand: items of one shelf follow each other, shelves of one aisle too."""

    starts: NDArray[np.int64]
    """(S + 1,) shelf s holds the slots starts[s] ... starts[s + 1] - 1."""
    aisle: NDArray[np.int64]
    """(S,) aisle of a shelf."""
    department: NDArray[np.int64]
    """(S,) department of a shelf."""


def generate_demo(num_items: int = 600, num_users: int = 1500, seed: int = 7) -> Demo:
    """Generate the demo tables; the same arguments give the same tables.

    Args:
        num_items: Items N, at least 60; all titles are distinct.
        num_users: Users U, with 5 to 30 events each.
        seed: Seed of everything random.
    """
    generator = np.random.default_rng(seed)
    items, shelves = _make_items(num_items, generator)
    successors = _plant_successors(shelves, generator)
    shelf_of = np.repeat(np.arange(shelves.aisle.size), np.diff(shelves.starts))
    aisle = shelves.aisle[shelf_of]
    tastes = _draw_tastes(num_users, int(aisle.max()) + 1, generator)
    events = _draw_events(successors, aisle, tastes, generator)

    order = generator.permutation(num_items)  # row -> slot: row numbers must not give shelves away
    row = np.argsort(order)  # slot -> row
    item_ids = pl.Series(Columns.ITEM, [f"item-{i:05d}" for i in range(num_items)])
    items = pl.DataFrame([item_ids, *items[order]])
    users, slots, seconds = events
    interactions = pl.DataFrame(
        {
            Columns.USER: "u" + pl.Series(users).cast(pl.String),
            Columns.ITEM: item_ids.gather(row[slots]),
            Columns.TIMESTAMP: seconds,
        }
    ).sort(Columns.TIMESTAMP, maintain_order=True)
    return Demo(items, interactions, row[successors][order], aisle[order], tastes)


@cache
def demo_words() -> dict[str, Any]:
    """What the catalogue is made of: ``root``, the first label of every path, and departments.

    A department has brands, adjectives and aisles; an aisle has sizes, a typical price, and nouns
    by shelf, each shelf completing the one before.
    """
    words: dict[str, Any] = json.loads(
        files("hidvae.data.sources").joinpath("demo_words.json").read_text(encoding="utf-8")
    )
    return words


def _make_items(num_items: int, generator: np.random.Generator) -> tuple[pl.DataFrame, _Shelves]:
    """Items in shelf order, and the shelves."""
    words = demo_words()
    departments = words["departments"][: max(2, num_items // _ITEMS_PER_DEPARTMENT)]
    places = [
        (department, aisle, shelf, d)
        for d, department in enumerate(departments)
        for aisle in department["aisles"]
        for shelf in aisle["shelves"]
    ]
    counts = np.full(len(places), num_items // len(places))
    counts[generator.permutation(len(places))[: num_items % len(places)]] += 1
    columns: dict[str, list[object]] = {
        name: [] for name in (Columns.TITLE, Columns.BRAND, Columns.PRICE, Columns.CATEGORIES)
    }
    for (department, aisle, shelf, _), count in zip(places, counts, strict=True):
        parts = (
            department["brands"],
            department["adjectives"],
            aisle["shelves"][shelf],
            aisle["sizes"],
        )
        shape = tuple(len(part) for part in parts)
        combinations = int(np.prod(shape))
        drawn = generator.permutation(combinations * -(-int(count) // combinations))[:count]
        series, plain = np.divmod(drawn, combinations)
        picks = np.stack([series, *np.unravel_index(plain, shape)], axis=1)
        picks = picks[np.argsort(picks[:, 1], kind="stable")]  # by brand: shelves align by brand
        for number, b, a, n, s in picks.tolist():
            suffix = f", series {number + 1}" if number else ""
            brand = parts[0][b]
            title = f"{brand} {parts[1][a]} {parts[2][n]}, {parts[3][s]}{suffix}"
            columns[Columns.TITLE].append(title)
            columns[Columns.BRAND].append(brand)
            columns[Columns.CATEGORIES].append(
                [words["root"], department["name"], aisle["name"], shelf]
            )
        prices = aisle["price"] * np.exp(generator.normal(0, 0.3, int(count)))
        columns[Columns.PRICE].extend(np.round(prices, 2).tolist())
    names = [(d, aisle["name"]) for _, aisle, _, d in places]
    aisle_numbers = {name: i for i, name in enumerate(dict.fromkeys(names))}
    shelves = _Shelves(
        starts=np.concatenate([[0], np.cumsum(counts)]),
        aisle=np.array([aisle_numbers[name] for name in names]),
        department=np.array([d for *_, d in places]),
    )
    return pl.DataFrame(columns), shelves


def _plant_successors(shelves: _Shelves, generator: np.random.Generator) -> NDArray[np.int64]:
    """(N, 2) slots: the like-ranked item of the next shelf, and one of a neighbouring aisle."""
    num_shelves = shelves.aisle.size
    successors = np.empty((int(shelves.starts[-1]), 2), dtype=np.int64)
    for shelf in range(num_shelves):
        slots = np.arange(shelves.starts[shelf], shelves.starts[shelf + 1])
        same_aisle = np.flatnonzero(shelves.aisle == shelves.aisle[shelf])
        following = same_aisle[(int(np.searchsorted(same_aisle, shelf)) + 1) % same_aisle.size]
        successors[slots, 0] = _aligned(slots.size, following, shelves, generator)
        others = np.flatnonzero(
            (shelves.department == shelves.department[shelf])
            & (shelves.aisle != shelves.aisle[shelf])
        )
        successors[slots, 1] = _aligned(
            slots.size, int(generator.choice(others)), shelves, generator
        )
    return successors


def _aligned(
    count: int, shelf: int, shelves: _Shelves, generator: np.random.Generator
) -> NDArray[np.int64]:
    """``count`` slots of a shelf, in brand order, shifted by 0 or 1 so that chains do not close."""
    start, size = int(shelves.starts[shelf]), int(shelves.starts[shelf + 1] - shelves.starts[shelf])
    rank = np.arange(count) * size // max(count, 1)
    shift = int(generator.integers(2))
    return np.asarray(start + (rank + shift) % size, dtype=np.int64)


def _draw_tastes(
    num_users: int, num_aisles: int, generator: np.random.Generator
) -> NDArray[np.float64]:
    """(U, A) each user likes three aisles, in shares that differ."""
    liked = np.argsort(generator.random((num_users, num_aisles)), axis=1)[:, :_TASTES]
    tastes = np.zeros((num_users, num_aisles))
    np.put_along_axis(tastes, liked, generator.dirichlet(np.ones(liked.shape[1]), num_users), 1)
    return tastes


def _draw_events(
    successors: NDArray[np.int64],
    aisle: NDArray[np.int64],
    tastes: NDArray[np.float64],
    generator: np.random.Generator,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """User, slot and second of every event, user by user; all users take each step at once."""
    num_users = tastes.shape[0]
    popularity = 1 / (1 + generator.permutation(aisle.size)) ** 0.6
    reach = np.concatenate([[0.0], np.cumsum(popularity)])
    starts = np.searchsorted(aisle, np.arange(tastes.shape[1] + 1))  # slots are in aisle order
    cumulative_tastes = np.cumsum(tastes, axis=1)

    def by_taste(users: NDArray[np.int64]) -> NDArray[np.int64]:
        dial = generator.random((users.size, 1)) * cumulative_tastes[users, -1:]
        chosen = (cumulative_tastes[users] <= dial).sum(axis=1).clip(max=tastes.shape[1] - 1)
        low, high = reach[starts[chosen]], reach[starts[chosen + 1]]
        point = low + generator.random(users.size) * (high - low)
        slots = np.searchsorted(reach, point, side="right") - 1
        inside = np.clip(slots, starts[chosen], starts[chosen + 1] - 1)
        return np.asarray(inside, dtype=np.int64)

    everyone = np.arange(num_users)
    slots = np.full((num_users, _LONGEST), -1, dtype=np.int64)
    slots[:, 0] = by_taste(everyone)
    first, second = np.cumsum(SUCCESSOR_PROBABILITIES)
    for step in range(1, _LONGEST):
        dice = generator.random(num_users)
        followed = successors[slots[:, step - 1], (dice >= first).astype(np.int64)]
        drawn = np.where(dice < second, followed, by_taste(everyone))
        for _ in range(_REDRAWS):  # people seldom buy the same thing twice
            again = np.flatnonzero((slots[:, :step] == drawn[:, None]).any(axis=1))
            drawn[again] = by_taste(again)
        slots[:, step] = drawn
    lengths = np.minimum(_SHORTEST - 1 + generator.geometric(0.12, num_users), _LONGEST)
    gaps = generator.integers(1, 20 * _DAY_SECONDS, (num_users, _LONGEST))
    seconds = _FIRST_SECOND + np.cumsum(gaps, axis=1)
    kept = np.arange(_LONGEST) < lengths[:, None]
    return np.repeat(everyone, lengths), slots[kept], seconds[kept]
