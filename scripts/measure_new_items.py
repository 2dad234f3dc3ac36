"""How well items are found that come after training: hold some out of everything, then add them.

    python scripts/measure_new_items.py --data FOLDER --output results/new-items-NAME.json

A share of the items and all their events are taken out of the tables; a run is trained on what is
left (the default configuration, or --config and --set), which never sees them: neither their text
nor that they exist. Then they are added, all at once and some one by one. Each user's first event
of a new item after what he was trained on is a target, and his history is what he did before it.
The run is kept under runs/new-items/ and not trained again.
"""

from __future__ import annotations

import argparse
import logging
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from hidvae.config import DatasetConfig, load_config
from hidvae.data.interactions import Sequences, count_items
from hidvae.data.prepare import Dataset, load_dataset, prepare
from hidvae.data.schema import Columns
from hidvae.evaluation.baselines.untrained import TextSimilarity
from hidvae.evaluation.evaluate_ranker import evaluate_ranker
from hidvae.ranking.ranker import Ranker
from hidvae.ranking.recommender import Recommender
from hidvae.run.run import Run
from hidvae.store.artifacts import describe_machine, git_commit, read_stage, write_json

RUNS = Path("runs/new-items")
CUTOFFS = (10,)
ONE_BY_ONE = 20
"""Items that are added one at a time, to time it."""

logger = logging.getLogger("measure_new_items")


def main() -> None:
    """Parse the command line, train, add, measure, write."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of raw tables")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--share", type=float, default=0.1, help="of the items, held out")
    parser.add_argument("--seed", type=int, default=0, help="of the draw and of the run")
    parser.add_argument("--config", type=Path, action="append", default=[], help="gin file")
    parser.add_argument("--set", action="append", default=[], dest="overrides", help="setting")
    arguments = parser.parse_args()
    folder = RUNS / f"{arguments.data.name}-seed-{arguments.seed}"
    whole = load_dataset(
        prepare(DatasetConfig(folder=str(arguments.data)), folder / "whole-dataset")
    )
    new = draw_items(whole, arguments.share, arguments.seed)
    write_tables_without(whole, new, folder / "tables")
    overrides = [
        *arguments.overrides,
        f"DatasetConfig.folder={folder / 'tables'}",
        f"RunConfig.seed={arguments.seed}",
        "DatasetConfig.short_histories=drop",  # users who lost too many events
        "EvaluationConfig.baselines=()",
    ]
    Run(folder / "run").make(load_config(arguments.config, overrides), until="train")
    found = {
        "dataset": arguments.data.name,
        "share": arguments.share,
        "seed": arguments.seed,
        "overrides": arguments.overrides,
        **measure(folder / "run", whole, new),
        "machine": describe_machine(),
        "git_commit": git_commit(),
    }
    write_json(arguments.output, found)
    for row in found["rows"]:
        print(row)


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


def measure(run: Path, whole: Dataset, new: list[str]) -> dict[str, Any]:
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
    dataset = load_dataset(read_stage(run / "dataset", produced_by="hidvae prepare"))
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


if __name__ == "__main__":
    main()
