"""Stage tokenize, second half: give every item its semantic ID, unique without exception."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from hidvae.config import Config, TokenizerConfig
from hidvae.evaluation.id_quality import id_quality
from hidvae.features.tags.vocabulary import ItemTags
from hidvae.semantic_ids.collisions import collision_rate, disambiguate, reassign
from hidvae.semantic_ids.free_ids import free_id
from hidvae.semantic_ids.interchange import files_of_ids, ids_of_catalogue
from hidvae.semantic_ids.table import SemanticIds
from hidvae.store.artifacts import StageFolder, StageWriter, fingerprint_file, write_json
from hidvae.tokenizer.codebook import ITEMS_PER_BLOCK
from hidvae.tokenizer.model import HiDVAE
from hidvae.tokenizer.temperatures import calibration_errors, judge
from hidvae.tokenizer.train_tokenizer import load_held_out

if TYPE_CHECKING:
    from hidvae.run.run import Run

QUALITY = "quality.json"

logger = logging.getLogger("hidvae.tokenize")


def encode_catalogue(run: Run, config: Config, stage: StageWriter) -> None:
    """Write the stage ``semantic_ids``: ``semantic_ids.parquet`` and ``quality.json``.

    Collision rate, usage, perplexity and tag accuracy are measured on the IDs as the tokenizer gave
    them; ``collision_rate_after`` on the IDs as written, where it is 0.

    With ``source = "file"`` the IDs are those of the file, and they predict no tags.

    Raises:
        DataError: If that file is malformed, or does not fit the catalogue.
    """
    item_ids, item_tags = run.dataset.catalogue.item_ids, run.tags
    if config.tokenizer.source == "file":
        take_from_file(config.tokenizer, item_ids, item_tags, stage)
        return
    tokenizer, model = run.folder("tokenizer"), run.tokenizer
    latents, codes = encode_items(model, run.embeddings.matrix)
    sizes = _level_sizes(model)
    quality = id_quality(codes, sizes, item_tags.ids)
    quality["collision_rate_before"] = quality.pop("collision_rate")
    held_out = load_held_out(tokenizer)
    quality |= tag_accuracy(model, codes, item_tags.ids, held_out)
    quality |= calibration_errors(judge(model, codes, item_tags.ids, held_out))
    ids = unique_ids(model, tokenizer, item_ids, latents, codes)
    moved = ids.codes[:, : codes.shape[1]] != codes
    quality["items_moved"] = int(moved.any(axis=1).sum())
    quality["collision_rate_after"] = collision_rate(ids.codes)
    ids.save(stage.path)
    write_json(stage.path / QUALITY, quality)
    stage.facts |= ids.facts()
    stage.metrics |= quality
    logger.info(
        "%d items: collision rate %.2f %% before assignment, %.2f %% after",
        len(item_ids),
        100 * quality["collision_rate_before"],
        100 * quality["collision_rate_after"],
    )


def ids_file_inputs(run: Run, config: Config) -> dict[str, str]:
    """Fingerprints of the files that hold the semantic IDs; none where they are trained."""
    if config.tokenizer.source != "file":
        return {}
    files = files_of_ids(Path(config.tokenizer.ids_file))
    return dict(zip(("ids_file", "item2id"), map(fingerprint_file, files), strict=False))


def take_from_file(
    config: TokenizerConfig, item_ids: list[str], item_tags: ItemTags, stage: StageWriter
) -> None:
    """Write the semantic IDs of ``config.ids_file`` and their quality into a stage.

    Raises:
        DataError: If the file is malformed, or does not fit the catalogue.
    """
    may_add_code = config.collisions == "disambiguate"
    ids, codes, others = ids_of_catalogue(
        Path(config.ids_file), item_ids, may_add_code=may_add_code
    )
    quality = id_quality(codes, ids.level_sizes[: codes.shape[1]], item_tags.ids)
    quality["collision_rate_before"] = quality.pop("collision_rate")
    quality |= {"tag_accuracy": [], "tag_majority_rate": [], "tag_items": []}
    quality |= {"items_moved": 0, "collision_rate_after": collision_rate(ids.codes)}
    ids.save(stage.path)
    write_json(stage.path / QUALITY, quality)
    stage.facts |= {**ids.facts(), "ids_file": Path(config.ids_file).name}
    stage.metrics |= quality
    logger.info(
        "%d items have their ID from %s; it predicts no tags", len(item_ids), config.ids_file
    )
    if others:
        logger.warning(
            "%d items of %s are not in the catalogue and are left out, first %r",
            len(others),
            config.ids_file,
            others[0],
        )


def unique_ids(
    model: HiDVAE,
    tokenizer: StageFolder,
    item_ids: list[str],
    latents: np.ndarray,
    codes: np.ndarray,
) -> SemanticIds:
    """The table of IDs, no two alike, and the tags that they stand for.

    Args:
        model: That of ``tokenizer``.
        tokenizer: Its settings say how items that share an ID are parted.
        item_ids: N of them.
        latents: (N, D) and
        codes: (N, L) from ``encode_items``.
    """
    num_levels = codes.shape[1]
    sizes = _level_sizes(model)
    is_disambiguated = tokenizer.config["collisions"] == "disambiguate"
    if is_disambiguated:
        final, last_size = disambiguate(codes)
        sizes.append(last_size)
    else:
        codebooks = [level.vectors().detach().numpy() for level in model.quantizer.levels]
        final = reassign(latents, codebooks, codes).codes
    tag_ids, confidence = predict_tags(model, final[:, :num_levels])
    return SemanticIds(item_ids, final, tuple(sizes), tag_ids, confidence, is_disambiguated)


def _level_sizes(model: HiDVAE) -> list[int]:
    """Codes of each level: as many as were asked for, or as there were training items."""
    return [len(level.vectors()) for level in model.quantizer.levels]


def ids_of_new_items(
    model: HiDVAE,
    tokenizer: StageFolder,
    item_ids: list[str],
    embeddings: np.ndarray,
    others: SemanticIds,
) -> SemanticIds:
    """IDs of items that come after training; the others keep theirs.

    Args:
        model: That of ``tokenizer``.
        tokenizer: Its stage folder.
        item_ids: n of them.
        embeddings: (n, D_in).
        others: The IDs that are taken.

    Raises:
        DataError: If every ID is taken.
    """
    latents, codes = encode_items(model, embeddings)
    codebooks = [level.vectors().detach().numpy() for level in model.quantizer.levels]
    num_numbers = others.level_sizes[-1] if others.is_disambiguated else 0
    taken = others.codes
    for latent, wanted in zip(latents, codes, strict=True):
        found = free_id(latent, codebooks, wanted, taken, num_numbers)
        taken = np.concatenate([taken, found[None]])
    final = taken[others.num_items :]
    tag_ids, confidence = predict_tags(model, final[:, : codes.shape[1]])
    sizes = others.level_sizes
    return SemanticIds(item_ids, final, sizes, tag_ids, confidence, others.is_disambiguated)


@torch.no_grad()
def encode_items(model: HiDVAE, embeddings: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Latents (N, D) float32 and codes (N, L) int64 of item embeddings (N, D_in)."""
    latents, codes = [], []
    for block in _blocks(embeddings):  # what else a quantization holds is not kept
        latent, quantized = model.encode(torch.from_numpy(block))
        latents.append(latent)
        codes.append(quantized.codes)
    return torch.cat(latents).numpy(), torch.cat(codes).numpy()


