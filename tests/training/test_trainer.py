"""The loop itself, on a model of a few weights: nothing is lost by a stop at any moment."""

from __future__ import annotations

import csv
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.precision import MixedPrecision
from torch import Tensor, nn

from hidvae.config import RunConfig
from hidvae.errors import TrainingError
from hidvae.training import loggers as loggers_module
from hidvae.training import trainer as trainer_module
from hidvae.training.progress import Stopwatch
from hidvae.training.schedule import warmup_cosine
from hidvae.training.trainer import Loop, Measured, Task, Trainer
from training.test_loggers import Memory, start_memory
from training.trained import RUN, Stopped, stopped_after

STEPS = 12  # 4 epochs of 3
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "scored": {"scores": (0.3, 0.1, 0.5, 0.2)},
    "averaged": {"scores": (0.3, 0.1, 0.5, 0.2), "weight_average": 0.9, "gradient_norm": 0.01},
    "patient": {"scores": (0.3, 0.1, 0.2, 0.9), "patience": 2},
    "most steps": {"scores": (0.3, 0.1, 0.5), "max_steps": 8},
}


class Toy(Task[Tensor]):
    """Dropout needs the random numbers, and each epoch's order needs the one before."""

    loss_names = ("square", "double")
    steps_per_epoch = 3

    def __init__(self, scores: Sequence[float] = (), **loop: Any) -> None:
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(4, 5), nn.Dropout(0.5), nn.Linear(5, 1))
        defaults = {"epochs": 4, "learning_rate": 0.1, "weight_decay": 0.01}
        self.loop = Loop(section="ToyConfig", **{**defaults, **loop})
        self.state = {"order": torch.arange(6)}
        self.items = torch.randn(6, 4)
        self.scores = scores
        self.began: list[int] = []
        self.ended: list[tuple[int, bool]] = []
        self.rates: list[float] = []
        self.measured: list[dict[str, Tensor]] = []

    def begin_epoch(self, epoch: int) -> None:
        self.began.append(epoch)
        self.state["order"] = self.state["order"].roll(1 + epoch)

    def batches(self, epoch: int, start: int) -> Iterator[Tensor]:
        for step in range(start, self.steps_per_epoch):
            yield self.items[self.state["order"][2 * step : 2 * step + 2]]

    def losses(self, forward: nn.Module, batch: Tensor) -> tuple[Tensor, Tensor]:
        loss = forward(batch).float().square().mean()
        return loss, torch.stack([loss, 2 * loss])

    def end_epoch(self, epoch: int, losses: Mapping[str, float], is_last: bool) -> Measured:
        self.ended.append((epoch, is_last))
        self.measured.append(weights(self))
        score = self.scores[epoch - 1] if self.scores else None
        return Measured({"half": losses["square"] / 2}, f"square {losses['square']:.3f}", score)


def trainer_of(folder: Path, run: RunConfig = RUN, identity: str = "me") -> Trainer:
    checkpoint = folder / ".toy.checkpoint"
    return Trainer(run, name="toy", checkpoint=checkpoint, identity=identity, settings={"a": 1})


def train(folder: Path, task: Toy, run: RunConfig = RUN, identity: str = "me") -> Trainer:
    trainer = trainer_of(folder, run, identity)
    trainer.fit(task)
    return trainer


def weights(task: Toy) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in task.model.state_dict().items()}


