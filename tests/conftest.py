"""Fixtures that many tests share: the small demo, prepared once per session."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import settings
from tests.stages import prepare

from hidvae.config import DatasetConfig
from hidvae.data.prepare import DEMO_SEED, Dataset, load_dataset
from hidvae.data.sources.demo import Demo, generate_demo
from hidvae.store.artifacts import StageFolder
from hidvae.store.cache import CACHE_VARIABLE

settings.register_profile("hidvae", deadline=None)  # a busy machine is no failure
settings.load_profile("hidvae")


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Tiny tensors gain nothing from threads, and on a busy machine they wait for each other."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Tests write no vectors into the cache of whoever runs them, unless told which to use."""
    with pytest.MonkeyPatch.context() as patch:
        if CACHE_VARIABLE not in os.environ:
            patch.setenv(CACHE_VARIABLE, str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test downloads anything; those of downloads have a server on the loopback."""
    monkeypatch.setenv("HIDVAE_OFFLINE", "1")


@pytest.fixture(scope="session")
def demo_config() -> DatasetConfig:
    """A demo of 120 items (2 departments) and 200 users."""
    return DatasetConfig(source="demo", demo_num_items=120, demo_num_users=200)


@pytest.fixture(scope="session")
def demo_folder(
    demo_config: DatasetConfig, tmp_path_factory: pytest.TempPathFactory
) -> StageFolder:
    """The prepared stage folder of the demo; do not write into it."""
    return prepare(demo_config, tmp_path_factory.mktemp("demo") / "dataset")


@pytest.fixture(scope="session")
def demo_dataset(demo_folder: StageFolder) -> Dataset:
    """The demo as the later stages see it."""
    return load_dataset(demo_folder)


@pytest.fixture(scope="session")
def demo_truth(demo_config: DatasetConfig) -> Demo:
    """What was planted: successors, aisles and tastes; rows as in ``demo_dataset.catalogue``."""
    return generate_demo(demo_config.demo_num_items, demo_config.demo_num_users, DEMO_SEED)


@pytest.fixture(scope="session")
def tiny_settings() -> list[str]:
    """``--set`` values of a run over all stages that takes seconds, without a text model."""
    return [
        "DatasetConfig.source=demo",
        "DatasetConfig.demo_num_items=120",
        "DatasetConfig.demo_num_users=200",
        "EmbeddingConfig.text_encoder=hashing",
        "EmbeddingConfig.cooccurrence_dim=8",
        "TokenizerConfig.codebook_size=16",
        "TokenizerConfig.hidden_dims=(32,)",
        "TokenizerConfig.latent_dim=8",
        "TokenizerConfig.epochs=3",
        "TokenizerConfig.batch_size=64",
        "RetrieverConfig.dim=16",
        "RetrieverConfig.num_layers=1",
        "RetrieverConfig.num_heads=2",
        "RetrieverConfig.max_history=10",
        "RetrieverConfig.epochs=2",
        "RetrieverConfig.validate_every=1",
        "EvaluationConfig.cutoffs=(1, 5, 10)",
        "EvaluationConfig.beam_width=10",
        "EvaluationConfig.baselines=('popularity', 'content_graph')",
        "RunConfig.device=cpu",
    ]


@pytest.fixture(scope="session")
def tiny_run(tiny_settings: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole run with ``tiny_settings``; do not write into it."""
    from hidvae.config import load_config
    from hidvae.run.run import Run

    output = tmp_path_factory.mktemp("runs") / "tiny"
    Run(output).make(load_config([], tiny_settings))
    return output
