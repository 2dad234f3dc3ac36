"""Trained baselines are stage folders, made once."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hidvae.store.artifacts import StageFolder, is_current, read_stage

logger = logging.getLogger(__name__)


def make_or_skip(
    path: Path,
    make: Callable[[], StageFolder],
    *,
    config: Mapping[str, Any],
    inputs: Mapping[str, StageFolder],
    seed: int | None,
) -> StageFolder:
    """The stage folder ``path``, made only if it is not there with these settings and inputs.

    Args:
        path: The folder.
        make: Writes it.
        config: Its settings, as its manifest keeps them.
        inputs: The folders it is made from, by name.
        seed: Seed that its manifest keeps.
    """
    fingerprints = {name: folder.fingerprint for name, folder in inputs.items()}
    if is_current(path, config=config, inputs=fingerprints, seed=seed):
        logger.info("skipped, %s is up to date", path)
        return read_stage(path, produced_by="hidvae evaluate")
    return make()
