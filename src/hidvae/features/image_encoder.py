"""Images to unit vectors, by a CLIP-like sentence-transformers model."""

from __future__ import annotations

import importlib.util
import io
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from hidvae.config import EmbeddingConfig
from hidvae.data.catalogue import Catalogue
from hidvae.data.schema import Columns
from hidvae.errors import ConfigError, DataError, MissingExtraError
from hidvae.features.cached_encoding import content_key, encode_cached, vectors_file
from hidvae.features.image_files import DOWNLOADS_FILE, FoundImage, find_images
from hidvae.features.sentence_model import encode_batch, load_sentence_transformer, model_key
from hidvae.store.blobs import BlobStore
from hidvae.store.cache import cache_folder

IMAGES_PER_BATCH = 64
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ImageVectors:
    """What became of the items' images."""

    vectors: np.ndarray
    """(N, dim) float32, unit rows; zeros for items without an image or whose image failed."""
    num_without: int
    """Items that name no image."""
    num_failed: int
    """Items whose image could not be had or read."""
    example: str = ""
    """One of the images that failed, and why."""


def image_values(catalogue: Catalogue) -> list[str]:
    """Path or URL of each item's image, "" where it has none; (N,).

    Raises:
        ConfigError: If the column is not there or does not hold text.
    """
    frame = catalogue.frame
    dtype = frame.schema.get(Columns.IMAGE)
    if dtype == pl.Null:  # a few new items, none with an image
        return [""] * frame.height
    if dtype != pl.String:
        found = ", ".join(frame.columns) if dtype is None else f"values of type {dtype}"
        raise ConfigError(
            f"EmbeddingConfig.image_encoder: expected items with paths or URLs in column "
            f"{Columns.IMAGE}; found {found}; name yours in DatasetConfig.column_names "
            f'("{Columns.IMAGE}=your name"), or set EmbeddingConfig.image_encoder=none'
        )
    return frame[Columns.IMAGE].fill_null("").str.strip_chars().to_list()


def embed_images(
    values: Sequence[str],
    config: EmbeddingConfig,
    folder: Path | None,
    encoder: ImageEncoder | None = None,
) -> ImageVectors:
    """Find (or fetch) the images of N items and encode them, each distinct one once.

    Args:
        values: Path or URL per item; "" is no image.
        config: Names the encoder.
        folder: The dataset's folder, which paths start from and do not leave.
        encoder: The same, loaded already; no vector is cached then.

    Raises:
        ConfigError: If the model cannot be loaded or does not take images.
        MissingExtraError: If sentence-transformers or Pillow is not installed.
    """
    named = [row for row, value in enumerate(values) if value]
    if not named:  # the encoder need not be loaded
        return ImageVectors(np.zeros((len(values), 0), np.float32), len(values), 0)
    with BlobStore(cache_folder() / DOWNLOADS_FILE) as downloads:
        found = find_images([values[row] for row in named], folder, downloads)
        problems = {value: image.problem for value, image in found.items() if image.read is None}
        rows = [row for row in named if values[row] not in problems]
        encoded = encode_images([found[values[row]] for row in rows], config, encoder)
    is_image = np.asarray(encoded.any(axis=1))
    problems |= {values[rows[i]]: "not an image" for i in np.flatnonzero(~is_image)}
    num_failed = len(named) - int(is_image.sum())
    example = ""
    if problems:
        value, problem = next(iter(problems.items()))
        example = f"{value} ({problem})"
        logger.warning(
            "%d of %d images failed, such as %s; their items get zeros",
            *(num_failed, len(named), example),
        )
    vectors = np.zeros((len(values), encoded.shape[1]), np.float32)
    vectors[rows] = encoded
    return ImageVectors(vectors, len(values) - len(named), num_failed, example)


def check_images(found: ImageVectors, config: EmbeddingConfig) -> None:
    """Refuse the images of a whole catalogue if they are none or mostly failed.

    Raises:
        DataError: If no item names an image, or more than half of the named ones failed.
    """
    num_named = len(found.vectors) - found.num_without
    if not num_named:
        raise DataError(
            "items: expected images, because EmbeddingConfig.image_encoder is "
            f"{config.image_encoder!r}; found none; fill the column {Columns.IMAGE}, or set "
            "EmbeddingConfig.image_encoder=none"
        )
    if found.num_failed > num_named / 2:
        raise DataError(
            f"items: expected images; found that {found.num_failed} of {num_named} failed, such as "
            f"{found.example}; check the column {Columns.IMAGE} and DatasetConfig.folder, or set "
            "EmbeddingConfig.image_encoder=none"
        )


def encode_images(
    images: Sequence[FoundImage], config: EmbeddingConfig, encoder: ImageEncoder | None = None
) -> np.ndarray:
    """Encode images, known in the cache by their contents.

    Returns: (n, dim) float32, unit rows; zeros for what is no image.
    """
    name, file = config.image_encoder, None
    if encoder is None:
        file = vectors_file(model_key(name, "image"))
    key_of = {image.value: content_key(image.content()) for image in images}
    return encode_cached(
        images,
        [key_of[image.value] for image in images],
        load=lambda: encoder or ImageEncoder(name),
        file=file,
    )


class ImageEncoder:
    """The image side of a CLIP-like model."""

    def __init__(self, name: str, batch_size: int = IMAGES_PER_BATCH):
        if importlib.util.find_spec("PIL") is None:
            raise MissingExtraError(
                f"EmbeddingConfig.image_encoder = {name!r} needs Pillow, which is not installed; "
                'run pip install "hidvae[images]", or set EmbeddingConfig.image_encoder=none'
            )
        from PIL import Image

        self.name = name
        self.batch_size = batch_size
        self._model = load_sentence_transformer(name, "image_encoder")
        try:  # also tells the width, which some CLIP models do not know before they have run
            self.dim = encode_batch(self._model, [Image.new("RGB", (32, 32))]).shape[1]
        except (ValueError, TypeError, KeyError, AttributeError, RuntimeError) as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise ConfigError(
                f"EmbeddingConfig.image_encoder: expected a model that takes images, such as "
                f"clip-ViT-B-32; {name!r} does not ({reason[:200]})"
            ) from error

    def batches(self, images: Sequence[FoundImage]) -> list[list[int]]:
        """In the order they come, ``batch_size`` a batch."""
        starts = range(0, len(images), self.batch_size)
        return [list(range(start, min(start + self.batch_size, len(images)))) for start in starts]

    def encode(self, images: Sequence[FoundImage]) -> np.ndarray:
        """One batch: (n, dim) float32, unit rows; zeros for what is no image."""
        pictures = [_open(image.content()) for image in images]
        is_image = [picture is not None for picture in pictures]
        vectors = np.zeros((len(images), self.dim), np.float32)
        if any(is_image):
            whole = [picture for picture in pictures if picture is not None]
            vectors[is_image] = encode_batch(self._model, whole)
        return vectors


def _open(content: bytes) -> Any | None:
    """The picture in RGB; None if it is no image, is cut off, or is a decompression bomb."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(content)) as image:
            return image.convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return None
