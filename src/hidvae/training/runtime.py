"""Device, precision, processes and seeds of a training stage."""

from __future__ import annotations

import contextlib
import logging
import os
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from hidvae.config import RunConfig
from hidvae.errors import ConfigError
from hidvae.training.processes import is_alone, is_launched

if TYPE_CHECKING:
    from lightning_fabric import Fabric

logger = logging.getLogger("hidvae.training")


def start_fabric(run: RunConfig, layer: type[nn.Module] | None = None) -> Fabric:
    """A launched Fabric on the configured device; of all processes that torchrun started.

    Args:
        run: Device, precision and strategy.
        layer: Class of the layers of a model that strategy "fsdp" shards; None never shards.

    Raises:
        ConfigError: If the device or precision is unknown or not available here.
    """
    from lightning_fabric import Fabric  # a second and more, which recommending does without

    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    layer = layer if run.strategy == "fsdp" else None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Fabric's advice about devices it finds unused
            fabric = Fabric(accelerator=run.device, precision=run.precision, **_processes(layer))  # type: ignore[arg-type]
            fabric.launch()
    except Exception as error:  # Fabric raises many types here; all mean an unusable setting
        raise ConfigError(
            f"RunConfig.device = {run.device!r}, RunConfig.precision = {run.precision!r}: cannot "
            f"be used here ({' '.join(str(error).split())}); try device = 'cpu' and "
            "precision = '32-true'"
        ) from error
    return fabric


def device_of(name: str) -> torch.device:
    """Where a trained model goes: the device that Fabric would choose.

    Args:
        name: As ``RunConfig.device``.

    Raises:
        ConfigError: If the device is unknown or not available here.
    """
    has_other = torch.cuda.is_available() or torch.backends.mps.is_available()
    if name == "cpu" or (name == "auto" and not has_other):
        return torch.device("cpu")
    return start_fabric(RunConfig(device=name)).device


def _processes(layer: type[nn.Module] | None) -> dict[str, Any]:
    """Fabric's arguments: how many devices on how many machines, and what ties them together."""
    if is_alone():
        return {"devices": 1}
    num_processes = int(os.environ["WORLD_SIZE"]) if is_launched() else 1
    if num_processes == 1:
        if layer is not None:
            logger.warning(
                "RunConfig.strategy = 'fsdp': there is one process, which holds the whole model; "
                "start several with torchrun to share it out"
            )
        return {"devices": 1}
    num_local = int(os.environ["LOCAL_WORLD_SIZE"])
    if layer is not None:
        from hidvae.training.sharding import sharding_strategy

        strategy: Any = sharding_strategy(num_processes, layer)
    else:
        from lightning_fabric.strategies.ddp import DDPStrategy

        # Not every loss reaches every weight in every batch (tags may be unknown). Buffers are
        # tables that all processes made alike.
        strategy = DDPStrategy(find_unused_parameters=True, broadcast_buffers=False)
    return {"devices": num_local, "num_nodes": num_processes // num_local, "strategy": strategy}


@contextlib.contextmanager
def flags_restored() -> Iterator[None]:
    """A training asks torch for fixed orders; whoever trains in a notebook gets their own back."""
    was_on = torch.are_deterministic_algorithms_enabled()
    warned_only = torch.is_deterministic_algorithms_warn_only_enabled()
    filled = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(was_on, warn_only=warned_only)
        torch.utils.deterministic.fill_uninitialized_memory = filled  # type: ignore[attr-defined]


def make_reproducible(seed: int) -> None:
    """Seed torch, and have it add in a fixed order, so that the same run gives the same bits.

    Without the second, several threads add up the gradients of an indexed tensor as they come. CPUs
    and CUDA devices have such an algorithm for all that is used here; where another device has
    none, torch warns and goes on. numpy's randomness is not touched: here it always comes from a
    Generator of its own.
    """
    torch.manual_seed(seed)
    # cuBLAS reads it at its first product, and torch before 2.10 refuses products without it.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # Asked to warn only, CUDA would take attention's quicker, unordered backward pass.
    torch.use_deterministic_algorithms(True, warn_only=not torch.cuda.is_available())
    # A debugging aid that comes with it and costs time; torch sets it through a module property.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def epoch_generator(seed: int, epoch: int) -> torch.Generator:
    """A generator that depends on seed and epoch alone, so that a resumed run shuffles alike."""
    return torch.Generator().manual_seed(seed * 1_000_003 + epoch)
