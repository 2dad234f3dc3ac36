"""Stage reranker: learn from validation users how to put a search's best items in order.

Nobody judges what was learned from them: two networks each learn from one half of the users and are
judged on the other. Only if they put the targets higher than the search does, by more than chance,
is a network used, which then learns from all of them. Test events play no part.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from lightning_fabric import Fabric
from torch import Tensor, nn

from hidvae.config import Config
from hidvae.data.split import choose_users
from hidvae.evaluation.metrics import ndcg_at, recall_at
from hidvae.ranking.candidate_features import CandidateFeatures, followers_of
from hidvae.ranking.reranker import (
    NUM_CANDIDATES,
    Reranker,
    RerankerNetwork,
    save_reranker,
)
from hidvae.ranking.search import search
from hidvae.retriever.interface import ExactRetriever
from hidvae.store.artifacts import StageWriter
from hidvae.training.checkpoint import training_identity
from hidvae.training.progress import LOG
from hidvae.training.runtime import make_reproducible
from hidvae.training.trainer import Loop, Measured, Task, Trainer

if TYPE_CHECKING:
    from hidvae.run.run import Run

MAX_USERS = 20_000
"""Validation users to learn from, at most."""
LEAST_USERS = 100
"""Fewer whose target is among the candidates say too little to learn from."""
EPOCHS = 12
BATCH_SIZE = 128
"""Users of a step."""
LEARNING_RATE = 2e-3
WEIGHT_DECAY = 0.01
WARMUP_STEPS = 50
_USERS_AT_ONCE = 256

logger = logging.getLogger("hidvae.train")


def train_reranker(run: Run, config: Config, stage: StageWriter) -> None:
    """Learn, judge, and write the stage ``reranker``; where it does not pay it only says so."""
    stage.facts["is_used"] = False
    split = run.dataset.split
    num_users = split.validation_users.size
    if not config.reranker.enabled or not isinstance(run.retriever, ExactRetriever):
        return
    if num_users < LEAST_USERS:
        stage.decide(
            f"{num_users} users validate: at least {LEAST_USERS} are needed to learn in which "
            "order the best items are to be listed, so they stay in the order of their scores"
        )
        return
    followers = followers_of(split.train, run.dataset.catalogue.num_items)
    items = run.embeddings
    reader = CandidateFeatures(followers, run.likeness, items.content, items.tfidf)
    examples = _candidates_of(run, config, reader.to(run.device))
    num_found = int((examples.target >= 0).sum())
    if num_found < LEAST_USERS:
        stage.decide(
            f"of {num_found} validation users the next item is among the best {NUM_CANDIDATES}: at "
            f"least {LEAST_USERS} are needed to learn in which order these are to be listed, so "
            "they stay in the order of their scores"
        )
        return
    half = np.random.default_rng(config.run.seed).permutation(len(examples.target)) % 2
    places = np.empty_like(examples.target)
    for number in (0, 1):
        trial = _fitted(examples.take(half != number), config, stage, f"trial_{number}")
        places[half == number] = _places(trial, examples.take(half == number))
    if not _does_pay(examples.target, places, stage):
        stage.decide(
            "a learned order of the best items did no better on held-out validation users than "
            "the order of their scores, which stays"
        )
        return
    stage.facts["is_used"] = True
    network = _fitted(examples, config, stage)
    save_reranker(Reranker(network, reader), stage.path)


class Examples(NamedTuple):
    """What the search lists for U users, C candidates each."""

    features: Tensor
    """(U, C, F)."""
    is_item: Tensor
    """(U, C), false where a list is shorter."""
    target: npt.NDArray[np.int64]
    """(U,) the place of the target among them, -1 where it is not."""

    def take(self, is_taken: npt.NDArray[np.bool_]) -> Examples:
        """Those of some users (U,)."""
        rows = torch.from_numpy(np.flatnonzero(is_taken))
        return Examples(self.features[rows], self.is_item[rows], self.target[is_taken])


def _candidates_of(run: Run, config: Config, reader: CandidateFeatures) -> Examples:
    """The candidates of validation users, drawn if there are many."""
    split = run.dataset.split
    rows = choose_users(len(split.validation_targets), MAX_USERS, config.run.seed)
    histories = split.validation_histories.take(rows)
    found = search(
        run.retriever,
        histories,
        NUM_CANDIDATES,
        max_history=run.folder("retriever").config["max_history"],
        denied=histories,
        graph=run.graph,
        users=split.validation_users[rows],
    )
    features = torch.empty(*found.items.shape, reader.num_features)
    is_item = torch.from_numpy(found.items >= 0)
    with torch.no_grad():
        for start in range(0, len(rows), _USERS_AT_ONCE):
            part = slice(start, start + _USERS_AT_ONCE)
            of_part = histories.take(np.arange(len(rows))[part])
            history = of_part.padded(int(of_part.lengths.max()))
            log_probs = torch.from_numpy(found.log_probs[part]).where(is_item[part], 0.0)
            features[part] = reader(
                torch.from_numpy(history).to(run.device),
                torch.from_numpy(found.items[part]).clamp_min(0).to(run.device),
                log_probs.to(run.device),
            ).cpu()
    is_target = found.items == split.validation_targets[rows][:, None]
    target = np.where(is_target.any(axis=1), is_target.argmax(axis=1), -1)
    return Examples(features, is_item, target)


def _fitted(
    examples: Examples, config: Config, stage: StageWriter, trial: str = ""
) -> RerankerNetwork:
    """A network that learned from these users; of a trial nothing is kept."""
    make_reproducible(config.run.seed)
    network = RerankerNetwork(examples.features.shape[2])
    known = examples.take(examples.target >= 0)
    network.standardize(known.features[known.is_item])
    checkpoint, run = stage.checkpoint, config.run
    if trial:  # which no logger follows
        checkpoint, run = checkpoint / trial, replace(run, loggers=("csv",))
    trainer = Trainer(
        run,
        name=stage.output.name,
        checkpoint=checkpoint,
        identity=training_identity(stage.settings, stage.inputs, run),
        settings=stage.settings,
    )
    stage.seconds_before += trainer.seconds_before
    trainer.fit(OrderTask(trainer.fabric, network, known, run.seed))
    if not trial:
        trainer.log.write(stage.path / LOG)
    return network.cpu().eval()


@torch.no_grad()
def _places(network: RerankerNetwork, judged: Examples) -> npt.NDArray[np.int64]:
    """(U,) the place of the target in the network's order, from 0; -1 where it is no candidate."""
    places = np.full(len(judged.target), -1)
    for start in range(0, len(places), _USERS_AT_ONCE):
        part = slice(start, start + _USERS_AT_ONCE)
        scores = network(judged.features[part]).masked_fill(~judged.is_item[part], -torch.inf)
        target = torch.from_numpy(judged.target[part]).unsqueeze(1)
        higher = (scores > scores.gather(1, target.clamp_min(0))).sum(dim=1)
        places[part] = higher.where(target[:, 0] >= 0, -1).numpy()
    return places


