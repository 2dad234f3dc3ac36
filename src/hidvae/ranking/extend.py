"""The weights of a trained retriever over a catalogue that has changed since."""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import nn

from hidvae.retriever.catalogue_tables import CatalogueTables
from hidvae.retriever.interface import Retriever
from hidvae.retriever.item_transformer import ItemTransformer
from hidvae.semantic_ids.table import SemanticIds


def over_catalogue(
    retriever: Retriever,
    ids: SemanticIds,
    warm_items: np.ndarray,
    content: torch.Tensor,
    changed: np.ndarray,
) -> Retriever:
    """A retriever over M items that shares all weights with one over the first N of them.

    Items beyond N have no vector of their own: it is zeros, as for any cold item.

    Args:
        retriever: Over N items, in evaluation mode; stays as it is.
        ids: Of M items, of the same level sizes.
        warm_items: (M,), the items that occur in training.
        content: (n, D_in) of the changed items, from ``scaled_content``.
        changed: (n,) their item_index; those from N on must all be there.
    """
    device = retriever.tables.codes.device
    tables = CatalogueTables(ids, warm_items).to(device)
    other = _sharing(retriever)
    other.tables = tables
    if isinstance(retriever, ItemTransformer) and isinstance(other, ItemTransformer):
        rows = torch.from_numpy(changed).to(device)
        if retriever.content is not None:
            other.content = _resized(retriever.content, tables.num_items)
            other.content[rows] = content.to(device)
        if retriever.own_vectors is not None:
            own = _resized(retriever.own_vectors.weight.detach(), tables.num_items)
            other.own_vectors = nn.Embedding.from_pretrained(own)
    other.catalogue_changed()
    return other


def _sharing(module: Retriever) -> Retriever:
    """A module of the same parts, in which one can be replaced without the other noticing."""
    other = copy.copy(module)
    for name in ("_parameters", "_buffers", "_modules"):
        setattr(other, name, dict(getattr(module, name)))
    return other


def _resized(matrix: torch.Tensor, num_rows: int) -> torch.Tensor:
    """The rows and then zeros, in memory of its own."""
    larger = matrix.new_zeros(num_rows, matrix.shape[1])
    larger[: len(matrix)] = matrix
    return larger