def equal(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> bool:
    return all(torch.equal(first[name], second[name]) for name in first)


def rows(trainer: Trainer) -> list[dict[str, Any]]:
    return [{k: v for k, v in row.items() if k != "seconds"} for row in trainer.log.rows]


@pytest.fixture(autouse=True)
def log_lines_reach_caplog(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A command run by an earlier test may have taken the package's log lines for itself."""
    monkeypatch.setattr(logging.getLogger("hidvae"), "propagate", True)
    caplog.set_level("INFO", "hidvae")


# --- stopped and resumed ------------------------------------------------------------------------


@pytest.mark.parametrize("variant", VARIANTS)
def test_stopped_after_any_step_and_resumed_it_is_the_same(variant: str, tmp_path: Path) -> None:
    whole = Toy(**VARIANTS[variant])
    uninterrupted = train(tmp_path / "whole", whole)
    steps = uninterrupted._place.steps_done
    assert steps == {"patient": 9, "most steps": 8}.get(variant, STEPS)
    for saves in range(1, steps + 1):
        with stopped_after(saves):
            train(tmp_path / str(saves), Toy(**VARIANTS[variant]))
        task = Toy(**VARIANTS[variant])
        with torch.no_grad():  # what it was before does not matter
            task.model[0].weight.fill_(7)
        trainer = train(tmp_path / str(saves), task)
        assert equal(weights(task), weights(whole)), saves
        assert rows(trainer) == rows(uninterrupted)
        best = (uninterrupted.best_epoch, uninterrupted.best_score)
        assert (trainer.best_epoch, trainer.best_score) == best
        first = (saves - 1) // 3  # the epoch that it goes on with, whose beginning is over
        assert task.began == whole.began[first + 1 :]
        assert task.ended == whole.ended[first:]


def test_stopped_thrice_between_checkpoints(tmp_path: Path) -> None:
    """Steps after the last checkpoint are done again, with the same random numbers."""
    train(tmp_path / "whole", whole := Toy())
    for attempt in range(4):
        asked: list[int] = []

        def is_due(*_: Any, asked: list[int] = asked, attempt: int = attempt) -> bool:
            asked.append(1)
            if len(asked) == 3 and attempt < 3:
                raise Stopped
            return len(asked) % 2 == 0

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Stopwatch, "is_due", is_due)
            if attempt < 3:
                with pytest.raises(Stopped):
                    train(tmp_path, Toy())
            else:
                train(tmp_path, task := Toy())
    assert len(asked) == STEPS - 3 * 2
    assert equal(weights(task), weights(whole))


def test_stopped_while_it_measures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = VARIANTS["averaged"]
    train(tmp_path / "whole", whole := Toy(**settings))

    def stop(*_: Any) -> None:
        raise Stopped

    with monkeypatch.context() as patch:
        patch.setattr(Toy, "end_epoch", stop)
        with pytest.raises(Stopped):
            train(tmp_path, Toy(**settings))
    train(tmp_path, task := Toy(**settings))
    assert equal(weights(task), weights(whole))
    assert task.ended == whole.ended


def test_stopped_before_the_first_checkpoint_it_starts_anew(tmp_path: Path) -> None:
    rarely = replace(RUN, checkpoint_every_seconds=1e6)
    train(tmp_path / "whole", whole := Toy(), rarely)
    assert whole.began == [0, 1, 2, 3]
    assert not (tmp_path / "whole" / ".toy.checkpoint" / "checkpoint.safetensors").exists()
    assert trainer_of(tmp_path / "whole").seconds_before == 0


def test_the_time_of_all_attempts_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with stopped_after(5):
        train(tmp_path, Toy())
    trainer = trainer_of(tmp_path)
    assert trainer.seconds_before > 0
    trainer.fit(Toy())
    seconds = [row["seconds"] for row in trainer.log.rows]
    assert seconds == sorted(seconds) and seconds[-1] >= round(trainer.seconds_before, 3)


@pytest.mark.parametrize("change", ["identity", "layout"])
def test_another_checkpoint_is_not_used_and_a_line_says_so(
    change: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    train(tmp_path / "whole", whole := Toy())
    with monkeypatch.context() as patch, stopped_after(5):
        if change == "layout":
            patch.setattr("hidvae.training.checkpoint._LAYOUT", "")  # as the first version wrote it
        train(tmp_path, Toy(), identity="you" if change == "identity" else "me")
    train(tmp_path, task := Toy())
    assert "with other settings, inputs or of another version" in caplog.text
    assert task.began == [0, 1, 2, 3]
    assert equal(weights(task), weights(whole))


# --- the end ------------------------------------------------------------------------------------


def test_the_best_weights_are_kept_and_patience_stops(tmp_path: Path) -> None:
    stopped, unlimited = (Toy((0.1, 0.5, 0.5, 0.4, 0.9), epochs=5, patience=p) for p in (2, 0))
    trainer = train(tmp_path / "stopped", stopped)
    assert len(trainer.log.rows) == 4, "two epochs without a better one"
    assert (trainer.best_epoch, trainer.best_score) == (2, 0.5)
    assert equal(weights(stopped), stopped.measured[1])
    assert train(tmp_path / "unlimited", unlimited).best_epoch == 5
    assert equal(weights(unlimited), unlimited.measured[4])


def test_a_score_below_zero_is_better_than_none(tmp_path: Path) -> None:
    trainer = train(tmp_path, Toy((-5.0, -3.0, -4.0, -9.0)))
    assert (trainer.best_epoch, trainer.best_score) == (2, -3.0)


def test_without_a_score_the_last_weights_are_kept(tmp_path: Path) -> None:
    trainer = train(tmp_path, task := Toy(patience=1))
    assert (trainer.best_epoch, trainer.best_score) == (4, None)
    assert task.ended == [(1, False), (2, False), (3, False), (4, True)]
    assert equal(weights(task), task.measured[3])


@pytest.mark.parametrize("most", [2, 3, 4, 100])
def test_it_stops_after_the_most_steps_and_measures_there(most: int, tmp_path: Path) -> None:
    trainer = train(tmp_path, task := Toy(max_steps=most))
    steps = min(most, STEPS)
    assert trainer._place.steps_done == steps
    assert [is_last for _, is_last in task.ended] == [False] * (-(-steps // 3) - 1) + [True]


def test_a_loss_that_is_no_number_ends_it(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"diverged; lower ToyConfig\.learning_rate") as error:
        train(tmp_path, Toy(learning_rate=1e30))
    assert "\n" not in str(error.value)


# --- a step -------------------------------------------------------------------------------------


def test_the_average_is_measured_and_kept_and_does_not_train(tmp_path: Path) -> None:
    train(tmp_path / "plain", plain := Toy((1, 2, 3, 4)), RUN)
    averaged = Toy((1, 2, 3, 4), weight_average=0.3)
    after: list[dict[str, Tensor]] = [weights(averaged)]
    update = Trainer._update_average

    def watch(self: Trainer, task: Toy) -> None:
        after.append(weights(task))
        update(self, task)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "_update_average", watch)
        trainer = train(tmp_path / "averaged", averaged)
    assert rows(trainer)[-1]["square"] == trainer_rows(tmp_path / "plain")[-1]["square"]
    expected = after[0]
    for done, current in enumerate(after[1:]):
        decay = min(0.3, (1 + done) / (10 + done))
        expected = {n: decay * expected[n] + (1 - decay) * current[n] for n in current}
    for name, value in weights(averaged).items():
        torch.testing.assert_close(value, expected[name])
    assert equal(after[-1], weights(plain)), "it trains on from its own weights"


def trainer_rows(folder: Path) -> list[dict[str, float]]:
    with (folder / ".toy.checkpoint" / "log.csv").open(newline="") as file:
        return [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]


def norms_of_clipped(task: Toy, folder: Path, fabric: Fabric) -> list[float]:
    """Length of the gradients at each step before they are clipped."""
    clip, norms = torch.nn.utils.clip_grad_norm_, []

    def watch(*arguments: Any, **options: Any) -> Tensor:
        norms.append(float(norm := clip(*arguments, **options)))
        return norm

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.nn.utils, "clip_grad_norm_", watch)
        patch.setattr(trainer_module, "start_fabric", lambda run, layer: fabric)
        precision = "16-mixed" if fabric.strategy.precision.precision == "16-mixed" else "32-true"
        train(folder, task, replace(RUN, precision=precision))
    return norms


def half_precision() -> Fabric:
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=2)
    return Fabric(accelerator="cpu", devices=1, plugins=[MixedPrecision("16-mixed", "cpu", scaler)])


def test_float16_clips_the_gradients_and_not_their_scaled_copies(tmp_path: Path) -> None:
    """Scaled, every gradient was once cut to next to nothing."""
    single = Fabric(accelerator="cpu", devices=1)
    settings = {"gradient_norm": 1e-3, "learning_rate": 1e-3, "epochs": 1}
    wanted = norms_of_clipped(Toy(**settings), tmp_path / "32", single)
    found = norms_of_clipped(Toy(**settings), tmp_path / "16", half_precision())
    assert found == pytest.approx(wanted, rel=0.02)
    assert len(found) == 3 and found != wanted


def test_float16_goes_on_with_the_scale_that_it_had(tmp_path: Path) -> None:
    def attempt(folder: Path) -> tuple[Fabric, Toy]:
        fabric, task = half_precision(), Toy(gradient_norm=1.0)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(trainer_module, "start_fabric", lambda run, layer: fabric)
            train(folder, task, replace(RUN, precision="16-mixed"))
        return fabric, task

    fabric, whole = attempt(tmp_path / "whole")
    with stopped_after(5):
        attempt(tmp_path / "stopped")
    resumed, task = attempt(tmp_path / "stopped")
    scales = [f.strategy.precision.scaler.get_scale() for f in (fabric, resumed)]
    assert scales[0] == scales[1] != 1024
    assert equal(weights(task), weights(whole))


def test_the_rate_follows_the_schedule(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rates: list[float] = []

    class Watched(torch.optim.AdamW):
        def step(self, *arguments: Any, **options: Any) -> Any:
            rates.append(self.param_groups[0]["lr"])
            return super().step(*arguments, **options)

    monkeypatch.setattr(trainer_module, "AdamW", Watched)
    train(tmp_path, Toy(warmup_steps=3, max_steps=10))
    assert rates == [0.1 * warmup_cosine(step, 10, 3) for step in range(10)]


# --- what it says -------------------------------------------------------------------------------


def test_every_checkpoint_and_every_epoch_say_how_far_it_is(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trainer = train(tmp_path, Toy())
    said = [record.getMessage() for record in caplog.records]
    losses = [f"square {row['square']:.3f}" for row in trainer.log.rows]
    steps = [line.split("  ") for line in said if line.startswith("step ")]
    assert [line for line, _ in steps] == [f"step {n} of {STEPS}" for n in range(1, STEPS + 1)]
    assert [loss for _, loss in steps][2::3] == losses, "the mean of the epoch so far"
    assert [line for line in said if line.startswith("epoch ")] == [
        f"epoch {n + 1}/4  {loss}" for n, loss in enumerate(losses)
    ]


def test_the_log_grows_beside_the_checkpoint(tmp_path: Path) -> None:
    with stopped_after(8):
        train(tmp_path, Toy())
    assert [row["epoch"] for row in trainer_rows(tmp_path)] == [1, 2]
    trainer = train(tmp_path, Toy())
    assert trainer_rows(tmp_path) == trainer.log.rows
    for row in trainer.log.rows:
        assert list(row) == ["epoch", "seconds", "square", "double", "half"]
        assert (row["double"], row["half"]) == pytest.approx((2 * row["square"], row["square"] / 2))


def test_loggers_get_every_epoch_and_keep_their_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = start_memory(monkeypatch)
    seen: list[loggers_module.TrackedTraining] = []

    def start(training: loggers_module.TrackedTraining) -> Memory:
        seen.append(training)
        return memory

    monkeypatch.setitem(loggers_module._MAKERS, "wandb", start)
    run = replace(RUN, loggers=("csv", "wandb"))
    with stopped_after(5):
        train(tmp_path / "shop", Toy(), run)
    assert memory.ended == "failed"
    train(tmp_path / "shop", Toy(), run)
    assert memory.ended == "success"
    assert [step for step, _ in memory.rows] == [1, 2, 3, 4]
    assert [one.name for one in seen] == ["shop toy"] * 2
    assert [one.settings for one in seen] == [{"a": 1}] * 2
    assert [(one.epochs_done, one.versions) for one in seen] == [(0, {}), (1, {"memory": "v1"})]


def test_further_processes_log_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = start_memory(monkeypatch)
    trainer = trainer_of(tmp_path, replace(RUN, loggers=("wandb",), checkpoint_every_seconds=1e6))
    monkeypatch.setattr(type(trainer.fabric), "is_global_zero", False)
    trainer.fit(Toy())
    assert memory.rows == []