def _does_pay(
    before: npt.NDArray[np.int64], after: npt.NDArray[np.int64], stage: StageWriter
) -> bool:
    """Whether the places after (U,) give a higher ndcg@10, by more than its standard error."""
    differences = ndcg_at(after + 1, 10) - ndcg_at(before + 1, 10)
    error = float(differences.std(ddof=1) / np.sqrt(len(differences)))
    stage.metrics |= {"judged_users": len(differences), "judged_gain_standard_error": error}
    for name, places in (("without", before), ("with", after)):
        recall, ndcg = (float(at(places + 1, 10).mean()) for at in (recall_at, ndcg_at))
        stage.metrics |= {f"judged_recall@10_{name}": recall, f"judged_ndcg@10_{name}": ndcg}
        logger.info("held-out users %s reranker  recall@10 %.4f  ndcg@10 %.4f", name, recall, ndcg)
    return float(differences.mean()) > error


class OrderTask(Task[Tensor]):
    """Softmax cross-entropy of the target among the candidates of its user."""

    loss_names = ("loss",)

    def __init__(
        self, fabric: Fabric, network: RerankerNetwork, examples: Examples, seed: int
    ) -> None:
        self.model, self.state = _OrderLoss(network, examples), {}
        self._device, self._seed = fabric.device, seed
        self._num_users = len(examples.target)
        self._batch_size = min(BATCH_SIZE, max(1, self._num_users))
        self.steps_per_epoch = max(1, self._num_users // self._batch_size)
        self.loop = Loop(
            epochs=EPOCHS,
            learning_rate=LEARNING_RATE,
            warmup_steps=WARMUP_STEPS,
            weight_decay=WEIGHT_DECAY,
        )

    def batches(self, epoch: int, start: int) -> Iterator[Tensor]:
        """See ``Task``; what is left over waits for another epoch."""
        order = np.random.default_rng([self._seed, epoch]).permutation(self._num_users)
        for step in range(start, self.steps_per_epoch):
            rows = order[step * self._batch_size : (step + 1) * self._batch_size]
            yield torch.from_numpy(rows).to(self._device)

    def losses(self, forward: nn.Module, batch: Tensor) -> tuple[Tensor, Tensor]:
        """See ``Task``."""
        loss: Tensor = forward(batch)
        return loss, loss.detach().unsqueeze(0)

    def end_epoch(self, epoch: int, losses: Mapping[str, float], is_last: bool) -> Measured:
        """See ``Task``; the last weights are kept, so that nothing is chosen by what it is."""
        return Measured(message=f"loss {losses['loss']:.4f}")


class _OrderLoss(nn.Module):
    """The network beside the examples; called with rows (B,), it gives their mean loss."""

    features: Tensor
    is_item: Tensor
    target: Tensor

    def __init__(self, network: RerankerNetwork, examples: Examples) -> None:
        super().__init__()
        self.network = network
        for name, tensor in (
            ("features", examples.features),
            ("is_item", examples.is_item),
            ("target", torch.from_numpy(examples.target)),
        ):
            self.register_buffer(name, tensor, persistent=False)

    def forward(self, rows: Tensor) -> Tensor:
        scores = self.network(self.features[rows]).masked_fill(~self.is_item[rows], -torch.inf)
        return F.cross_entropy(scores, self.target[rows])
