"""What the stages embed and tag make of an item, for items that come after training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy import sparse

from hidvae.config import EmbeddingConfig, build_section
from hidvae.data.catalogue import Catalogue
from hidvae.data.schema import Columns
from hidvae.errors import DataError
from hidvae.features.embeddings import ItemEmbeddings
from hidvae.features.image_encoder import ImageEncoder, embed_images, image_values
from hidvae.features.item_text import has_text, item_texts
from hidvae.features.sentence_model import check_trusted
from hidvae.features.tags.vocabulary import PATH_SEPARATOR, TagVocabulary
from hidvae.features.text_encoder import TextEncoder, load_text_encoder
from hidvae.features.text_vectors import text_vectors
from hidvae.features.tfidf import TfidfVocabulary
from hidvae.features.unit_rows import unit_rows
from hidvae.store.artifacts import StageFolder

VECTOR = "vector"
"""Column of a row that brings its own content vector, where the run's come from a file."""


class ItemFeatures(NamedTuple):
    """What is known of n items before they have an ID."""

    vectors: np.ndarray
    """(n, D) float32, the parts of ``hidvae embed``; that of transitions is zeros."""
    tfidf: sparse.csr_array
    """(n, V)."""
    tag_ids: np.ndarray
    """(n, L) by category path, -1 where it is none of the run's tags."""


def encoders_of(folder: StageFolder, is_from_hub: bool) -> EmbeddingConfig:
    """The settings of a run's stage ``embeddings``, with the encoders that it loaded.

    Args:
        folder: Of the stage.
        is_from_hub: Whether somebody else may have made it, who then names them.

    Raises:
        ConfigError: If one of them is not to be loaded; see ``check_trusted``.
    """
    used = {name: folder.facts[name] for name in ("text_encoder", "image_encoder")}
    config = replace(build_section(EmbeddingConfig, folder.config), **used)
    if is_from_hub:
        check_trusted(config)
    return config


class NewItemEncoder:
    """Embeds and tags items as a run did its own; the encoder is loaded on first use."""

    def __init__(
        self,
        catalogue: Catalogue,
        folder: StageFolder,
        embeddings: ItemEmbeddings,
        vocabulary: TagVocabulary,
        images: Path | None,
        *,
        is_from_hub: bool = False,
    ) -> None:
        """Keep what the run was made from.

        Args:
            catalogue: Of the run; its texts hold the terms that count.
            folder: The stage folder ``embeddings``.
            embeddings: Its contents.
            vocabulary: The run's tags.
            images: Where relative paths of images start.
            is_from_hub: Whether somebody else may have made it.

        Raises:
            ConfigError: If an encoder of a run from the Hub is not to be loaded.
        """
        self._catalogue = catalogue
        self._config = encoders_of(folder, is_from_hub)
        self._categorical_values: Sequence[str] = folder.facts.get("categorical_values", ())
        self._dim, self._parts = embeddings.dim, embeddings.parts
        self._num_terms = embeddings.tfidf.shape[1]
        self._tag_of_path = [
            {path: tag for tag, path in enumerate(paths)} for paths in vocabulary.paths
        ]
        self._images = images

    def encode(self, items: Catalogue) -> ItemFeatures:
        """Vectors, TF-IDF vectors and tags of n items.

        An item without an image, or whose image cannot be had, has an image part of zeros.

        Args:
            items: With the run's columns; ``vector`` too if its vectors came from a file.

        Raises:
            DataError: If no item has a text, or one has no vector or no list of labels as path.
            MissingExtraError: If an encoder's package is not installed.
        """
        vectors = np.zeros((items.num_items, self._dim), np.float32)
        for name, (start, end) in self._parts.items():
            if name != "cooccurrence":
                vectors[:, start:end] = self._part(name, items, end - start)
        tfidf = sparse.csr_array((items.num_items, self._num_terms), dtype=np.float32)
        if self._num_terms:
            tfidf = self._vocabulary.vectors(self._texts(items, allow_none=True))
        tag_ids = [self._tags_of(path) for path in items.frame[Columns.CATEGORIES].to_list()]
        shape = (items.num_items, len(self._tag_of_path))
        return ItemFeatures(vectors, tfidf, np.array(tag_ids, dtype=np.int64).reshape(shape))

    def _part(self, name: str, items: Catalogue, width: int) -> np.ndarray:
        if name == "text":
            return text_vectors(self._texts(items, allow_none=False), self._config, self._encoder)
        if name == "file":
            return unit_rows(_own_vectors(items, width))
        if name == "image":
            values = image_values(items)
            if not any(values):
                return np.zeros((items.num_items, width), np.float32)
            found = embed_images(values, self._config, self._images, self._image_encoder)
            return unit_rows(found.vectors)
        return self._categorical(items)

    def _texts(self, items: Catalogue, *, allow_none: bool) -> list[str]:
        columns = self._config.text_columns
        if allow_none and not has_text(items, columns):
            return [""] * items.num_items
        return item_texts(items, columns, allow_none=allow_none, allow_equal=True)

    @cached_property
    def _encoder(self) -> TextEncoder:
        return _kept_encoder(self._config.text_encoder, self._config.text_backend)

    @cached_property
    def _image_encoder(self) -> ImageEncoder:
        return _kept_image_encoder(self._config.image_encoder)

    @cached_property
    def _vocabulary(self) -> TfidfVocabulary:
        return TfidfVocabulary.learn(self._texts(self._catalogue, allow_none=True))

    def _categorical(self, items: Catalogue) -> np.ndarray:
        place = {value: column for column, value in enumerate(self._categorical_values)}
        block = np.zeros((items.num_items, len(place)), np.float32)
        for column in self._config.categorical_columns:
            for row, cell in enumerate(items.frame[column].to_list()):
                values = cell if isinstance(cell, list) else [cell]
                found = [place.get(f"{column}={value}") for value in values]
                block[row, [feature for feature in found if feature is not None]] = 1.0
        return block

    def _tags_of(self, categories: list[str] | None) -> list[int]:
        """Tags of a category path, from the first label on which the run's paths differ."""
        labels = [label.strip() for label in categories or ()]
        for start in range(len(labels)):
            joined = {
                PATH_SEPARATOR.join(labels[start:end]) for end in range(start + 1, len(labels) + 1)
            }
            tags = [
                next((tags[path] for path in joined if path in tags), -1)
                for tags in self._tag_of_path
            ]
            if tags and tags[0] >= 0:
                return tags
        return [-1] * len(self._tag_of_path)


@lru_cache(maxsize=1)
def _kept_encoder(name: str, backend: str) -> TextEncoder:
    """The encoder, which takes seconds to load: a server that loads a run anew has it still."""
    return load_text_encoder(name, backend)


@lru_cache(maxsize=1)
def _kept_image_encoder(name: str) -> ImageEncoder:
    return ImageEncoder(name)


def _own_vectors(items: Catalogue, width: int) -> np.ndarray:
    if VECTOR not in items.frame.columns:
        raise DataError(
            f"items: expected a column {VECTOR} of {width} numbers, as the run's content vectors "
            f"come from a file; found {', '.join(items.frame.columns)}"
        )
    rows = []
    for item_id, vector in zip(items.item_ids, items.frame[VECTOR].to_list(), strict=True):
        row = np.asarray(vector if vector is not None else [], dtype=np.float32)
        if row.shape != (width,) or not np.isfinite(row).all():
            raise DataError(
                f"items, item_id {item_id!r}, column {VECTOR}: expected {width} finite numbers; "
                f"found {row.size} values"
            )
        rows.append(row)
    return np.stack(rows) if rows else np.zeros((0, width), np.float32)
