"""The next items of many users, shard by shard, by a trained run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from hidvae.apps.batch.shards import read_shard
from hidvae.apps.batch.workers import Counts, Work, Workers, open_shards, run_job
from hidvae.data.catalogue import Catalogue
from hidvae.data.interactions import Sequences
from hidvae.data.schema import Columns
from hidvae.errors import ArtifactError
from hidvae.ranking.item_changes import FOLDER as CHANGES
from hidvae.ranking.recommender import check_widths
from hidvae.ranking.search import PADDING
from hidvae.run.run import Run
from hidvae.run.stages import SERVED_FROM

HISTORY = "history"


def recommend_shards(
    run: Path | str,
    input: Path | str,
    output: Path | str,
    k: int = 10,
    workers: Workers | None = None,
    *,
    exclude_history: bool = True,
) -> Counter[str]:
    """Give every user of the shards the k most probable next items.

    The items are those of ``Recommender.recommend``; users are searched in batches.

    Args:
        run: Trained run.
        input: Parquet shards: ``user_id`` and ``history``, a list of item ids, oldest first. Ids
            that the run does not know are dropped.
        output: Shards of the same names and rows: ``user_id``, ``items`` (list of item ids, best
            first; empty where no known item is in the history) and ``scores`` (list of float32,
            what the items are ranked by).
        k: Length of the lists, at least 1; shorter only where the items run out.
        workers: Who does it; this process by default.
        exclude_history: Leave the history's own items out.

    Returns: Counts over all shards: ``rows``, ``empty_histories`` (those of unknown items alone
        among them), ``unknown_items`` (entries of histories that were dropped).

    Raises:
        ConfigError: If k is below 1.
        DataError: If a shard breaks its contract.
        HidvaeError: As ``run_job``; or if the run is damaged or not made yet.
    """
    run, input, output = Path(run), Path(input), Path(output)
    k, _ = check_widths(k)
    job = RecommendJob(run.resolve(), fingerprints_of(Run(run)), k, exclude_history)
    shards = open_shards(input, output, job.columns)
    return run_job(job, input, output, shards, workers or Workers())


@dataclass(frozen=True)
class RecommendJob:
    """See ``workers.Job``."""

    run: Path
    fingerprints: Mapping[str, str]
    """Of the run's folders that are read, and of the items changed since the training."""
    k: int
    exclude_history: bool
    name = "recommend"
    columns = {Columns.USER: "id", HISTORY: "ids"}

    @property
    def made_with(self) -> Mapping[str, Any]:
        """The run's folders and the settings of the lists."""
        return {**self.fingerprints, "k": self.k, "exclude_history": self.exclude_history}

    def load(self) -> Work:
        """The recommender, and how it serves a shard."""
        run = Run(self.run, device="cpu")
        recommender = run.recommender
        if fingerprints_of(run) != self.fingerprints:
            raise ArtifactError(
                f"{self.run}: expected the run as it was when the job began; found that it was "
                "trained or changed since; run the same command again"
            )
        item_ids = pl.Series(recommender.catalogue.item_ids, dtype=pl.String)

        def recommend(path: Path) -> tuple[pl.DataFrame, Counts]:
            users = read_shard(path)
            histories, num_unknown = _known_items(users[HISTORY], recommender.catalogue)
            served = np.flatnonzero(histories.lengths > 0)
            items = np.full((users.height, self.k), PADDING)
            scores = np.zeros((users.height, self.k), np.float32)
            items[served], scores[served] = recommender.best(
                histories.take(served), self.k, exclude_history=self.exclude_history
            )
            counts = {
                "empty_histories": users.height - len(served),
                "unknown_items": num_unknown,
            }
            return _lists(users[Columns.USER], items, scores, item_ids), counts

        return recommend


def fingerprints_of(run: Run) -> dict[str, str]:
    """What the lists depend on: the run's stages, and items added, changed or removed since."""
    fingerprints = {name: folder.fingerprint for name, folder in run.folders(SERVED_FROM).items()}
    return {**fingerprints, CHANGES: run.changes_fingerprint}


def _known_items(histories: pl.Series, catalogue: Catalogue) -> tuple[Sequences, int]:
    """Histories (U,) of item ids as item_index, and how many entries are no item."""
    index = pl.DataFrame(
        {Columns.ITEM: catalogue.item_ids, "item_index": np.arange(catalogue.num_items)}
    )
    lists = histories.cast(pl.List(pl.String))
    entries = pl.DataFrame({"user": np.arange(len(lists)), Columns.ITEM: lists})
    known = entries.explode(Columns.ITEM).join(index, on=Columns.ITEM, maintain_order="left")
    offsets = np.zeros(len(lists) + 1, np.int64)
    np.cumsum(np.bincount(known["user"].to_numpy(), minlength=len(lists)), out=offsets[1:])
    sequences = Sequences(known["item_index"].to_numpy().astype(np.int32), offsets)
    return sequences, int(lists.list.len().sum()) - known.height


def _lists(
    users: pl.Series, items: np.ndarray, scores: np.ndarray, item_ids: pl.Series
) -> pl.DataFrame:
    """Rows of the output; items (U, k) are -1 beyond the end of a list."""
    is_item = items >= 0
    entries = pl.DataFrame(
        {
            "user": np.nonzero(is_item)[0],
            "items": item_ids.gather(items[is_item]),
            "scores": scores[is_item],
        }
    )
    lists = entries.group_by("user", maintain_order=True).agg("items", "scores")
    rows = pl.DataFrame({Columns.USER: users, "user": np.arange(len(users))})
    return (
        rows.join(lists, on="user", how="left", maintain_order="left")
        .drop("user")
        .with_columns(pl.col("items", "scores").fill_null([]))
    )
