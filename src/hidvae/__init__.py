"""Generative recommendation with hierarchical, interpretable semantic IDs (HiD-VAE)."""

from typing import TYPE_CHECKING, Any

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
from hidvae.errors import (
    ArtifactError,
    ConfigError,
    DataError,
    FingerprintMismatch,
    HidvaeError,
    MissingExtraError,
    NotTrainedError,
    ShapeError,
)
from hidvae.explain import HistoryMatch, Recommendation

if TYPE_CHECKING:
    from hidvae.recommender import Recommender

__version__ = "0.1.0"

__all__ = [
    "ArtifactError",
    "Config",
    "ConfigError",
    "DataError",
    "DatasetConfig",
    "EmbeddingConfig",
    "EvaluationConfig",
    "FingerprintMismatch",
    "HidvaeError",
    "HistoryMatch",
    "MissingExtraError",
    "NotTrainedError",
    "Recommendation",
    "Recommender",
    "RetrieverConfig",
    "RunConfig",
    "ShapeError",
    "TagConfig",
    "TokenizerConfig",
    "load_config",
]


def __getattr__(name: str) -> Any:
    """Import the recommender, and torch with it, only when it is asked for."""
    if name == "Recommender":
        from hidvae.recommender import Recommender

        return Recommender
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
