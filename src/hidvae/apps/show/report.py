"""A run as one web page that needs nothing beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from markupsafe import Markup

from hidvae.apps.show.figures import plotly_script
from hidvae.apps.show.formats import number, score_with_interval
from hidvae.apps.show.page import Section, page, paragraph, write_page
from hidvae.apps.show.report_ids import codebook_parts, collision_parts, purity_parts, tree_parts
from hidvae.apps.show.report_scores import (
    MAIN_TASK,
    difference_parts,
    list_cutoff_of,
    metric_parts,
    read_metrics,
    slice_parts,
)
from hidvae.apps.show.report_sources import (
    decision_parts,
    manifest_parts,
    settings_parts,
    timing_parts,
)
from hidvae.apps.show.report_tags import accuracy_parts, calibration_parts, confusion_parts
from hidvae.apps.show.report_training import training_parts
from hidvae.apps.show.report_users import user_parts
from hidvae.errors import HidvaeError, NotTrainedError
from hidvae.run.run import CONFIG
from hidvae.run.stages import STAGES
from hidvae.store.artifacts import read_stage

FILE = "report.html"

Parts = Callable[[Path], Iterator[Markup]]

_SECTIONS: dict[str, Parts] = {
    "Metrics": metric_parts,
    "Differences": difference_parts,
    "Slices": slice_parts,
    "Some users": user_parts,
    "Decisions": decision_parts,
    "Training": training_parts,
    "Codebooks": codebook_parts,
    "Collisions": collision_parts,
    "Tree of semantic IDs": tree_parts,
    "Purity of prefixes": purity_parts,
    "Tag accuracy": accuracy_parts,
    "Tag confusion": confusion_parts,
    "Calibration": calibration_parts,
    "Time": timing_parts,
    "Settings": settings_parts,
    "Manifests": manifest_parts,
}


def write_report(run: Path | str, file: Path | str | None = None) -> Path:
    """Write the report of a run; what the run lacks is said in its place.

    Args:
        run: Folder that ``hidvae run`` or the single commands wrote.
        file: Page to write; ``RUN/report.html`` by default.

    Returns:
        The page.

    Raises:
        NotTrainedError: If there is no run.
        ArtifactError: If the page cannot be written.
    """
    run = Path(run)
    check_run(run)
    file = run / FILE if file is None else Path(file)
    write_page(run_page(run), file)
    return file


def run_page(run: Path) -> str:
    """The page of ``write_report``; the same run gives the same page."""
    script = plotly_script()
    sections = [Section(title, _parts_of(run, parts)) for title, parts in _SECTIONS.items()]
    introduction = [*_parts_of(run, _dataset_line), *_parts_of(run, _headline)]
    return page(f"Run {run.resolve().name}", introduction, sections, script)


def check_run(run: Path) -> None:
    """Fail if a folder holds nothing of a run.

    Raises:
        NotTrainedError: Says what makes one.
    """
    names = [stage.name for stage in STAGES]
    if not (run / CONFIG).is_file() and not any((run / name).is_dir() for name in names):
        raise NotTrainedError(
            f"{run} is no run: it has neither {CONFIG} nor a stage folder; make one with "
            f"`hidvae run --output {run}`"
        )


def _parts_of(run: Path, parts: Parts) -> list[Markup]:
    """What a section holds, or the one line why the run has none."""
    try:
        return list(parts(run))
    except HidvaeError as error:
        return [paragraph(f"Not in this report: {error}")]


def _dataset_line(run: Path) -> Iterator[Markup]:
    facts = read_stage(run / "dataset", produced_by="hidvae prepare").facts
    yield paragraph(
        f"Dataset {facts['name']}: {number(facts['num_users'])} users, "
        f"{number(facts['num_items'])} items, {number(facts['num_events'])} events."
    )


def _headline(run: Path) -> Iterator[Markup]:
    metrics = read_metrics(run)
    k = list_cutoff_of(metrics)
    shown = [
        f"{name} {score_with_interval(metrics[MAIN_TASK], name)}"
        for name in (f"recall@{k}", f"ndcg@{k}")
    ]
    yield paragraph(f"On test, history excluded: {', '.join(shown)}.")
