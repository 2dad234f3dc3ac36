"""Device, precision and seeds of a training stage."""

from __future__ import annotations

import logging
import warnings

import torch
from lightning_fabric import Fabric

from hidvae.config import RunConfig
from hidvae.errors import ConfigError


def start_fabric(run: RunConfig) -> Fabric:
    """A launched Fabric on the configured device.

    Raises:
        ConfigError: If the device or precision is unknown or not available here.
    """
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Fabric's advice about devices it finds unused
            fabric = Fabric(accelerator=run.device, devices=1, precision=run.precision)  # type: ignore[arg-type]
            fabric.launch()
    except Exception as error:  # Fabric raises many types here; all mean an unusable setting
        raise ConfigError(
            f"RunConfig.device = {run.device!r}, RunConfig.precision = {run.precision!r}: cannot "
            f"be used here ({' '.join(str(error).split())}); try device = 'cpu' and "
            "precision = '32-true'"
        ) from error
    return fabric


def make_reproducible(seed: int) -> None:
    """Seed torch, and have it add in a fixed order, so that the same run gives the same bits.

    Without the second, several threads add up the gradients of an indexed tensor as they come. CPUs
    and CUDA devices have such an algorithm for all that is used here; where another device has
    none, torch warns and goes on. numpy's randomness is not touched: here it always comes from a
    Generator of its own.
    """
    torch.manual_seed(seed)
    # Asked to warn only, CUDA would take attention's quicker, unordered backward pass.
    torch.use_deterministic_algorithms(True, warn_only=not torch.cuda.is_available())
    # A debugging aid that comes with it and costs time; torch sets it through a module property.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def epoch_generator(seed: int, epoch: int) -> torch.Generator:
    """A generator that depends on seed and epoch alone, so that a resumed run shuffles alike."""
    return torch.Generator().manual_seed(seed * 1_000_003 + epoch)
