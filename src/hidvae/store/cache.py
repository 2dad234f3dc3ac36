"""The cache shared by all runs of a machine: datasets, vectors, answers of language models.

It is ``$HIDVAE_CACHE`` or ``~/.cache/hidvae`` and can be deleted at any time.
"""

from __future__ import annotations

import os
from pathlib import Path

CACHE_VARIABLE = "HIDVAE_CACHE"
"""Environment variable that names the cache folder."""
OFFLINE_VARIABLE = "HIDVAE_OFFLINE"
"""Environment variable that, when it is not empty or 0, forbids every download."""


def is_offline() -> bool:
    """Whether nothing may be downloaded."""
    return os.environ.get(OFFLINE_VARIABLE, "") not in ("", "0")


def cache_folder() -> Path:
    """``$HIDVAE_CACHE``, or ``~/.cache/hidvae``."""
    chosen = os.environ.get(CACHE_VARIABLE, "")
    return Path(chosen).expanduser() if chosen else Path.home() / ".cache" / "hidvae"
