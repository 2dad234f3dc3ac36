"""Stage tokenize, first half: train the tokenizer on a catalogue's embeddings and tags."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from lightning_fabric import Fabric
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.optim import AdamW

from hidvae.config import Config, RunConfig, TokenizerConfig, build_section
from hidvae.errors import ArtifactError, ConfigError, DataError, NotTrainedError
from hidvae.evaluation.id_quality import id_quality
from hidvae.features.tags.vocabulary import ItemTags, load_tags
from hidvae.semantic_ids.interchange import ids_of_catalogue
from hidvae.store.artifacts import StageFolder, StageWriter
from hidvae.tokenizer.codebook import ITEMS_PER_BLOCK
from hidvae.tokenizer.model import HiDVAE, TokenizerLosses, build_tokenizer
from hidvae.tokenizer.temperatures import calibrate
from hidvae.training.checkpoint import (
    Checkpoint,
    load_checkpoint,
    restore,
    save_checkpoint,
    training_identity,
)
from hidvae.training.loggers import following
from hidvae.training.parallel import (
    Share,
    first_decides,
    mean_over_processes,
    seed_parts,
)
from hidvae.training.progress import Stopwatch, TrainingLog, check_finite
from hidvae.training.runtime import epoch_generator, make_reproducible, start_fabric
from hidvae.training.schedule import warmup_cosine

if TYPE_CHECKING:
    from hidvae.run.run import Run

WEIGHTS = "model.safetensors"
HELD_OUT = "held_out.safetensors"
LOG = "log.csv"
WEIGHT_DECAY = 0.01
"""Of AdamW: its own default; what matters is the learning rate."""
DEAD_CODE_EPOCHS = 2
"""A code unused for this many epochs is reset: one epoch alone is often chance."""

logger = logging.getLogger("hidvae.tokenize")


@dataclass(frozen=True)
class TrainingItems:
    """What the tokenizer learns from, on the training device; row j is item ``item_index[j]``."""

    embeddings: Tensor
    """(n, D_in)."""
    tag_ids: Tensor
    """(n, L), -1 where unknown."""
    item_index: Tensor
    """(n,)."""


@dataclass(frozen=True)
class Survey:
    """IDs of all training items at the end of an epoch."""

    codes: Tensor
    """(n, L)."""
    residuals: Tensor
    """(n, L, D)."""


def train_tokenizer(run: Run, config: Config, stage: StageWriter) -> None:
    """Train on the items that are not held out, and write the stage ``tokenizer``.

    A training that was stopped goes on from its last checkpoint and ends
    with the weights an uninterrupted one would have had, bit for bit on one machine.

    With ``source = "file"`` nothing is trained; the folder then only says so.

    Raises:
        ConfigError: If the tags have another number of levels than the codebooks.
        DataError: If the catalogue does not fit the codebooks.
    """
    settings = config.tokenizer
    if settings.source == "file":
        ids_of_catalogue(  # refused before a trained tokenizer is replaced
            Path(settings.ids_file),
            run.dataset.catalogue.item_ids,
            may_add_code=settings.collisions == "disambiguate",
        )
        stage.facts |= {"ids_file": settings.ids_file}
        return
    items, item_tags = run.embeddings, run.tags
    num_items, seed = len(items.matrix), config.run.seed
    held_out = _choose_held_out(num_items, settings.held_out_fraction, seed)
    held_out[run.dataset.split.cold_items] = True
    _check_sizes(num_items, num_items - int(held_out.sum()), settings)
    _check_tag_levels(item_tags.vocabulary.sizes, settings)

    fabric = start_fabric(config.run)
    make_reproducible(seed)
    model = build_tokenizer(
        settings,
        input_dim=items.matrix.shape[1],
        num_categorical=items.num_categorical,
        **_tag_tensors(item_tags),
    )
    kept = np.flatnonzero(~held_out)
    training_items = TrainingItems(
        torch.tensor(items.matrix[kept]).to(fabric.device),
        _tag_ids(item_tags.ids[kept], settings.num_levels).to(fabric.device),
        torch.from_numpy(kept).to(fabric.device),
    )

    identity = training_identity(stage.settings, stage.inputs, config.run)
    checkpoint_file = stage.checkpoint / "checkpoint.safetensors"
    checkpoint = load_checkpoint(checkpoint_file, identity=identity)
    stage.seconds_before = checkpoint.state["seconds"] if checkpoint else 0.0
    with following(fabric, config.run.loggers, stage.output, stage.settings, checkpoint) as loggers:
        loop = _Training(
            fabric, model, training_items, settings, config.run, checkpoint_file, identity
        )
        loop.log.loggers = loggers
        loop.run(checkpoint)
        calibrate(
            model,
            torch.tensor(items.matrix[held_out]).to(fabric.device),
            _tag_ids(item_tags.ids[held_out], settings.num_levels).to(fabric.device),
        )
    save_file(model.state_dict(), stage.path / WEIGHTS)
    save_file({"is_held_out": torch.from_numpy(held_out)}, stage.path / HELD_OUT)
    loop.log.write(stage.path / LOG)
    stage.facts |= {
        "input_dim": items.matrix.shape[1],
        "num_categorical": items.num_categorical,
        "num_items": num_items,
        "num_held_out": int(held_out.sum()),
    }
    stage.metrics |= loop.log.rows[-1]


def load_tokenizer(folder: StageFolder, tags: StageFolder) -> HiDVAE:
    """The trained tokenizer of a stage folder, in evaluation mode on the CPU.

    Raises:
        NotTrainedError: If the run's semantic IDs come from a file.
        ArtifactError: If the weights are damaged, or an older version wrote them.
    """
    _require_training(folder)
    config = build_section(TokenizerConfig, folder.config)
    model = build_tokenizer(
        config,
        folder.facts["input_dim"],
        folder.facts["num_categorical"],
        **_tag_tensors(load_tags(tags)),
    )
    try:
        model.load_state_dict(_read_tensors(folder.path / WEIGHTS))
    except RuntimeError as error:  # names or shapes differ
        raise ArtifactError(
            f"{folder.path / WEIGHTS}: expected the weights of this version's tokenizer; found "
            f"others ({' '.join(str(error).split())[:120]}); delete {folder.path} and run "
            "`hidvae tokenize` again"
        ) from error
    return model.eval()


def load_held_out(folder: StageFolder) -> np.ndarray:
    """Which items (N,) the tokenizer never saw in training, as booleans.

    Raises:
        NotTrainedError: If the run's semantic IDs come from a file.
    """
    _require_training(folder)
    held_out: np.ndarray = _read_tensors(folder.path / HELD_OUT)["is_held_out"].numpy()
    return held_out


def _require_training(folder: StageFolder) -> None:
    if "ids_file" in folder.facts:
        raise NotTrainedError(
            f"{folder.path}: expected a trained tokenizer; found semantic IDs that were taken from "
            f"{folder.facts['ids_file']}; give new items an ID in that file and run all stages "
            "again, or train a tokenizer with --set TokenizerConfig.source=trained"
        )


def _read_tensors(file: Path) -> dict[str, Tensor]:
    try:
        tensors: dict[str, Tensor] = load_file(file)
    except (SafetensorError, OSError) as error:
        raise ArtifactError(
            f"{file}: cannot be read ({error}); run `hidvae tokenize` again"
        ) from error
    return tensors


class _Training:
    """The loop and what a checkpoint must hold of it."""

    def __init__(
        self,
        fabric: Fabric,
        model: HiDVAE,
        items: TrainingItems,
        config: TokenizerConfig,
        run: RunConfig,
        checkpoint_file: Path,
        identity: str,
    ) -> None:
        self.model, self.items, self.config, self.seed = model, items, config, run.seed
        is_first = fabric.is_global_zero
        self.log = TrainingLog("tokenize", checkpoint_file.with_name(LOG) if is_first else None)
        self._fabric, self._run = fabric, run
        self._file, self._identity = checkpoint_file, identity
        self._batch_size = min(config.batch_size, len(items.item_index))
        self._steps_per_epoch = max(1, len(items.item_index) // self._batch_size)
        self._total_steps = config.epochs * self._steps_per_epoch
        self._epoch, self._step = 0, 0  # where the next step is
        self._order = torch.empty(0, dtype=torch.long)
        self._unused_epochs = torch.zeros(config.num_levels, config.codebook_size, dtype=torch.long)
        # On the device: reading a loss at every step would wait for a GPU at every step.
        self._loss_sums = torch.zeros(len(TokenizerLosses._fields), device=fabric.device)
        self._watch = Stopwatch()

    def run(self, checkpoint: Checkpoint | None) -> None:
        """Train to the end, from the beginning or from a checkpoint."""
        config = self.config
        trainable = [p for p in self.model.parameters() if p.requires_grad]
        optimizer = AdamW(trainable, lr=config.learning_rate, weight_decay=WEIGHT_DECAY, fused=True)
        forward, optimizer = self._fabric.setup(self.model, optimizer)
        if checkpoint is None:
            self._initialize()
        else:
            self._restore(checkpoint, optimizer)
        seed_parts(self._fabric, self.seed, self._steps_done)
        share = Share(self._fabric, self._batch_size)
        self.model.train()
        while self._epoch < config.epochs:
            while self._step < self._steps_per_epoch:
                factor = warmup_cosine(self._steps_done, self._total_steps)
                for group in optimizer.param_groups:
                    group["lr"] = config.learning_rate * factor
                start = self._step * self._batch_size
                rows = self._order[start : start + self._batch_size].to(self._fabric.device)
                losses = forward(
                    self.items.embeddings[rows[share.rows]],
                    self.items.tag_ids[rows],
                    self.items.item_index[rows],
                    share,
                )
                self._fabric.backward(_weighted_sum(losses, config))
                optimizer.step()
                optimizer.zero_grad()
                self._count(losses)
                self._step += 1
                is_due = self._watch.is_due(self._run.checkpoint_every_seconds)
                if first_decides(self._fabric, is_due):
                    self._save(optimizer)
            self._end_epoch()

    @property
    def _steps_done(self) -> int:
        return self._epoch * self._steps_per_epoch + self._step

    def _initialize(self) -> None:
        self.model.autoencoder.fit_scale(self.items.embeddings)
        latents = self._survey_latents()
        self.model.quantizer.initialize(latents, epoch_generator(self.seed, 0))
        self._order = self._shuffle(self.survey().codes)

    def _end_epoch(self) -> None:
        """Survey the catalogue: log, revive dead codes, and order the next epoch's batches."""
        self._loss_sums = mean_over_processes(self._fabric, self._loss_sums)
        check_finite(float(self._loss_sums.sum()), "TokenizerConfig.learning_rate")
        survey = self.survey()
        self._epoch, self._step = self._epoch + 1, 0
        self._log_epoch(survey)
        self._reset_dead_codes(survey)
        self._order = self._shuffle(survey.codes)

    @torch.no_grad()
    def survey(self) -> Survey:
        """Codes and residuals of every training item, in evaluation mode."""
        share = Share(self._fabric, len(self.items.embeddings))
        self.model.eval()
        own = self.items.embeddings[share.rows].split(ITEMS_PER_BLOCK)
        blocks = [self.model.encode(block)[1] for block in own]
        self.model.train()
        return Survey(
            share.gather(torch.cat([block.codes for block in blocks])),
            share.gather(torch.cat([block.residuals for block in blocks])),
        )

    @torch.no_grad()
    def _survey_latents(self) -> Tensor:
        share = Share(self._fabric, len(self.items.embeddings))
        encode = self.model.autoencoder.encode
        own = self.items.embeddings[share.rows].split(ITEMS_PER_BLOCK)
        return share.gather(torch.cat([encode(block) for block in own]))

    def _shuffle(self, codes: Tensor) -> Tensor:
        """Order of the next epoch: random, but items that share an ID stand side by side.

        The uniqueness loss sees only pairs within a batch; in a random batch of a large catalogue
        there would be hardly any.
        """
        generator = epoch_generator(self.seed, self._epoch + 1)
        n = len(codes)
        if self.config.uniqueness_weight == 0:
            return torch.randperm(n, generator=generator)
        _, group = codes.cpu().unique(dim=0, return_inverse=True)
        place_of_group = torch.randperm(n, generator=generator)
        order = torch.argsort(place_of_group[group], stable=True)
        shift = int(torch.randint(n, (1,), generator=generator))  # vary which items the cut drops
        return order.roll(shift)

    @torch.no_grad()
    def _reset_dead_codes(self, survey: Survey) -> None:
        """Move codes unused for ``DEAD_CODE_EPOCHS`` epochs onto residuals of random items."""
        if self._epoch >= self.config.epochs:
            return
        generator = epoch_generator(self.seed + 1, self._epoch)
        for level in range(self.config.num_levels):
            used = torch.zeros(self.config.codebook_size, dtype=torch.bool)
            used[survey.codes[:, level].cpu()] = True
            counter = self._unused_epochs[level]
            counter[used] = 0
            counter[~used] += 1
            dead = (counter >= DEAD_CODE_EPOCHS).nonzero().squeeze(1)
            counter[dead] = 0
            # Different items for different codes; a codebook is never larger than the items.
            chosen = torch.randperm(len(survey.codes), generator=generator)[: len(dead)]
            device = survey.residuals.device
            self.model.quantizer.reset_codes(
                level, dead.to(device), survey.residuals[chosen.to(device), level]
            )

    def _count(self, losses: TokenizerLosses) -> None:
        self._loss_sums += torch.stack([value.detach().mean() for value in losses])

    def _log_epoch(self, survey: Survey) -> None:
        sizes = [self.config.codebook_size] * self.config.num_levels
        statistics = id_quality(survey.codes.cpu().numpy(), sizes)
        row: dict[str, Any] = {"epoch": self._epoch, "seconds": round(self._watch.seconds, 3)}
        means = (self._loss_sums / self._steps_per_epoch).tolist()
        row |= dict(zip(TokenizerLosses._fields, means, strict=True))
        row["collision_rate"] = statistics["collision_rate"]
        for level in range(self.config.num_levels):
            row[f"usage_{level}"] = statistics["codebook_usage"][level]
            row[f"perplexity_{level}"] = statistics["perplexity"][level]
        self._loss_sums.zero_()
        usage = " ".join(f"{u:.2f}" for u in statistics["codebook_usage"])
        self.log.add(
            row,
            f"epoch {self._epoch}/{self.config.epochs}"
            f"  reconstruction {row['reconstruction']:.3f}  tags {row['tag_prediction']:.3f}"
            f"  collisions {row['collision_rate']:.2%}  usage {usage}",
        )
        for level, usage_share in enumerate(statistics["codebook_usage"]):
            if usage_share < 0.1 or level in statistics["dead_levels"]:
                logger.warning(
                    "level %d uses %.0f %% of its codes: its codebook has collapsed; lower "
                    "TokenizerConfig.learning_rate or raise TokenizerConfig.commitment_weight",
                    level,
                    100 * usage_share,
                )

    def _save(self, optimizer: Any) -> None:
        self._loss_sums = mean_over_processes(self._fabric, self._loss_sums)
        if not self._fabric.is_global_zero:
            return
        save_checkpoint(
            self._file,
            identity=self._identity,
            state={
                "epoch": self._epoch,
                "step": self._step,
                "seconds": self._watch.seconds,
                "rows": self.log.rows,
                "logger_versions": self.log.logger_versions,
            },
            model=self.model,
            optimizer=optimizer,
            extra={
                "order": self._order,
                "unused_epochs": self._unused_epochs,
                "loss_sums": self._loss_sums,
            },
        )
        loss = float(self._loss_sums[0]) / self._step
        done, total = self._steps_done, self._total_steps
        logger.info("step %d of %d  reconstruction %.3f", done, total, loss)

    def _restore(self, checkpoint: Checkpoint, optimizer: Any) -> None:
        restore(checkpoint, self.model, optimizer)
        state, extra = checkpoint.state, checkpoint.group("extra")
        self._epoch, self._step = state["epoch"], state["step"]
        self._loss_sums = extra["loss_sums"].to(self._fabric.device)
        self.log.rows = state["rows"]
        self._order, self._unused_epochs = extra["order"], extra["unused_epochs"]
        self._watch = Stopwatch(state["seconds"])
        logger.info("going on from epoch %d, step %d", self._epoch, self._step)


