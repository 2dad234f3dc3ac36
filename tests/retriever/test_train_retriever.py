"""Stage train: the batches and the validation of the retriever, and what it must not see."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from tests.stages import train_retriever

from hidvae.data.interactions import Sequences
from hidvae.data.prepare import EVENTS_FILE, load_dataset, write_events
from hidvae.data.split import leave_one_out
from hidvae.errors import HidvaeError
from hidvae.store.artifacts import StageFolder, read_stage
from training.fake_streams import fake_streams
from training.trained import (
    CASES,
    RETRIEVER,
    RETRIEVERS,
    RUN,
    assert_same,
    differ,
    log_of,
)

NEEDS = ("dataset", "embeddings", "tags", "semantic_ids")
Folders = dict[str, StageFolder]


@pytest.fixture(scope="module")
def folders(tiny_run: Path) -> Folders:
    return {name: read_stage(tiny_run / name, produced_by="hidvae") for name in NEEDS}


def fit(folders: Folders, output: Path, **changes: Any) -> StageFolder:
    """Train with some settings changed."""
    config = replace(RETRIEVER, **changes)
    return train_retriever(config, RUN, *(folders[name] for name in NEEDS), output)


@pytest.fixture(scope="module")
def whole(
    folders: Folders, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], StageFolder]:
    """Trainings of the cases, each made once."""
    made: dict[str, StageFolder] = {}

    def of(case: str) -> StageFolder:
        if case not in made:
            output = tmp_path_factory.mktemp("whole") / "retriever"
            made[case] = fit(folders, output, **CASES[case][1])
        return made[case]

    return of


@pytest.mark.parametrize("case", RETRIEVERS)
def test_batches_that_are_copied_ahead_change_nothing(
    case: str, folders: Folders, whole: Callable[[str], StageFolder], tmp_path: Path
) -> None:
    with fake_streams() as pinned:
        made = fit(folders, tmp_path / "retriever", **CASES[case][1])
    assert pinned
    assert_same(made, whole(case))


def test_the_last_epoch_is_validated_whatever_the_rhythm(folders: Folders, tmp_path: Path) -> None:
    made = fit(folders, tmp_path / "retriever", epochs=3, validate_every=2)
    assert [bool(row["validation_ndcg@10"]) for row in log_of(made)] == [False, True, True]
    made = fit(folders, tmp_path / "few", max_steps=2, validate_every=50)
    (row,) = log_of(made)
    assert float(row["validation_ndcg@10"]) == made.metrics["validation_ndcg@10"]
    assert made.facts["num_epochs"] == 1


def test_averaged_weights_are_others_and_are_the_ones_validated(
    whole: Callable[[str], StageFolder],
) -> None:
    plain, averaged = whole("item_decoder"), whole("item_decoder, averaged")
    assert differ(averaged, plain)
    for name, is_same in (("loss", True), ("validation_ndcg@10", False)):
        columns = [[row[name] for row in log_of(folder)] for folder in (plain, averaged)]
        assert (columns[0] == columns[1]) == is_same, name


# --- refuses ------------------------------------------------------------------------------------


def assert_one_line(error: pytest.ExceptionInfo[HidvaeError]) -> None:
    assert "\n" not in str(error.value)


def with_events(
    dataset: StageFolder, folder: Path, change: Callable[[pl.DataFrame], pl.DataFrame]
) -> StageFolder:
    """The dataset with another log under the same fingerprint, as if nobody had noticed."""
    shutil.copytree(dataset.path, folder)
    loaded = load_dataset(dataset)
    users = change(loaded.events_frame()).group_by("user_id", maintain_order=True)
    lists = users.agg("item_id")["item_id"].to_list()
    split = leave_one_out(Sequences.from_lists(map(loaded.catalogue.index_of, lists)))
    write_events(split, folder / EVENTS_FILE)
    return StageFolder(folder, dataset.manifest)


def test_without_transitions_there_is_nothing_to_learn(folders: Folders, tmp_path: Path) -> None:
    short = with_events(
        folders["dataset"], tmp_path / "dataset", lambda log: log.filter(pl.col("position") < 1)
    )
    folder = fit({**folders, "dataset": short}, tmp_path / "retriever")
    (decision,) = folder.decisions
    assert "no user has two events to learn from" in decision.text
    assert (folder.facts["num_epochs"], folder.metrics["validation_ndcg@10"]) == (0, None)


# --- blind --------------------------------------------------------------------------------------


def with_other_item(*from_end: int) -> Callable[[pl.DataFrame], pl.DataFrame]:
    """Every user's events at these places from the end (1 is the last) become other items."""

    def change(log: pl.DataFrame) -> pl.DataFrame:
        place = pl.len().over("user_id") - pl.col("position")
        shifted = pl.col("item_id").shift(-7).fill_null(pl.col("item_id").first())
        return log.with_columns(
            pl.when(place.is_in(list(from_end))).then(shifted).otherwise(pl.col("item_id"))
        )

    return change


def test_validation_events_select_but_do_not_train(folders: Folders, tmp_path: Path) -> None:
    other = with_events(folders["dataset"], tmp_path / "dataset", with_other_item(1, 2))
    plain = fit(folders, tmp_path / "plain", validate_every=3)
    changed = fit({**folders, "dataset": other}, tmp_path / "changed", validate_every=3)
    assert not differ(plain, changed), "one validation, so nothing to choose"
    assert log_of(plain)[-1] != log_of(changed)[-1]


def test_training_events_do_train(
    folders: Folders, whole: Callable[[str], StageFolder], tmp_path: Path
) -> None:
    other = with_events(folders["dataset"], tmp_path / "dataset", with_other_item(3))
    assert differ(fit({**folders, "dataset": other}, tmp_path / "retriever"), whole("item_decoder"))
