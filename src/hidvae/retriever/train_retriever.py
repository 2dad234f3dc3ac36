"""Stage train: teach the retriever to generate the next item of a history."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from lightning_fabric import Fabric
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim import AdamW

from hidvae.config import Config, RetrieverConfig, RunConfig, SasRecConfig
from hidvae.data.split import Split, choose_users
from hidvae.errors import DataError
from hidvae.evaluation.metrics import both_protocols, ndcg_at, recall_at, target_ranks
from hidvae.ranking.ranker import VALIDATION_BEAMS, GenerativeRanker, Ranker
from hidvae.retriever.batches import EpochBatches, TrainingBatches
from hidvae.retriever.build import WEIGHTS, build_retriever
from hidvae.retriever.interface import HistoryBatch
from hidvae.retriever.transformer import Block
from hidvae.store.artifacts import StageWriter
from hidvae.training.checkpoint import (
    Checkpoint,
    load_checkpoint,
    restore,
    save_checkpoint,
    training_identity,
    weights_like,
)
from hidvae.training.loggers import following
from hidvae.training.parallel import (
    Share,
    first_decides,
    mean_over_processes,
    seed_parts,
)
from hidvae.training.prefetch import on_device
from hidvae.training.progress import Stopwatch, TrainingLog, check_finite
from hidvae.training.runtime import make_reproducible, start_fabric
from hidvae.training.schedule import warmup_cosine
from hidvae.training.sharding import whole, whole_weights

if TYPE_CHECKING:
    from hidvae.run.run import Run

LOG = "log.csv"
_GRADIENT_NORM = 1.0

LoopConfig = RetrieverConfig | SasRecConfig
VALIDATION_USERS = 5000
"""Users drawn for validation: their ndcg@10 is known to about .003, and they take seconds."""
WEIGHT_DECAY = 0.05
"""Of AdamW."""
"""Both name the settings of the loop alike."""

logger = logging.getLogger("hidvae.train")


def train_retriever(run: Run, config: Config, stage: StageWriter) -> None:
    """Train, select the epoch by ndcg@10 on validation, and write the stage ``retriever``.

    A training that was stopped goes on from its last checkpoint and ends with the weights an
    uninterrupted one would have had, bit for bit on one machine.

    Raises:
        DataError: If no training history has two items.
    """
    dataset, items, settings = run.dataset, run.embeddings, config.retriever
    make_reproducible(config.run.seed)
    model = build_retriever(
        settings,
        run.semantic_ids,
        items.matrix,
        dataset.known_items,
        transition_columns=items.parts.get("cooccurrence", (0, 0)),
        histories=dataset.split.train,
    )
    batches = TrainingBatches(
        dataset.split.train,
        settings.max_history,
        settings.batch_tokens,
        every_position=settings.architecture != "encoder_decoder",
        order_noise=settings.order_noise,
    )
    ranker = GenerativeRanker(model, VALIDATION_BEAMS, settings.max_history)
    train_next_item(model, ranker, batches, dataset.split, settings, config.run, stage)


def train_next_item(
    model: nn.Module,
    ranker: Ranker,
    batches: TrainingBatches,
    split: Split,
    config: LoopConfig,
    run: RunConfig,
    stage: StageWriter,
) -> None:
    """Train any model of the next item and write its stage.

    Args:
        model: Called with a ``HistoryBatch`` and the label smoothing, it gives the loss.
        ranker: Ranks with ``model``; its ndcg@10 on validation selects the epoch.
        batches: What the model learns from.
        split: Its validation part is ranked.
        config: Settings of the loop.
        run: Seed, device, checkpoints.
        stage: What to write.

    Raises:
        DataError: If no training history has two items.
    """
    if not (batches.histories.lengths >= 2).any():
        raise DataError(
            "no training history has two items (every user has fewer than 4 events), so there is "
            "no transition to learn from; a longer log is needed"
        )
    fabric = start_fabric(run, layer=Block)
    identity = training_identity(stage.settings, stage.inputs, run)
    checkpoint_file = stage.checkpoint / "checkpoint.safetensors"
    checkpoint = load_checkpoint(checkpoint_file, identity=identity)
    stage.seconds_before = checkpoint.state["seconds"] if checkpoint else 0.0
    with following(fabric, run.loggers, stage.output, stage.settings, checkpoint) as loggers:
        loop = _Training(
            fabric, model, ranker, batches, split, config, run, checkpoint_file, identity
        )
        loop.log.loggers = loggers
        loop.run(checkpoint)
    best = {name: whole(value).cpu() for name, value in loop.best_weights.items()}
    save_file(best, stage.path / WEIGHTS)
    loop.log.write(stage.path / LOG)
    stage.facts |= {
        "num_parameters": sum(p.numel() for p in model.parameters()),
        "num_epochs": len(loop.log.rows),
    }
    stage.metrics |= {"best_epoch": loop.best_epoch, "validation_ndcg@10": loop.best_score}


class _Training:
    """The loop and what a checkpoint must hold of it."""

    def __init__(
        self,
        fabric: Fabric,
        model: nn.Module,
        ranker: Ranker,
        batches: TrainingBatches,
        split: Split,
        config: LoopConfig,
        run: RunConfig,
        checkpoint_file: Path,
        identity: str,
    ) -> None:
        self.model, self.config = model, config
        is_first = fabric.is_global_zero
        self.log = TrainingLog("train", checkpoint_file.with_name(LOG) if is_first else None)
        self.best_score, self.best_epoch = -1.0, 0
        self.best_weights: dict[str, Tensor] = {}
        self._fabric, self._run = fabric, run
        self._file, self._identity = checkpoint_file, identity
        self._ranker, self._batches, self._split = ranker, batches, split
        self._validation_rows = choose_users(
            len(split.validation_targets), VALIDATION_USERS, run.seed
        )
        self._epoch, self._step = 0, 0  # where the next step is
        self._total_steps = 0
        self._steps_done = 0
        self._loss_sum = torch.zeros((), device=fabric.device)
        self._average: dict[str, Tensor] = {}
        self._watch = Stopwatch()

    def run(self, checkpoint: Checkpoint | None) -> None:
        """Train to the end, from the beginning or from a checkpoint."""
        config = self.config
        forward = self._fabric.setup_module(self.model)
        optimizer: Any = self._fabric.setup_optimizers(
            AdamW(
                self.model.parameters(),  # which the line above may have replaced by shards
                lr=config.learning_rate,
                betas=(0.9, 0.98),
                weight_decay=WEIGHT_DECAY,
                fused=True,
            )
        )
        self._total_steps = config.epochs * len(self._epoch_batches(0))
        if config.max_steps:
            self._total_steps = min(self._total_steps, config.max_steps)
        if config.weight_average:
            self._average = _copy_of(self.model)
        if checkpoint is not None:
            self._restore(checkpoint, optimizer)
        seed_parts(self._fabric, self._run.seed, self._steps_done)
        self.model.train()
        while self._epoch < config.epochs and not self._is_finished():
            batches = self._epoch_batches(self._epoch)
            for batch, weight in on_device(self._own_parts(batches), self._fabric.device):
                factor = warmup_cosine(self._steps_done, self._total_steps, config.warmup_steps)
                for group in optimizer.param_groups:
                    group["lr"] = config.learning_rate * factor
                loss = weight * forward(batch, config.label_smoothing)
                self._fabric.backward(loss)
                torch.nn.utils.clip_grad_norm_(self.model.parameters(), _GRADIENT_NORM)
                optimizer.step()
                optimizer.zero_grad()
                self._update_average()
                self._loss_sum += loss.detach()
                self._step += 1
                self._steps_done += 1
                is_due = self._watch.is_due(self._run.checkpoint_every_seconds)
                if first_decides(self._fabric, is_due):
                    self._save(optimizer)
            self._end_epoch(self._step)

    def _own_parts(self, batches: EpochBatches) -> Iterator[tuple[HistoryBatch, float]]:
        """``_own_part`` of the batches that are left of an epoch, or up to ``max_steps``."""
        end = len(batches)
        if self.config.max_steps:
            end = min(end, self._step + self.config.max_steps - self._steps_done)
        return (self._own_part(batches[index]) for index in range(self._step, end))

    def _own_part(self, batch: HistoryBatch) -> tuple[HistoryBatch, float]:
        """This process's rows of a batch, and what the mean over their targets counts."""
        fabric = self._fabric
        weight = 1.0
        if fabric.world_size > 1:
            rows = Share(fabric, len(batch.items)).rows
            if rows.start == rows.stop:  # none left: any row, which then counts nothing
                rows, weight = slice(0, 1), 0.0
            own = HistoryBatch(*(part[rows] for part in batch))
            num_own, num_targets = int((own.targets >= 0).sum()), int((batch.targets >= 0).sum())
            weight *= num_own * fabric.world_size / num_targets
            batch = own
        return batch, weight

    def _epoch_batches(self, epoch: int) -> EpochBatches:
        return self._batches.epoch(np.random.default_rng([self._run.seed, epoch]))

    def _end_epoch(self, num_batches: int) -> None:
        self._loss_sum = mean_over_processes(self._fabric, self._loss_sum)
        check_finite(float(self._loss_sum), f"{type(self.config).__name__}.learning_rate")
        self._epoch, self._step = self._epoch + 1, 0
        row: dict[str, Any] = {
            "epoch": self._epoch,
            "seconds": round(self._watch.seconds, 3),
            "loss": float(self._loss_sum) / num_batches,
        }
        self._loss_sum.zero_()
        message = f"epoch {self._epoch}/{self.config.epochs}  loss {row['loss']:.3f}"
        is_last = self._epoch == self.config.epochs or self._has_enough_steps
        if self._epoch % self.config.validate_every == 0 or is_last:
            row |= self._validate()
            message += (
                f"  validation recall@10 {row['validation_recall@10']:.4f}"
                f"  ndcg@10 {row['validation_ndcg@10']:.4f}"
            )
        self.log.add(row, message)

    def _validate(self) -> dict[str, float]:
        """Metrics on the validation users, history excluded; keeps the best weights."""
        trained = _copy_of(self.model)
        if self._average:
            self.model.load_state_dict(self._average)
        share = Share(self._fabric, len(self._validation_rows))
        rows = self._validation_rows[share.rows]
        users = self._split.validation_users[rows]
        histories = self._split.validation_histories.take(rows)
        with whole_weights(self.model):
            found = self._ranker.rank(histories, 10, users).items
        _, ranked = both_protocols(found, histories, 10)
        own_ranks = target_ranks(ranked, self._split.validation_targets[rows])
        ranks = share.gather(torch.from_numpy(own_ranks).to(self._fabric.device)).cpu().numpy()
        score = float(ndcg_at(ranks, 10).mean())
        if score > self.best_score:
            self.best_score, self.best_epoch = score, self._epoch
            self.best_weights = _copy_of(self.model)
        self.model.load_state_dict(trained)
        return {
            "validation_recall@10": float(recall_at(ranks, 10).mean()),
            "validation_ndcg@10": score,
        }

    @property
    def _has_enough_steps(self) -> bool:
        return 0 < self.config.max_steps <= self._steps_done

    def _is_finished(self) -> bool:
        if self._has_enough_steps:
            return self._step == 0  # else stopped before the last epoch's end, which is still due
        waited = self._epoch - self.best_epoch
        patience = self.config.patience * self.config.validate_every
        return self.config.patience > 0 and self.best_epoch > 0 and waited >= patience

    @torch.no_grad()
    def _update_average(self) -> None:
        """Exponential moving average of the weights; the first steps average over fewer."""
        if not self._average:
            return
        decay = min(self.config.weight_average, (1 + self._steps_done) / (10 + self._steps_done))
        current = self.model.state_dict()
        names = list(self._average)
        torch._foreach_lerp_(
            [self._average[name] for name in names], [current[name] for name in names], 1 - decay
        )

    def _save(self, optimizer: Any) -> None:
        self._loss_sum = mean_over_processes(self._fabric, self._loss_sum)
        extra = {f"best/{name}": value for name, value in self.best_weights.items()}
        extra |= {f"average/{name}": value for name, value in self._average.items()}
        extra["loss_sum"] = self._loss_sum
        save_checkpoint(
            self._file if self._fabric.is_global_zero else None,
            identity=self._identity,
            state={
                "epoch": self._epoch,
                "step": self._step,
                "steps_done": self._steps_done,
                "seconds": self._watch.seconds,
                "best_score": self.best_score,
                "best_epoch": self.best_epoch,
                "rows": self.log.rows,
                "logger_versions": self.log.logger_versions,
            },
            model=self.model,
            optimizer=optimizer,
            extra=extra,
        )
        if self._fabric.is_global_zero:
            loss = float(self._loss_sum) / self._step
            logger.info("step %d of %d  loss %.3f", self._steps_done, self._total_steps, loss)

    def _restore(self, checkpoint: Checkpoint, optimizer: Any) -> None:
        restore(checkpoint, self.model, optimizer)
        state = checkpoint.state
        self._epoch, self._step = state["epoch"], state["step"]
        self._steps_done = state["steps_done"]
        self._loss_sum = checkpoint.tensors["extra/loss_sum"].to(self._fabric.device)
        self.best_score, self.best_epoch = state["best_score"], state["best_epoch"]
        self.best_weights = weights_like(self.model, checkpoint.group("extra/best"))
        self._average = weights_like(self.model, checkpoint.group("extra/average"))
        self.log.rows = state["rows"]
        self._watch = Stopwatch(state["seconds"])
        logger.info("going on from epoch %d, step %d", self._epoch, self._step)


def _copy_of(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}
