"""Stage likeness: learn from training histories which contents follow each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from lightning_fabric import Fabric
from scipy import sparse
from torch import Tensor, nn

from hidvae.config import Config
from hidvae.data.interactions import Sequences
from hidvae.features.cooccurrence import near_pairs
from hidvae.likeness.likeness_model import ItemLikeness, LikenessModel, Words, terms_to_learn
from hidvae.store.artifacts import StageWriter
from hidvae.training.checkpoint import training_identity
from hidvae.training.progress import LOG
from hidvae.training.runtime import make_reproducible
from hidvae.training.trainer import Loop, Measured, Task, Trainer

if TYPE_CHECKING:
    from hidvae.run.run import Run

DIM = 256
"""Width of the vectors."""
MAX_DISTANCE = 3
"""Two items of one training history are a pair when at most this many steps apart."""
TEMPERATURE = 0.05
"""Of the softmax over the batch; cosines are divided by it."""
EPOCHS = 6
MAX_STEPS = 3000
"""Steps of a long log, which says enough in fewer passes."""
BATCH_SIZE = 2048
"""Pairs of a step; each has the others' items as its alternatives."""
LEARNING_RATE = 2e-3
WEIGHT_DECAY = 0.01
WARMUP_STEPS = 50


def train_likeness(run: Run, config: Config, stage: StageWriter) -> None:
    """Train on the training histories and write the stage ``likeness``.

    Where items have no content, or no history has two different items, there is nothing to learn:
    the stage then only says so. Nothing of validation or test is read.
    """
    items = run.embeddings
    terms = terms_to_learn(items.tfidf)
    pairs = np.empty((0, 2), np.int32)
    is_wanted = likeness_settings(config)["is_wanted"]
    if is_wanted and (items.content.shape[1] or terms.size):
        pairs = training_pairs(run.dataset.split.train, config.run.seed)
    stage.facts["is_learned"] = bool(len(pairs))
    if not len(pairs):
        if is_wanted:
            stage.decide(
                "no likeness is learned, as items have neither text nor image, or no user took two "
                "of them",
                "GraphConfig.likeness_weights=(0.0,)",
            )
        return
    make_reproducible(config.run.seed)
    tfidf = items.tfidf[:, terms]
    model = LikenessModel(items.content.shape[1], len(terms), DIM)
    occurrences = np.bincount(pairs.ravel(), minlength=items.num_items)
    trainer = Trainer(
        config.run,
        name=stage.output.name,
        checkpoint=stage.checkpoint,
        identity=training_identity(stage.settings, stage.inputs, config.run),
        settings=stage.settings,
    )
    stage.seconds_before = trainer.seconds_before
    learner = PairLoss(model, items.content, tfidf, occurrences)
    trainer.fit(LikenessTask(trainer.fabric, learner, pairs, config.run.seed))
    learned = ItemLikeness(model.cpu().eval(), terms)
    learned.save(stage.path, learned.vectors(items.content, items.tfidf))
    trainer.log.write(stage.path / LOG)
    stage.facts |= {"content_dim": items.content.shape[1], "dim": DIM}
    stage.metrics |= {"num_pairs": len(pairs), **trainer.log.rows[-1]}


def likeness_settings(config: Config) -> dict[str, Any]:
    """What changes the stage's result: whether anything is to be learned."""
    return {"is_wanted": any(config.graph.likeness_weights)}


def training_pairs(train: Sequences, seed: int) -> npt.NDArray[np.int32]:
    """(P, 2) the near pairs of a log; of more than ``MAX_STEPS`` steps can read, as many drawn."""
    found = [
        np.stack(pair, axis=1).astype(np.int32) for _, *pair in near_pairs(train, MAX_DISTANCE)
    ]
    pairs = np.concatenate([np.empty((0, 2), np.int32), *found])
    most = MAX_STEPS * BATCH_SIZE
    if len(pairs) > most:
        pairs = pairs[np.random.default_rng(seed).integers(len(pairs), size=most)]
    return pairs


