"""Whether the confidences of predicted tags can be believed, over several trainings.

Each training holds out other items; those that each never saw are put together, as one training
holds out too few to tell a small error from luck. "After" is cross-fitted within each training.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from scripts.experiments.runner import Request, made_here, make_runs

from hidvae.features.embeddings import load_embeddings
from hidvae.features.tags.vocabulary import load_tags
from hidvae.run.run import Run
from hidvae.tokenizer.encode import encode_items
from hidvae.tokenizer.temperatures import Judged, calibration_errors, judge
from hidvae.tokenizer.train_tokenizer import load_held_out, load_tokenizer


def measure(request: Request) -> dict[str, Any]:
    """Train the tokenizer with every seed, and judge its predictions."""
    (runs,) = make_runs("calibration", request, until="tokenize").values()
    judged = [judge_run(run.path) for run in runs]
    together = [put_together(levels) for levels in zip(*judged, strict=True)]
    return {
        "dataset": request.data.name,
        "seeds": request.num_seeds,
        "overrides": request.overrides,
        "together": summary(together),
        "by_seed": [summary(levels) for levels in judged],
        **made_here(),
    }


def judge_run(run: Path) -> list[Judged]:
    """The predictions of a run's tokenizer for the items that it never saw, per level."""
    folders = Run(run).folders(["dataset", "embeddings", "tags", "tokenizer"])
    model = load_tokenizer(folders["tokenizer"], folders["tags"])
    _, codes = encode_items(model, load_embeddings(folders["embeddings"]).matrix)
    return judge(model, codes, load_tags(folders["tags"]).ids, load_held_out(folders["tokenizer"]))


def put_together(levels: tuple[Judged, ...]) -> Judged:
    """The same level of several trainings."""
    return Judged(*(np.concatenate(column) for column in zip(*levels, strict=True)))


def summary(levels: list[Judged]) -> dict[str, list[Any]]:
    """Numbers of each level."""
    return {
        "items": [len(level.is_right) for level in levels],
        "tag_accuracy": [float(level.is_right.mean()) for level in levels],
        **calibration_errors(levels),
    }