def predict_tags(model: HiDVAE, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Tags (N, L) int64 and probabilities (N, L) float32 that codes (N, L) stand for."""
    blocks = [model.predict_tags(torch.from_numpy(block)) for block in _blocks(codes)]
    tag_ids = torch.cat([tags for tags, _ in blocks]).numpy()
    confidence = torch.cat([probabilities for _, probabilities in blocks]).numpy()
    return tag_ids, confidence


def tag_accuracy(
    model: HiDVAE, codes: np.ndarray, true_tags: np.ndarray, is_held_out: np.ndarray
) -> dict[str, Any]:
    """Per level: accuracy of the predicted tag on held-out items, and the majority class's rate.

    The majority class is that of the training items. Unknown tags are left out of both. A level
    without any known held-out tag has None.
    """
    predicted, _ = predict_tags(model, codes)
    result: dict[str, Any] = {"tag_accuracy": [], "tag_majority_rate": [], "tag_items": []}
    for level in range(min(true_tags.shape[1], codes.shape[1])):
        truth = true_tags[:, level]
        tested = is_held_out & (truth >= 0)
        trained = truth[~is_held_out & (truth >= 0)]
        result["tag_items"].append(int(tested.sum()))
        if not model.predicts_tags or not tested.any() or not len(trained):
            result["tag_accuracy"].append(None)
            result["tag_majority_rate"].append(None)
            continue
        majority = np.bincount(trained).argmax()
        result["tag_accuracy"].append(float((predicted[tested, level] == truth[tested]).mean()))
        result["tag_majority_rate"].append(float((truth[tested] == majority).mean()))
    return result


def _blocks(array: np.ndarray) -> list[np.ndarray]:
    starts = range(0, len(array), ITEMS_PER_BLOCK)
    return [array[start : start + ITEMS_PER_BLOCK] for start in starts]
