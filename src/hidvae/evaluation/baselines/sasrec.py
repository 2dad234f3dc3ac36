"""SASRec with cross-entropy over all items: a causal transformer over learned item vectors.

Source: SASRec (arXiv:1808.09781). Differs: cross-entropy over the whole catalogue instead of one
sampled negative per position, which is what makes it a strong baseline (arXiv:2308.07192), and
pre-norm blocks without biases.

``sasrec`` reads item ids alone. ``sasrec_content`` is offered what ours is, the run's item
embeddings: a learned projection of them is added to an item's vector. As in ours, an item without a
training event is no alternative in its loss and has no vector of its own; its content alone ranks
it.

Symbols: B users, T positions, N items, D width of the item embeddings, d width, n targets.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
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


class Content(NamedTuple):
    """What a model knows of the items besides who took them."""

    vectors: Tensor
    """(N, D) item embeddings."""
    is_warm: Tensor
    """(N,) booleans, the items with a training event."""


class SasRec(nn.Module):
    """Causal transformer over item vectors that are also the output weights."""

    content: Tensor | None
    is_warm: Tensor | None

    def __init__(
        self,
        num_items: int,
        dim: int,
        *,
        num_layers: int,
        num_heads: int,
        dropout: float,
        max_history: int,
        content: Content | None = None,
    ) -> None:
        super().__init__()
        self.item_vectors = nn.Embedding(num_items, dim)
        self.position = nn.Embedding(max_history, dim)
        self.input_norm = nn.LayerNorm(dim, bias=False)
        self.dropout = Dropout(dropout)
        self.blocks = nn.ModuleList(Block(dim, num_heads, dropout) for _ in range(num_layers))
        self.output_norm = nn.LayerNorm(dim, bias=False)
        self.content_projection: nn.Linear | None = None
        vectors, is_warm = content or (None, None)
        self.register_buffer("content", vectors, persistent=False)
        self.register_buffer("is_warm", is_warm, persistent=False)
        if vectors is not None:
            self.content_projection = nn.Linear(vectors.shape[1], dim, bias=False)
        init_weights(self)
        for table in (self.item_vectors, self.position):
            nn.init.normal_(table.weight, std=0.02)

    def vectors(self) -> Tensor:
        """(N, d) of all items: their own, and what is made of their content."""
        own = self.item_vectors.weight
        if self.content_projection is None or self.content is None or self.is_warm is None:
            return own
        return own * self.is_warm.unsqueeze(1) + self.content_projection(self.content)

    def states(self, items: Tensor, vectors: Tensor | None = None) -> Tensor:
        """States (B, T, d) after each item of histories (B, T); those at padding mean nothing.

        Padding is on the right, where a causal position never looks, so it needs no mask.

        Args:
            items: (B, T), -1 padded.
            vectors: (N, d), the vectors of all items, where they have been made.
        """
        vectors = self.vectors() if vectors is None else vectors
        x = F.embedding(items.clamp_min(0), vectors) + self.position.weight[: items.shape[1]]
        x = self.dropout(self.input_norm(x))
        for block in self.blocks:
            x = block(x, is_causal=True)
        states: Tensor = self.output_norm(x)
        return states

    def forward(self, batch: HistoryBatch, label_smoothing: float = 0.0) -> Tensor:
        """Mean cross-entropy of the batch's targets, a scalar; positions without one cost none."""
        has_target = batch.targets >= 0
        targets = batch.targets[has_target]  # (n,)
        vectors = self.vectors()
        states = self.states(batch.items, vectors)[has_target]  # (n, d)
        if self.is_warm is not None:
            targets = (self.is_warm.cumsum(0) - 1)[targets]
            vectors = vectors[self.is_warm]
        return full_cross_entropy(states, vectors, targets, label_smoothing)

    def scores(self, items: Tensor, vectors: Tensor | None = None) -> Tensor:
        """Score (B, N) of every item as the next one of histories (B, T) of at least one item.

        Args: As of ``states``.
        """
        vectors = self.vectors() if vectors is None else vectors
        last = (items >= 0).sum(dim=1) - 1
        rows = torch.arange(len(items), device=items.device)
        return self.states(items, vectors)[rows, last] @ vectors.T


