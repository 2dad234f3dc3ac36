"""Fixtures that many tests share: the small demo, prepared once per session."""

from __future__ import annotations

import pytest

from hidvae.artifacts import StageFolder
from hidvae.config import DatasetConfig
from hidvae.data.prepare import Dataset, load_dataset, prepare
from hidvae.data.sources.demo import Demo, generate_demo


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
    return generate_demo(
        demo_config.demo_num_items, demo_config.demo_num_users, demo_config.demo_seed
    )