class PairLoss(nn.Module):
    """The model beside the catalogue that it learns from; called with a batch, it gives the loss.

    InfoNCE (arXiv:1807.03748): of each pair, one item has to be told from the other pairs' items by
    its likeness to the other. A frequent item stands in batches more often than its share, which is
    set right by taking the log of that share from its logit (Yi et al., Sampling-Bias-Corrected
    Neural Modeling, RecSys 2019).
    """

    content: Tensor
    log_share: Tensor
    """(N,) log of an item's share of all pairs."""

    def __init__(
        self,
        model: LikenessModel,
        content: np.ndarray,
        tfidf: sparse.csr_array,
        occurrences: npt.NDArray[np.int64],
    ) -> None:
        """Keep what the model reads.

        Args:
            model: Is trained.
            content: (N, D).
            tfidf: (N, V) of the terms to learn.
            occurrences: (N,) in pairs.
        """
        super().__init__()
        self.model, self.words = model, Words(tfidf)
        share = np.maximum(occurrences, 1) / max(1, int(occurrences.sum()))
        buffers = {"content": np.array(content, np.float32), "log_share": np.log(share)}
        for name, array in buffers.items():
            tensor = torch.from_numpy(array.astype(np.float32))
            self.register_buffer(name, tensor, persistent=False)

    def forward(self, pairs: Tensor) -> Tensor:
        """The loss of B pairs (B, 2) of item_index, a scalar; the second of each is to be found.

        An item that n pairs want found counts n times among the alternatives of the others, and
        once where it is the one to find; the asked item is no alternative.
        """
        asked, answers = pairs.unbind(1)
        items, place = torch.unique(pairs, return_inverse=True)
        found, target, counts = torch.unique(answers, return_inverse=True, return_counts=True)
        vectors = self.model(self.content, self.words, items)
        of_found = vectors[torch.searchsorted(items, found)]  # (F, d)
        logits = vectors[place[:, 0]] @ of_found.T / TEMPERATURE  # (B, F)
        often = counts.log()
        logits = logits + (often - self.log_share[found])
        once = torch.zeros_like(logits).scatter(1, target.unsqueeze(1), often[target].unsqueeze(1))
        logits = (logits - once).masked_fill(found == asked.unsqueeze(1), -torch.inf)
        return F.cross_entropy(logits, target)


class LikenessTask(Task[Tensor]):
    """Pairs in random order, each in a random direction.

    Every process trains on the same batches, as a batch's pairs are each other's alternatives.
    """

    loss_names = ("loss",)

    def __init__(
        self, fabric: Fabric, learner: PairLoss, pairs: npt.NDArray[np.int32], seed: int
    ) -> None:
        self.model, self.state = learner, {}
        self._device, self._pairs, self._seed = fabric.device, pairs, seed
        self._batch_size = min(BATCH_SIZE, len(pairs))
        self.steps_per_epoch = len(pairs) // self._batch_size  # what is left over waits
        self.loop = Loop(
            epochs=EPOCHS,
            max_steps=MAX_STEPS,
            learning_rate=LEARNING_RATE,
            warmup_steps=WARMUP_STEPS,
            weight_decay=WEIGHT_DECAY,
        )

    def batches(self, epoch: int, start: int) -> Iterator[Tensor]:
        """See ``Task``."""
        random = np.random.default_rng([self._seed, epoch])
        order = random.permutation(len(self._pairs))
        is_turned = random.random(len(self._pairs)) < 0.5
        for step in range(start, self.steps_per_epoch):
            rows = order[step * self._batch_size : (step + 1) * self._batch_size]
            batch = self._pairs[rows]
            batch[is_turned[rows]] = batch[is_turned[rows]][:, ::-1]
            yield torch.from_numpy(batch).to(self._device).long()

    def losses(self, forward: nn.Module, batch: Tensor) -> tuple[Tensor, Tensor]:
        """See ``Task``."""
        loss: Tensor = forward(batch)
        return loss, loss.detach().unsqueeze(0)

    def end_epoch(self, epoch: int, losses: Mapping[str, float], is_last: bool) -> Measured:
        """See ``Task``; the last weights are kept, so that no validation event is looked at."""
        return Measured(message=f"loss {losses['loss']:.3f}")
