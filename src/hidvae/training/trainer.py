"""The one training loop: of the tokenizer, of the retriever and of the trained baselines.

A ``Task`` is what is learned: a model, its batches, its losses, and what is measured after an
epoch. The ``Trainer`` does the rest: processes and device, the optimizer and its schedule, the
average of the weights and the best ones, the end, the log, and checkpoints. A training that was
killed at any moment goes on from its checkpoint and ends with the same bits on one machine.
"""

from __future__ import annotations

import itertools
import logging
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn
from torch.optim import AdamW

from hidvae.config import RunConfig
from hidvae.errors import TrainingError
from hidvae.training.checkpoint import load_checkpoint, restore, save_checkpoint, weights_like
from hidvae.training.loggers import TrackedTraining, following
from hidvae.training.parallel import first_decides, mean_over_processes, seed_parts
from hidvae.training.progress import LOG, Stopwatch, TrainingLog
from hidvae.training.runtime import start_fabric
from hidvae.training.schedule import warmup_cosine
from hidvae.training.sharding import whole

Batch = TypeVar("Batch")

logger = logging.getLogger("hidvae.training")


@dataclass(frozen=True, kw_only=True)
class Loop:
    """How long and how fast a model learns."""

    section: str = ""
    """Class of the settings, for messages: ``TokenizerConfig``; "" where none sets the loop."""
    epochs: int
    max_steps: int = 0
    """Most steps; 0 sets no limit."""
    learning_rate: float
    """At its peak."""
    warmup_steps: int = 0
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float
    gradient_norm: float | None = None
    """Longer gradients are shortened to this."""
    weight_average: float = 0.0
    """Decay of the moving average of the weights, which is then measured and kept; 0 has none."""
    patience: int = 0
    """Epochs without a better score before the end; 0 waits for ever."""


@dataclass(frozen=True)
class Measured:
    """What a task finds at the end of an epoch."""

    numbers: Mapping[str, float] = field(default_factory=dict)
    """Columns of the log, by name."""
    message: str = ""
    """Of the progress line."""
    score: float | None = None
    """The higher the better; None where it was not validated."""


