"""A text encoder without a model, for tests, quick trials and machines without one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hidvae.features.unit_rows import unit_rows


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
    _TEXTS_PER_BATCH = 2048

    def batches(self, texts: Sequence[str]) -> list[list[int]]:
        """In the order they come, 2,048 a batch; a vector does not depend on its batch."""
        size = self._TEXTS_PER_BATCH
        starts = range(0, len(texts), size)
        return [list(range(start, min(start + size, len(texts)))) for start in starts]

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Encode N texts: (N, 256) float32, rows L2-normalised."""
        vectors = np.zeros((len(texts), self.dim), np.float32)
        for batch in self.batches(texts):  # bounds the memory, whoever calls
            vectors[batch] = self._count([texts[i] for i in batch])
        return unit_rows(vectors, out=vectors)

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
