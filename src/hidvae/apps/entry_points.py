"""The published entry points: ``train_hidvae.py``, ``train_transformer.py``, two viewers.

They take a config file where ``hidvae`` takes a run. The run of a config is ``runs/demo``,
``runs/amazon-beauty`` and the like, after its dataset, so that the two training scripts meet there.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from hidvae.apps.cli import (
    LIVE_PORT,
    Data,
    InspectHtml,
    InspectSamples,
    Live,
    LivePort,
    Settings,
    make_app,
    run_app,
)
from hidvae.config import Config, load_config
from hidvae.errors import ConfigError

ConfigFile = Annotated[Path, typer.Argument(metavar="CONFIG", help="gin file, see configs/.")]
RunFolder = Annotated[
    Path | None,
    typer.Option("--output", metavar="RUN", help="Run folder; runs/<dataset> by default."),
]


def train_hidvae(arguments: Sequence[str] | None = None) -> int:
    """Run ``train_hidvae.py CONFIG``: prepare, embed, tag, tokenize."""
    return run_app(make_app(_train_hidvae), "train_hidvae.py", arguments)


def train_transformer(arguments: Sequence[str] | None = None) -> int:
    """Run ``train_transformer.py CONFIG``: train and evaluate on a frozen tokenizer."""
    return run_app(make_app(_train_transformer), "train_transformer.py", arguments)


def view_processed_dataset(arguments: Sequence[str] | None = None) -> int:
    """Run ``scripts/view_processed_dataset.py RUN|FOLDER``."""
    return run_app(make_app(_view_processed_dataset), "view_processed_dataset.py", arguments)


def view_train_hrqvae(arguments: Sequence[str] | None = None) -> int:
    """Run ``scripts/view_train_hrqvae.py CONFIG|RUN``."""
    return run_app(make_app(_view_train_hrqvae), "view_train_hrqvae.py", arguments)


def default_run(config: Config) -> Path:
    """``runs/<dataset>``: the name of the folder, or of the source and its split."""
    dataset = config.dataset
    if dataset.folder:
        name = Path(dataset.folder).resolve().name
    else:
        name = "-".join(part for part in (dataset.source, dataset.dataset_split) if part)
    return Path("runs") / name


def _train_hidvae(
    config: ConfigFile, data: Data = None, output: RunFolder = None, set_: Settings = None
) -> None:
    """Train the tokenizer on a dataset: prepare, embed, tag, tokenize."""
    from hidvae.run.run import Run

    # No run to take settings from: the config file is the whole description.
    settings = Run(Path()).resolve(data, [config], set_ or (), is_fresh=True)
    run = output or default_run(settings)
    Run(run).make(settings, until="tokenize")
    typer.echo(f"tokenizer and semantic IDs are in {run}; next: train_transformer.py")


def _train_transformer(
    config: ConfigFile,
    tokenizer: Annotated[
        Path | None,
        typer.Option(
            "--tokenizer",
            metavar="RUN",
            help="Run of the frozen tokenizer (pretrained_rqvae_path); --output by default.",
        ),
    ] = None,
    output: RunFolder = None,
    set_: Settings = None,
) -> None:
    """Train the retriever on a frozen tokenizer, then score validation and test."""
    from hidvae.apps.show.terminal import print_metrics
    from hidvae.run.run import Run

    path = output or tokenizer or default_run(load_config([config], set_ or ()))
    run = Run(path)
    if tokenizer and tokenizer.resolve() != path.resolve():
        run.take_tokenizer(Run(tokenizer))
    settings = run.resolve(None, [config], set_ or ())
    run.make(settings, only="train")
    run.make(settings, only="evaluate")
    print_metrics(path)


def _view_processed_dataset(
    place: Annotated[
        Path, typer.Argument(metavar="RUN|FOLDER", help="A run, or a folder of raw tables.")
    ] = Path("runs/demo"),
    html: InspectHtml = None,
    samples: InspectSamples = 3,
) -> None:
    """Look at a dataset: counts, lengths, ties, tags, some users and items. Changes nothing."""
    from hidvae.apps.show.views import inspect_dataset

    typer.echo(inspect_dataset(place, html, samples))


def _view_train_hrqvae(
    place: Annotated[Path, typer.Argument(metavar="CONFIG|RUN", help="A gin file, or a run.")],
    live: Live = False,
    port: LivePort = LIVE_PORT,
) -> None:
    """Look at a tokenizer's training, finished or not: a line per epoch. Changes nothing."""
    from hidvae.apps.show.views import describe_tokenizer_training

    if not place.exists():
        raise ConfigError(f"{place}: no such file or folder; give a gin file of configs/ or a run")
    run = default_run(load_config([place])) if place.is_file() else place
    if live:
        from hidvae.apps.show.follow_training import follow

        follow(run, port)
    else:
        typer.echo(describe_tokenizer_training(run))
