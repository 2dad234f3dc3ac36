"""The demo's embeddings and tags, and a trained tokenizer; do not write into their folders."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.stages import embed, tag, train_tokenizer

from hidvae.config import EmbeddingConfig, LLMConfig, RunConfig, TagConfig, TokenizerConfig
from hidvae.features.embeddings import load_embeddings, save_embeddings
from hidvae.store.artifacts import StageFolder, read_stage, write_stage
from hidvae.tokenizer.residual_quantizer import ResidualQuantizer

EMBEDDING = EmbeddingConfig(text_encoder="hashing", cooccurrence_dim=8)


def kill_codes(monkeypatch: pytest.MonkeyPatch, num_alive: int) -> None:
    """After k-means, put all but the first codes of level 0 where no item goes."""
    initialize = ResidualQuantizer.initialize

    def plant(self: ResidualQuantizer, latents: torch.Tensor, generator: torch.Generator) -> None:
        initialize(self, latents, generator)
        with torch.no_grad():
            self.codebooks[0].table[num_alive:] = 100.0  # type: ignore[index,operator]

    monkeypatch.setattr(ResidualQuantizer, "initialize", plant)


@pytest.fixture(autouse=True)
def log_lines_reach_caplog(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command run by an earlier test may have taken the package's log lines for itself."""
    monkeypatch.setattr(logging.getLogger("hidvae"), "propagate", True)


@pytest.fixture(scope="session")
def config() -> TokenizerConfig:
    """Three levels of 16 codes, 3 epochs of 3 steps."""
    return TokenizerConfig(
        codebook_size=16,
        hidden_dims=(16,),
        latent_dim=8,
        epochs=3,
        batch_size=32,
        held_out_fraction=0.1,
    )


@pytest.fixture(scope="session")
def run() -> RunConfig:
    return RunConfig(device="cpu")


@pytest.fixture(scope="session")
def embeddings(demo_folder: StageFolder, tmp_path_factory: pytest.TempPathFactory) -> StageFolder:
    return embed(EMBEDDING, demo_folder, tmp_path_factory.mktemp("tokenizer") / "embeddings")


@pytest.fixture(scope="session")
def tags(
    demo_folder: StageFolder, embeddings: StageFolder, tmp_path_factory: pytest.TempPathFactory
) -> StageFolder:
    config = TagConfig(source="categories")
    output = tmp_path_factory.mktemp("tokenizer") / "tags"
    return tag(config, LLMConfig(), EMBEDDING, demo_folder, embeddings, output)


@pytest.fixture(scope="session")
def tokenizer(
    config: TokenizerConfig,
    demo_folder: StageFolder,
    run: RunConfig,
    embeddings: StageFolder,
    tags: StageFolder,
    tmp_path_factory: pytest.TempPathFactory,
) -> StageFolder:
    """An uninterrupted training."""
    output = tmp_path_factory.mktemp("tokenizer") / "tokenizer"
    return train_tokenizer(config, run, demo_folder, embeddings, tags, output)


@pytest.fixture
def changed_embeddings(
    embeddings: StageFolder, tmp_path: Path
) -> Callable[[Callable[[np.ndarray], np.ndarray]], StageFolder]:
    """The demo's embeddings after a change of the matrix."""

    def write(change: Callable[[np.ndarray], np.ndarray]) -> StageFolder:
        matrix = change(load_embeddings(embeddings).matrix.copy()).astype(np.float32)
        inputs = embeddings.manifest["inputs"]
        output = tmp_path / "changed"
        with write_stage(output, stage="embed", config=embeddings.config, inputs=inputs) as stage:
            save_embeddings(matrix, load_embeddings(embeddings).tfidf, stage.path)
            stage.facts |= {**embeddings.facts, "dim": matrix.shape[1]}
        return read_stage(output, produced_by="hidvae embed")

    return write
