"""The text part of item vectors, shard by shard, with the text encoder of a run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from hidvae.apps.batch.shards import read_shard
from hidvae.apps.batch.workers import Counts, Work, Workers, open_shards, run_job
from hidvae.config import EmbeddingConfig
from hidvae.data.catalogue import Catalogue
from hidvae.data.notes import Notes
from hidvae.data.schema import Columns, check_items
from hidvae.errors import ConfigError, DataError
from hidvae.features.item_text import item_texts
from hidvae.features.new_items import VECTOR, encoders_of
from hidvae.features.sentence_model import model_key
from hidvae.features.text_encoder import load_text_encoder
from hidvae.features.text_vectors import text_vectors
from hidvae.features.unit_rows import unit_rows
from hidvae.run.run import Run
from hidvae.semantic_ids.table import list_column


def embed_shards(
    run: Path | str,
    input: Path | str,
    output: Path | str,
    workers: Workers | None = None,
) -> Counter[str]:
    """Give every item of the shards the text part of its vector.

    A vector depends on the other texts of its shard by no more than rounding (1e-6), as a text
    encoder pads the texts of a batch to one length; with the encoder "hashing" not at all.

    Args:
        run: Run whose text encoder and text columns are used.
        input: Parquet shards of items: ``item_id`` and the run's text columns.
        output: Shards of the same names: ``item_id`` and ``vector``, a list of float32 of
            length 1, or all zeros where an item has no text.
        workers: Who does it; this process by default.

    Returns: Counts over all shards: ``rows``, ``items_without_text``.

    Raises:
        ConfigError: If the run has no text part, or comes from the Hub with an encoder that is not
            to be loaded.
        DataError: If a shard breaks the data format.
        HidvaeError: As ``run_job``; or if the run is damaged or not made yet.
    """
    opened, input, output = Run(run), Path(input), Path(output)
    embeddings = opened.folder("embeddings")
    config = encoders_of(embeddings, opened.is_from_hub)
    if "text" not in embeddings.facts["parts"]:
        raise ConfigError(
            f"{run}: expected a run whose vectors have a text part; found the parts "
            f"{', '.join(embeddings.facts['parts'])}; there is no text encoder to embed with"
        )
    job = EmbedJob(config, model_key(config.text_encoder, config.text_backend))
    shards = open_shards(input, output, job.columns)
    return run_job(job, input, output, shards, workers or Workers())


@dataclass(frozen=True)
class EmbedJob:
    """See ``workers.Job``."""

    config: EmbeddingConfig
    encoder_key: str
    """From ``model_key``: stands for the files of the text encoder."""
    name = "embed"
    columns = {Columns.ITEM: "id"}

    @property
    def made_with(self) -> Mapping[str, Any]:
        """The encoder, and the settings that change a text's vector."""
        return {"encoder": self.encoder_key, "text_columns": [*self.config.text_columns]}

    def load(self) -> Work:
        """The encoder, and how it embeds a shard."""
        config = self.config
        encoder = load_text_encoder(config.text_encoder, config.text_backend)

        def embed(path: Path) -> tuple[pl.DataFrame, Counts]:
            item_ids, texts = _read_texts(path, config)
            # No cache: what it holds was encoded in other batches, and every shard would add to it.
            vectors = text_vectors(texts, config, encoder)
            vectors = unit_rows(vectors, out=vectors)
            frame = pl.DataFrame({Columns.ITEM: item_ids, VECTOR: list_column(vectors)})
            return frame, {"items_without_text": texts.count("")}

        return embed


def _read_texts(path: Path, config: EmbeddingConfig) -> tuple[pl.Series, list[str]]:
    """Item ids and texts of a shard, cleaned and spoken as those of the run's catalogue."""
    raw = read_shard(path)
    frame = check_items(raw.drop(Columns.CATEGORIES, strict=False), str(path), Notes(strict=True))
    try:  # a whole catalogue of one text is refused; a shard may hold no other, or none
        texts = item_texts(Catalogue(frame), config.text_columns, allow_none=True, allow_equal=True)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    return frame[Columns.ITEM], texts