class Task(ABC, Generic[Batch]):
    """What is learned. Every process has the whole task and computes its part of each batch."""

    model: nn.Module
    loop: Loop
    loss_names: Sequence[str]
    """What ``losses`` gives, as the log calls it; a progress line shows the first."""
    steps_per_epoch: int
    """Of the first epoch; the schedule takes the others to be as long."""
    state: dict[str, Tensor]
    """What a checkpoint must keep besides the model; changed in ``begin_epoch`` alone."""

    def begin_epoch(self, epoch: int) -> None:
        """Prepare epoch ``epoch`` (from 0); the only place outside a step where weights may change.

        It is not called for an epoch that a checkpoint goes on with.
        """
        return

    @abstractmethod
    def batches(self, epoch: int, start: int) -> Iterator[Batch]:
        """The epoch's batches from number ``start`` on: this process's part, on its device."""

    @abstractmethod
    def losses(self, forward: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        """The loss to descend, a scalar, and the losses to log, (len(loss_names),).

        Args:
            forward: The model as it must be called for gradients to reach all processes.
            batch: From ``batches``.
        """

    @abstractmethod
    def end_epoch(self, epoch: int, losses: Mapping[str, float], is_last: bool) -> Measured:
        """Measure the model, with averaged weights if there are any, and leave it as it is.

        Args:
            epoch: Number of epochs done.
            losses: Their means over the epoch's steps.
            is_last: Whether the training ends here whatever is found.
        """


@dataclass
class _Place:
    """How far a training is."""

    epoch: int = 0
    step: int = 0
    """Within the epoch."""
    steps_done: int = 0
    best_epoch: int = 0
    best_score: float = 0.0
    """Means nothing without a best epoch."""


class Trainer:
    """Trains one task once."""

    def __init__(
        self,
        run: RunConfig,
        *,
        name: str,
        checkpoint: Path,
        identity: str,
        settings: Mapping[str, Any],
        layer: type[nn.Module] | None = None,
    ) -> None:
        """Start the processes' part of the training, and read the checkpoint if there is one.

        Args:
            run: Seed, device, precision, strategy, time between checkpoints, loggers.
            name: What is trained, for loggers: ``tokenizer``.
            checkpoint: Folder for the checkpoint and the growing log, inside the run's folder.
            identity: What the training is of; a checkpoint of another one is not used.
            settings: For loggers.
            layer: Class of the layers that strategy "fsdp" shards; None never shards.

        Raises:
            ConfigError: If the device or precision cannot be used here.
            ArtifactError: If the checkpoint is damaged.
        """
        self.fabric = start_fabric(run, layer)
        self.log = TrainingLog(checkpoint / LOG if self.fabric.is_global_zero else None)
        self._run, self._identity = run, identity
        self._file = checkpoint / "checkpoint.safetensors"
        self._checkpoint = load_checkpoint(self._file, identity=identity)
        state = self._checkpoint.state if self._checkpoint else {}
        self.seconds_before: float = state.get("seconds", 0.0)
        """Wall time of earlier attempts that this one goes on from."""
        self._place = _Place(**state.get("place", {}))
        self.log.rows = state.get("rows", [])
        self._tracked = TrackedTraining(
            name, checkpoint.parent, settings, len(self.log.rows), state.get("logger_versions", {})
        )
        self._total_steps = 0
        self._average: dict[str, Tensor] = {}
        self._best: dict[str, Tensor] = {}

    @property
    def best_epoch(self) -> int:
        """The epoch, from 1, whose weights the model has after ``fit``: the last if none scored."""
        return self._place.best_epoch or self._place.epoch

    @property
    def best_score(self) -> float | None:
        """Its score, None if no epoch had one."""
        return self._place.best_score if self._place.best_epoch else None

    def fit(self, task: Task[Any]) -> None:
        """Train to the end, from the beginning or from the checkpoint.

        Afterwards ``task.model`` has the weights of the best score, or the last ones (their
        average, if there is one) where no epoch had a score.

        Raises:
            TrainingError: If the loss is no number any more.
            MissingExtraError: If a logger's package is not there.
            ConfigError: If a logger cannot log here.
            ArtifactError: If a checkpoint cannot be written.
        """
        names = self._run.loggers if self.fabric.is_global_zero else ()
        with following(names, self._tracked) as self.log.loggers:
            self._train(task)
        if self._best:
            task.model.load_state_dict(self._best)

    def _train(self, task: Task[Any]) -> None:
        loop, place = task.loop, self._place
        forward = self.fabric.setup_module(task.model)
        optimizer: Any = self.fabric.setup_optimizers(
            AdamW(
                # After the line above, which may have replaced them by shards.
                [weight for weight in task.model.parameters() if weight.requires_grad],
                lr=loop.learning_rate,
                betas=loop.betas,
                weight_decay=loop.weight_decay,
                fused=self._run.precision != "16-mixed",  # Fabric clips no scaled gradients of it
            )
        )
        self._total_steps = loop.epochs * task.steps_per_epoch
        if loop.max_steps:
            self._total_steps = min(self._total_steps, loop.max_steps)
        if loop.weight_average:
            self._average = _copy_of(task.model)
        # On the device: reading a loss at every step would wait for a GPU at every step.
        self._loss_sums = torch.zeros(len(task.loss_names), device=self.fabric.device)
        self._watch = Stopwatch(self.seconds_before)
        if self._checkpoint is not None:
            self._restore(task, optimizer)
        seed_parts(self.fabric, self._run.seed, place.steps_done)
        task.model.train()
        while not self._is_finished(loop):
            if place.step == 0:
                task.begin_epoch(place.epoch)
            most = loop.max_steps - place.steps_done if loop.max_steps else None
            for batch in itertools.islice(task.batches(place.epoch, place.step), most):
                self._step(task, forward, optimizer, batch)
                is_due = self._watch.is_due(self._run.checkpoint_every_seconds)
                if first_decides(self.fabric, is_due):
                    self._save(task, optimizer)
            self._end_epoch(task)

    def _step(self, task: Task[Any], forward: nn.Module, optimizer: Any, batch: Any) -> None:
        loop, place = task.loop, self._place
        factor = warmup_cosine(place.steps_done, self._total_steps, loop.warmup_steps)
        for group in optimizer.param_groups:
            group["lr"] = loop.learning_rate * factor
        loss, logged = task.losses(forward, batch)
        self.fabric.backward(loss)
        if loop.gradient_norm is not None:
            # With float16, of unscaled gradients; where they overflow, the scaler skips the step.
            self.fabric.clip_gradients(
                forward, optimizer, max_norm=loop.gradient_norm, error_if_nonfinite=False
            )
        optimizer.step()
        optimizer.zero_grad()
        self._update_average(task)
        self._loss_sums += logged.detach()
        place.step += 1
        place.steps_done += 1

    def _end_epoch(self, task: Task[Any]) -> None:
        """Measure, log, and keep the weights if they are the best so far."""
        loop, place = task.loop, self._place
        self._loss_sums = mean_over_processes(self.fabric, self._loss_sums)
        sums = self._loss_sums.tolist()
        _check_finite(sum(sums), loop.section)
        losses = {
            name: total / place.step for name, total in zip(task.loss_names, sums, strict=True)
        }
        self._loss_sums.zero_()
        place.epoch, place.step = place.epoch + 1, 0
        is_last = place.epoch >= loop.epochs or self._has_enough_steps(loop)
        measured = self._measure(task, losses, is_last)
        self.log.add(
            {
                "epoch": place.epoch,
                "seconds": round(self._watch.seconds, 3),
                **losses,
                **measured.numbers,
            },
            f"epoch {place.epoch}/{loop.epochs}  {measured.message}",
        )

    def _measure(self, task: Task[Any], losses: Mapping[str, float], is_last: bool) -> Measured:
        place = self._place
        trained = _copy_of(task.model) if self._average else {}
        if self._average:
            task.model.load_state_dict(self._average)
        measured = task.end_epoch(place.epoch, losses, is_last)
        score = measured.score
        if score is not None and (place.best_epoch == 0 or score > place.best_score):
            place.best_epoch, place.best_score = place.epoch, score
            self._best = _copy_of(task.model)
        elif is_last and place.best_epoch == 0 and trained:
            self._best = _copy_of(task.model)
        if trained:
            task.model.load_state_dict(trained)
        return measured

    def _is_finished(self, loop: Loop) -> bool:
        place = self._place
        if place.step > 0:
            return False  # a checkpoint of the last step: the end of its epoch is still due
        waited = place.epoch - place.best_epoch
        is_patient = loop.patience == 0 or place.best_epoch == 0 or waited < loop.patience
        return place.epoch >= loop.epochs or self._has_enough_steps(loop) or not is_patient

    def _has_enough_steps(self, loop: Loop) -> bool:
        return 0 < loop.max_steps <= self._place.steps_done

    @torch.no_grad()
    def _update_average(self, task: Task[Any]) -> None:
        """Exponential moving average of the weights; the first steps average over fewer."""
        if not self._average:
            return
        done = self._place.steps_done
        decay = min(task.loop.weight_average, (1 + done) / (10 + done))
        current = task.model.state_dict()
        names = list(self._average)
        torch._foreach_lerp_(
            [self._average[name] for name in names], [current[name] for name in names], 1 - decay
        )

    def _save(self, task: Task[Any], optimizer: Any) -> None:
        place = self._place
        self._loss_sums = mean_over_processes(self.fabric, self._loss_sums)
        groups = {"task": task.state, "best": self._best, "average": self._average}
        extra = {
            f"{group}/{name}": tensor
            for group, tensors in groups.items()
            for name, tensor in tensors.items()
        }
        save_checkpoint(
            self._file if self.fabric.is_global_zero else None,
            identity=self._identity,
            state={
                "place": asdict(place),
                "seconds": self._watch.seconds,
                "rows": self.log.rows,
                "logger_versions": self.log.logger_versions,
                "precision": self.fabric.strategy.precision.state_dict(),
            },
            model=task.model,
            optimizer=optimizer,
            extra=extra | {"loss_sums": self._loss_sums},
        )
        mean = float(self._loss_sums[0]) / place.step
        logger.info(
            "step %d of %d  %s %.3f",
            place.steps_done,
            self._total_steps,
            task.loss_names[0],
            mean,
        )

    def _restore(self, task: Task[Any], optimizer: Any) -> None:
        assert self._checkpoint is not None
        checkpoint, self._checkpoint = self._checkpoint, None  # its tensors are free after this
        restore(checkpoint, task.model, optimizer)
        self.fabric.strategy.precision.load_state_dict(checkpoint.state["precision"])
        self._loss_sums = checkpoint.tensors["extra/loss_sums"].to(self.fabric.device)
        self._best = weights_like(task.model, checkpoint.group("extra/best"))
        self._average = weights_like(task.model, checkpoint.group("extra/average"))
        task.state.update(checkpoint.group("extra/task"))
        logger.info("going on from epoch %d, step %d", self._place.epoch, self._place.step)


def whole_state(model: nn.Module) -> dict[str, Tensor]:
    """All weights on the CPU, in every process; all must ask."""
    return {name: whole(value).cpu() for name, value in model.state_dict().items()}


def _check_finite(loss: float, section: str) -> None:
    """Stop a training whose loss is no number any more."""
    if not math.isfinite(loss):
        advice = (
            f"lower {section}.learning_rate"
            if section
            else "try RunConfig.precision=32-true or another seed"
        )
        raise TrainingError(
            f"the loss became {loss}: the training has diverged; {advice} and run the command again"
        )


def _copy_of(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}
