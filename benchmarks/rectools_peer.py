"""Train another library's model on a run's split and score its lists with our evaluator.

    python benchmarks/rectools_peer.py RUN                     # SASRec, scored on validation
    python benchmarks/rectools_peer.py RUN --model ease --set regularization=200
    python benchmarks/rectools_peer.py RUN --test              # ranks test too, once

RUN is a run whose stage dataset is there. The models come from RecTools, which pins older numpy and
pandas than ours, so give it an environment of its own:

    python -m venv ../hidvae-peer
    ../hidvae-peer/bin/pip install -e . "rectools[torch]"
    ../hidvae-peer/bin/python benchmarks/rectools_peer.py RUN

A model sees the training histories only. Where it trains in epochs, ndcg@10 on validation with the
history excluded chooses the epoch, as for our own models. Rows are kept in results/peer-NAME.json.
"""

from __future__ import annotations

import argparse
import contextlib
import difflib
import importlib.metadata
import logging
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy import sparse

from hidvae.data.interactions import Sequences, count_items
from hidvae.data.prepare import Dataset, load_dataset
from hidvae.errors import ConfigError, HidvaeError, MissingExtraError
from hidvae.evaluation.evaluate_ranker import EvaluationResult, evaluate_ranker, format_table
from hidvae.ranking.ranker import Ranked, Ranker
from hidvae.ranking.search import PADDING, top_items
from hidvae.store.artifacts import (
    describe_machine,
    git_commit,
    library_versions,
    read_json,
    read_stage,
    write_json,
)

logger = logging.getLogger("rectools_peer")

RESULTS = Path("results")
CUTOFFS = (1, 5, 10, 20, 50)
SHOWN = ("recall@5", "recall@10", "ndcg@5", "ndcg@10", "coverage@10")
_USERS_PER_CALL = 2048

Settings = Mapping[str, Any]
Score = Callable[[Ranker], float]
"""A ranker's ndcg@10 on validation users, history excluded."""


@dataclass(frozen=True)
class Fitted:
    """A trained model, and what is worth knowing of its training."""

    ranker: Ranker
    facts: dict[str, Any] = field(default_factory=dict)
    """JSON values."""


@dataclass(frozen=True)
class Peer:
    """One model of another library."""

    defaults: Settings
    """Its settings; ``--set`` changes them."""
    fit: Callable[[Sequences, int, Settings, int, Score], Fitted]
    """(training histories, number of items, settings, seed, score) -> the trained model."""
    packages: tuple[str, ...]
    """Distributions whose versions are recorded."""


class RecToolsRanker:
    """Ranks with a fitted RecTools model; it knows only items that it was trained on."""

    def __init__(self, name: str, model: Any, num_items: int) -> None:
        self.name, self.model, self.num_items = name, model, num_items

    def rank(
        self,
        histories: Sequences,
        k: int,
        users: npt.NDArray[np.integer] | None = None,
        allowed: npt.NDArray[np.bool_] | None = None,
    ) -> Ranked:
        """Rank the items it knows; see ``Ranker``."""
        width = k + int(histories.lengths.max(initial=0))
        table = self.model.recommend(
            users=np.flatnonzero(histories.lengths),  # it has no lists for empty histories
            dataset=rectools_dataset(histories, self.num_items),
            k=width,
            filter_viewed=False,
            items_to_recommend=None if allowed is None else np.flatnonzero(allowed),
            on_unsupported_targets="ignore",
        )
        ranked = np.full((histories.num_users, width), PADDING, dtype=np.int64)
        rows, ranks = table["user_id"].to_numpy(), table["rank"].to_numpy() - 1
        scores = np.full(ranked.shape, -np.inf)
        places = (rows.astype(np.int64), ranks)
        ranked[places] = table["item_id"].to_numpy().astype(np.int64)
        scores[places] = table["score"].to_numpy()
        return Ranked(ranked, scores)


