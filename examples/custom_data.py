"""Your own tables to recommendations: two CSV files, a few settings, one call.

python examples/custom_data.py                      (writes my_films/ and runs/my_films)
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

from hidvae import Recommender, load_config
from hidvae.run.run import Run

GENRES = {"Drama": ("Family", "Courtroom"), "Comedy": ("Romantic", "Heist"), "Horror": ("Ghost",)}
SETTINGS = [
    "EmbeddingConfig.text_encoder=hashing",  # no model; all-MiniLM-L6-v2 reads meaning
    "EmbeddingConfig.text_columns=('title', 'director')",  # any columns of items.csv
    "EmbeddingConfig.cooccurrence_dim=8",
    "TokenizerConfig.num_levels=2",  # a code per tag level
    "TokenizerConfig.codebook_size=16",  # 16 x 16 IDs for 100 films
    "TokenizerConfig.hidden_dims=(64,)",
    "TokenizerConfig.epochs=20",
    "RetrieverConfig.dim=32",
    "RetrieverConfig.batch_tokens=256",  # a small log: many small steps
    "RetrieverConfig.warmup_steps=20",
    "RetrieverConfig.learning_rate=0.003",
]


def write_tables(folder: Path) -> None:
    """Two tables as you might export them; see docs/data-format.md."""
    generator = np.random.default_rng(0)
    kinds = [(genre, kind) for genre, kinds in GENRES.items() for kind in kinds]
    rows = [
        {
            "item_id": f"f{number:03d}",
            "title": f"{kinds[number % 5][1]} story {number}",
            "director": f"Director {number % 7}",
            "categories": " > ".join(kinds[number % 5]),
        }
        for number in range(100)
    ]
    # Each viewer stays with one kind of film, and watches a series in its order.
    events = [
        {"user_id": f"v{viewer}", "item_id": f"f{(start + 5 * step) % 100:03d}", "timestamp": step}
        for viewer, start in enumerate(generator.integers(0, 100, 200).tolist())
        for step in range(int(generator.integers(2, 12)))
    ]
    folder.mkdir(parents=True, exist_ok=True)
    pl.DataFrame(rows).write_csv(folder / "items.csv")
    pl.DataFrame(events).write_csv(folder / "interactions.csv")


def main(arguments: Sequence[str] | None = None) -> None:
    """Write two small tables, train on them, recommend."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--data", type=Path, default=Path("my_films"))
    parser.add_argument("--output", type=Path, default=Path("runs/my_films"))
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    options = parser.parse_args(arguments)

    write_tables(options.data)
    config = load_config([], [f"DatasetConfig.folder={options.data}", *SETTINGS, *options.set])
    folders = Run(options.output).make(config)
    prepared = folders["dataset"].metrics
    print(f"{prepared['num_users']} viewers, {prepared['num_events']} events")

    history = ["f000", "f005", "f010"]
    print(f"after {', '.join(history)}:")
    for item in Recommender.load(options.output).recommend(history, k=3):
        print(f"  {item.item_id}  {item.title}  ({' > '.join(item.tag_path)}, p={item.prob:.2f})")


if __name__ == "__main__":
    main()
