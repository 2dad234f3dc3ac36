"""Data-parallel training: each process computes a part of every batch.

The batches are those of one process, and so are the losses: what is a mean over rows is weighed by
the rows of each part, and what compares the rows of a batch is computed on all of them. So a
training depends on the number of processes only through rounding and the random numbers: of the
dropout, and of ``RetrieverConfig.num_negatives``, which every process draws for its own targets.

torchrun starts the processes; without it there is one, and everything here leaves values as they
are. Source: arXiv:2006.15704 for the averaging of gradients, which Lightning Fabric does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from lightning_fabric import Fabric


class Share:
    """This process's part of a number of rows, one after the other in the order of the ranks."""

    def __init__(self, fabric: Fabric, num_rows: int) -> None:
        """Cut ``num_rows`` rows into parts of equal size, of which the last may be shorter."""
        self._fabric, self.num_rows = fabric, num_rows
        self._size = -(-num_rows // fabric.world_size)
        start = fabric.global_rank * self._size
        self.rows = slice(min(start, num_rows), min(start + self._size, num_rows))

    @property
    def weight(self) -> float:
        """What a mean over this part counts, for the mean over processes to be that over rows."""
        own = self.rows.stop - self.rows.start
        return own * self._fabric.world_size / self.num_rows

    def gather(self, part: Tensor) -> Tensor:
        """All rows (n, ...) from every process's part, with gradients to the parts."""
        if self._fabric.world_size == 1:
            return part
        padded = part.new_zeros(self._size, *part.shape[1:])
        padded[: len(part)] = part
        gathered = self._fabric.all_gather(padded, sync_grads=part.requires_grad)
        return gathered.flatten(0, 1)[: self.num_rows]  # type: ignore[union-attr]


def mean_over_processes(fabric: Fabric, value: Tensor) -> Tensor:
    """The mean of a value that each process has one of."""
    if fabric.world_size == 1:
        return value
    return fabric.all_reduce(value.clone(), reduce_op="mean")  # type: ignore[return-value]


def first_decides(fabric: Fabric, decision: bool) -> bool:
    """The first process's decision, where clocks may differ."""
    return fabric.broadcast(decision) if fabric.world_size > 1 else decision


def seed_parts(fabric: Fabric, seed: int, num_steps: int) -> None:
    """Different random numbers for every process but the first, which goes on with its own."""
    if fabric.global_rank > 0:
        torch.manual_seed(hash((seed, fabric.global_rank, num_steps)) % 2**63)


def wait_for_all() -> None:
    """Return when every process of a training has come here."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.barrier()
