"""Whether the confidences of predicted tags can be believed, over several trainings.

    python scripts/measure_calibration.py --data FOLDER --output results/calibration-NAME.json

Trains the tokenizer with several seeds, each of which holds out other items (the default
configuration, or --config and --set), and puts the items that each never saw together: one
training holds out too few to tell a small error from luck. "After" is cross-fitted within each
training. The runs are kept under runs/calibration/ and not trained again.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import Any

import numpy as np

from hidvae.config import load_config
from hidvae.features.embeddings import load_embeddings
from hidvae.features.tags.vocabulary import load_tags
from hidvae.run.run import Run
from hidvae.store.artifacts import describe_machine, git_commit, write_json
from hidvae.tokenizer.encode import encode_items
from hidvae.tokenizer.temperatures import Judged, calibration_errors, judge
from hidvae.tokenizer.train_tokenizer import load_held_out, load_tokenizer

RUNS = Path("runs/calibration")


def main() -> None:
    """Parse the command line, train, judge, write."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of raw tables")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3, help="trainings, with seeds from 0 on")
    parser.add_argument("--config", type=Path, action="append", default=[], help="gin file")
    parser.add_argument("--set", action="append", default=[], dest="overrides", help="setting")
    arguments = parser.parse_args()
    judged = []
    for seed in range(arguments.seeds):
        overrides = [
            *arguments.overrides,
            f"DatasetConfig.folder={arguments.data}",
            f"RunConfig.seed={seed}",
        ]
        run = RUNS / f"{arguments.data.name}-seed-{seed}"
        Run(run).make(load_config(arguments.config, overrides), until="tokenize")
        judged.append(judge_run(run))
    together = [put_together(levels) for levels in zip(*judged, strict=True)]
    found = {
        "dataset": arguments.data.name,
        "seeds": arguments.seeds,
        "overrides": arguments.overrides,
        "together": summary(together),
        "by_seed": [summary(levels) for levels in judged],
        "machine": describe_machine(),
        "git_commit": git_commit(),
    }
    write_json(arguments.output, found)
    for name, per_level in found["together"].items():
        print(f"{name:32}", *(f"{value:8.4g}" for value in per_level))


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


if __name__ == "__main__":
    main()
