"""How well items are found that come after training: hold some out of everything, then add them.

A share of the items and all their events are taken out of the tables; a run is trained on what is
left, which never sees them: neither their text nor that they exist. Then they are added, all at
once and some one by one. Each user's first event of a new item after what he was trained on is a
target, and his history is what he did before it.
"""

from __future__ import annotations

import dataclasses
import logging
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from scripts.experiments.runner import Request, made_here, make_runs

from hidvae.data.interactions import Sequences, count_items
from hidvae.data.prepare import Dataset
from hidvae.data.schema import Columns
from hidvae.evaluation.baselines.untrained import TextSimilarity
from hidvae.evaluation.evaluate_ranker import evaluate_ranker
from hidvae.ranking.ranker import Ranker
from hidvae.ranking.recommender import Recommender
from hidvae.run.run import Run

SHARE = 0.1
"""Of the items, held out."""
SEED = 0
"""Of the draw and of the run."""
CUTOFFS = (10,)
ONE_BY_ONE = 20
"""Items that are added one at a time, to time it."""

logger = logging.getLogger(__name__)


def measure(request: Request) -> dict[str, Any]:
    """Take items out, train on the rest, add them, rank them."""
    one = dataclasses.replace(request, num_seeds=1)
    ((prepared,),) = make_runs("new-items-whole", one, until="prepare").values()
    whole = Run(prepared.path).dataset
    new = draw_items(whole, SHARE, SEED)
    tables = prepared.path / "tables-without-new-items"
    write_tables_without(whole, new, tables)
    ((run,),) = make_runs(
        "new-items",
        one,
        until="train",
        bindings={SEED: ["EvaluationConfig.baselines=()"]},
        data=tables,
    ).values()
    return {
        "dataset": request.data.name,
        "share": SHARE,
        "seed": SEED,
        "overrides": request.overrides,
        **measure_run(run.path, whole, new),
        **made_here(),
    }


def draw_items(whole: Dataset, share: float, seed: int) -> list[str]:
    """Ids of a share of the items, in the order of the catalogue."""
    num_items = whole.catalogue.num_items
    drawn = np.random.default_rng(seed).choice(num_items, round(share * num_items), replace=False)
    return [whole.catalogue.item_ids[item] for item in sorted(drawn.tolist())]


def write_tables_without(whole: Dataset, new: list[str], folder: Path) -> None:
    """Write the tables of a dataset less some items, and all that was done with them."""
    folder.mkdir(parents=True, exist_ok=True)
    is_new = pl.col(Columns.ITEM).is_in(new)
    whole.catalogue.frame.filter(~is_new).write_parquet(folder / "items.parquet")
    sequences = whole.interactions.sequences
    events = pl.DataFrame(
        {
            Columns.USER: np.repeat(whole.interactions.user_ids, sequences.lengths),
            Columns.ITEM: np.array(whole.catalogue.item_ids)[sequences.items],
            Columns.POSITION: np.arange(sequences.items.size),
        }
    )
    events.filter(~is_new).write_parquet(folder / "interactions.parquet")


def measure_run(run: Path, whole: Dataset, new: list[str]) -> dict[str, Any]:
    """Add the items and rank them."""
    before = Recommender.load(run, device="cpu")
    rows = whole.catalogue.frame.filter(pl.col(Columns.ITEM).is_in(new))
    seconds_each = []
    one_more = before.add_items(rows.head(1))  # loads encoder and tokenizer
    for row in range(1, ONE_BY_ONE + 1):
        start = time.perf_counter()
        one_more = one_more.add_items(rows.slice(row, 1))
        seconds_each.append(time.perf_counter() - start)
    start = time.perf_counter()
    after = before.add_items(rows)
    seconds_all = time.perf_counter() - start
    dataset = Run(run).dataset
    histories, targets = first_new_events(whole, dataset, after, set(new))
    is_new = np.zeros(after.catalogue.num_items, dtype=bool)
    is_new[after.catalogue.index_of(new)] = True
    similarity = TextSimilarity(after.content)
    # Users unknown to the run are ranked, so none is told apart by a row of the dataset.
    unknown = np.full(len(targets), -1)
    measured = [
        score(name, ranker, histories, targets, unknown, after, dataset, allowed)
        for name, ranker in (("hidvae", after), ("text_similarity", similarity))
        for allowed in (is_new, None)
    ]
    split = dataset.split
    for name, ranker in (("hidvae before", before), ("hidvae after", after)):
        measured.append(
            score(
                f"{name}, test of the other items",
                ranker,
                split.test_histories,
                split.test_targets,
                split.test_users,
                ranker,
                dataset,
                None,
            )
        )
    return {
        "num_new": len(new),
        "num_users": len(targets),
        "seconds_all": round(seconds_all, 2),
        "milliseconds_each": round(1000 * float(np.median(seconds_each)), 1),
        "random_guess": CUTOFFS[0] / len(new),
        "rows": measured,
    }


def first_new_events(
    whole: Dataset, dataset: Dataset, after: Recommender, new: set[str]
) -> tuple[Sequences, np.ndarray]:
    """Histories and targets, item_index of ``after``: each user's first new item after training.

    Only what a user did before the target is in his history, new items left out.
    """
    trained_on = dict(zip(dataset.interactions.user_ids, dataset.split.train.lengths, strict=True))
    histories, targets = [], []
    for user, events in zip(
        whole.interactions.user_ids, iter_users(whole.interactions.sequences), strict=True
    ):
        names = [whole.catalogue.item_ids[item] for item in events]
        seen: list[str] = []
        for name in names:
            if name not in new:
                seen.append(name)
            elif len(seen) >= max(1, int(trained_on.get(user, 0))):
                histories.append(after.catalogue.index_of(seen))
                targets.append(after.catalogue.index_of([name])[0])
                break
    return Sequences.from_lists(histories), np.array(targets)


def iter_users(sequences: Sequences) -> list[list[int]]:
    """The items of each user."""
    return [sequences[user].tolist() for user in range(sequences.num_users)]


def score(
    name: str,
    ranker: Ranker,
    histories: Sequences,
    targets: np.ndarray,
    users: np.ndarray,
    catalogue_of: Recommender,
    dataset: Dataset,
    allowed: np.ndarray | None,
) -> dict[str, Any]:
    """One row: metrics with intervals, history excluded."""
    num_items = catalogue_of.catalogue.num_items
    result = evaluate_ranker(
        ranker,
        histories,
        targets,
        num_items=num_items,
        cutoffs=CUTOFFS,
        popularity=count_items(dataset.split.train, num_items),
        user_index=users,
        allowed=allowed,
        on_progress=lambda done, total: (
            logger.info("%s: %d of %d", name, done, total) if done == total else None
        ),
    )
    return {
        "ranker": name,
        "among": "the new items" if allowed is not None else "the whole catalogue",
        **result.excluding,
    }
