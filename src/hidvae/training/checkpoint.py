"""Checkpoints from which a training goes on bit for bit as if it had never stopped.

A checkpoint is one safetensors file: tensors of the model, of the optimizer and of the random
generators, with the loop's own state (epoch, step, log) as JSON in the file's metadata.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torch.optim import Optimizer

from hidvae.config import RunConfig
from hidvae.errors import ArtifactError
from hidvae.store.files import atomic_write
from hidvae.training.sharding import shard_like, whole

_LAYOUT = "2"
"""Of the tensors and the state; a checkpoint of another layout is not used."""

logger = logging.getLogger("hidvae.training")


@dataclass(frozen=True)
class Checkpoint:
    """What was read back: ``state`` of the loop, and named tensors."""

    state: dict[str, Any]
    tensors: dict[str, Tensor]

    def group(self, name: str) -> dict[str, Tensor]:
        """Tensors saved under ``name/``, without that prefix."""
        prefix = name + "/"
        return {k[len(prefix) :]: v for k, v in self.tensors.items() if k.startswith(prefix)}


def training_identity(
    settings: Mapping[str, Any], inputs: Mapping[str, str], run: RunConfig
) -> str:
    """What a training is of; how it is shared out, saved and logged does not matter."""
    no_matter = {"size", "strategy", "checkpoint_every_seconds", "loggers"}
    shared = {k: v for k, v in asdict(run).items() if k not in no_matter}
    content = json.dumps([dict(settings), dict(inputs), shared], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()


def save_checkpoint(
    path: Path | None,
    *,
    identity: str,
    state: Mapping[str, Any],
    model: nn.Module,
    optimizer: Optimizer,
    extra: Mapping[str, Tensor] | None = None,
) -> None:
    """Write a checkpoint atomically; if anything is sharded, all processes must call this.

    Args:
        path: The file; an older one is replaced when the new one is whole. None only hands this
            process's shards to the one that writes.
        identity: From ``training_identity``; checked by ``load_checkpoint``.
        state: JSON values of the loop.
        model: Its ``state_dict`` is kept.
        optimizer: Its per-parameter tensors are kept; its hyperparameters come from the config.
        extra: More tensors, by name.
    """
    tensors = {f"model/{name}": value for name, value in model.state_dict().items()}
    for index, slots in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer/{index}/{name}": value for name, value in slots.items()}
    tensors |= {f"extra/{name}": value for name, value in (extra or {}).items()}
    tensors["random/cpu"] = torch.get_rng_state()
    if torch.cuda.is_available():
        tensors["random/cuda"] = torch.cuda.get_rng_state()
    metadata = {"identity": _LAYOUT + identity, "state": json.dumps(dict(state))}
    gathered: dict[str, Tensor] = {}
    for name, value in tensors.items():
        value = whole(value.detach())
        if path is not None:
            gathered[name] = value.cpu().contiguous()
    if path is None:
        return
    content = save(gathered, metadata)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as temporary:
            temporary.write_bytes(content)
    except OSError as error:
        raise ArtifactError(
            f"could not write the checkpoint {path}: {error.strerror or error}; free some space "
            "and run the same command again: it goes on from the last whole checkpoint"
        ) from error


def load_checkpoint(path: Path, *, identity: str) -> Checkpoint | None:
    """Read a checkpoint; None if there is none, or if it is of another training.

    Raises:
        ArtifactError: If the file is damaged.
    """
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata()
            if metadata["identity"] != _LAYOUT + identity:
                logger.warning(
                    "%s is of a training with other settings, inputs or of another version; it "
                    "will be overwritten",
                    path,
                )
                return None
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return Checkpoint(json.loads(metadata["state"]), tensors)
    except (SafetensorError, OSError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise ArtifactError(
            f"{path}: the checkpoint is damaged ({error}); delete it and run the command again to "
            "start this training from its beginning"
        ) from error


def restore(checkpoint: Checkpoint, model: nn.Module, optimizer: Optimizer) -> None:
    """Put model, optimizer and random generators back to where they were."""
    model.load_state_dict(weights_like(model, checkpoint.group("model")))
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    slots: dict[int, dict[str, Tensor]] = {}
    for name, value in checkpoint.group("optimizer").items():
        index, slot = name.split("/")
        slots.setdefault(int(index), {})[slot] = shard_like(value, parameters[int(index)])
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": slots, "param_groups": groups})
    random = checkpoint.group("random")
    torch.set_rng_state(random["cpu"])
    if "cuda" in random and torch.cuda.is_available():
        torch.cuda.set_rng_state(random["cuda"])


def weights_like(model: nn.Module, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights that were read back, on the devices and in the shards of the model's own."""
    own = model.state_dict()
    return {name: shard_like(value, own[name]) for name, value in weights.items()}