def _weighted_sum(losses: TokenizerLosses, config: TokenizerConfig) -> Tensor:
    """The total loss; every weight is applied here and only here."""
    return (
        losses.reconstruction
        + losses.codebook
        + config.commitment_weight * losses.commitment
        + config.uniqueness_weight * losses.uniqueness
        + config.tag_alignment_weight * losses.tag_alignment.sum()
        + config.tag_prediction_weight * losses.tag_prediction.sum()
    )


def _tag_tensors(tags: ItemTags) -> dict[str, list[Tensor]]:
    """What the tag heads are built from."""
    return {
        "tag_embeddings": [torch.tensor(matrix) for matrix in tags.embeddings],
        "tag_parents": [torch.tensor(parents) for parents in tags.vocabulary.parents],
    }


def _tag_ids(ids: np.ndarray, num_levels: int) -> Tensor:
    """Tag ids (n, num_levels); levels without tags are unknown (only without supervision)."""
    padded = np.full((len(ids), num_levels), -1, dtype=np.int64)
    shared = min(num_levels, ids.shape[1])
    padded[:, :shared] = ids[:, :shared]
    return torch.from_numpy(padded)


def _choose_held_out(num_items: int, fraction: float, seed: int) -> np.ndarray:
    chosen = np.random.default_rng(seed).permutation(num_items)[: round(num_items * fraction)]
    held_out = np.zeros(num_items, dtype=bool)
    held_out[chosen] = True
    return held_out


def _check_sizes(num_items: int, num_training: int, config: TokenizerConfig) -> None:
    capacity = config.codebook_size**config.num_levels
    if config.collisions == "reassign" and num_items > capacity:
        raise DataError(
            f"a catalogue of {num_items} items does not fit {config.codebook_size}^"
            f"{config.num_levels} = {capacity} semantic IDs; raise "
            "TokenizerConfig.codebook_size or TokenizerConfig.num_levels"
        )
    if num_training < config.codebook_size:
        raise DataError(
            f"{num_training} training items are fewer than the {config.codebook_size} codes of a "
            f"level; set TokenizerConfig.codebook_size to at most {num_training}"
        )


def _check_tag_levels(sizes: list[int], config: TokenizerConfig) -> None:
    if config.is_supervised and any(sizes) and len(sizes) != config.num_levels:
        raise ConfigError(
            f"expected tags of TokenizerConfig.num_levels = {config.num_levels} levels; found "
            f"{len(sizes)}; run `hidvae tag` again"
        )
