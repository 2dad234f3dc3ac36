from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from tests.stages import prepare

from hidvae.config import DatasetConfig, build_section
from hidvae.data.prepare import Dataset, load_dataset, raw_fingerprints
from hidvae.data.sources.demo import Demo
from hidvae.errors import ArtifactError, DataError
from hidvae.store.artifacts import StageFolder, is_current

Rows = list[tuple[str, str]]
THREE = [("u", "a"), ("u", "b"), ("u", "c")]
OTHER = [("o", "c"), ("o", "b"), ("o", "a")]


def write_tables(folder: Path, events: Rows, items: list[str]) -> str:
    lines = [f"{user},{item}" for user, item in events]
    (folder / "interactions.csv").write_text("\n".join(["user_id,item_id", *lines]) + "\n")
    (folder / "items.csv").write_text("\n".join(["item_id", *items]) + "\n")
    return str(folder)


def refused(config: DatasetConfig, tmp_path: Path) -> str:
    with pytest.raises(DataError) as caught:
        prepare(config, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_prepared_equals_the_source(demo_dataset: Dataset, demo_truth: Demo) -> None:
    assert demo_dataset.name == "demo"
    assert demo_dataset.catalogue.item_ids == demo_truth.items["item_id"].to_list()
    assert demo_dataset.catalogue.titles == demo_truth.items["title"].to_list()
    paths = demo_dataset.catalogue.frame["categories"]
    assert paths.to_list() == demo_truth.items["categories"].to_list()
    expected = demo_truth.interactions.sort("timestamp").group_by("user_id").agg("item_id")
    for user, items in expected.iter_rows():
        found = demo_dataset.interactions.sequences[demo_dataset.interactions.user_ids.index(user)]
        assert [demo_dataset.catalogue.item_ids[i] for i in found] == items


def test_manifest_describes_the_stage(demo_folder: StageFolder, demo_config: DatasetConfig) -> None:
    assert demo_folder.facts["name"] == "demo"
    assert demo_folder.facts["num_items"] == demo_folder.metrics["num_items"] == 120
    assert demo_folder.metrics["num_users"] == 200
    assert demo_folder.metrics["sequence_length_min"] == 5
    assert demo_folder.metrics["dropped_events"] == 0
    settings = json.loads(json.dumps(demo_folder.config))
    assert build_section(DatasetConfig, settings) == demo_config
    inputs = raw_fingerprints(demo_config)
    assert is_current(demo_folder.path, config=settings, inputs=inputs, seed=None)


def test_the_log_can_be_had_as_a_table(demo_dataset: Dataset, demo_truth: Demo) -> None:
    events = demo_dataset.events_frame()
    assert events.columns == ["user_id", "item_id", "position", "split"]
    told = demo_truth.interactions.sort("timestamp").with_columns(
        position=pl.int_range(pl.len(), dtype=pl.Int32).over("user_id")
    )
    both = ["user_id", "position"]
    assert events.drop("split").sort(both).equals(told.select(events.columns[:3]).sort(both))
    of_one = events.filter(pl.col("user_id") == events["user_id"][0])["split"].to_list()
    assert of_one == ["train"] * (len(of_one) - 2) + ["validation", "test"]


@pytest.mark.parametrize(("repeats", "expected"), [(1, False), (99, False), (100, True)])
def test_users_repeat_items_by_a_share_of_the_log(
    tmp_path: Path, repeats: int, expected: bool
) -> None:
    """Of 10,000 training events; one that was sent twice must not change every list."""
    names = [f"i{item}" for item in range(102)]
    again = {(f"u{user}", 1): "i0" for user in range(repeats)}  # the second event is the first
    events = [(f"u{u}", again.get((f"u{u}", i), f"i{i}")) for u in range(100) for i in range(102)]
    stage = prepare(DatasetConfig(folder=write_tables(tmp_path, events, names)), tmp_path / "out")
    assert stage.facts["users_repeat_items"] is expected
    assert load_dataset(stage).users_repeat_items is expected


def test_fingerprints_follow_the_files(tmp_path: Path) -> None:
    config = DatasetConfig(folder=write_tables(tmp_path, THREE, ["a", "b", "c"]))
    before = raw_fingerprints(config)
    assert set(before) == {"items.csv", "interactions.csv"}
    write_tables(tmp_path, [*THREE, ("u", "a")], ["a", "b", "c"])
    after = raw_fingerprints(config)
    assert after["items.csv"] == before["items.csv"]
    assert after["interactions.csv"] != before["interactions.csv"]
    demo = raw_fingerprints(DatasetConfig(source="demo"))
    assert demo != raw_fingerprints(DatasetConfig(source="demo", demo_num_items=120))


def test_items_without_events_stay_without_a_core(tmp_path: Path) -> None:
    folder = write_tables(tmp_path, [*THREE, ("u", "a"), *OTHER], ["cold", "a", "b", "c"])
    stage = prepare(DatasetConfig(folder=folder), tmp_path / "out")
    dataset = load_dataset(stage)
    assert dataset.catalogue.item_ids == ["cold", "a", "b", "c"]
    assert dataset.interactions.sequences[0].tolist() == [1, 2, 3, 1]
    assert stage.metrics["items_without_events"] == 1
    assert stage.metrics["items_without_categories"] == 4
    assert stage.metrics["repeated_events"] == 1
    core = prepare(DatasetConfig(folder=folder, min_events=1), tmp_path / "core")
    assert load_dataset(core).catalogue.item_ids == ["a", "b", "c"]
    assert core.metrics["dropped_items"] == 1


def test_what_is_left_out_is_counted_and_said(tmp_path: Path) -> None:
    events = [*THREE, ("u", "bb"), ("u", "x"), ("", "a"), *OTHER]
    folder = write_tables(tmp_path, events, ["a", "b", "c", "a", '""'])
    stage = prepare(DatasetConfig(folder=folder), tmp_path / "out")
    assert stage.metrics["unknown_item_events"] == 2
    assert stage.metrics["num_events"] + stage.facts["dropped_events"] == len(events)
    assert stage.metrics["num_items"] + stage.metrics["dropped_items"] == 5
    said = "\n".join(decision.said for decision in stage.decisions)
    assert f"{folder}/interactions.csv: 2 rows of items that {folder}/items.csv lacks are" in said
    assert f"{folder}/interactions.csv: 1 row without a user id is left out" in said
    assert f"{folder}/items.csv: 1 row without an item id is left out" in said
    message = refused(DatasetConfig(folder=folder, strict=True), tmp_path / "strict")
    assert message.startswith(f"{folder}/items.csv, column item_id: expected an item id")


def test_short_users_train_and_are_not_tested(tmp_path: Path) -> None:
    events = [("v", "a"), *THREE, ("v", "b"), ("w", "a")]
    folder = write_tables(tmp_path, events, ["a", "b", "c"])
    stage = prepare(DatasetConfig(folder=folder), tmp_path / "out")
    dataset = load_dataset(stage)
    assert dataset.interactions.user_ids == ["v", "u", "w"]
    assert [dataset.split.train[user].tolist() for user in range(3)] == [[0, 1], [0], [0]]
    assert dataset.split.test_users.tolist() == dataset.split.validation_users.tolist() == [1]
    assert dataset.split.test_histories[0].tolist() == [0, 1]
    assert [decision.text for decision in stage.decisions][1:] == [
        "2 of 3 users have fewer than 3 events: they train and are not tested"
    ]


def test_a_core_drops_users_and_items(tmp_path: Path) -> None:
    # Without v (1 event) item d has one event left, so a 2-core must drop d as well.
    users = [(u, i) for u in "ux" for i in "abc"]
    folder = write_tables(tmp_path, [*users, ("u", "d"), ("v", "d")], list("abcd"))
    config = DatasetConfig(folder=folder, min_events=2)
    stage = prepare(config, tmp_path / "out")
    dataset = load_dataset(stage)
    assert dataset.catalogue.item_ids == ["a", "b", "c"]
    assert dataset.interactions.sequences.lengths.tolist() == [3, 3]
    assert "1 user and 1 item are left out" in stage.decisions[1].text


@pytest.mark.parametrize(
    ("events", "min_events", "found"),
    [
        ([*THREE, *OTHER], 5, "0 users and 0 items in 0 of 6 events"),
        (THREE, 0, "1 user and 3 items in 3 of 3 events"),
        ([("u", "a"), ("v", "a")], 0, "2 users and 1 item in 2 of 2 events"),
    ],
)
def test_too_little_is_refused(tmp_path: Path, events: Rows, min_events: int, found: str) -> None:
    folder = write_tables(tmp_path, events, ["a", "b", "c"])
    message = refused(DatasetConfig(folder=folder, min_events=min_events), tmp_path)
    assert f"expected at least 2 users and 2 items with events; found {found}; add" in message
    assert ("lower --set DatasetConfig.min_events=5" in message) == bool(min_events)


@pytest.mark.parametrize("name", ["items.parquet", "users.parquet", "events.safetensors"])
def test_a_damaged_stage_is_refused(tmp_path: Path, name: str) -> None:
    folder = write_tables(tmp_path, [*THREE, *OTHER], ["a", "b", "c"])
    stage = prepare(DatasetConfig(folder=folder), tmp_path / "out")
    (stage.path / name).write_bytes(b"not a table")
    with pytest.raises(ArtifactError, match=rf"{name}: .*run `hidvae prepare` again"):
        load_dataset(stage)


@pytest.mark.shared_data
def test_beauty_counts(tmp_path: Path) -> None:
    root = os.environ.get("HIDVAE_DATA")
    if not root or not (Path(root) / "amazon-beauty-2014").is_dir():
        pytest.skip("set HIDVAE_DATA to a folder that holds amazon-beauty-2014")
    started = time.perf_counter()
    config = DatasetConfig(source="amazon", dataset_split="beauty", min_events=5)
    dataset = load_dataset(prepare(config, tmp_path / "out"))
    assert time.perf_counter() - started < 10
    assert dataset.interactions.sequences.num_users == 22_363
    assert dataset.catalogue.num_items == 12_101
    assert dataset.interactions.sequences.items.size == 198_502
    assert set(dataset.catalogue.frame["categories"].list.first().to_list()) == {"Beauty"}
    assert not dataset.catalogue.frame["title"].str.contains("&amp;").any()


def test_ties_and_duplicates_are_counted(tmp_path: Path) -> None:
    rows = [
        ("u", "a", 1), ("u", "b", 2), ("u", "c", 3), ("u", "d", 3),  # the last two tie
        ("v", "a", 1), ("v", "b", 2), ("v", "c", 2), ("v", "d", 3),  # second and third last
        ("w", "a", 1), ("w", "a", 1), ("w", "b", 2), ("w", "c", 3),  # one event twice
    ]  # fmt: skip
    log = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")
    log.write_csv(tmp_path / "interactions.csv")
    pl.DataFrame({"item_id": list("abcd")}).write_csv(tmp_path / "items.csv")
    metrics = prepare(DatasetConfig(folder=str(tmp_path)), tmp_path / "out").metrics
    assert metrics["duplicate_events"] == metrics["dropped_events"] == 1
    assert metrics["tied_events"] == 4
    assert metrics["tied_test_targets"] == 1  # u
    assert metrics["tied_validation_targets"] == 2  # u and v


def test_repeated_items_can_be_left_out(tmp_path: Path) -> None:
    events = [*(("u", item) for item in "abacb"), *OTHER]
    folder = write_tables(tmp_path, events, ["a", "b", "c"])
    for which, expected in (("first", [0, 1, 2]), ("last", [0, 2, 1]), ("keep", [0, 1, 0, 2, 1])):
        config = DatasetConfig(folder=folder, repeated_items=which)
        dataset = load_dataset(prepare(config, tmp_path / which))
        assert dataset.interactions.sequences[0].tolist() == expected


def test_the_fingerprint_does_not_depend_on_the_number_of_threads(tmp_path: Path) -> None:
    """Fingerprints are over the files' bytes, and Polars would cut a file by its threads."""
    count = 200_000
    pl.DataFrame({"item_id": ["a", "b", "c"]}).write_parquet(tmp_path / "items.parquet")
    pl.DataFrame(
        {
            "user_id": np.arange(count) // 20,
            "item_id": ["a", "b", "c", "b"] * (count // 4),
            "timestamp": np.arange(count),
        }
    ).write_parquet(tmp_path / "interactions.parquet")
    code = (
        "import sys, pathlib; from hidvae.config import DatasetConfig; "
        "from tests.stages import prepare; folder, output = sys.argv[1:]; "
        "print(prepare(DatasetConfig(folder=folder), pathlib.Path(output)).fingerprint)"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", code, str(tmp_path), str(tmp_path / threads)],
            env={**os.environ, "POLARS_MAX_THREADS": threads},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for threads in ("1", "16")
    }
    assert len(found) == 1