class LinearRanker:
    """Ranks by the sum of the weights that lead from the items of a history, as EASE does.

    RecTools' own ranking by EASE fails where the histories at hand lack the items of the highest
    indices, so its weights are applied here.
    """

    def __init__(self, name: str, weight: npt.NDArray[np.floating], num_items: int) -> None:
        """``weight``: (K, K), from row to column, for the first K items; the others score 0."""
        self.name, self.weight, self.num_items = name, weight, num_items

    def rank(
        self,
        histories: Sequences,
        k: int,
        users: npt.NDArray[np.integer] | None = None,
        allowed: npt.NDArray[np.bool_] | None = None,
    ) -> Ranked:
        """Rank by the sums; see ``Ranker``."""
        num_known = len(self.weight)
        user = np.repeat(np.arange(histories.num_users), histories.lengths)
        shape = (histories.num_users, self.num_items)
        is_there = sparse.coo_array(
            (np.ones(user.size, np.float32), (user, histories.items)), shape
        )
        scores = np.zeros(shape, dtype=np.float32)
        scores[:, :num_known] = is_there.tocsr()[:, :num_known] @ self.weight
        return Ranked(*top_items(scores, k + int(histories.lengths.max(initial=0)), allowed))


def rectools_dataset(histories: Sequences, num_items: int) -> Any:
    """Histories as a RecTools dataset: ids are row numbers and item_index, time is the position."""
    import pandas as pd
    from rectools import Columns
    from rectools.dataset import Dataset as RecToolsDataset
    from rectools.dataset import IdMap, Interactions

    user = np.repeat(np.arange(histories.num_users), histories.lengths)
    position = np.arange(user.size) - np.repeat(histories.offsets[:-1], histories.lengths)
    events = pd.DataFrame(
        {
            Columns.User: user,
            Columns.Item: histories.items.astype(np.int64),
            Columns.Weight: 1.0,
            Columns.Datetime: pd.to_datetime(position, unit="s"),
        }
    )
    users, items = IdMap(np.arange(histories.num_users)), IdMap(np.arange(num_items))
    return RecToolsDataset(users, items, Interactions(events))


def fit_sasrec(
    train: Sequences, num_items: int, settings: Settings, seed: int, score: Score
) -> Fitted:
    """Train SASRec; the epoch with the best score is kept.

    Source: Kang and McAuley, arXiv:1808.09781, as RecTools implements it.
    """
    from pytorch_lightning import seed_everything
    from rectools.models import SASRecModel
    from rectools.models.nn.item_net import IdEmbeddingsItemNet

    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    seed_everything(seed, verbose=False)
    own = {"epochs", "validate_every", "patience"}
    model = SASRecModel(
        **{name: value for name, value in settings.items() if name not in own},
        item_net_block_types=(IdEmbeddingsItemNet,),
        lightning_module_type=packed_loss_module(),
    )
    ranker = RecToolsRanker("sasrec", model, num_items)
    dataset = rectools_dataset(train, num_items)
    every, curve = settings["validate_every"], []
    best, best_epoch, weights = -1.0, 0, {}
    for epoch in range(every, settings["epochs"] + 1, every):
        model.fit_partial(dataset, min_epochs=every, max_epochs=every)
        current = score(ranker)
        loss = float(model.fit_trainer.callback_metrics["train_loss"])
        curve.append({"epoch": epoch, "train_loss": round(loss, 4), "ndcg@10": round(current, 5)})
        logger.info("epoch %d: train loss %.4f, validation ndcg@10 %.4f", epoch, loss, current)
        if current > best:
            best, best_epoch = current, epoch
            state = model.lightning_model.torch_model.state_dict()
            weights = {name: value.detach().clone() for name, value in state.items()}
        elif epoch - best_epoch >= settings["patience"]:
            break
    model.lightning_model.torch_model.load_state_dict(weights)
    return Fitted(ranker, {"best_epoch": best_epoch, "curve": curve})


def packed_loss_module() -> Any:
    """RecTools' training module, with its loss computed where there is a target, and only there.

    It pads every history to ``session_max_len`` and scores all items at the padding too. Its
    losses are means over the targets: without the padding they are the same, several times faster.
    """
    from rectools.models.nn.transformers.lightning import TransformerLightningModule

    class PackedLoss(TransformerLightningModule):  # type: ignore[misc]
        def training_step(self, batch: dict[str, torch.Tensor], batch_idx: int) -> torch.Tensor:
            items = self.torch_model.item_model.get_all_embeddings()  # (N + 1, D)
            states = self.torch_model.encode_sessions(batch, items)  # (B, T, D)
            is_target = batch["y"] != 0  # (B, T), n of them true
            target = batch["y"][is_target][None]  # (1, n)
            among = None
            if "negatives" in batch:
                among = torch.cat([target[..., None], batch["negatives"][is_target][None]], dim=-1)
            logits = self.torch_model.similarity_module(states[is_target][None], items, among)
            weight = batch["yw"][is_target][None]
            loss: torch.Tensor = self.loss_calculator(logits / self.logits_t, target, weight)
            self.log(self.train_loss_name, loss, on_step=False, on_epoch=True)
            return loss

    return PackedLoss


