"""Images to unit vectors, by a CLIP-like sentence-transformers model."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from hidvae.data.catalogue import Catalogue
from hidvae.errors import ConfigError, DataError, MissingExtraError
from hidvae.features.cached_encoding import as_keys, encode_cached
from hidvae.features.image_files import find_images
from hidvae.features.sentence_model import encode_batch, load_sentence_transformer, model_key
from hidvae.store.artifacts import fingerprint_file
from hidvae.store.cache import cache_folder

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


def image_values(catalogue: Catalogue, column: str) -> list[str]:
    """Path or URL of each item's image, "" where it has none; (N,).

    Raises:
        ConfigError: If the column is not there or does not hold text.
    """
    frame = catalogue.frame
    dtype = frame.schema.get(column)
    if dtype != pl.String:
        found = ", ".join(frame.columns) if dtype is None else f"values of type {dtype}"
        raise ConfigError(
            f"EmbeddingConfig.image_column: expected {column!r} to be a column of paths or URLs; "
            f"found {found}; set EmbeddingConfig.image_column, or image_encoder=none"
        )
    return frame[column].fill_null("").str.strip_chars().to_list()


def embed_images(
    values: Sequence[str],
    *,
    folder: Path | None,
    image_encoder: str,
    batch_size: int,
    use_cache: bool = True,
) -> ImageVectors:
    """Find (or fetch) the images of N items and encode them, each distinct one once.

    Args:
        values: Path or URL per item; "" is no image.
        folder: The dataset's folder, which relative paths start from.
        image_encoder: A CLIP-like sentence-transformers model, by name or folder.
        batch_size: Images per forward pass.
        use_cache: False neither reads nor writes the cache of vectors.

    Raises:
        ConfigError: If the model cannot be loaded or does not take images.
        DataError: If no item names an image, or more than half of the named ones failed.
        MissingExtraError: If sentence-transformers or Pillow is not installed.
    """
    named = [row for row, value in enumerate(values) if value]
    if not named:
        raise DataError(
            "items: expected some with an image, as EmbeddingConfig.image_encoder is "
            f"{image_encoder!r}; found none; set EmbeddingConfig.image_column, or "
            "image_encoder=none"
        )
    found = find_images([values[row] for row in named], folder)
    problems = {value: image.problem for value, image in found.items() if image.file is None}
    rows, files = [], []
    for row in named:
        file = found[values[row]].file
        if file is not None:
            rows.append(row)
            files.append(file)
    if not files:
        raise _too_many_failed(problems, len(named), len(named))
    encoded = encode_images(
        files, image_encoder=image_encoder, batch_size=batch_size, use_cache=use_cache
    )
    is_image = np.asarray(encoded.any(axis=1))
    problems |= {values[rows[i]]: "not an image" for i in np.flatnonzero(~is_image)}
    num_failed = len(named) - int(is_image.sum())
    if num_failed > len(named) / 2:
        raise _too_many_failed(problems, num_failed, len(named))
    if num_failed:
        value, problem = next(iter(problems.items()))
        logger.warning(
            "%d of %d images failed, such as %s (%s); their items get zeros",
            *(num_failed, len(named), value, problem),
        )
    vectors = np.zeros((len(values), encoded.shape[1]), np.float32)
    vectors[rows] = encoded
    return ImageVectors(vectors, len(values) - len(named), num_failed)


def encode_images(
    files: Sequence[Path], *, image_encoder: str, batch_size: int, use_cache: bool = True
) -> np.ndarray:
    """Encode image files, known in the cache by their contents.

    Returns: (n, dim) float32, unit rows; zeros for files that are no image.
    """
    model_folder = cache_folder() / "embeddings" / model_key(image_encoder, "image")
    digest_of = {file: bytes.fromhex(fingerprint_file(file)) for file in set(files)}
    return encode_cached(
        files,
        as_keys(digest_of[file] for file in files),
        load=lambda: ImageEncoder(image_encoder, batch_size),
        folder=model_folder if use_cache else None,
    )


class ImageEncoder:
    """The image side of a CLIP-like model."""

    def __init__(self, name: str, batch_size: int = 64):
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

    def batches(self, files: Sequence[Path]) -> list[list[int]]:
        """In the order they come, ``batch_size`` a batch."""
        starts = range(0, len(files), self.batch_size)
        return [list(range(start, min(start + self.batch_size, len(files)))) for start in starts]

    def encode(self, files: Sequence[Path]) -> np.ndarray:
        """One batch: (n, dim) float32, unit rows; zeros for files that are no image."""
        images = [_open(file) for file in files]
        is_image = [image is not None for image in images]
        vectors = np.zeros((len(files), self.dim), np.float32)
        if any(is_image):
            pictures = [image for image in images if image is not None]
            vectors[is_image] = encode_batch(self._model, pictures)
        return vectors


def _open(file: Path) -> Any | None:
    """The picture in RGB; None if the file is no image, is cut off, or is a decompression bomb."""
    from PIL import Image

    try:
        with Image.open(file) as image:
            return image.convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return None


def _too_many_failed(problems: dict[str, str], num_failed: int, num_named: int) -> DataError:
    value, problem = next(iter(problems.items()))
    return DataError(
        f"items: expected images; found that {num_failed} of {num_named} failed, such as {value!r} "
        f"({problem}); check EmbeddingConfig.image_column and DatasetConfig.folder, or set "
        "EmbeddingConfig.image_encoder=none"
    )
