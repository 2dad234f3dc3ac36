"""Generative recommendation with hierarchical, interpretable semantic IDs (HiD-VAE)."""

import importlib
from typing import TYPE_CHECKING, Any

from hidvae.errors import (
    ArtifactError,
    ConfigError,
    DataError,
    FingerprintMismatch,
    HidvaeError,
    MissingExtraError,
    NotTrainedError,
    SearchTimeout,
    ServerError,
    ShapeError,
    TrainingError,
)
from hidvae.threads import set_thread_environment as _set_thread_environment

if TYPE_CHECKING:
    from hidvae.config import (
        Config,
        DatasetConfig,
        EmbeddingConfig,
        EvaluationConfig,
        RetrieverConfig,
        RunConfig,
        TagConfig,
        TokenizerConfig,
        load_config,
    )
    from hidvae.ranking.explain import Cause, Recommendation
    from hidvae.ranking.filters import Filters
    from hidvae.ranking.recommender import Recommender
    from hidvae.run.run import Run

__version__ = "0.1.0"

_set_thread_environment()  # here, because whatever uses torch comes after it

__all__ = [
    "ArtifactError",
    "Cause",
    "Config",
    "ConfigError",
    "DataError",
    "DatasetConfig",
    "EmbeddingConfig",
    "EvaluationConfig",
    "Filters",
    "FingerprintMismatch",
    "HidvaeError",
    "MissingExtraError",
    "NotTrainedError",
    "Recommendation",
    "Recommender",
    "RetrieverConfig",
    "Run",
    "RunConfig",
    "SearchTimeout",
    "ServerError",
    "ShapeError",
    "TagConfig",
    "TokenizerConfig",
    "TrainingError",
    "load_config",
]

_LAZY = {
    "Config": "hidvae.config",
    "DatasetConfig": "hidvae.config",
    "EmbeddingConfig": "hidvae.config",
    "EvaluationConfig": "hidvae.config",
    "RetrieverConfig": "hidvae.config",
    "Run": "hidvae.run.run",
    "RunConfig": "hidvae.config",
    "TagConfig": "hidvae.config",
    "TokenizerConfig": "hidvae.config",
    "load_config": "hidvae.config",
    "Cause": "hidvae.ranking.explain",
    "Filters": "hidvae.ranking.filters",
    "Recommendation": "hidvae.ranking.explain",
    "Recommender": "hidvae.ranking.recommender",
}


def __getattr__(name: str) -> Any:
    """Import these, and torch or pydantic with them, only when they are asked for."""
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
