from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from hidvae.apps.show.describe_dataset import describe
from hidvae.errors import ArtifactError, DataError
from hidvae.store.artifacts import StageFolder, fingerprint_file


def contents(place: Path) -> dict[str, str]:
    return {str(f): fingerprint_file(f) for f in sorted(place.rglob("*")) if f.is_file()}


def test_facts_of_a_known_dataset(run: Path) -> None:
    facts = describe(run)
    assert (facts.num_users, facts.num_items, facts.num_events) == (3, 6, 13)
    assert facts.density == 13 / (3 * 6)
    assert facts.lengths.quartiles == [3, 3, 5, 5, 5]
    assert facts.popularity.events.quartiles == [0, 1, 2, 3, 4]
    assert facts.popularity.top_shares == {"1 %": 4 / 13, "10 %": 4 / 13}
    assert facts.popularity.num_for_half == 2  # a has 4 events, b and c have 3 of 13
    assert facts.popularity.events_at_rank.tolist() == [4, 3, 3, 2, 1, 0]
    assert facts.category_depth.share_at_least(2) == 4 / 6
    assert facts.settings == {}
    found = {count.name: count.value for count in facts.counts}
    assert found["dropped_users"] == 1
    assert found["dropped_events"] == 2
    assert found["items_without_events"] == 1
    assert found["repeated_events"] == 1


def test_columns(run: Path) -> None:
    columns = {column.name: column for column in describe(run).columns}
    assert list(columns)[:2] == ["item_id", "categories"]
    assert (columns["brand"].num_missing, columns["brand"].missing_share) == (4, 4 / 6)
    assert columns["brand"].num_distinct == 1
    assert columns["brand"].example == "Lux"
    assert columns["categories"].num_missing == 1
    assert columns["categories"].example == "Home, Light"


def test_samples_are_spread_and_say_what_each_event_is_for(run: Path) -> None:
    facts = describe(run, num_samples=2)
    assert [item.item_id for item in facts.items] == ["a", "f"]
    assert facts.items[0].tags == ["Home", "Light"]
    assert facts.items[0].fields == {"brand": "Lux"}
    assert (facts.items[1].tags, facts.items[1].fields, facts.items[1].num_events) == ([], {}, 0)
    first, last = facts.users
    assert first.latest == [
        ("train", "Red lamp"),
        ("validation", "Blue lamp"),
        ("test", "Oak chair"),
    ]
    assert (last.user_id, last.num_events, last.latest[-1]) == ("u3", 5, ("test", "Oak chair"))
    none = describe(run, num_samples=0)
    assert (none.items, none.users) == ([], [])
    assert len(describe(run, num_samples=99).items) == 6


def test_all_places_show_the_same_and_stay_as_they_are(
    run: Path, tables: Path, prepared: StageFolder
) -> None:
    before = contents(run) | contents(tables)
    of_run, of_stage, of_tables = describe(run), describe(prepared.path), describe(tables)
    for facts in (of_stage, of_tables):
        assert facts.columns == of_run.columns
        assert facts.users == of_run.users
        assert facts.counts == of_run.counts
    assert contents(run) | contents(tables) == before
    assert {p.name for p in run.iterdir()} == {"dataset"}


def test_tags_of_the_run_are_used(run: Path, add_tags: Callable[..., None]) -> None:
    assert describe(run).notes == ["no tags yet: `hidvae tag` makes them"]
    add_tags()
    facts = describe(run)
    assert facts.hierarchy.is_made
    assert facts.notes == []
    assert facts.items[0].tags == ["Light", "Lamps"]


def test_tags_of_another_dataset_are_not_shown(run: Path, add_tags: Callable[..., None]) -> None:
    add_tags(made_from="0" * 64)
    facts = describe(run)
    assert not facts.hierarchy.is_made
    assert len(facts.notes) == 1
    assert "made from another dataset" in facts.notes[0]


def test_other_places_are_refused_in_one_line(
    run: Path, add_tags: Callable[..., None], tmp_path: Path
) -> None:
    with pytest.raises(DataError, match="found no such folder"):
        describe(tmp_path / "absent")
    add_tags()
    with pytest.raises(ArtifactError, match="found one of the stage tag"):
        describe(run / "tags")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="expected a table interactions"):
        describe(tmp_path / "empty")


def test_odd_columns_are_no_trouble(tables: Path) -> None:
    items = pl.read_parquet(tables / "items.parquet").drop("categories", "title", "brand")
    items = items.with_columns(
        paths=pl.Series([[["x"], ["y"]]] + [[]] * 5, dtype=pl.List(pl.List(pl.String))),
        size=pl.Series([{"w": 1, "h": 2}] + [None] * 5),
        image=pl.Series([b"\x00"] + [None] * 5),
    )
    items.write_parquet(tables / "items.parquet")
    facts = describe(tables)
    columns = {column.name: column for column in facts.columns}
    assert columns["paths"].num_missing == columns["size"].num_missing == 5
    assert columns["categories"].missing_share == 1
    assert list(facts.hierarchy.levels) == []
