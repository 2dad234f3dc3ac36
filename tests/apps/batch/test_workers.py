"""Shards are made once, whole or not at all, and made again when something changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from tests.apps.batch.conftest import read_all, write_shards

from hidvae.apps.batch import Workers
from hidvae.apps.batch.shards import UNFINISHED
from hidvae.apps.batch.workers import Counts, Work, open_shards, run_job
from hidvae.errors import ArtifactError, ConfigError


@dataclass
class Doubling:
    """A job that notes what it does."""

    factor: int = 2
    stops_at: str = ""
    loads: int = 0
    seen: list[str] = field(default_factory=list)
    name = "double"
    columns = {"user_id": "id"}

    @property
    def made_with(self) -> Mapping[str, Any]:
        return {"factor": self.factor}

    def load(self) -> Work:
        self.loads += 1

        def double(path: Path) -> tuple[pl.DataFrame, Counts]:
            if path.name == self.stops_at:
                raise KeyboardInterrupt
            self.seen.append(path.name)
            frame = pl.read_parquet(path)
            return frame * self.factor, {"odd": int((frame["user_id"] % 2).sum())}

        return double


@pytest.fixture
def input(tmp_path: Path) -> Path:
    return write_shards(pl.DataFrame({"user_id": range(9)}), tmp_path / "input", 3)


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "output"


def run(job: Doubling, input: Path, output: Path) -> dict[str, int]:
    return dict(run_job(job, input, output, open_shards(input, output, job.columns), Workers()))


NAMES = ["part-0.parquet", "part-1.parquet", "part-2.parquet"]


def test_the_model_is_loaded_once(input: Path, output: Path) -> None:
    job = Doubling()
    assert run(job, input, output) == {"rows": 9, "odd": 4}
    assert (job.loads, job.seen) == (1, NAMES)
    assert read_all(output)["user_id"].to_list() == list(range(0, 18, 2))


def test_nothing_is_made_twice(input: Path, output: Path) -> None:
    run(Doubling(), input, output)
    again = Doubling()
    assert run(again, input, output) == {"rows": 9, "odd": 4}
    assert (again.loads, again.seen) == (0, [])


def test_a_stopped_job_goes_on_with_what_is_missing(input: Path, output: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(Doubling(stops_at="part-1.parquet"), input, output)
    (output / f".part-1.parquet.0{UNFINISHED}").write_bytes(b"half")
    job = Doubling()
    assert run(job, input, output) == {"rows": 9, "odd": 4}
    assert job.seen == NAMES[1:]
    assert sorted(path.name for path in output.iterdir()) == NAMES


def test_a_changed_shard_is_made_again(input: Path, output: Path) -> None:
    run(Doubling(), input, output)
    pl.DataFrame({"user_id": [7]}).write_parquet(input / "part-2.parquet")
    job = Doubling()
    assert run(job, input, output)["rows"] == 7
    assert job.seen == NAMES[2:]


def test_other_settings_make_all_again(input: Path, output: Path) -> None:
    run(Doubling(), input, output)
    job = Doubling(factor=3)
    run(job, input, output)
    assert job.seen == NAMES
    assert read_all(output)["user_id"].to_list() == list(range(0, 27, 3))


def test_a_file_that_is_not_ours_is_replaced(input: Path, output: Path) -> None:
    output.mkdir()
    (output / "part-0.parquet").write_bytes(b"no Parquet")
    run(Doubling(), input, output)
    assert read_all(output).height == 9


def test_a_full_disk_leaves_nothing_behind(
    input: Path, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any, **settings: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pl.DataFrame, "write_parquet", fail)
    with pytest.raises(ArtifactError, match=r"part-0\.parquet: No space left on device; free"):
        run(Doubling(), input, output)
    assert not list(output.iterdir())


@pytest.mark.parametrize("settings", [{"number": 0}, {"threads": 0}])
def test_numbers_of_workers_are_checked(settings: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="expected at least 1; found 0"):
        Workers(**settings)


def test_only_several_workers_need_ray() -> None:
    assert not Workers().uses_ray
    assert not Workers(1).uses_ray
    assert Workers(2).uses_ray
    assert Workers(1, "local").uses_ray
