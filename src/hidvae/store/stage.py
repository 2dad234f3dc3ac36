"""What a stage is: one folder of a run, and how it is made from those before it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hidvae.config import Config
from hidvae.store.artifacts import StageWriter

if TYPE_CHECKING:
    from hidvae.run.run import Run


def _no_inputs(run: Run, config: Config) -> dict[str, str]:
    return {}


@dataclass(frozen=True)
class Stage:
    """One folder of a run; ``Run.make_stage`` makes it, or finds that it is up to date."""

    name: str
    """Name of the folder under the run."""
    command: str
    """``hidvae`` command that makes it; tokenize and train make two."""
    needs: tuple[str, ...]
    """Stages that it reads; their fingerprints are its inputs."""
    settings: Callable[[Config], Mapping[str, Any]]
    """The settings that change its result, as its manifest keeps them."""
    fit: Callable[[Run, Config, StageWriter], None]
    """Write the files, facts and metrics from the settings and the run's earlier stages."""
    inputs: Callable[[Run, Config], dict[str, str]] = _no_inputs
    """Fingerprints of what else it reads, by name, such as raw files."""
    is_seeded: bool = False
    """Whether RunConfig.seed changes its result."""
    is_parallel: bool = False
    """Whether the processes that torchrun started make it together; else the first one does."""

    @property
    def made_by(self) -> str:
        """The command to advise."""
        return f"hidvae {self.command}"
