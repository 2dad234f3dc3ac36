"""One draw through the whole product, and what has to hold whatever was drawn."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import re
import shutil
import traceback
from pathlib import Path

from tests.oddities.grammar import Tables, draw

from hidvae.apps.cli import app, run_app

TINY = """
EmbeddingConfig.text_encoder = "hashing"
EmbeddingConfig.cooccurrence_dim = 4
TagConfig.num_clusters = (3, 2)
TokenizerConfig.codebook_size = 8
TokenizerConfig.epochs = 1
TokenizerConfig.hidden_dims = (16,)
TokenizerConfig.latent_dim = 8
RetrieverConfig.epochs = 1
RetrieverConfig.dim = 16
RetrieverConfig.num_layers = 1
RetrieverConfig.num_heads = 2
RetrieverConfig.warmup_steps = 1
GraphConfig.weights = (2.0,)
RunConfig.device = "cpu"
"""
"""Settings of a training that takes a fraction of a second."""
_LOG_LINE = re.compile(r"^\d\d:\d\d:\d\d ")


class Broken(AssertionError):
    """What did not hold, with the draw that shows it."""


class Attempt:
    """The commands on one draw; ``Broken`` names the seed, the command and the fault."""

    def __init__(self, seed: int, folder: Path) -> None:
        """Write the tables of a seed into a new folder."""
        self.seed, self.folder = seed, folder
        self.tables: Tables = draw(seed)
        self.data, self.run = folder / "data", folder / "run"
        self.data.mkdir(parents=True)
        self.tables.write(self.data)
        (folder / "tiny.gin").write_text(TINY)

    def holds(self) -> str:
        """Run all commands; "refused" or "recommended".

        Raises:
            Broken: If one ends in a traceback, more than one line, or counts that do not add up.
        """
        config = ["--config", str(self.folder / "tiny.gin")]
        given = ["--data", str(self.data), *config, *self.tables.settings]
        checked, _, _ = self.call("prepare", "--check", *given, lines=None)
        code, _, error = self.call("prepare", "--output", str(self.run), *given)
        if (checked == 0) != (code == 0):
            self.fail("prepare", f"--check ended with {checked}, prepare with {code}: {error}")
        if code:
            if self.run.exists():
                self.fail("prepare", f"refused, and left {sorted(self.run.rglob('*'))}")
            return "refused"
        self.counts_add_up()
        code, out, error = self.call("run", "--output", str(self.run), *given)
        if code:
            self.fail("run", f"prepare took the tables, a later stage did not: {error}")
        if "Report:" not in out:
            self.fail("run", "no report")
        self.needs("check", str(self.run))
        self.needs("inspect", str(self.run))
        self.needs("inspect", str(self.data))
        item = self.first_item()
        (self.folder / "history.txt").write_text(item + "\n", encoding="utf-8")
        if "\n" not in item and "\r" not in item:
            history = ["--history-file", str(self.folder / "history.txt")]
            self.needs("recommend", "--model", str(self.run), *history)
            out = self.needs("recommend", "--model", str(self.run), *history, "--json")
            json.loads(out, parse_constant=self.no_constant)
        self.needs("report", str(self.run))
        self.needs("export", str(self.run), "--output", str(self.folder / "exported"))
        items = next((p for p in self.data.iterdir() if p.name.lower().startswith("items")), None)
        if items is not None:
            self.call("add-items", "--model", str(self.run), "--items", str(items), "--update")
        return "recommended"

    def call(self, *words: str, lines: int | None = 1) -> tuple[int, str, str]:
        """A command's exit code, stdout and error line.

        Args:
            words: The command line.
            lines: How many lines an error has; None where it may be a list of problems.
        """
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                code = run_app(app, "hidvae", list(words))
            except BaseException:  # noqa: BLE001 - whatever it is, it is no answer to a user
                self.fail(words[0], traceback.format_exc())
        said = [line for line in err.getvalue().splitlines() if not _LOG_LINE.match(line)]
        if code not in (0, 2):
            self.fail(words[0], f"exit code {code}: {err.getvalue()}")
        if code == 2 and lines is not None:
            if len(said) != lines or not said[0].startswith("hidvae: error: "):
                self.fail(words[0], f"expected one line; found {said}")
        if "Traceback" in err.getvalue():
            self.fail(words[0], err.getvalue())
        if left := [p for p in self.folder.rglob("*") if ".writing" in p.name]:
            self.fail(words[0], f"half-written: {left}")
        return code, out.getvalue(), "\n".join(said)

    def needs(self, *words: str) -> str:
        """A command that has to succeed; its stdout."""
        code, out, error = self.call(*words)
        if code:
            self.fail(words[0], error)
        return out

    def counts_add_up(self) -> None:
        """Every row of the log is an event or is counted among those left out."""
        manifest = json.loads((self.run / "dataset" / "manifest.json").read_text(encoding="utf-8"))
        found = manifest["metrics"]
        read = found["num_events"] + found["dropped_events"]
        if self.tables.num_events >= 0 and read < self.tables.num_events:
            self.fail("prepare", f"{self.tables.num_events} rows, {read} kept or counted: {found}")

    def first_item(self) -> str:
        """The first id of the prepared catalogue."""
        import polars as pl

        frame = pl.read_parquet(self.run / "dataset" / "items.parquet", glob=False)
        return str(frame["item_id"][0])

    def fail(self, command: str, why: str) -> None:
        """Raise ``Broken`` with all that is needed to see it again."""
        raise Broken(
            f"seed {self.seed}, hidvae {command}: {why}\ndrawn: {'; '.join(self.tables.story)}\n"
            f"files: {', '.join(self.tables.files)}"
        )

    @staticmethod
    def no_constant(name: str) -> None:
        """JSON has no NaN."""
        raise Broken(f"{name} in JSON")


def attempt(seed: int, folder: Path) -> str:
    """One draw in a folder of its own, which is removed at the end.

    Raises:
        Broken: If something does not hold.
    """
    place = folder / f"seed-{seed}"
    try:
        return Attempt(seed, place).holds()
    finally:
        shutil.rmtree(place, ignore_errors=True)


def outcome(seed: int, folder: Path) -> tuple[int, str, str]:
    """Seed, "recommended", "refused" or "broken", and what was broken; for a process of its own."""
    logging.disable(logging.INFO)
    try:
        return seed, attempt(seed, folder), ""
    except Broken as error:
        return seed, "broken", str(error)
