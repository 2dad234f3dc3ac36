"""What the ways of tagging read of the items: texts, words, vectors; each made when asked for."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from hidvae.config import EmbeddingConfig
from hidvae.data.catalogue import Catalogue
from hidvae.errors import ConfigError
from hidvae.features.embeddings import ItemEmbeddings
from hidvae.features.item_text import item_texts
from hidvae.features.sentence_model import check_trusted, model_of
from hidvae.features.tags.cluster_words import words_to_name_by
from hidvae.features.text_encoder import AUTO, chosen_encoder
from hidvae.features.text_vectors import text_vectors

if TYPE_CHECKING:
    from hidvae.run.run import Run


@dataclass(frozen=True, eq=False)
class ItemsToTag:
    """The items of a dataset with their embeddings, row = item_index."""

    catalogue: Catalogue
    embeddings: ItemEmbeddings
    embedded_by: str
    """Encoder of the embeddings' text part, "none" if they have none."""
    config: EmbeddingConfig

    @classmethod
    def of(cls, run: Run, config: EmbeddingConfig) -> ItemsToTag:
        """What the stages dataset and embeddings of a run hold."""
        encoder = run.folder("embeddings").facts["text_encoder"]
        if run.is_from_hub:
            check_trusted(config)
        if encoder != "none" and config.text_encoder in (AUTO, encoder, model_of(encoder)):
            name = encoder  # the same commit, wherever the model has moved on the Hub
        else:
            name = chosen_encoder(config.text_encoder)[0]
        config = replace(config, text_encoder=name)
        return cls(run.dataset.catalogue, run.embeddings, encoder, config)

    @property
    def num_items(self) -> int:
        """N."""
        return self.catalogue.num_items

    @cached_property
    def texts(self) -> list[str]:
        """(N,) what is embedded of each item; the category path is not in it."""
        return item_texts(self.catalogue, self.config.text_columns)

    @cached_property
    def words(self) -> pl.Series | None:
        """(N,) what clusters are named by, None without any text."""
        return words_to_name_by(self.catalogue, self.config.text_columns)

    @property
    def real_parts(self) -> np.ndarray:
        """(N, D') the embeddings without their 0/1 features.

        Raises:
            ConfigError: If there are only 0/1 features.
        """
        width = self.embeddings.dim - self.embeddings.num_categorical
        if width == 0:
            raise ConfigError(
                "EmbeddingConfig: expected a part with real numbers to compare items by; found "
                "categorical_columns only; turn on text_encoder, cooccurrence_dim or "
                "embeddings_file, and run `hidvae embed` again"
            )
        return self.embeddings.matrix[:, :width]

    @property
    def similarity_vectors(self) -> np.ndarray:
        """(N, D') what neighbours and clusters are found by: the content, else all real parts.

        On Beauty clusters of the content agree with the categories much better than clusters of all
        real parts, see docs/tags.md.
        """
        content = self.embeddings.content
        return content if content.shape[1] else self.real_parts

    @cached_property
    def text_vectors(self) -> np.ndarray:
        """(N, D_text) vectors of ``texts`` by ``EmbeddingConfig.text_encoder``, of any length."""
        part = self.embeddings.part("text")
        if self.embedded_by == self.config.text_encoder and part.any():
            return part
        return text_vectors(self.texts, self.config)
