"""An encoder whose vectors depend on the batch, as a real model's last bits do.

``python -m tests.features.batch_encoder DATASET OUTPUT`` runs stage embed with it, slowly.
"""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tests.stages import embed

from hidvae.config import EmbeddingConfig
from hidvae.features import cached_encoding, text_vectors
from hidvae.features.text_encoder import cut_by_tokens
from hidvae.store.artifacts import read_stage

# A name that no model of the Hub has; the test puts its own encoder in the place of it.
CONFIG = EmbeddingConfig(text_encoder="hashing", cooccurrence_dim=4)


class BatchEncoder:
    name = "in-batches"
    dim = 6

    def __init__(self, budget: int = 200, seconds_per_batch: float = 0.0) -> None:
        self.budget, self.seconds_per_batch = budget, seconds_per_batch
        self.encoded: list[list[str]] = []
        self.fails_at = -1

    def batches(self, texts: Sequence[str]) -> list[list[int]]:
        order = sorted(range(len(texts)), key=lambda i: (-len(texts[i]), texts[i]))
        return cut_by_tokens(order, [len(text) for text in texts], self.budget)

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        if len(self.encoded) == self.fails_at:
            raise KeyboardInterrupt
        time.sleep(self.seconds_per_batch)
        self.encoded.append(list(texts))
        together = "|".join(texts)
        seeds = [hashlib.sha256(f"{together}#{text}".encode()).digest() for text in texts]
        rows = [np.frombuffer(seed, np.uint8)[: self.dim] for seed in seeds]
        return np.array(rows, np.float32) + 1


if __name__ == "__main__":
    cached_encoding._SECONDS_BETWEEN_WRITES = 0.0
    slow = BatchEncoder(seconds_per_batch=0.2)
    text_vectors.load_text_encoder = lambda name, backend: slow
    embed(CONFIG, read_stage(Path(sys.argv[1]), produced_by="test"), Path(sys.argv[2]))
