"""The whole job from Python: settings, stages, metrics, recommendations.

python examples/demo_end_to_end.py                  (as `make run`, into runs/demo)
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from hidvae import Recommender, load_config
from hidvae.data.prepare import load_dataset
from hidvae.run.run import Run
from hidvae.store.artifacts import read_json

DEMO = Path(__file__).parent.parent / "configs" / "demo.gin"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run all stages on the demo catalogue and show what came out."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--output", type=Path, default=Path("runs/demo"))
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    options = parser.parse_args(arguments)

    # 1. Settings: a gin file, then single values over it. Unknown names are refused.
    config = load_config([DEMO], options.set)

    # 2. All stages, each a folder under the run; those that are up to date are skipped.
    folders = Run(options.output).make(config)

    # 3. Metrics, beside the popularity baseline of the same split.
    metrics = read_json(folders["evaluation"].path / "metrics.json")
    for name, scored in {"hidvae": metrics, **metrics["baselines"]}.items():
        print(f"{name:<12} test recall@10 {scored['test']['recall@10']:.4f}")

    # 4. What an item's semantic ID is, and that no two items share one.
    recommender = Recommender.load(options.output)
    ids = recommender.semantic_ids
    print(f"{ids.item_ids[0]} is {' '.join(ids.strings(0))}; IDs are unique: {ids.is_unique}")

    # 5. The next items of a user, given everything but the last event.
    dataset = load_dataset(folders["dataset"])
    history = [ids.item_ids[index] for index in dataset.split.test_histories[0]]
    taken = ids.item_ids[int(dataset.split.test_targets[0])]
    for rank, item in enumerate(recommender.recommend(history, k=5), start=1):
        mark = "  <- taken next" if item.item_id == taken else ""
        print(f"{rank}. {item.title} ({' > '.join(item.tag_path)}){mark}")


if __name__ == "__main__":
    main()
