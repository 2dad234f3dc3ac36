"""Stage tag: one tag per level for every item, and a text vector for every tag."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path
from typing import Any

import numpy as np

from hidvae.artifacts import StageFolder, read_stage, write_stage
from hidvae.config import EmbeddingConfig, TagConfig
from hidvae.data.prepare import load_dataset
from hidvae.errors import ConfigError
from hidvae.features.tags.from_categories import tags_from_categories
from hidvae.features.tags.vocabulary import ItemTags, TagVocabulary, save_tags
from hidvae.features.text_cache import encode_texts

logger = logging.getLogger(__name__)


def tag(
    config: TagConfig, embedding: EmbeddingConfig, dataset: StageFolder, output: Path
) -> StageFolder:
    """Write the stage folder ``tags``.

    ``tags.parquet`` (item_id, tag_ids), ``vocabulary.parquet`` (level, tag_id, tag, path,
    parent_id, count) and ``tag_embeddings.safetensors`` (``level_0`` (C_0, D_tag), …). The facts
    are ``num_levels``, ``sizes``, ``embedding_dim`` and ``text_encoder``; the metrics, per level,
    are those of ``tag_metrics``. With source "none" every tag is -1 and every level empty.

    Raises:
        ConfigError: If there are tags to encode and no text encoder.
        DataError: If category paths are missing that the configuration asks for.
    """
    inputs = tag_inputs(dataset)
    settings = tag_settings(config, embedding)
    with write_stage(output, stage="tag", config=settings, inputs=inputs) as stage:
        catalogue = load_dataset(dataset).catalogue
        if config.source == "none":
            ids = np.full((catalogue.num_items, config.num_levels), -1, np.int64)
            vocabulary = TagVocabulary.empty(config.num_levels)
        else:
            ids, vocabulary = tags_from_categories(
                catalogue,
                num_levels=config.num_levels,
                min_count=config.min_count,
                allow_missing=config.missing_categories == "unknown",
            )
        embeddings = _encode_paths(vocabulary, embedding)
        save_tags(ItemTags(ids, vocabulary, embeddings), catalogue.item_ids, stage.path)
        stage.facts["num_levels"] = vocabulary.num_levels
        stage.facts["sizes"] = vocabulary.sizes
        stage.facts["embedding_dim"] = int(embeddings[0].shape[1])
        stage.facts["text_encoder"] = settings["text_encoder"]
        stage.metrics["levels"] = tag_metrics(ids, vocabulary)
        if config.source != "none":
            _warn_about(stage.metrics["levels"])
    return read_stage(output, produced_by="hidvae tag", expect=inputs)


def tag_inputs(dataset: StageFolder) -> dict[str, str]:
    """Fingerprints of what the stage reads."""
    return {"dataset": dataset.fingerprint}


def tag_settings(config: TagConfig, embedding: EmbeddingConfig) -> dict[str, Any]:
    """The settings that the stage's result depends on; kept in its manifest."""
    encoder = "none" if config.source == "none" else embedding.text_encoder
    return {**dataclasses.asdict(config), "text_encoder": encoder}


def tag_metrics(ids: np.ndarray, vocabulary: TagVocabulary) -> list[dict[str, float]]:
    """How informative the tags of each level are.

    Args:
        ids: (N, L), -1 unknown.
        vocabulary: L levels.

    Returns:
        Per level: ``coverage``, the share of items with a tag; ``classes``; ``singletons``, classes
        of one item; ``majority_share``, the share of the largest class among items with a tag (the
        accuracy of always guessing it), 0 where there is none.
    """
    metrics = []
    for level, counts in enumerate(vocabulary.counts):
        num_tagged = int((ids[:, level] >= 0).sum())
        metrics.append(
            {
                "coverage": num_tagged / max(len(ids), 1),
                "classes": len(counts),
                "singletons": int((counts == 1).sum()),
                "majority_share": float(counts.max(initial=0)) / max(num_tagged, 1),
            }
        )
    return metrics


def _encode_paths(vocabulary: TagVocabulary, embedding: EmbeddingConfig) -> list[np.ndarray]:
    """Text vectors of every level's paths, (C_l, D_tag) each; D_tag is 0 without any tag."""
    texts = [path for paths in vocabulary.paths for path in paths]
    if not texts:
        return [np.zeros((0, 0), np.float32) for _ in vocabulary.paths]
    if embedding.text_encoder == "none":
        raise ConfigError(
            "EmbeddingConfig.text_encoder: expected an encoder for the texts of the tags; found "
            "'none'; set EmbeddingConfig.text_encoder=hashing (or a model), or "
            "TagConfig.source=none"
        )
    vectors = encode_texts(
        texts,
        text_encoder=embedding.text_encoder,
        batch_size=embedding.batch_size,
        use_cache=embedding.use_cache,
    )
    return np.split(vectors, np.cumsum(vocabulary.sizes)[:-1])


def _warn_about(levels: list[dict[str, float]]) -> None:
    for level, found in enumerate(levels):
        described = (
            f"tag level {level}: {found['classes']} classes ({found['singletons']} of one item), "
            f"coverage {found['coverage']:.1%}, largest class {found['majority_share']:.1%}"
        )
        if found["classes"] < 2:
            logger.warning("%s; it tells no items apart", described)
        elif found["coverage"] < 0.5 or found["singletons"] > found["classes"] / 2:
            logger.warning("%s; consider fewer levels or TagConfig.min_count", described)
        else:
            logger.info("%s", described)
