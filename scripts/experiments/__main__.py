"""Run an experiment, keep what it measured in results/, write docs/results.md from all of them.

    python -m scripts.experiments final --data FOLDER       # default settings beside the baselines
    python -m scripts.experiments ablation --data FOLDER    # one part off in each row
    python -m scripts.experiments cold --data FOLDER        # items held out of training
    python -m scripts.experiments tags --data FOLDER        # tags hidden and filled in again
    python -m scripts.experiments new-items --data FOLDER   # items that come after training
    python -m scripts.experiments diversity --data FOLDER   # what variety costs (validation)
    python -m scripts.experiments calibration --data FOLDER # whether confidences can be believed
    python -m scripts.experiments page                      # results/*.json -> the page

Runs are kept under runs/results/ and not repeated; delete that folder after a change to the code.
With --jobs they are made side by side (set OMP_NUM_THREADS to the cores that each may have).
"""

from __future__ import annotations

import argparse
from pathlib import Path

from scripts.experiments import calibration, diversity, new_items, ranking, tags
from scripts.experiments.page import write_page
from scripts.experiments.runner import Request, start_log

from hidvae.evaluation.baselines.by_name import ALL
from hidvae.store.artifacts import write_json

RESULTS = Path("results")
PAGE = Path("docs/results.md")
EXPERIMENTS = {
    "final": ranking.final,
    "ablation": ranking.ablation,
    "cold": ranking.cold,
    "tags": tags.measure,
    "new-items": new_items.measure,
    "diversity": diversity.measure,
    "calibration": calibration.measure,
}


def main() -> None:
    """Parse the command line, measure, write."""
    start_log()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("experiment", choices=(*EXPERIMENTS, "page"))
    parser.add_argument("--data", type=Path, help="folder with items and interactions")
    parser.add_argument("--seeds", type=int, default=3, help="seeds of every row, from 0 on")
    parser.add_argument(
        "--config", type=Path, action="append", default=[], help="gin file; repeatable"
    )
    parser.add_argument(
        "--set", action="append", default=[], dest="overrides", help="setting of every row"
    )
    parser.add_argument("--jobs", type=int, default=1, help="runs that are made side by side")
    parser.add_argument(
        "--baselines", nargs="+", default=[ALL], help="of final and cold; all by default"
    )
    parser.add_argument(
        "--sources", nargs="+", choices=tags.SOURCES, default=Request.sources, help="of tags"
    )
    parser.add_argument("--output", type=Path, help="file in place of results/…json")
    given = parser.parse_args()
    if given.experiment != "page":
        if given.data is None:
            parser.error("--data: expected a folder with items and interactions")
        request = Request(
            given.data,
            given.seeds,
            given.config,
            given.overrides,
            given.jobs,
            tuple(given.baselines),
            tuple(given.sources),
        )
        file = given.output or RESULTS / result_name(given.experiment, given.data.name)
        file.parent.mkdir(parents=True, exist_ok=True)
        write_json(file, EXPERIMENTS[given.experiment](request))
    write_page(RESULTS, PAGE)


def result_name(experiment: str, data: str) -> str:
    """Name of the file that keeps what an experiment measured."""
    is_ranking = experiment in ("final", "ablation", "cold")
    return f"{data}-{experiment}.json" if is_ranking else f"{experiment}-{data}.json"


if __name__ == "__main__":
    main()
