"""Texts to unit vectors: the seam between this package and language models.

``TextEncoder`` is what the stages need; ``SentenceTransformerEncoder`` runs a real model and
``HashingEncoder`` counts hashed n-grams, which needs no model and serves tests and quick trials.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

import numpy as np

from hidvae.errors import ConfigError
from hidvae.features.hashing_encoder import HashingEncoder
from hidvae.features.sentence_model import (
    MINILM,
    encode_batch,
    load_sentence_transformer,
    minilm_or_reason,
    pinned,
    vector_size,
)
from hidvae.features.unit_rows import unit_rows

AUTO = "auto"
"""Name in a configuration that stands for the default encoder, or for the next best."""
TOKENS_PER_BATCH = 1024
"""On a CPU batches of 256 to 1,024 tokens are fastest, 2,048 cost a tenth more."""


@runtime_checkable
class TextEncoder(Protocol):
    """Anything that turns texts into unit vectors, the same vector for the same batch."""

    name: str
    dim: int

    def batches(self, texts: Sequence[str]) -> list[list[int]]:
        """How to cut N texts into batches: positions, each once.

        Of the remaining texts, when some whole batches are taken away, the same batches are left:
        so an encoding that was stopped goes on exactly as it would have.
        """
        ...

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Encode n texts as one batch: (n, dim) float32, rows L2-normalised."""
        ...


def chosen_encoder(name: str) -> tuple[str, str]:
    """The encoder that a configuration's name comes to, and why it is not the default one.

    ``"auto"`` is MiniLM where that can be had, else ``"hashing"``; any other name is itself, with
    the commit of a model from the Hub (``sentence_model.pinned``).

    Raises:
        ConfigError: If the Hub has no such model, or cannot be asked.
    """
    if name != AUTO:
        return pinned(name), ""
    reason = minilm_or_reason()
    return ("hashing" if reason else MINILM), reason


def load_text_encoder(name: str, backend: str = "torch") -> TextEncoder:
    """The encoder a configuration names.

    Args:
        name: ``"hashing"``, or a sentence-transformers model (name or folder).
        backend: What runs the model, as ``EmbeddingConfig.text_backend``.

    Raises:
        ConfigError: If the name is ``"none"`` or empty, or the model cannot be loaded.
        MissingExtraError: If sentence-transformers (or onnxruntime) is not installed.
    """
    if name in ("", "none"):
        raise ConfigError(
            f"EmbeddingConfig.text_encoder: expected a model to encode texts with; found {name!r}; "
            f"set EmbeddingConfig.text_encoder={MINILM} (or hashing)"
        )
    if name == "hashing":
        return HashingEncoder()
    return SentenceTransformerEncoder(name, backend)


class SentenceTransformerEncoder:
    """A sentence-transformers model, read from a folder or from the Hugging Face hub.

    Backends: ``torch`` runs the model as it is; ``torch-bf16`` multiplies in bfloat16, for
    processors that have it in hardware; ``onnx-int8`` runs a quantized copy (``onnx_backend``).
    """

    def __init__(self, name: str, backend: str = "torch", tokens_per_batch: int = TOKENS_PER_BATCH):
        self.name = name
        self.tokens_per_batch = tokens_per_batch
        self._model = load_sentence_transformer(name)
        self.dim = vector_size(self._model, name)
        self._encode = self._run_of(backend)

    def batches(self, texts: Sequence[str]) -> list[list[int]]:
        """Longest texts first, up to ``tokens_per_batch`` a batch, padding included."""
        lengths = self._token_counts(texts)
        order = sorted(range(len(texts)), key=lambda i: (-lengths[i], texts[i]))
        return cut_by_tokens(order, lengths, self.tokens_per_batch)

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Encode n texts in one forward pass: (n, dim) float32, rows L2-normalised."""
        if not texts:
            return np.zeros((0, self.dim), np.float32)
        return self._encode(list(texts))

    def _run_of(self, backend: str) -> Callable[[list[str]], np.ndarray]:
        if backend == "torch":
            return self._run_torch
        if backend == "torch-bf16":
            return self._run_bfloat16
        if backend == "onnx-int8":
            from hidvae.features.onnx_backend import QuantizedModel

            return QuantizedModel(self._model, self.name).encode
        raise ConfigError(
            "EmbeddingConfig.text_backend: expected torch, torch-bf16 or onnx-int8; found "
            f"{backend!r}"
        )

    def _run_torch(self, texts: list[str]) -> np.ndarray:
        return encode_batch(self._model, texts)

    def _run_bfloat16(self, texts: list[str]) -> np.ndarray:
        import torch

        with torch.autocast(self._model.device.type, dtype=torch.bfloat16):
            vectors = self._run_torch(texts)
        return unit_rows(vectors)

    def _token_counts(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text, cut at the model's longest; characters where it has no such cut."""
        from transformers import PreTrainedTokenizerBase

        tokenizer = getattr(self._model, "tokenizer", None)
        if not isinstance(tokenizer, PreTrainedTokenizerBase):  # such as averaged word vectors
            return [max(len(text), 1) for text in texts]
        longest = self._model.max_seq_length
        tokens = tokenizer(list(texts), truncation=longest is not None, max_length=longest)
        return [len(ids) for ids in tokens["input_ids"]]


def cut_by_tokens(order: Sequence[int], lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Cut texts, longest first, into batches of at most ``budget`` tokens with their padding.

    A text longer than the budget is a batch of its own. Whether a batch is full depends on its
    first text and their number alone, so the batches that are left when others are taken away
    are cut the same.
    """
    batches: list[list[int]] = []
    for i in order:
        if batches and (len(batches[-1]) + 1) * lengths[batches[-1][0]] <= budget:
            batches[-1].append(i)
        else:
            batches.append([i])
    return batches