class SasRecRanker:
    """Ranks by the score of every item; implements ``Ranker``."""

    def __init__(self, model: SasRec, name: str = "sasrec") -> None:
        self.name = name
        self.model = model

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
        width = k + int(histories.lengths.max(initial=0))
        ranked = np.empty((histories.num_users, width), np.int64)
        scores = np.empty(ranked.shape, np.float32)
        for rows, of_batch in self._scores(histories):
            ranked[rows], scores[rows] = top_items(of_batch.cpu().numpy(), width, allowed)
        return Ranked(ranked, scores)

    def log_probs(self, histories: Sequences) -> npt.NDArray[np.float32]:
        """(B, N) log p(item | history) of every item, those of the history among them.

        Args:
            histories: A block of B, of at least one item each; the caller bounds B times N.

        Raises:
            DataError: If a history is empty.
        """
        shape = (histories.num_users, self.model.item_vectors.num_embeddings)
        found = np.empty(shape, np.float32)
        for rows, of_batch in self._scores(histories):
            found[rows] = of_batch.log_softmax(dim=1).cpu().numpy()
        return found

    @torch.no_grad()
    def _scores(self, histories: Sequences) -> Iterator[tuple[npt.NDArray[np.int64], Tensor]]:
        """Rows of the histories in batches, and the float32 scores (b, N) of all items for them."""
        if histories.num_users and histories.lengths.min() == 0:
            raise DataError(
                f"history {int(histories.lengths.argmin())} is empty; SASRec needs at least one "
                "item of the catalogue to start from"
            )
        was_training = self.model.training
        self.model.eval()
        try:
            vectors = self.model.vectors()
            for rows, items, _ in reading_batches(
                histories, len(self.model.position.weight), max(1, LOGITS_AT_ONCE // len(vectors))
            ):
                yield rows, self.model.scores(items.to(vectors.device), vectors).float()
        finally:
            self.model.train(was_training)


def train_sasrec(run: Run, config: Config, stage: StageWriter) -> None:
    """Train in the retriever's loop, and write the stage.

    The epoch is selected by ndcg@10 on validation; a training that was stopped goes on.

    Raises:
        DataError: If no training history has two items.
    """
    _train(run, config, stage, None)


def train_sasrec_content(run: Run, config: Config, stage: StageWriter) -> None:
    """``train_sasrec`` with the run's item embeddings."""
    _train(run, config, stage, _content(run))


def _train(run: Run, config: Config, stage: StageWriter, content: Content | None) -> None:
    dataset, settings = run.dataset, config.sasrec
    make_reproducible(config.run.seed)
    model = build_sasrec(settings, dataset.catalogue.num_items, content)
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
SASREC_CONTENT = Stage(
    "baselines/sasrec_content",
    command="evaluate",
    needs=("dataset", "embeddings"),
    settings=lambda config: asdict(config.sasrec),
    is_seeded=True,
    fit=train_sasrec_content,
)


def build_sasrec(config: SasRecConfig, num_items: int, content: Content | None = None) -> SasRec:
    """A fresh model."""
    return SasRec(
        num_items,
        config.dim,
        num_layers=config.num_layers,
        num_heads=config.num_heads,
        dropout=config.dropout,
        max_history=config.max_history,
        content=content,
    )


def load_sasrec(
    folder: StageFolder,
    num_items: int,
    device: torch.device | None = None,
    content: Content | None = None,
    name: str = "sasrec",
) -> SasRecRanker:
    """The ranker of a trained stage folder, on the CPU by default.

    Raises:
        ArtifactError: If the weights are damaged or are those of another model.
    """
    model = build_sasrec(build_section(SasRecConfig, folder.config), num_items, content)
    load_weights(model, folder, "hidvae evaluate")
    return SasRecRanker(model.to(device).eval(), name)


def sasrec(run: Run, config: Config) -> SasRecRanker:
    """The ranker that reads item ids alone, trained unless it is up to date."""
    return load_sasrec(run.make_stage(SASREC, config), run.dataset.catalogue.num_items, run.device)


def sasrec_content(run: Run, config: Config) -> SasRecRanker:
    """The ranker that is offered the run's item embeddings, trained unless it is up to date."""
    folder = run.make_stage(SASREC_CONTENT, config)
    num_items, name = run.dataset.catalogue.num_items, "sasrec_content"
    return load_sasrec(folder, num_items, run.device, _content(run), name)


def _content(run: Run) -> Content:
    """The item embeddings at the scale at which ours reads them, and who is warm."""
    is_warm = torch.from_numpy(run.dataset.warm_items)
    return Content(torch.tensor(run.embeddings.matrix), is_warm)
