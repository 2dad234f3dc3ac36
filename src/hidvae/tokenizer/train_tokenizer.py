"""Stage tokenize, first half: train the tokenizer on a catalogue's embeddings and tags."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from lightning_fabric import Fabric
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from hidvae.config import Config, TokenizerConfig, build_section
from hidvae.errors import ArtifactError, ConfigError, DataError, NotTrainedError
from hidvae.evaluation.id_quality import id_quality
from hidvae.features.tags.vocabulary import ItemTags, load_tags
from hidvae.semantic_ids.interchange import ids_of_catalogue
from hidvae.store.artifacts import StageFolder, StageWriter
from hidvae.tokenizer.codebook import ITEMS_PER_BLOCK
from hidvae.tokenizer.model import HiDVAE, TokenizerLosses, build_tokenizer
from hidvae.tokenizer.temperatures import calibrate
from hidvae.training.checkpoint import training_identity
from hidvae.training.parallel import Share
from hidvae.training.progress import LOG
from hidvae.training.runtime import epoch_generator, make_reproducible
from hidvae.training.trainer import Loop, Measured, Task, Trainer

if TYPE_CHECKING:
    from hidvae.run.run import Run

WEIGHTS = "model.safetensors"
HELD_OUT = "held_out.safetensors"
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
        stage.facts |= {"ids_file": Path(settings.ids_file).name}
        return
    items, item_tags = run.embeddings, run.tags
    num_items, seed = len(items.matrix), config.run.seed
    held_out = _choose_held_out(num_items, settings.held_out_fraction, seed)
    held_out[run.dataset.split.cold_items] = True
    settings = _fitting(settings, num_items, num_items - int(held_out.sum()), stage)
    _check_tag_levels(item_tags.vocabulary.sizes, settings)

    trainer = Trainer(
        config.run,
        name=stage.output.name,
        checkpoint=stage.checkpoint,
        identity=training_identity(stage.settings, stage.inputs, config.run),
        settings=stage.settings,
    )
    stage.seconds_before = trainer.seconds_before
    make_reproducible(seed)
    model = build_tokenizer(
        settings,
        input_dim=items.matrix.shape[1],
        num_categorical=items.num_categorical,
        **_tag_tensors(item_tags),
    )
    device, kept = trainer.fabric.device, np.flatnonzero(~held_out)
    training_items = TrainingItems(
        torch.tensor(items.matrix[kept]).to(device),
        _tag_ids(item_tags.ids[kept], settings.num_levels).to(device),
        torch.from_numpy(kept).to(device),
    )
    trainer.fit(TokenizerTask(trainer.fabric, model, training_items, settings, seed))
    calibrate(
        model,
        torch.tensor(items.matrix[held_out]).to(device),
        _tag_ids(item_tags.ids[held_out], settings.num_levels).to(device),
    )
    save_file(model.state_dict(), stage.path / WEIGHTS)
    save_file({"is_held_out": torch.from_numpy(held_out)}, stage.path / HELD_OUT)
    trainer.log.write(stage.path / LOG)
    stage.facts |= {
        "input_dim": items.matrix.shape[1],
        "num_categorical": items.num_categorical,
        "num_items": num_items,
        "num_held_out": int(held_out.sum()),
        "codebook_size": settings.codebook_size,
    }
    stage.metrics |= trainer.log.rows[-1]


def load_tokenizer(folder: StageFolder, tags: StageFolder) -> HiDVAE:
    """The trained tokenizer of a stage folder, in evaluation mode on the CPU.

    Raises:
        NotTrainedError: If the run's semantic IDs come from a file.
        ArtifactError: If the weights are damaged, or an older version wrote them.
    """
    _require_training(folder)
    config = build_section(TokenizerConfig, folder.config)
    size = folder.facts.get("codebook_size", config.codebook_size)  # not of older versions
    model = build_tokenizer(
        replace(config, codebook_size=size),
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


class TokenizerTask(Task[Tensor]):
    """Losses of the items of a batch; between epochs, the catalogue's IDs are surveyed.

    A batch is the rows (B,) of ``TrainingItems`` that it is made of.
    """

    loss_names = TokenizerLosses._fields

    def __init__(
        self,
        fabric: Fabric,
        model: HiDVAE,
        items: TrainingItems,
        config: TokenizerConfig,
        seed: int,
    ) -> None:
        self.model: HiDVAE = model
        self.loop = Loop(
            section=type(config).__name__,
            epochs=config.epochs,
            learning_rate=config.learning_rate,
            weight_decay=WEIGHT_DECAY,
        )
        self.state = {
            "order": torch.empty(0, dtype=torch.long),
            "unused_epochs": torch.zeros(config.num_levels, config.codebook_size, dtype=torch.long),
        }
        self._fabric, self._items, self._config, self._seed = fabric, items, config, seed
        self._batch_size = min(config.batch_size, len(items.item_index))
        self.steps_per_epoch = max(1, len(items.item_index) // self._batch_size)
        self._share = Share(fabric, self._batch_size)
        self._survey: Survey | None = None  # of the epoch before
        self._collapsed: set[int] = set()

    def begin_epoch(self, epoch: int) -> None:
        """Fit the codebooks to the data or revive their dead codes, and order the batches."""
        if self._survey is None:
            self._initialize()
            self._survey = self.survey()
        else:
            self.revive_dead_codes(self._survey, epoch)
        self.state["order"] = self.shuffle(self._survey.codes, epoch)

    def batches(self, epoch: int, start: int) -> Iterator[Tensor]:
        """See ``Task``; all processes get the same rows, and each embeds its share of them."""
        order, size = self.state["order"].to(self._fabric.device), self._batch_size
        for step in range(start, self.steps_per_epoch):
            yield order[step * size : (step + 1) * size]

    def losses(self, forward: nn.Module, batch: Tensor) -> tuple[Tensor, Tensor]:
        """See ``Task``."""
        losses: TokenizerLosses = forward(
            self._items.embeddings[batch[self._share.rows]],
            self._items.tag_ids[batch],
            self._items.item_index[batch],
            self._share,
        )
        logged = torch.stack([value.detach().mean() for value in losses])
        return _weighted_sum(losses, self._config), logged

    def end_epoch(self, epoch: int, losses: Mapping[str, float], is_last: bool) -> Measured:
        """Collisions of the training items, and how evenly they use each level's codes."""
        self._survey = self.survey()
        sizes = [self._config.codebook_size] * self._config.num_levels
        quality = id_quality(self._survey.codes.cpu().numpy(), sizes)
        numbers = {"collision_rate": quality["collision_rate"]}
        for level, usage in enumerate(quality["codebook_usage"]):
            numbers[f"usage_{level}"] = usage
            numbers[f"perplexity_{level}"] = quality["perplexity"][level]
            has_collapsed = usage < 0.1 or level in quality["dead_levels"]
            if has_collapsed and level not in self._collapsed:
                self._collapsed.add(level)  # said once
                logger.warning(
                    "level %d uses %.0f %% of its codes: its codebook has collapsed; lower "
                    "TokenizerConfig.learning_rate or raise TokenizerConfig.commitment_weight",
                    level,
                    100 * usage,
                )
        usages = " ".join(f"{usage:.2f}" for usage in quality["codebook_usage"])
        return Measured(
            numbers,
            f"reconstruction {losses['reconstruction']:.3f}  tags {losses['tag_prediction']:.3f}"
            f"  collisions {numbers['collision_rate']:.2%}  usage {usages}",
        )

    def _initialize(self) -> None:
        self.model.autoencoder.fit_scale(self._items.embeddings)
        latents = self._survey_latents()
        self.model.quantizer.initialize(latents, epoch_generator(self._seed, 0))

    @torch.no_grad()
    def survey(self) -> Survey:
        """Codes and residuals of every training item, in evaluation mode."""
        share = Share(self._fabric, len(self._items.embeddings))
        self.model.eval()
        own = self._items.embeddings[share.rows].split(ITEMS_PER_BLOCK)
        blocks = [self.model.encode(block)[1] for block in own]
        self.model.train()
        return Survey(
            share.gather(torch.cat([block.codes for block in blocks])),
            share.gather(torch.cat([block.residuals for block in blocks])),
        )

    @torch.no_grad()
    def _survey_latents(self) -> Tensor:
        share = Share(self._fabric, len(self._items.embeddings))
        encode = self.model.autoencoder.encode
        own = self._items.embeddings[share.rows].split(ITEMS_PER_BLOCK)
        return share.gather(torch.cat([encode(block) for block in own]))

    def shuffle(self, codes: Tensor, epoch: int) -> Tensor:
        """Order of an epoch: random, but items that share an ID stand side by side.

        The uniqueness loss sees only pairs within a batch; in a random batch of a large catalogue
        there would be hardly any.
        """
        generator = epoch_generator(self._seed, epoch + 1)
        n = len(codes)
        if self._config.uniqueness_weight == 0:
            return torch.randperm(n, generator=generator)
        _, group = codes.cpu().unique(dim=0, return_inverse=True)
        place_of_group = torch.randperm(n, generator=generator)
        order = torch.argsort(place_of_group[group], stable=True)
        shift = int(torch.randint(n, (1,), generator=generator))  # vary which items the cut drops
        return order.roll(shift)

    @torch.no_grad()
    def revive_dead_codes(self, survey: Survey, epoch: int) -> None:
        """Move codes unused for ``DEAD_CODE_EPOCHS`` epochs onto residuals of random items."""
        generator = epoch_generator(self._seed + 1, epoch)
        for level in range(self._config.num_levels):
            used = torch.zeros(self._config.codebook_size, dtype=torch.bool)
            used[survey.codes[:, level].cpu()] = True
            counter = self.state["unused_epochs"][level]
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


