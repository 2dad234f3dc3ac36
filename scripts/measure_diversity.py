"""What more variety in a list costs: accuracy and diversity by ``Filters.diversity``.

    python scripts/measure_diversity.py RUN --output results/diversity-NAME.json

Ranks the validation users of a trained run, history excluded, and orders the best of each anew. The
test is not touched.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from hidvae.data.prepare import load_dataset
from hidvae.evaluation.metrics import diversity_at, ndcg_at, recall_at, target_ranks
from hidvae.ranking.filters import POOL, diversified
from hidvae.ranking.recommender import Recommender
from hidvae.store.artifacts import describe_machine, git_commit, read_stage, write_json

K = 10
PENALTIES = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0)


def main() -> None:
    """Parse the command line, measure, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, help="a trained run")
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    found = {
        "dataset": arguments.output.stem.removeprefix("diversity-"),
        **measure(arguments.run),
        "machine": describe_machine(),
        "git_commit": git_commit(),
    }
    write_json(arguments.output, found)
    for row in found["rows"]:
        print(row)


def measure(run: Path) -> dict[str, Any]:
    """The rows of the table, one per penalty."""
    recommender = Recommender.load(run, device="cpu")
    split = load_dataset(read_stage(run / "dataset", produced_by="hidvae prepare")).split
    items, scores = recommender.best(split.validation_histories, POOL * K)
    tag_ids = recommender.item_tags.tag_ids
    rows = []
    for penalty in PENALTIES:
        order = diversified(items, scores, tag_ids, penalty)[:, :K]
        ranked = np.take_along_axis(items, order, axis=1)
        ranks = target_ranks(ranked, split.validation_targets)
        rows.append(
            {
                "diversity": penalty,
                f"recall@{K}": float(recall_at(ranks, K).mean()),
                f"ndcg@{K}": float(ndcg_at(ranks, K).mean()),
                f"diversity@{K}": diversity_at(ranked, K, tag_ids),
                f"coverage@{K}": len(np.unique(ranked[ranked >= 0])) / len(tag_ids),
            }
        )
    retriever = read_stage(run / "retriever", produced_by="hidvae train")
    return {
        "num_users": len(split.validation_targets),
        "seed": retriever.manifest["seed"],
        "run_commit": retriever.manifest["git_commit"],
        "rows": rows,
    }


if __name__ == "__main__":
    main()