def fit_ease(
    train: Sequences, num_items: int, settings: Settings, seed: int, score: Score
) -> Fitted:
    """Solve EASE, a linear item-item model that ignores the order of a history.

    Source: Steck, arXiv:1905.03375, as RecTools implements it.
    """
    from rectools.models import EASEModel

    model = EASEModel(**settings, recommend_n_threads=1, recommend_use_gpu_ranking=False)
    model.fit(rectools_dataset(train, num_items))
    return Fitted(LinearRanker("ease", model.weight, num_items))


def fit_item_knn(
    train: Sequences, num_items: int, settings: Settings, seed: int, score: Score
) -> Fitted:
    """Count co-occurrences, weigh them by BM25, keep the nearest items of each."""
    from implicit.nearest_neighbours import BM25Recommender
    from rectools.models import ImplicitItemKNNWrapperModel

    model = ImplicitItemKNNWrapperModel(BM25Recommender(**settings, num_threads=1))
    model.fit(rectools_dataset(train, num_items))
    return Fitted(RecToolsRanker("item_knn", model, num_items))


_PACKAGES = ("rectools", "pm-implicit", "pytorch-lightning", "pandas")
PEERS = {
    "sasrec": Peer(
        {
            "n_factors": 128,
            "n_blocks": 2,
            "n_heads": 2,
            "dropout_rate": 0.3,
            "session_max_len": 20,
            "loss": "softmax",
            "n_negatives": 256,
            "gbce_t": 0.2,
            "lr": 1e-3,
            "batch_size": 128,
            "epochs": 30,
            "validate_every": 2,
            "patience": 4,
        },
        fit_sasrec,
        _PACKAGES,
    ),
    "ease": Peer({"regularization": 500.0}, fit_ease, _PACKAGES),
    "item_knn": Peer({"K": 100, "K1": 1.2, "B": 0.75}, fit_item_knn, _PACKAGES),
}


def compare(
    run: Path,
    peer: Peer,
    *,
    overrides: Sequence[str] = (),
    seed: int = 0,
    is_test: bool = False,
    validation_users: int = 5000,
) -> tuple[str, dict[str, Any]]:
    """Train a peer on a run's training histories and score it.

    Args:
        run: Folder with the stage dataset.
        peer: What to train.
        overrides: ``name=value`` changes of its settings.
        seed: Of its training and of the bootstrap.
        is_test: Whether the test targets are ranked too.
        validation_users: Users that score an epoch; validation is reported on all.

    Returns:
        The dataset's name and the row: settings, metrics by split and history rule, facts of the
        training, and what it depends on. JSON values.

    Raises:
        ConfigError: If an override is unknown or of another type than the default.
        MissingExtraError: If the library is not installed.
        HidvaeError: If the dataset is missing or damaged, or the lists are not as they should be.
    """
    settings = changed(peer.defaults, overrides)
    stage = read_stage(run / "dataset", produced_by="hidvae prepare")
    dataset = load_dataset(stage)
    split, num_items = dataset.split, dataset.catalogue.num_items
    generator = np.random.default_rng(seed)
    num_users = split.train.num_users
    sample = generator.permutation(num_users)[: min(validation_users, num_users)]

    def score(ranker: Ranker) -> float:
        found = _evaluate(ranker, dataset, "validation", seed, sample, bootstrap_samples=0)
        return float(found.excluding["ndcg@10"])  # type: ignore[arg-type]

    started = time.perf_counter()
    with _in_temporary_folder(), _needs_library():
        fitted = peer.fit(split.train, num_items, settings, seed, score)
        fit_seconds = time.perf_counter() - started
        splits = ("validation", "test") if is_test else ("validation",)
        results = {name: _evaluate(fitted.ranker, dataset, name, seed) for name in splits}
    row: dict[str, Any] = {"settings": dict(settings), "seed": seed, "training": fitted.facts}
    for name, result in results.items():
        row |= {name: result.including, f"{name}_excluding_history": result.excluding}
    row |= {
        "fit_seconds": round(fit_seconds, 1),
        "wall_seconds": round(time.perf_counter() - started, 1),
        "dataset_fingerprint": stage.fingerprint,
        "versions": library_versions() | _versions(peer.packages),
        "commit": git_commit(),
        "machine": describe_machine(),
    }
    return dataset.name, row


