"""A retriever from its settings and the artifacts of the earlier stages."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from hidvae.config import RetrieverConfig, build_section
from hidvae.data.interactions import Sequences
from hidvae.errors import ArtifactError, ConfigError
from hidvae.retriever.catalogue_tables import CatalogueTables
from hidvae.retriever.code_embeddings import CodeEmbedding
from hidvae.retriever.encoder_decoder import EncoderDecoder
from hidvae.retriever.interface import Retriever
from hidvae.retriever.item_decoder import ItemDecoder
from hidvae.retriever.item_softmax import ItemSoftmax
from hidvae.retriever.negatives import NegativeSampler
from hidvae.semantic_ids.table import SemanticIds
from hidvae.store.artifacts import StageFolder

WEIGHTS = "model.safetensors"


def build_retriever(
    config: RetrieverConfig,
    ids: SemanticIds,
    content: np.ndarray,
    warm_items: np.ndarray | None = None,
    transition_columns: tuple[int, int] = (0, 0),
    histories: Sequences | None = None,
) -> Retriever:
    """A fresh retriever.

    Args:
        config: Settings.
        ids: Semantic IDs of the catalogue.
        content: (N, D_in) item embeddings.
        warm_items: (N,) booleans, the items that occur in training; all by default. Only they are
            alternatives in the loss.
        transition_columns: Columns [start, end) of ``content`` that are made from transitions, and
            zeros for an item without any; for ``RetrieverConfig.new_item_dropout``.
        histories: Of training, for ``RetrieverConfig.num_negatives``; None where nothing is to be
            trained.

    Raises:
        ConfigError: If item_softmax is to be normalised otherwise.
    """
    if config.architecture == "item_softmax" and not config.prefix_normalized:
        raise ConfigError(
            "RetrieverConfig.prefix_normalized = False: item_softmax is normalised over the items "
            "that exist; set it to True, or choose item_decoder or encoder_decoder"
        )
    tables = CatalogueTables(ids, warm_items)
    code_embedding = CodeEmbedding(ids.level_sizes, config.dim)
    if config.architecture == "encoder_decoder":
        return EncoderDecoder(
            tables,
            code_embedding,
            num_layers=config.num_layers,
            num_heads=config.num_heads,
            dropout=config.dropout,
            max_history=config.max_history,
            num_user_buckets=config.num_user_buckets,
            prefix_normalized=config.prefix_normalized,
        )
    no_cooccurrence = None
    has_cooccurrence = config.content_input and transition_columns[0] < transition_columns[1]
    if config.new_item_dropout and has_cooccurrence:
        nothing = scaled_content(config, np.zeros_like(content[:1]), content)
        no_cooccurrence = nothing[0, slice(*transition_columns)]
    settings: dict[str, Any] = {
        "content": scaled_content(config, content, content) if config.content_input else None,
        "has_codes": config.code_input,
        "has_own_vectors": config.item_input,
        "new_item_dropout": config.new_item_dropout,
        "transition_columns": transition_columns,
        "no_cooccurrence": no_cooccurrence,
        "num_layers": config.num_layers,
        "num_heads": config.num_heads,
        "dropout": config.dropout,
        "max_history": config.max_history,
        "num_user_buckets": config.num_user_buckets,
        "prefix_normalized": config.prefix_normalized,
    }
    if config.architecture == "item_decoder":
        return ItemDecoder(tables, code_embedding, **settings)
    negatives = None
    if config.num_negatives and histories is not None:
        negatives = NegativeSampler(histories, tables.num_items, config.num_negatives)
    return ItemSoftmax(tables, code_embedding, negatives=negatives, **settings)


def load_retriever(
    folder: StageFolder,
    ids: SemanticIds,
    content: np.ndarray,
    warm_items: np.ndarray | None = None,
) -> Retriever:
    """The trained retriever of a stage folder, in evaluation mode on the CPU.

    Raises:
        ArtifactError: If the weights are damaged or are those of another model.
    """
    config = build_section(RetrieverConfig, folder.config)
    retriever = build_retriever(config, ids, content, warm_items)
    load_weights(retriever, folder, "hidvae train")
    return retriever.eval()


def load_weights(model: nn.Module, folder: StageFolder, command: str) -> None:
    """Put the weights of a trained stage folder into a fresh model.

    Args:
        model: Of the folder's settings.
        folder: Holds ``WEIGHTS``.
        command: What makes the folder again.

    Raises:
        ArtifactError: If the weights are damaged or are those of another model.
    """
    file = folder.path / WEIGHTS
    try:
        model.load_state_dict(load_file(file))
    except (SafetensorError, OSError, RuntimeError) as error:  # torch: names or shapes differ
        raise ArtifactError(
            f"{file}: cannot be read ({' '.join(str(error).split())[:200]}); delete {folder.path} "
            f"and run `{command}` again"
        ) from error


def scaled_content(
    config: RetrieverConfig, content: np.ndarray, trained_on: np.ndarray
) -> torch.Tensor:
    """Item embeddings (n, D_in) at the scale at which the retriever reads them.

    For item_softmax as they are, in rows of length 1 a part: at the scale of the code decoder's
    input, content would drown the codes and the items' own vectors, which are outputs there as
    well. Else centred, and of unit mean square per column on average.

    Args:
        config: Of the retriever.
        content: (n, D_in).
        trained_on: (N, D_in), item embeddings of the catalogue that it was trained with.
    """
    if config.architecture == "item_softmax":
        return torch.tensor(content)
    mean = trained_on.mean(axis=0)
    scale = max(float(np.sqrt(np.mean((trained_on - mean) ** 2))), 1e-8)
    return torch.from_numpy((content - mean) / scale)
