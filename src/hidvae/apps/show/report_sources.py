"""Where a run comes from: time per stage, settings, inputs, versions, machine."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from markupsafe import Markup

from hidvae.apps.show.figures import stacked_rows
from hidvae.apps.show.formats import NOTHING, seconds
from hidvae.apps.show.page import details, figures, heading, paragraph, table
from hidvae.config import SECTIONS, Config
from hidvae.errors import HidvaeError, NotTrainedError
from hidvae.run.run import CONFIG, Run
from hidvae.run.stages import STAGES
from hidvae.store.artifacts import StageFolder, read_json, read_stage

_SHOWN_ELSEWHERE = ("metrics", "files")
_FINGERPRINT_LETTERS = 12


def stages_of(run: Path) -> dict[str, StageFolder]:
    """The whole stage folders of a run, in order."""
    found = {}
    for stage in STAGES:
        try:
            found[stage.name] = read_stage(run / stage.name, produced_by=f"hidvae {stage.command}")
        except HidvaeError:  # the section that needs it says so
            continue
    return found


def timing_parts(run: Path) -> Iterator[Markup]:
    """Wall time of each stage."""
    taken = {name: folder.wall_seconds for name, folder in stages_of(run).items()}
    if not taken:
        raise NotTrainedError("no stage is complete yet")
    drawn = stacked_rows("timing", list(taken), {"wall time": list(taken.values())}, x="seconds")
    yield figures([("Wall time", drawn)])
    rows = [(name, seconds(value)) for name, value in taken.items()]
    yield table([*rows, ("together", seconds(sum(taken.values())))], numbers=(1,))


def decision_parts(run: Path) -> Iterator[Markup]:
    """What was chosen for the user."""
    decisions = Run(run).decisions
    if decisions:
        yield table(
            [(decision.text, decision.change or NOTHING) for decision in decisions],
            ("decided", "setting that changes it"),
        )
    else:
        yield paragraph("Nothing had to be decided: all tables were taken as they are.")


def settings_parts(run: Path) -> Iterator[Markup]:
    """What was set, and every setting that was in force."""
    opened = Run(run)
    stored = Config.from_json(read_json(run / CONFIG))
    config, defaults = opened.fitted(stored).to_json(), Config().to_json()
    rows = [
        (f"{section}.{name}", json.dumps(value), json.dumps(defaults[section][name]))
        for section in SECTIONS
        for name, value in config[section].items()
        if value != defaults[section][name]
    ]
    if rows:
        yield heading("Other than the defaults")
        yield table(rows, ("setting", "here", "default"))
    else:
        yield paragraph("All as by default.")
    yield details("All settings", json.dumps(config, indent=2, ensure_ascii=False))


def manifest_parts(run: Path) -> Iterator[Markup]:
    """Each stage's manifest; its metrics stand in the other sections."""
    folders = stages_of(run)
    if not folders:
        raise NotTrainedError("no stage is complete yet")
    rows = [
        (
            name,
            folder.fingerprint[:_FINGERPRINT_LETTERS],
            NOTHING if folder.manifest["seed"] is None else str(folder.manifest["seed"]),
            folder.manifest["versions"].get("hidvae", NOTHING),
            (folder.manifest["git_commit"] or NOTHING)[:_FINGERPRINT_LETTERS],
            folder.manifest["machine"],
        )
        for name, folder in folders.items()
    ]
    yield table(rows, ("stage", "fingerprint", "seed", "hidvae", "commit", "machine"))
    for name, folder in folders.items():
        kept = {key: value for key, value in folder.manifest.items() if key not in _SHOWN_ELSEWHERE}
        yield details(f"{name}/manifest.json", json.dumps(kept, indent=2, ensure_ascii=False))