def changed(defaults: Settings, overrides: Sequence[str]) -> dict[str, Any]:
    """The settings with ``name=value`` overrides, each of its default's type.

    Raises:
        ConfigError: If a name is unknown or a value is of another type.
    """
    settings = dict(defaults)
    for override in overrides:
        name, _, text = override.partition("=")
        if name not in settings:
            near = difflib.get_close_matches(name, settings, n=1)
            hint = f"; did you mean {near[0]}" if near else ""
            raise ConfigError(f"expected one of {', '.join(settings)}; found {name!r}{hint}")
        kind = type(defaults[name])
        try:
            settings[name] = kind(text)
        except ValueError as error:
            raise ConfigError(
                f"{name}: expected a value like {defaults[name]!r}; found {text!r}"
            ) from error
    return settings


def store(file: Path, label: str, row: Mapping[str, Any]) -> None:
    """Put a row into a results file, beside the others or in place of the one of that label."""
    rows = read_json(file) if file.is_file() else {}
    file.parent.mkdir(parents=True, exist_ok=True)
    write_json(file, {**rows, label: dict(row)})


def main(arguments: Sequence[str] | None = None, peers: Mapping[str, Peer] = PEERS) -> int:
    """Parse the command line, compare, store the row, print the table; returns the exit code."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, help="run with the stage dataset")
    parser.add_argument("--model", choices=tuple(peers), default=next(iter(peers)))
    parser.add_argument(
        "--set", action="append", default=[], dest="overrides", metavar="NAME=VALUE"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--test", action="store_true", help="rank the test targets too, once")
    parser.add_argument("--label", help="name of the row; default: the model and the seed")
    parser.add_argument("--output", type=Path, help="default: results/peer-<dataset>.json")
    given = parser.parse_args(arguments)
    try:
        name, row = compare(
            given.run,
            peers[given.model],
            overrides=given.overrides,
            seed=given.seed,
            is_test=given.test,
        )
        file = given.output or RESULTS / f"peer-{name}.json"
        store(
            file, given.label or f"{given.model} seed {given.seed}", {"model": given.model, **row}
        )
    except HidvaeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    keys = [key for key in row if key.startswith(("validation", "test"))]
    print(format_table({key: row[key] for key in keys}, SHOWN))
    print(f"wrote {file}")
    return 0


def _evaluate(
    ranker: Ranker,
    dataset: Dataset,
    name: str,
    seed: int,
    users: npt.NDArray[np.int64] | None = None,
    bootstrap_samples: int = 1000,
) -> EvaluationResult:
    """Score a ranker on one split, for all users or some."""
    split, num_items = dataset.split, dataset.catalogue.num_items
    is_test = name == "test"
    users = np.arange(split.train.num_users) if users is None else users
    histories = split.test_histories if is_test else split.validation_histories
    targets = split.test_targets if is_test else split.validation_targets
    return evaluate_ranker(
        ranker,
        histories.take(users),
        targets[users],
        num_items=num_items,
        cutoffs=CUTOFFS,
        popularity=count_items(split.train, num_items),
        bootstrap_samples=bootstrap_samples,
        seed=seed,
        batch_size=_USERS_PER_CALL,
        user_index=users,
    )


@contextlib.contextmanager
def _in_temporary_folder() -> Iterator[None]:
    """Libraries write logs and checkpoints into the working folder: give them one to lose."""
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        yield


@contextlib.contextmanager
def _needs_library() -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"expected RecTools beside hidvae, found no package {error.name}; in an environment of "
            'its own: pip install -e . "rectools[torch]"'
        ) from error


def _versions(packages: Sequence[str]) -> dict[str, str]:
    versions = {}
    for name in packages:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return versions


if __name__ == "__main__":
    sys.exit(main())
