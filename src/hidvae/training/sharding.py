"""Sharded training: each process keeps a part of the weights, gradients and optimizer's state.

Every weight is cut along its first dimension, a part for each process. The weights of a layer are
gathered when its turn comes and dropped after it, all others are gathered for the whole step.
Gradients are averaged into parts, and each process updates its own.

Source: arXiv:2304.11277; torch's ``fully_shard`` does it, through Lightning Fabric.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from lightning_fabric.strategies.model_parallel import ModelParallelStrategy
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor


def sharding_strategy(num_processes: int, layer: type[nn.Module]) -> ModelParallelStrategy:
    """Fabric's strategy; modules of class ``layer`` are gathered one at a time."""

    def shard(model: nn.Module, mesh: DeviceMesh) -> nn.Module:
        processes = mesh["data_parallel"]
        for module in model.modules():
            if isinstance(module, layer):
                fully_shard(module, mesh=processes)
        fully_shard(model, mesh=processes)
        return model

    return ModelParallelStrategy(shard, data_parallel_size=num_processes, tensor_parallel_size=1)


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor, in every process; all must ask. One that is not sharded is whole already."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def shard_like(tensor: Tensor, reference: Tensor) -> Tensor:
    """A whole tensor on the reference's device, and sharded as that is if the shapes agree.

    All processes must ask; what the first one has counts.
    """
    tensor = tensor.to(reference.device)
    if isinstance(reference, DTensor) and tensor.shape == reference.shape:
        return distribute_tensor(tensor, reference.device_mesh, reference.placements)
    return tensor


@contextlib.contextmanager
def whole_weights(model: nn.Module) -> Iterator[None]:
    """Inside, every process has all weights and uses any part of the model without the others.

    The weights are for reading, and not through ``state_dict``, which has shards. A model that is
    not sharded is left as it is.
    """
    sharded = [module for module in model.modules() if isinstance(module, FSDPModule)]
    if isinstance(model, FSDPModule):
        # torch takes the module that is called first for the whole model; here it is a layer.
        model._get_fsdp_state()._lazy_init()
    for module in sharded:
        module.set_reshard_after_forward(False, recurse=False)
        module.unshard()
    yield
    for module in sharded:
        module.reshard()
        module.set_reshard_after_forward(module is not model, recurse=False)
