"""Stage embed: a vector for every item from its text, its transitions and its categories."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from hidvae.artifacts import StageFolder, fingerprint_file, read_stage, write_stage
from hidvae.config import EmbeddingConfig
from hidvae.data.catalogue import Catalogue
from hidvae.data.prepare import Dataset, load_dataset
from hidvae.errors import ConfigError
from hidvae.features.categorical import multi_hot
from hidvae.features.collaborative import collaborative_embedding
from hidvae.features.embeddings import EMBEDDINGS_FILE, EMBEDDINGS_TENSOR
from hidvae.features.item_text import item_texts
from hidvae.features.matrix_file import read_matrix_file
from hidvae.features.text_cache import encode_texts

logger = logging.getLogger(__name__)


def embed(config: EmbeddingConfig, dataset: StageFolder, output: Path) -> StageFolder:
    """Write the stage folder ``embeddings``.

    ``embeddings.safetensors`` holds ``item_embeddings`` (N, D) float32: the text part (or the
    user's own matrix, part "file") with unit rows, the collaborative part with rows of length
    ``collaborative_weight`` (zeros for items without training events), and the 0/1 features. The
    facts are ``dim``, ``parts``, ``num_categorical``, ``categorical_values``, ``text_encoder``.

    Raises:
        ConfigError: If nothing is left to embed, or a setting names what does not exist.
        DataError: If texts or the user's matrix break their contract.
        MissingExtraError: If the text encoder's package is not installed.
    """
    inputs = embed_inputs(config, dataset)
    settings = embed_settings(config)
    with write_stage(output, stage="embed", config=settings, inputs=inputs) as stage:
        parts, values = _parts(config, load_dataset(dataset))
        matrix = np.concatenate(list(parts.values()), axis=1)
        save_file({EMBEDDINGS_TENSOR: np.ascontiguousarray(matrix)}, stage.path / EMBEDDINGS_FILE)
        stage.facts.update(_facts(config, parts, values))
        stage.metrics["items_without_transitions"] = _num_zero_rows(parts.get("collaborative"))
        logger.info("embedded %d items in %d dimensions", *matrix.shape)
    return read_stage(output, produced_by="hidvae embed", expect=inputs)


def embed_inputs(config: EmbeddingConfig, dataset: StageFolder) -> dict[str, str]:
    """Fingerprints of what the stage reads: the dataset, and the user's own matrix if any."""
    inputs = {"dataset": dataset.fingerprint}
    if config.embeddings_file:
        inputs["embeddings_file"] = fingerprint_file(Path(config.embeddings_file))
    return inputs


def embed_settings(config: EmbeddingConfig) -> dict[str, Any]:
    """The settings that the stage's result depends on; kept in its manifest."""
    return dataclasses.asdict(config)


def _parts(config: EmbeddingConfig, dataset: Dataset) -> tuple[dict[str, np.ndarray], list[str]]:
    """The parts in the order of their columns, each (N, width), and the 0/1 features' names."""
    catalogue = dataset.catalogue
    parts: dict[str, np.ndarray] = {}
    if config.embeddings_file:
        matrix = read_matrix_file(Path(config.embeddings_file), catalogue.item_ids)
        parts["file"] = _unit_rows(matrix)
    elif config.text_encoder != "none":
        parts["text"] = _unit_rows(_text_vectors(config, catalogue))
    if config.collaborative_dim > 0 and config.collaborative_weight > 0:
        parts["collaborative"] = config.collaborative_weight * collaborative_embedding(
            dataset.split.train,
            num_items=catalogue.num_items,
            dim=config.collaborative_dim,
            window=config.collaborative_window,
        )
    values: list[str] = []
    if config.categorical_columns:
        parts["categorical"], values = multi_hot(catalogue, config.categorical_columns)
    if not parts:
        raise ConfigError(
            "EmbeddingConfig: expected at least one part; found text_encoder 'none', no "
            "embeddings_file, collaborative_dim or weight 0 and no categorical_columns; turn one on"
        )
    return {name: part.astype(np.float32) for name, part in parts.items()}, values


def _text_vectors(config: EmbeddingConfig, catalogue: Catalogue) -> np.ndarray:
    return encode_texts(
        item_texts(catalogue, config.text_columns),
        text_encoder=config.text_encoder,
        batch_size=config.batch_size,
        use_cache=config.use_cache,
    )


def _facts(
    config: EmbeddingConfig, parts: dict[str, np.ndarray], values: list[str]
) -> dict[str, Any]:
    ends = np.cumsum([part.shape[1] for part in parts.values()]).tolist()
    starts = [0, *ends[:-1]]
    return {
        "dim": ends[-1],
        "parts": {name: [starts[i], ends[i]] for i, name in enumerate(parts)},
        "num_categorical": len(values),
        "categorical_values": values,
        "text_encoder": config.text_encoder if "text" in parts else "none",
    }


def _unit_rows(matrix: np.ndarray) -> np.ndarray:
    """L2-normalise rows; rows of zeros stay."""
    norms = np.linalg.norm(matrix, axis=1, keepdims=True)
    unit = np.zeros_like(matrix)
    np.divide(matrix, norms, out=unit, where=norms > 0)
    return unit


def _num_zero_rows(part: np.ndarray | None) -> int | None:
    return None if part is None else int((~part.any(axis=1)).sum())
