"""What more variety in a list costs: accuracy and diversity by ``Filters.diversity``.

Ranks the validation users of one run, history excluded, and orders the best of each anew. The test
is not touched.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from scripts.experiments.runner import Request, made_here, make_runs

from hidvae.evaluation.metrics import diversity_at, ndcg_at, recall_at, target_ranks
from hidvae.ranking.filters import POOL, diversified
from hidvae.ranking.recommender import Recommender
from hidvae.run.run import Run
from hidvae.store.artifacts import read_stage

K = 10
PENALTIES = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0)


def measure(request: Request) -> dict[str, Any]:
    """Train with seed 0, and measure."""
    one = dataclasses.replace(request, num_seeds=1)
    ((run,),) = make_runs("diversity", one, until="train").values()
    return {"dataset": request.data.name, **measure_run(run.path), **made_here()}


def measure_run(run: Path) -> dict[str, Any]:
    """The rows of the table, one per penalty."""
    recommender = Recommender.load(run, device="cpu")
    split = Run(run).dataset.split
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
