"""Why these items: one user's history, recommendations and their reasons, from a trained run.

python examples/explain_one_user.py --run runs/demo --user u7
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from hidvae import DataError, Recommendation, Recommender
from hidvae.data.prepare import load_dataset
from hidvae.store.artifacts import read_stage


def show(item: Recommendation) -> None:
    """One item: its codes, the tag that each stands for, and what of the history moved it up."""
    print(f"{item.title} ({item.item_id}), probability {item.prob:.4f}")
    for level, (code, code_prob) in enumerate(zip(item.codes, item.code_probs, strict=True)):
        line = f"  {code:<8} {code_prob:.3f} given the codes before it"
        if level < len(item.tag_path):
            line += (
                f"; stands for {item.tag_path[level]!r} ({item.tag_confidences[level]:.2f} sure)"
            )
        print(line)
    print(f"  {item.reason}")
    for cause in item.because:
        print(
            f"  {cause.share:.0%} of its lift by {cause.title}, whose ID begins alike in "
            f"{cause.shared_levels} of {len(item.codes)} levels"
        )


def main(arguments: Sequence[str] | None = None) -> None:
    """Explain a user's recommendations, and the item that the user took next."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--run", type=Path, default=Path("runs/demo"))
    parser.add_argument("--user", help="a user_id of the log; the first one by default")
    options = parser.parse_args(arguments)

    recommender = Recommender.load(options.run)
    dataset = load_dataset(read_stage(options.run / "dataset", produced_by="hidvae prepare"))
    users = [dataset.interactions.user_ids[user] for user in dataset.split.test_users]
    if options.user not in (None, *users):
        raise DataError(f"--user: expected a user of the log, such as {users[0]!r}")
    row = users.index(options.user) if options.user else 0

    item_ids, titles = recommender.catalogue.item_ids, recommender.catalogue.titles
    events = dataset.split.test_histories[row].tolist()
    history = [item_ids[index] for index in events]
    print(f"history of {users[row]}: {'; '.join(titles[index] for index in events[-5:])}\n")

    for item in recommender.recommend(history, k=3):
        show(item)
    print("\ntaken next:")
    show(recommender.explain(history, item_ids[int(dataset.split.test_targets[row])]))


if __name__ == "__main__":
    main()
