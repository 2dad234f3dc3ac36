"""What torchrun starts in the tests of sharding: several retrievers, one after the other.

    run_sharded.py RUN FOLDER

The inputs are those of RUN; each of ``TRAININGS`` makes FOLDER/NAME/retriever, and every process
writes down how much it held of the model in FOLDER/held-RANK.json.
"""

from __future__ import annotations

import contextlib
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch.optim import AdamW

from hidvae.config import Config, RetrieverConfig, RunConfig
from hidvae.run.run import Run
from hidvae.run.stages import STAGE_OF
from hidvae.store.artifacts import StageFolder
from hidvae.training import trainer
from hidvae.training.processes import process_rank

sys.path[:0] = map(str, Path(__file__).parents[1:3])
from training.trained import Stopped  # noqa: E402

CONFIG = RetrieverConfig(
    dim=8,
    num_layers=2,
    num_heads=2,
    dropout=0.0,
    max_history=6,
    epochs=2,
    validate_every=1,
    batch_tokens=300,
    warmup_steps=2,
    learning_rate=5e-3,
    weight_average=0.9,
)
"""Two epochs of a few batches; they do not halve evenly."""
CASES: dict[str, dict[str, Any]] = {
    "item_softmax": {"architecture": "item_softmax"},
    "item_decoder": {"architecture": "item_decoder"},
    "encoder_decoder": {
        "architecture": "encoder_decoder",
        "batch_tokens": 1500,
        "num_user_buckets": 3,
    },
}
TRAININGS = {case: case for case in CASES} | dict.fromkeys(("stopped", "resumed"), "item_softmax")
"""By name: each case to its end, one up to a stop, and one on from the checkpoint that is there."""


def fit(source: Path, output: Path, case: str, **settings: Any) -> StageFolder:
    """Train one of ``CASES`` on the stages of ``source``, into the run ``output.parent``."""
    stage = STAGE_OF["retriever"]
    run = Run(output.parent, "cpu", borrowed=Run(source).folders(stage.needs))
    config = Config(
        run=RunConfig(device="cpu", **settings), retriever=replace(CONFIG, **CASES[case])
    )
    return run.make_stage(stage, config)


def held(optimizer: AdamW) -> dict[str, int]:
    """How many numbers this process has of the weights and of the optimizer's state."""
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    momenta = [slots["exp_avg"] for slots in optimizer.state.values()]
    return {
        "model": sum(weight.numel() for weight in weights),
        "weights": sum(weight.to_local().numel() for weight in weights),
        "momenta": sum(momentum.to_local().numel() for momentum in momenta),
    }


def main(run: Path, folder: Path) -> None:
    make_optimizer, save = trainer.AdamW, trainer.save_checkpoint
    optimizers: list[AdamW] = []

    def make_and_keep(*args: Any, **keywords: Any) -> AdamW:
        optimizers.append(make_optimizer(*args, **keywords))
        return optimizers[-1]

    def save_then_stop(*args: Any, **keywords: Any) -> None:
        save(*args, **keywords)
        if keywords["state"]["place"]["epoch"] == 1:
            raise Stopped

    trainer.AdamW = make_and_keep  # type: ignore[assignment, misc]
    for name, case in TRAININGS.items():
        trainer.save_checkpoint = save_then_stop if name == "stopped" else save
        every = 0.0 if name == "stopped" else 1e6
        with contextlib.suppress(Stopped):
            output = folder / name / "retriever"
            fit(run, output, case, strategy="fsdp", checkpoint_every_seconds=every)
    by_name = dict(zip(TRAININGS, map(held, optimizers), strict=True))
    (folder / f"held-{process_rank()}.json").write_text(json.dumps(by_name))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(*map(Path, sys.argv[1:]))
