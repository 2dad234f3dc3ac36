"""SASRec with cross-entropy over all items: a causal transformer over learned item vectors.

Source: SASRec (arXiv:1808.09781). Differs: cross-entropy over the whole catalogue instead of one
sampled negative per position, which is what makes it a strong baseline (arXiv:2308.07192), and
pre-norm blocks without biases. Symbols: B users, T positions, N items, d width, n targets.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from hidvae.config import Config, SasRecConfig, build_section
from hidvae.data.interactions import Sequences
from hidvae.errors import DataError
from hidvae.ranking.ranker import Ranked
from hidvae.ranking.search import top_items
from hidvae.retriever.batches import TrainingBatches, reading_batches
from hidvae.retriever.build import load_weights
from hidvae.retriever.full_cross_entropy import LOGITS_AT_ONCE, full_cross_entropy
from hidvae.retriever.interface import HistoryBatch
from hidvae.retriever.train_retriever import train_next_item
from hidvae.retriever.transformer import Block, init_weights
from hidvae.store.artifacts import StageFolder, StageWriter
from hidvae.store.stage import Stage
from hidvae.training.dropout import Dropout
from hidvae.training.runtime import make_reproducible

if TYPE_CHECKING:
    from hidvae.run.run import Run


class SasRec(nn.Module):
    """Causal transformer over item vectors that are also the output weights."""

    def __init__(
        self,
        num_items: int,
        dim: int,
        *,
        num_layers: int,
        num_heads: int,
        dropout: float,
        max_history: int,
    ) -> None:
        super().__init__()
        self.item_vectors = nn.Embedding(num_items, dim)
        self.position = nn.Embedding(max_history, dim)
        self.input_norm = nn.LayerNorm(dim, bias=False)
        self.dropout = Dropout(dropout)
        self.blocks = nn.ModuleList(Block(dim, num_heads, dropout) for _ in range(num_layers))
        self.output_norm = nn.LayerNorm(dim, bias=False)
        init_weights(self)
        for table in (self.item_vectors, self.position):
            nn.init.normal_(table.weight, std=0.02)

    def states(self, items: Tensor) -> Tensor:
        """States (B, T, d) after each item of histories (B, T); those at padding mean nothing.

        Padding is on the right, where a causal position never looks, so it needs no mask.
        """
        x = self.item_vectors(items.clamp_min(0)) + self.position.weight[: items.shape[1]]
        x = self.dropout(self.input_norm(x))
        for block in self.blocks:
            x = block(x, is_causal=True)
        states: Tensor = self.output_norm(x)
        return states

    def forward(self, batch: HistoryBatch, label_smoothing: float = 0.0) -> Tensor:
        """Mean cross-entropy of the batch's targets, a scalar; positions without one cost none."""
        has_target = batch.targets >= 0
        states = self.states(batch.items)[has_target]  # (n, d)
        return full_cross_entropy(
            states, self.item_vectors.weight, batch.targets[has_target], label_smoothing
        )

    def scores(self, items: Tensor) -> Tensor:
        """Score (B, N) of every item as the next one of histories (B, T) of at least one item."""
        last = (items >= 0).sum(dim=1) - 1
        rows = torch.arange(len(items), device=items.device)
        return self.states(items)[rows, last] @ self.item_vectors.weight.T


class SasRecRanker:
    """Ranks by the score of every item; implements ``Ranker``."""

    def __init__(self, model: SasRec, name: str = "sasrec") -> None:
        self.name = name
        self.model = model

    @torch.no_grad()
    def rank(
        self,
        histories: Sequences,
        k: int,
        users: npt.NDArray[np.integer] | None = None,
        allowed: npt.NDArray[np.bool_] | None = None,
    ) -> Ranked:
        """See ``Ranker.rank``; a history must have at least one item.

        Raises:
            DataError: If a history is empty.
        """
        if histories.num_users and histories.lengths.min() == 0:
            raise DataError(
                f"history {int(histories.lengths.argmin())} is empty; SASRec needs at least one "
                "item of the catalogue to start from"
            )
        weight = self.model.item_vectors.weight
        width = k + int(histories.lengths.max(initial=0))
        ranked = np.empty((histories.num_users, width), np.int64)
        scores = np.empty(ranked.shape, np.float32)
        was_training = self.model.training
        self.model.eval()
        try:
            for rows, items, _ in reading_batches(
                histories, len(self.model.position.weight), max(1, LOGITS_AT_ONCE // len(weight))
            ):
                of_batch = self.model.scores(items.to(weight.device)).float().cpu().numpy()
                ranked[rows], scores[rows] = top_items(of_batch, width, allowed)
        finally:
            self.model.train(was_training)
        return Ranked(ranked, scores)


def train_sasrec(run: Run, config: Config, stage: StageWriter) -> None:
    """Train in the retriever's loop, and write the stage.

    The epoch is selected by ndcg@10 on validation; a training that was stopped goes on.

    Raises:
        DataError: If no training history has two items.
    """
    dataset, settings = run.dataset, config.sasrec
    make_reproducible(config.run.seed)
    model = build_sasrec(settings, dataset.catalogue.num_items)
    batches = TrainingBatches(
        dataset.split.train, settings.max_history, settings.batch_tokens, every_position=True
    )
    ranker = SasRecRanker(model)
    train_next_item(model, ranker, batches, dataset.split, settings, config.run, stage)


SASREC = Stage(
    "baselines/sasrec",
    command="evaluate",
    needs=("dataset",),
    settings=lambda config: asdict(config.sasrec),
    is_seeded=True,
    fit=train_sasrec,
)


def build_sasrec(config: SasRecConfig, num_items: int) -> SasRec:
    """A fresh model."""
    return SasRec(
        num_items,
        config.dim,
        num_layers=config.num_layers,
        num_heads=config.num_heads,
        dropout=config.dropout,
        max_history=config.max_history,
    )


def load_sasrec(
    folder: StageFolder, num_items: int, device: torch.device | None = None
) -> SasRecRanker:
    """The ranker of a trained stage folder, on the CPU by default.

    Raises:
        ArtifactError: If the weights are damaged or are those of another model.
    """
    model = build_sasrec(build_section(SasRecConfig, folder.config), num_items)
    load_weights(model, folder, "hidvae evaluate")
    return SasRecRanker(model.to(device).eval())
