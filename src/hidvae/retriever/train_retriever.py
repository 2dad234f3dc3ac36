"""Stage train: teach the retriever to generate the next item of a history."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch
from lightning_fabric import Fabric
from safetensors.torch import save_file
from torch import Tensor, nn

from hidvae.config import Config, RetrieverConfig, RunConfig, SasRecConfig
from hidvae.data.split import Split, choose_users
from hidvae.evaluation.metrics import both_protocols, ndcg_at, recall_at, target_ranks
from hidvae.ranking.ranker import VALIDATION_BEAMS, GenerativeRanker, Ranker
from hidvae.retriever.batches import EpochBatches, TrainingBatches
from hidvae.retriever.build import WEIGHTS, build_retriever
from hidvae.retriever.interface import HistoryBatch
from hidvae.retriever.transformer import Block
from hidvae.store.artifacts import StageWriter
from hidvae.training.checkpoint import training_identity
from hidvae.training.parallel import Share
from hidvae.training.prefetch import on_device
from hidvae.training.progress import LOG
from hidvae.training.runtime import make_reproducible
from hidvae.training.sharding import whole_weights
from hidvae.training.trainer import Loop, Measured, Task, Trainer, whole_state

if TYPE_CHECKING:
    from hidvae.run.run import Run

_GRADIENT_NORM = 1.0

VALIDATION_USERS = 5000
"""Users drawn for validation: their ndcg@10 is known to about .003, and they take seconds."""
WEIGHT_DECAY = 0.05
"""Of AdamW."""
LoopConfig = RetrieverConfig | SasRecConfig
"""Both name the settings of the loop alike."""


def train_retriever(run: Run, config: Config, stage: StageWriter) -> None:
    """Train, select the epoch by ndcg@10 on validation, and write the stage ``retriever``.

    A training that was stopped goes on from its last checkpoint and ends with the weights an
    uninterrupted one would have had, bit for bit on one machine.

    Where no training history has two items there is nothing to learn: the weights stay as drawn.
    """
    dataset, items, settings = run.dataset, run.embeddings, config.retriever
    make_reproducible(config.run.seed)
    model = build_retriever(
        settings,
        run.semantic_ids,
        items.matrix,
        dataset.warm_items,
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
    """
    if not (batches.histories.lengths >= 2).any():
        stage.decide(
            "no user has two events to learn from: the ranking goes by what items are like, and "
            "not by what follows what"
        )
        save_file(whole_state(model), stage.path / WEIGHTS)
        stage.facts |= {"num_parameters": _num_parameters(model), "num_epochs": 0}
        stage.metrics |= {"best_epoch": 0, "validation_ndcg@10": None}
        return
    if not split.validation_users.size:
        stage.decide("nobody validates: the training goes on for all its epochs")
    trainer = Trainer(
        run,
        name=stage.output.name,
        checkpoint=stage.checkpoint,
        identity=training_identity(stage.settings, stage.inputs, run),
        settings=stage.settings,
        layer=Block,
    )
    stage.seconds_before = trainer.seconds_before
    trainer.fit(NextItemTask(trainer.fabric, model, ranker, batches, split, config, run.seed))
    save_file(whole_state(model), stage.path / WEIGHTS)
    trainer.log.write(stage.path / LOG)
    stage.facts |= {
        "num_parameters": _num_parameters(model),
        "num_epochs": len(trainer.log.rows),
    }
    stage.metrics |= {"best_epoch": trainer.best_epoch, "validation_ndcg@10": trainer.best_score}


def _num_parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


class NextItemTask(Task[tuple[HistoryBatch, float]]):
    """The loss of the next items of histories; ndcg@10 of validation selects the epoch.

    A batch is the histories of this process, and what the mean over their targets counts.
    """

    loss_names = ("loss",)

    def __init__(
        self,
        fabric: Fabric,
        model: nn.Module,
        ranker: Ranker,
        batches: TrainingBatches,
        split: Split,
        config: LoopConfig,
        seed: int,
    ) -> None:
        self.model = model
        self.loop = Loop(
            section=type(config).__name__,
            epochs=config.epochs,
            max_steps=config.max_steps,
            learning_rate=config.learning_rate,
            warmup_steps=config.warmup_steps,
            betas=(0.9, 0.98),
            weight_decay=WEIGHT_DECAY,
            gradient_norm=_GRADIENT_NORM,
            weight_average=config.weight_average,
            patience=config.patience * config.validate_every,
        )
        self.state = {}
        self._fabric, self._config, self._seed = fabric, config, seed
        self._ranker, self._batches, self._split = ranker, batches, split
        self._validation_rows = choose_users(len(split.validation_targets), VALIDATION_USERS, seed)
        self.steps_per_epoch = len(self._epoch(0))

    def _epoch(self, epoch: int) -> EpochBatches:
        return self._batches.epoch(np.random.default_rng([self._seed, epoch]))

    def batches(self, epoch: int, start: int) -> Iterator[tuple[HistoryBatch, float]]:
        """See ``Task``."""
        batches = self._epoch(epoch)
        own = (self._own_part(batches[index]) for index in range(start, len(batches)))
        return on_device(own, self._fabric.device)

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

    def losses(
        self, forward: nn.Module, batch: tuple[HistoryBatch, float]
    ) -> tuple[Tensor, Tensor]:
        """See ``Task``."""
        histories, weight = batch
        loss: Tensor = weight * forward(histories, self._config.label_smoothing)
        return loss, loss.detach().unsqueeze(0)

    def end_epoch(self, epoch: int, losses: Mapping[str, float], is_last: bool) -> Measured:
        """Rank the validation users, history excluded, if it is their turn."""
        message = f"loss {losses['loss']:.3f}"
        is_due = epoch % self._config.validate_every == 0 or is_last
        if not is_due or not len(self._validation_rows):
            return Measured(message=message)
        share = Share(self._fabric, len(self._validation_rows))
        rows = self._validation_rows[share.rows]
        users = self._split.validation_users[rows]
        histories = self._split.validation_histories.take(rows)
        with whole_weights(self.model):
            found = self._ranker.rank(histories, 10, users).items
        _, ranked = both_protocols(found, histories, 10)
        own_ranks = target_ranks(ranked, self._split.validation_targets[rows])
        ranks = share.gather(torch.from_numpy(own_ranks).to(self._fabric.device)).cpu().numpy()
        recall, ndcg = float(recall_at(ranks, 10).mean()), float(ndcg_at(ranks, 10).mean())
        return Measured(
            {"validation_recall@10": recall, "validation_ndcg@10": ndcg},
            f"{message}  validation recall@10 {recall:.4f}  ndcg@10 {ndcg:.4f}",
            score=ndcg,
        )
