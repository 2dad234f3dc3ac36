"""Time the text encoder's backends on a catalogue, and compare their vectors with the plain ones.

    python benchmarks/bench_encode.py DATA/amazon-beauty-2014/items.parquet
    python benchmarks/bench_encode.py DATA/amazon-beauty-2014/items.parquet --sample 1500 --rounds 2

"plain" is ``SentenceTransformer.encode`` on all texts in batches of 64, as one would write it
first. The backends take turns, so that a busy machine is unfair to all of them; processor time is
printed beside wall time for the same reason. The last lines time the cache alone, on vectors of a
million made-up texts (``--cache-rows 0`` leaves it out).
"""

from __future__ import annotations

import argparse
import os
import resource
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import polars as pl

from hidvae.config import EmbeddingConfig
from hidvae.data.catalogue import Catalogue
from hidvae.features.cached_encoding import content_key, vectors_file
from hidvae.features.item_text import item_texts
from hidvae.features.sentence_model import MINILM, load_sentence_transformer, model_key
from hidvae.features.text_encoder import load_text_encoder
from hidvae.features.text_vectors import text_vectors
from hidvae.store.blobs import BlobStore

BACKENDS = ("torch", "torch-bf16", "onnx-int8")


def main(argv: Sequence[str] | None = None) -> None:
    """Read the arguments and print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("items", type=Path, help="items.parquet of a dataset")
    parser.add_argument("--sample", type=int, default=0, help="texts to draw; 0 takes all")
    parser.add_argument("--rounds", type=int, default=1, help="turns of each backend")
    parser.add_argument("--model", default=MINILM)
    parser.add_argument("--backends", nargs="*", default=BACKENDS, choices=BACKENDS)
    parser.add_argument("--cache-rows", type=int, default=1_000_000)
    arguments = parser.parse_args(argv)
    texts = catalogue_texts(arguments.items, arguments.sample)
    bench_backends(texts, arguments.model, arguments.backends, arguments.rounds)
    if arguments.cache_rows:
        bench_cache(arguments.cache_rows, dim=384)


def catalogue_texts(items: Path, sample: int) -> list[str]:
    """The distinct texts that stage embed would encode."""
    catalogue = Catalogue(pl.read_parquet(items, glob=False))
    texts = sorted(set(item_texts(catalogue, EmbeddingConfig().text_columns)))
    chosen = np.random.default_rng(0).permutation(len(texts))[: sample or len(texts)]
    return [texts[i] for i in chosen]


def bench_backends(texts: list[str], model: str, backends: list[str], rounds: int) -> None:
    """Print seconds and the largest cosine distance to the plain vectors, per backend."""
    plain_model = load_sentence_transformer(model)
    encoders: dict[str, Callable[[], np.ndarray]] = {
        "plain": lambda: plain_model.encode(
            texts, batch_size=64, normalize_embeddings=True, show_progress_bar=False
        )
    }
    for backend in backends:
        encoder = load_text_encoder(model, backend)

        def encode_all(encoder=encoder) -> np.ndarray:
            vectors = np.empty((len(texts), encoder.dim), np.float32)
            for batch in encoder.batches(texts):
                vectors[batch] = encoder.encode([texts[i] for i in batch])
            return vectors

        encoders[backend] = encode_all
    print(f"{len(texts)} texts, {os.cpu_count()} cores, model {model}")
    print("backend       wall s    cpu s  texts/s  of plain  cosine distance max / mean")
    reference = np.zeros(0)
    plain_seconds = 0.0
    for _ in range(rounds):
        for name, encode in encoders.items():
            wall, processor = time.perf_counter(), time.process_time()
            vectors = encode()
            wall, processor = time.perf_counter() - wall, time.process_time() - processor
            if name == "plain":
                reference, plain_seconds = vectors, processor
            distance = 1 - (vectors * reference).sum(axis=1)
            print(
                f"{name:12s} {wall:7.1f} {processor:8.1f} {len(texts) / wall:8.0f} "
                f"{processor / plain_seconds:9.2f}  {distance.max():.1e} / {distance.mean():.1e}",
                flush=True,
            )


def bench_cache(num_rows: int, dim: int) -> None:
    """Print how long the cache takes to keep vectors and to find them all, and the peak memory."""
    texts = [f"text number {number}" for number in range(num_rows)]
    keys = [content_key(text.encode()) for text in texts]
    vectors = np.random.default_rng(0).standard_normal((num_rows, dim), np.float32)
    before = os.environ.get("HIDVAE_CACHE")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["HIDVAE_CACHE"] = folder
        config = EmbeddingConfig(text_encoder="hashing")
        file = vectors_file(model_key("hashing", "numpy"))
        print(f"\ncache of {num_rows} x {dim} ({vectors.nbytes / 2**20:.0f} MiB of vectors)")
        started = time.perf_counter()
        with BlobStore(file) as store:
            for start in range(0, num_rows, 10_000):
                rows = range(start, min(start + 10_000, num_rows))
                store.add({keys[row]: vectors[row].tobytes() for row in rows})
        print(f"keeping  {time.perf_counter() - started:6.1f} s wall")
        del vectors
        started, processor = time.perf_counter(), time.process_time()
        found = text_vectors(texts, config)
        seconds, processor = time.perf_counter() - started, time.process_time() - processor
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"finding  {seconds:6.1f} s wall, {processor:.1f} s cpu, peak {peak:.0f} MiB")
        assert found.shape == (num_rows, dim)
    if before is None:
        del os.environ["HIDVAE_CACHE"]
    else:
        os.environ["HIDVAE_CACHE"] = before


if __name__ == "__main__":
    main()
