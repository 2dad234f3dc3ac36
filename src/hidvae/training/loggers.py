"""An epoch's numbers, besides log.csv, in TensorBoard, Weights & Biases or MLflow.

All are loggers of Lightning Fabric. ``version`` is what a service calls this training; it travels
in the checkpoint, so that a resumed training goes on there. The first process alone logs.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lightning_fabric.loggers.logger import Logger
from lightning_fabric.loggers.tensorboard import TensorBoardLogger

from hidvae.errors import ConfigError, HidvaeError, MissingExtraError

FOLDER = "logs"
"""Of a run: what TensorBoard and Weights & Biases keep on disk."""
PROJECT = "hidvae"
"""Name of the project (Weights & Biases) or experiment (MLflow)."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrackedTraining:
    """What a logger must know of the training that it follows."""

    stage: str
    """What is trained: ``tokenizer``."""
    run: Path
    """Folder of the run."""
    settings: Mapping[str, Any]
    epochs_done: int = 0
    """Epochs that were logged before a resumed training goes on."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """Name of a logger -> what it called the resumed training."""

    @property
    def name(self) -> str:
        """Run and stage, such as ``demo tokenizer``."""
        return f"{self.run.resolve().name} {self.stage}"

    @property
    def folder(self) -> Path:
        """Where files of loggers go."""
        return self.run / FOLDER


def check_loggers(names: Sequence[str]) -> None:
    """Fail before anything is computed if a logger's package is not there.

    Args:
        names: As ``RunConfig.loggers``; csv needs none.

    Raises:
        MissingExtraError: Names the extra.
    """
    for name in names:
        if name != "csv" and importlib.util.find_spec(name) is None:
            raise MissingExtraError(
                f"RunConfig.loggers names {name}, which is not installed; "
                f'pip install "hidvae[{name}]"'
            )


@contextlib.contextmanager
def following(names: Sequence[str], training: TrackedTraining) -> Iterator[list[Logger]]:
    """The loggers of a training, told at the end how it went.

    Raises:
        MissingExtraError: If a logger's package is not there.
        ConfigError: If a service cannot be reached.
    """
    check_loggers(names)
    with contextlib.ExitStack() as opened:
        loggers: list[Logger] = []
        for name in dict.fromkeys(names):
            if name != "csv":
                loggers.append(_start(name, training))
                opened.push(_finalize(loggers[-1]))
        yield loggers


def log_epoch(loggers: list[Logger], row: Mapping[str, Any]) -> None:
    """Hand on a row of log.csv; a logger that fails is given up, the training is not."""
    numbers = {name: float(value) for name, value in row.items() if name != "epoch"}
    for following_one in list(loggers):
        try:
            following_one.log_metrics(numbers, step=row["epoch"])
        except Exception as error:  # a server that is gone fails in many types
            loggers.remove(following_one)
            logger.warning(
                "%s failed and gets no further epoch (%s); log.csv goes on",
                following_one.name,
                " ".join(str(error).split()),
            )


def _start(name: str, training: TrackedTraining) -> Logger:
    try:
        return _MAKERS[name](training)
    except HidvaeError:
        raise
    except Exception as error:  # services fail in many types
        raise ConfigError(
            f"RunConfig.loggers names {name}, which cannot log here "
            f"({' '.join(str(error).split())}); set it up as its own documentation says, or leave "
            "it out"
        ) from error


def _finalize(one: Logger) -> Callable[..., None]:
    def end(error: type[BaseException] | None, *_: object) -> None:
        try:
            one.finalize("success" if error is None else "failed")
        except Exception as failed:
            logger.warning("%s was not closed (%s)", one.name, " ".join(str(failed).split()))

    return end


class _TensorBoard(TensorBoardLogger):
    """Fabric's, written out after every epoch so that it can be followed."""

    def __init__(self, training: TrackedTraining) -> None:
        super().__init__(
            training.folder / "tensorboard",
            name="",
            version=training.stage,
            # Readers drop what an older or a killed training wrote from this epoch on.
            purge_step=training.epochs_done + 1,
        )

    @property
    def name(self) -> str:
        return "tensorboard"

    @property
    def log_dir(self) -> str:
        return str(Path(self.root_dir) / str(self.version))

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        super().log_metrics(metrics, step)
        self.experiment.flush()


class _Wandb(Logger):
    """Where and as whom: WANDB_MODE, WANDB_API_KEY and the other variables of Weights & Biases."""

    def __init__(self, training: TrackedTraining) -> None:
        import wandb

        training.folder.mkdir(parents=True, exist_ok=True)
        self._run = wandb.init(
            project=PROJECT,
            name=training.name,
            dir=training.folder,
            config=dict(training.settings),
            id=training.versions.get(self.name),
            resume="allow",
        )

    @property
    def name(self) -> str:
        return "wandb"

    @property
    def version(self) -> str:
        return str(self._run.id)

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        self._run.log(dict(metrics), step=step)  # an epoch that it has is left as it is

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        self._run.config.update(params)

    def finalize(self, status: str) -> None:
        self._run.finish(exit_code=0 if status == "success" else 1)


class _Mlflow(Logger):
    """Where: MLFLOW_TRACKING_URI and the other variables of MLflow."""

    def __init__(self, training: TrackedTraining) -> None:
        from mlflow import MlflowClient

        self._client = MlflowClient()
        known = training.versions.get(self.name)
        self._last_step = 0
        if known is None:
            experiment = self._client.get_experiment_by_name(PROJECT)
            experiment_id = (
                experiment.experiment_id if experiment else self._client.create_experiment(PROJECT)
            )
            run = self._client.create_run(experiment_id, run_name=training.name)
            self._run_id = str(run.info.run_id)
            self.log_hyperparams(training.settings)
        else:
            self._run_id = known
            self._client.update_run(known, status="RUNNING")
            logged = self._client.get_metric_history(known, "seconds")
            self._last_step = max((metric.step for metric in logged), default=0)

    @property
    def name(self) -> str:
        return "mlflow"

    @property
    def version(self) -> str:
        return self._run_id

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        if step is not None and step <= self._last_step:
            return  # logged before the training was stopped; MLflow would keep both
        for metric, value in metrics.items():
            self._client.log_metric(
                self._run_id, metric.replace("@", "_at_"), value, step=step
            )  # MLflow allows no @ in a name

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        for setting, value in params.items():
            self._client.log_param(self._run_id, setting, value)

    def finalize(self, status: str) -> None:
        self._client.set_terminated(
            self._run_id, status="FINISHED" if status == "success" else "FAILED"
        )


_MAKERS: dict[str, Callable[[TrackedTraining], Logger]] = {
    "tensorboard": _TensorBoard,
    "wandb": _Wandb,
    "mlflow": _Mlflow,
}