def _fitting(
    config: TokenizerConfig, num_items: int, num_training: int, stage: StageWriter
) -> TokenizerConfig:
    """The settings with no more codes than training items, as each code starts at one of them."""
    if num_training < 2:
        raise DataError(f"expected 2 training items or more; found {num_training}; add items")
    asked = config.codebook_size
    if asked > num_training:
        stage.decide(
            f"codebooks have {num_training} codes a level, as many as training items, not {asked}",
            f"TokenizerConfig.codebook_size={num_training}",
        )
        config = replace(config, codebook_size=num_training)
    capacity = config.codebook_size**config.num_levels
    if config.collisions == "reassign" and num_items > capacity:
        raise DataError(
            f"a catalogue of {num_items} items does not fit {config.codebook_size}^"
            f"{config.num_levels} = {capacity} semantic IDs; raise TokenizerConfig.num_levels, or "
            f"TokenizerConfig.codebook_size up to the {num_training} training items"
        )
    return config


def _check_tag_levels(sizes: list[int], config: TokenizerConfig) -> None:
    if config.is_supervised and any(sizes) and len(sizes) != config.num_levels:
        raise ConfigError(
            f"expected tags of TokenizerConfig.num_levels = {config.num_levels} levels; found "
            f"{len(sizes)}; run `hidvae tag` again"
        )
