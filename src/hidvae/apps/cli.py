"""The ``hidvae`` command: one command per stage, ``run`` for all, and questions to a trained run.

Heavy modules are imported inside the commands, so that ``--help`` is quick. A user's error is one
line on stderr and exit code 2; results go to stdout, log lines to stderr.
"""

# No annotations of the future: Typer would evaluate the text of each four times, at every start.
import csv
import functools
import json
import logging
import shlex
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hidvae.addresses import hide_passwords
from hidvae.errors import DataError, HidvaeError
from hidvae.log import logging_to_stderr, printable

if TYPE_CHECKING:
    from hidvae.data.catalogue import Catalogue

app = typer.Typer(
    help="Recommend the next item and say why, with semantic IDs that people can read (HiD-VAE).",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
_UsageError: type[Exception] = typer.BadParameter.__mro__[1]  # wherever Typer keeps it
_INTERRUPTED = 130

Output = Annotated[
    Path, typer.Option("--output", metavar="RUN", help="Run folder; holds one folder per stage.")
]
Data = Annotated[
    str | None,
    typer.Option(
        "--data",
        metavar="FOLDER",
        help="Folder with items.* and interactions.* (CSV, Parquet), or address of a database, "
        "postgresql://user@host/db, sqlite:///file or duckdb:///file.",
    ),
]
Configs = Annotated[
    list[Path] | None,
    typer.Option(
        "--config", metavar="FILE.gin", help="File of settings; repeatable, the last one wins."
    ),
]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="NAME=VALUE",
        help="One setting, such as TokenizerConfig.epochs=10; repeatable.",
    ),
]
Strict = Annotated[
    bool,
    typer.Option(
        "--strict", help="Refuse tables of which anything would be left out, instead of saying so."
    ),
]
Model = Annotated[
    Path, typer.Option("--model", metavar="RUN", help="Run folder of a trained model.")
]
History = Annotated[
    list[str] | None,
    typer.Option(
        "--history",
        metavar="ITEM,ITEM,...",
        help='Ids of the user\'s items, oldest first; repeatable. "a, b" in quotes is one id.',
    ),
]
HistoryFile = Annotated[
    Path | None,
    typer.Option(
        "--history-file", metavar="FILE", help="The same from a file, one id a line; these first."
    ),
]
TopK = Annotated[int, typer.Option("--top-k", help="Number of items to recommend.", min=1)]
IncludeHistory = Annotated[
    bool, typer.Option("--include-history", help="Allow items of the history on the list.")
]
Under = Annotated[
    list[str] | None,
    typer.Option(
        "--under", metavar="PATH", help='Only items under this tag path, "A > B"; repeatable.'
    ),
]
NotUnder = Annotated[
    list[str] | None,
    typer.Option("--not-under", metavar="PATH", help="No items under this tag path; repeatable."),
]
Without = Annotated[
    list[str] | None,
    typer.Option("--without", metavar="ITEM,ITEM,...", help="Never list these items; repeatable."),
]
MostPerTag = Annotated[
    int,
    typer.Option(
        "--most-per-tag", help="At most so many items with the same tag; 0: no limit.", min=0
    ),
]
TagLevel = Annotated[
    int, typer.Option("--tag-level", help="Tag level for --most-per-tag; 0 is the coarsest.", min=0)
]
Diversity = Annotated[
    float,
    typer.Option(
        "--diversity", help="Penalty for items like those above them; 0: off, 1: strong.", min=0
    ),
]
InputShards = Annotated[
    Path, typer.Option("--input", metavar="DIR", help="Folder of Parquet shards to read.")
]
OutputShards = Annotated[
    Path, typer.Option("--output", metavar="DIR", help="Folder to write; shards keep their names.")
]
NumWorkers = Annotated[
    int | None,
    typer.Option(
        "--workers", help="Number of processes; more than 1 needs Ray. Default: 1, or all of Ray's."
    ),
]
RayAddress = Annotated[
    str | None,
    typer.Option(
        "--ray", metavar="ADDRESS", help="Ray cluster to use; local starts one on this machine."
    ),
]
NumThreads = Annotated[int, typer.Option("--threads", help="Threads per worker.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]

InspectHtml = Annotated[
    Path | None,
    typer.Option(
        "--html", metavar="FILE", help="Write a page with plots instead of printing text."
    ),
]
InspectSamples = Annotated[
    int, typer.Option("--samples", help="Number of users and items to show.", min=0)
]
Live = Annotated[
    bool, typer.Option("--live", help="Show the curves of a running training in a browser.")
]
LivePort = Annotated[
    int, typer.Option("--port", help="Port for --live; 0: any free port.", min=0, max=65535)
]
LIVE_PORT = 8010
DEMO = ("DatasetConfig.source=demo", "RunConfig.size=small")
"""Settings of ``hidvae demo``, as in configs/demo.gin."""


def _example(command: str) -> str:
    return f"\b\nExample:\n  {command}"  # \b keeps the line as it is


@app.callback()
def _common(
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an error; may be given anywhere.")
    ] = False,
) -> None:
    """Declare --debug for the help; ``main`` reads it."""


@app.command(epilog=_example("hidvae prepare --data my_shop --output runs/my_shop"))
def prepare(
    output: Annotated[
        Path | None,
        typer.Option("--output", metavar="RUN", help="Run folder; not needed with --check."),
    ] = None,
    data: Data = None,
    config: Configs = None,
    set_: Settings = None,
    check: Annotated[
        bool, typer.Option("--check", help="Only check the tables and list their problems.")
    ] = False,
    strict: Strict = False,
) -> None:
    """Check and split the raw tables (RUN/dataset)."""
    set_ = _with_strict(set_, strict)
    if check:
        _check_tables(output, data, config, set_)
    elif output is None:
        raise typer.BadParameter("expected --output RUN (or --check, which writes nothing)")
    else:
        _run_stage("prepare", output, data, config, set_)


@app.command(
    epilog=_example("hidvae embed --output runs/my_shop --set EmbeddingConfig.cooccurrence_dim=0")
)
def embed(output: Output, config: Configs = None, set_: Settings = None) -> None:
    """Turn every item into a vector (RUN/embeddings)."""
    _run_stage("embed", output, None, config, set_)


@app.command(epilog=_example("hidvae tag --output runs/my_shop --set TagConfig.min_count=5"))
def tag(
    output: Output,
    config: Configs = None,
    set_: Settings = None,
    dry_run: Annotated[
        int,
        typer.Option(
            "--dry-run",
            metavar="ITEMS",
            help="Only print the questions that a language model would get for so many items.",
            min=0,
        ),
    ] = 0,
) -> None:
    """Give every item one tag per level (RUN/tags)."""
    if dry_run:
        _preview_tags(output, config, set_, dry_run)
    else:
        _run_stage("tag", output, None, config, set_)


@app.command(
    epilog=_example("hidvae tokenize --output runs/my_shop --set TokenizerConfig.codebook_size=128")
)
def tokenize(output: Output, config: Configs = None, set_: Settings = None) -> None:
    """Train the tokenizer and give every item its semantic ID.

    Writes RUN/tokenizer and RUN/semantic_ids. After a stop, the same command continues.
    """
    _run_stage("tokenize", output, None, config, set_)


@app.command(epilog=_example("hidvae train --output runs/my_shop --set RetrieverConfig.epochs=20"))
def train(output: Output, config: Configs = None, set_: Settings = None) -> None:
    """Train the retriever on the histories (RUN/retriever).

    After a stop, the same command continues from the last checkpoint.
    """
    _run_stage("train", output, None, config, set_)


@app.command(epilog=_example("hidvae evaluate --output runs/my_shop --baselines"))
def evaluate(
    output: Output,
    config: Configs = None,
    set_: Settings = None,
    baselines: Annotated[
        bool,
        typer.Option("--baselines", help="Train all baselines and compare with them."),
    ] = False,
) -> None:
    """Measure the ranking on validation and test (RUN/evaluation).

    Ranks the whole catalogue, with and without the items of the history, and compares with the
    baselines in EvaluationConfig.baselines, or with all of them (--baselines).
    """
    from hidvae.apps.show.terminal import print_comparison, print_metrics
    from hidvae.evaluation.baselines.by_name import ALL

    if baselines:
        set_ = [*(set_ or []), f"EvaluationConfig.baselines=('{ALL}',)"]
    _run_stage("evaluate", output, None, config, set_)
    if baselines:
        print_comparison(output)
    else:
        print_metrics(output)


@app.command(epilog=_example("hidvae compare runs/new runs/old"))
def compare(
    run_a: Annotated[Path, typer.Argument(metavar="RUN_A", help="Run folder.")],
    run_b: Annotated[Path, typer.Argument(metavar="RUN_B", help="The run to compare with.")],
    k: Annotated[int, typer.Option(help="Cut-off of recall and ndcg.")] = 10,
    as_json: AsJson = False,
) -> None:
    """Compare two evaluated runs on the test users that they have in common. Changes nothing.

    The difference is RUN_A minus RUN_B, user by user, with a 95 % bootstrap interval.
    """
    from hidvae.apps.show.terminal import print_run_comparison
    from hidvae.evaluation.compare_runs import compare_runs
    from hidvae.run.run import Run

    found = compare_runs(Run(run_a), Run(run_b), k)
    if as_json:
        _echo(json.dumps(found.to_json(), indent=2))
    else:
        print_run_comparison(found, (str(run_a), str(run_b)))


@app.command(epilog=_example("hidvae run --data my_shop --output runs/my_shop"))
def run(
    output: Output,
    data: Data = None,
    config: Configs = None,
    set_: Settings = None,
    strict: Strict = False,
) -> None:
    """Run all stages, print the results and write the report RUN/report.html.

    Stages that are up to date are skipped. Settings that you do not give have their defaults.
    Without --data, --config and --set, the run keeps the settings that it has.
    """
    set_ = _with_strict(set_, strict)
    _run_all(output, data, config, set_, is_fresh=bool(data or config or set_))


@app.command(epilog=_example("hidvae demo --output runs/demo"))
def demo(
    output: Annotated[
        Path,
        typer.Option("--output", metavar="RUN", help="Run folder; holds one folder per stage."),
    ] = Path("runs/demo"),
    set_: Settings = None,
) -> None:
    """Run all stages on a generated shop of 600 items, in half a minute, and say what to try next.

    Needs no data of yours. The items have titles and categories, the users have tastes.
    """
    from hidvae.run.run import Run

    _run_all(output, None, None, [*DEMO, *(set_ or ())], is_fresh=True)
    dataset = Run(output).dataset
    catalogue, histories = dataset.catalogue, dataset.split.test_histories
    latest = [catalogue.item_ids[item] for item in histories[0][-2:]]
    place = shlex.quote(str(output))
    _echo(
        "\nNext:\n"
        f"  hidvae recommend --model {place} --history {','.join(latest)}\n"
        f"  hidvae explain --model {place} --history {latest[0]} --item {latest[1]}\n"
        f"  hidvae inspect {place}\n"
        f'  hidvae serve {place}          a page in the browser (pip install "hidvae[serve]")\n'
        "  hidvae run --data FOLDER --output runs/mine          items.csv and interactions.csv"
    )


@app.command(
    epilog=_example("hidvae recommend --model runs/demo --history ITEM,ITEM --top-k 5 --json")
)
def recommend(
    model: Model,
    history: History = None,
    history_file: HistoryFile = None,
    top_k: TopK = 10,
    include_history: IncludeHistory = False,
    under: Under = None,
    not_under: NotUnder = None,
    without: Without = None,
    most_per_tag: MostPerTag = 0,
    tag_level: TagLevel = 0,
    diversity: Diversity = 0.0,
    as_json: AsJson = False,
) -> None:
    """Recommend the next items for a history, with reasons."""
    from hidvae.apps.show.terminal import print_recommendations, recommendations_json
    from hidvae.ranking.filters import Filters
    from hidvae.ranking.recommender import Recommender

    _require("--history", history, history_file)
    recommender = Recommender.load(model)
    known = recommender.catalogue
    filters = Filters(
        under=tuple(under or ()),
        not_under=tuple(not_under or ()),
        without=tuple(_item_ids("--without", without, None, known)),
        most_per_tag=most_per_tag,
        tag_level=tag_level,
        diversity=diversity,
    )
    recommended = recommender.recommend(
        _item_ids("--history", history, history_file, known),
        top_k,
        exclude_history=not include_history,
        filters=filters,
    )
    if as_json:
        typer.echo(recommendations_json(recommended))
    else:
        print_recommendations(recommended)


@app.command(
    "add-items", epilog=_example("hidvae add-items --model runs/demo --items new_items.csv")
)
def add_items(
    model: Model,
    items: Annotated[
        Path,
        typer.Option(
            "--items",
            metavar="FILE",
            help="Table of items (CSV, JSON, Parquet, Excel, …) with item_id and other columns.",
        ),
    ],
    update: Annotated[
        bool, typer.Option("--update", help="Replace the rows of items that exist already.")
    ] = False,
) -> None:
    """Add new items to a run without training; from now on they are recommended."""
    from hidvae.apps.show.terminal import print_items
    from hidvae.data.given import given_ids
    from hidvae.data.notes import Notes
    from hidvae.data.schema import TEXT_COLUMNS, Columns
    from hidvae.data.table_files import read_table
    from hidvae.ranking.recommender import Recommender

    recommender = Recommender.load(model)
    notes = Notes()
    rows = read_table(items, [Columns.ITEM, Columns.CATEGORIES, *TEXT_COLUMNS], notes=notes)
    for decision in notes.decisions:
        logging.getLogger(__name__).info("%s", decision.said)
    changed = recommender.update_items(rows) if update else recommender.add_items(rows)
    version = changed.save_changes()
    print_items(changed, given_ids(rows[Columns.ITEM], "items"))
    _echo(f"catalogue version {version}, {changed.catalogue.num_items} items")


@app.command(
    "remove-items", epilog=_example("hidvae remove-items --model runs/demo --items ITEM,ITEM")
)
def remove_items(
    model: Model,
    items: Annotated[
        list[str] | None,
        typer.Option(
            "--items",
            metavar="ITEM,ITEM,...",
            help='Item ids; repeatable. "a, b" in quotes is one id.',
        ),
    ] = None,
    items_file: Annotated[
        Path | None,
        typer.Option("--items-file", metavar="FILE", help="The same from a file, one id a line."),
    ] = None,
) -> None:
    """Stop recommending these items; histories may still contain them."""
    from hidvae.ranking.recommender import Recommender

    _require("--items", items, items_file)
    recommender = Recommender.load(model)
    removed = _item_ids("--items", items, items_file, recommender.catalogue)
    version = recommender.remove_items(removed).save_changes()
    _echo(f"removed {len(removed)} items; catalogue version {version}")


@app.command(epilog=_example("hidvae explain --model runs/demo --history ITEM,ITEM --item ITEM"))
def explain(
    model: Model,
    item: Annotated[str, typer.Option("--item", metavar="ITEM", help="Id of the item to explain.")],
    history: History = None,
    history_file: HistoryFile = None,
    as_json: AsJson = False,
) -> None:
    """Show how probable one item is after a history, and why."""
    from hidvae.apps.show.terminal import print_explanation, recommendation_json
    from hidvae.ranking.recommender import Recommender

    _require("--history", history, history_file)
    recommender = Recommender.load(model)
    explained = recommender.explain(
        _item_ids("--history", history, history_file, recommender.catalogue), item
    )
    if as_json:
        typer.echo(recommendation_json(explained))
    else:
        print_explanation(explained)


@app.command("export", epilog=_example("hidvae export runs/demo --output exported"))
def export_(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder of a trained model.")],
    output: Annotated[
        Path,
        typer.Option(
            "--output", metavar="FOLDER", help="A new folder, or an older export to replace."
        ),
    ],
    top_k: TopK = 10,
    longest_history: Annotated[
        int,
        typer.Option("--longest-history", help="Longest history that the program accepts.", min=3),
    ] = 250,
    license_: Annotated[
        str, typer.Option("--license", metavar="NAME", help="Licence of the model, for its card.")
    ] = "other",
    with_run: Annotated[
        bool, typer.Option("--with-run", help="Add the run itself, without the users' histories.")
    ] = False,
) -> None:
    """Write a program that needs only torch, the names of the items, and a model card.

    With --with-run, the folder is also a run that can be loaded from disk or the Hugging Face Hub.
    """
    from hidvae.apps.export.export_run import export_run

    export_run(
        run,
        output,
        k=top_k,
        longest_history=longest_history,
        license_name=license_,
        with_run=with_run,
    )
    _echo(f"wrote {output}")


@app.command(epilog=_example("hidvae check runs/my_shop"))
def check(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder.")],
) -> None:
    """Compare every file of a run with the hash that was kept of it. Changes nothing."""
    from hidvae.run.run import Run

    opened = Run(run)
    for folder in opened.check():
        name = folder.path.relative_to(opened.path)
        _echo(f"{name}: {len(folder.manifest['files'])} files as they were written")


@app.command(epilog=_example("hidvae inspect runs/my_shop --html my_shop.html"))
def inspect(
    place: Annotated[
        str,
        typer.Argument(
            metavar="PLACE",
            help="A run, its dataset folder, a folder of raw tables, or a database.",
        ),
    ],
    html: InspectHtml = None,
    samples: InspectSamples = 3,
) -> None:
    """Describe a dataset: counts, lengths, ties, tags, some users and items. Changes nothing."""
    from hidvae.apps.show.views import inspect_dataset

    _echo(inspect_dataset(place, html, samples))


@app.command(epilog=_example("hidvae report runs/my_shop"))
def report(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder.")],
    output: Annotated[
        Path | None,
        typer.Option("--output", metavar="FILE", help="File to write; RUN/report.html by default."),
    ] = None,
    live: Live = False,
    port: LivePort = LIVE_PORT,
) -> None:
    """Write one page about a run: metrics, users, curves, semantic IDs, settings.

    The page is one file that opens offline. With --live nothing is written: a browser shows the
    curves of a running training, redrawn after each epoch, until Ctrl-C.
    """
    from hidvae.apps.show.follow_training import follow
    from hidvae.apps.show.report import write_report

    if live:
        follow(run, port)
    else:
        file = write_report(run, output)
        _echo(f"wrote {file}, a page that opens in any browser, offline too")


@app.command(epilog=_example("hidvae serve runs/demo --port 8000"))
def serve(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder of a trained model.")],
    host: Annotated[
        str, typer.Option("--host", help="Address to listen on; 0.0.0.0: all networks.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", help="Port to listen on; 0: any free port.", min=0, max=65535)
    ] = 8000,
    threads: Annotated[
        int | None,
        typer.Option(
            "--threads", help="Threads per search.", min=1, show_default="half of the cores"
        ),
    ] = None,
    users: Annotated[
        bool | None,
        typer.Option(
            "--users/--no-users",
            help="Answer /users and user_id, which tell of the users' histories.",
            show_default="only if nobody but this machine can ask",
        ),
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(
            "--allow-host",
            metavar="NAME",
            help="Name under which the server may be asked, such as that of a proxy; repeatable.",
        ),
    ] = None,
) -> None:
    """Serve recommendations, reasons and the catalogue over HTTP, and a page at /.

    Requests that change items need the token in the environment variable HIDVAE_TOKEN. The server
    picks up changes in the run's folder by itself. Ctrl-C stops it.
    """
    from hidvae.apps.serve import serve_run

    serve_run(run, host, port, threads, users, allow_host or ())


ids = typer.Typer(help="Semantic IDs for other tools, and from them.", rich_markup_mode=None)
app.add_typer(ids, name="ids")


@ids.command("export", epilog=_example("hidvae ids export runs/my_shop --output ids.parquet"))
def ids_export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder with semantic IDs.")],
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            metavar="FILE|FOLDER",
            help="FILE.json (index JSON by item id), FILE.parquet, FILE.item (RecBole), or a "
            "folder for LC-Rec, LETTER and MiniOneRec.",
        ),
    ],
) -> None:
    """Write the semantic IDs of a run, as trained, for another tool.

    A folder gets FOLDER.index.json by item number, FOLDER.item2id and FOLDER.item.json.
    """
    from hidvae.data.prepare import load_dataset
    from hidvae.run.run import Run
    from hidvae.semantic_ids.interchange import export_folder, export_ids
    from hidvae.semantic_ids.table import SemanticIds

    folders = Run(run).folders(["dataset", "semantic_ids"])
    found = SemanticIds.load(folders["semantic_ids"])
    if output.suffix and not output.is_dir():
        export_ids(found, output)
    else:
        export_folder(found, load_dataset(folders["dataset"]).catalogue, output)
    _echo(f"wrote {output}, {found.num_items} items of {found.num_levels} codes")


@ids.command("import", epilog=_example("hidvae ids import ids.parquet --output runs/my_shop"))
def ids_import(
    file: Annotated[
        Path,
        typer.Argument(metavar="FILE|FOLDER", help="Whatever `hidvae ids export` can write."),
    ],
    output: Output,
    config: Configs = None,
    set_: Settings = None,
) -> None:
    """Take semantic IDs from another tool instead of training a tokenizer.

    The same as `hidvae tokenize` with TokenizerConfig.source=file and TokenizerConfig.ids_file set;
    `hidvae train` goes on from there. Every item of the catalogue needs an ID of its own.
    """
    source = ["TokenizerConfig.source=file", f"TokenizerConfig.ids_file={str(file.resolve())!r}"]
    _run_stage("tokenize", output, None, config, [*(set_ or []), *source])


batch = typer.Typer(
    help="Embed, tokenize or recommend over folders of Parquet files, on one machine or many.",
    rich_markup_mode=None,
)
app.add_typer(batch, name="batch")


@batch.command(
    "embed", epilog=_example("hidvae batch embed --model runs/demo --input items --output vectors")
)
def batch_embed(
    model: Model,
    input_: InputShards,
    output: OutputShards,
    workers: NumWorkers = None,
    ray: RayAddress = None,
    threads: NumThreads = 1,
) -> None:
    """Turn items (item_id and text columns) into the text part of their vectors."""
    from hidvae.apps.batch import Workers, embed_shards

    embed_shards(model, input_, output, Workers(workers, ray, threads))


@batch.command(
    "tokenize",
    epilog=_example("hidvae batch tokenize --model runs/demo --input vectors --output ids"),
)
def batch_tokenize(
    model: Model,
    input_: InputShards,
    output: OutputShards,
    workers: NumWorkers = None,
    ray: RayAddress = None,
    threads: NumThreads = 1,
) -> None:
    """Turn vectors (item_id, vector) into unique semantic IDs and predicted tags."""
    from hidvae.apps.batch import Workers, tokenize_shards

    tokenize_shards(model, input_, output, Workers(workers, ray, threads))


@batch.command(
    "recommend",
    epilog=_example(
        "hidvae batch recommend --model runs/demo --input users --output lists --workers 4"
    ),
)
def batch_recommend(
    model: Model,
    input_: InputShards,
    output: OutputShards,
    top_k: TopK = 10,
    include_history: IncludeHistory = False,
    workers: NumWorkers = None,
    ray: RayAddress = None,
    threads: NumThreads = 1,
) -> None:
    """Turn users (user_id, history: item ids, oldest first) into ranked lists."""
    from hidvae.apps.batch import Workers, recommend_shards

    chosen = Workers(workers, ray, threads)
    recommend_shards(model, input_, output, top_k, chosen, exclude_history=not include_history)


def _check_tables(
    output: Path | None,
    data: str | None,
    config: Sequence[Path] | None,
    settings: Sequence[str] | None,
) -> None:
    """List the first problems of the raw tables; exit code 2 if there are any."""
    from hidvae.data.check import find_problems
    from hidvae.data.prepare import read_source
    from hidvae.run.run import Run

    run = Run(output or Path())
    dataset = run.resolve(data, config or (), settings or (), is_fresh=output is None).dataset
    report = find_problems(read_source(dataset), dataset)
    _echo("\n".join(report.lines()))
    if not report.is_clean:
        raise typer.Exit(2)


def _run_all(
    output: Path,
    data: str | None,
    config: Sequence[Path] | None,
    settings: Sequence[str],
    *,
    is_fresh: bool,
) -> None:
    """Make all stages; the first process shows the results and writes the report."""
    from hidvae.apps.show.terminal import print_run
    from hidvae.run.run import Run
    from hidvae.training.processes import alone, process_rank

    made = Run(output)
    resolved = made.resolve(data, config or (), settings, is_fresh=is_fresh)
    made.make(resolved)
    if process_rank() == 0:
        with alone():  # the other processes have ended, and nobody waits for them
            print_run(output, resolved.run.device)
            _write_report(output)


def _with_strict(settings: Sequence[str] | None, strict: bool) -> list[str]:
    return [*(settings or ()), *(["DatasetConfig.strict=True"] if strict else [])]


def _preview_tags(
    run: Path, config: Sequence[Path] | None, settings: Sequence[str] | None, num_items: int
) -> None:
    from hidvae.features.tags.tag import preview_tags
    from hidvae.run.run import Run

    opened = Run(run)
    resolved = opened.fitted(opened.resolve(None, config or (), settings or ()))
    _echo(preview_tags(opened, resolved, num_items))


def _run_stage(
    command: str,
    output: Path,
    data: str | None,
    config: Sequence[Path] | None,
    settings: Sequence[str] | None,
) -> None:
    from hidvae.run.run import Run

    run = Run(output)
    run.make(run.resolve(data, config or (), settings or ()), only=command)


def _write_report(run: Path) -> None:
    """The page at the end of ``hidvae run``, which takes a second or two."""
    from hidvae.apps.show.report import write_report

    _echo(f"Report: {write_report(run)}")


def _echo(text: str) -> None:
    """Print lines; what they name in tables and files cannot steer a terminal."""
    typer.echo("\n".join(map(printable, text.splitlines())))


def _require(option: str, values: Sequence[str] | None, file: Path | None) -> None:
    """Refuse a command without ids before a model is loaded."""
    if not values and file is None:
        raise typer.BadParameter(f"expected {option} ITEM,ITEM,... or {option}-file FILE")


def _item_ids(
    option: str, values: Sequence[str] | None, file: Path | None, known: "Catalogue"
) -> list[str]:
    """Item ids from a file and from the command line.

    An id with a comma stands in double quotes, as in CSV. Without them, what is between the commas
    counts, unless only the whole text is an id of the catalogue.

    Raises:
        DataError: If a quote is not closed, or the file is no text.
    """
    ids = _lines_of(file) if file else []
    for value in values or ():
        try:
            rows = csv.reader(value.splitlines(), skipinitialspace=True, strict=True)
            parts = [part.strip() for row in rows for part in row]
        except csv.Error as error:
            raise DataError(
                f"{option} {value}: expected ids between commas, and double quotes around an id "
                f'with a comma or quote, which is doubled inside ("7"" tablet"); found what is '
                f"none ({error}); or give a file, one id a line"
            ) from error
        parts = [part for part in parts if part]
        whole = value.strip()
        is_whole = len(parts) > 1 and whole in known.positions
        is_whole = is_whole and not any(part in known.positions for part in parts)
        ids += [whole] if is_whole else parts
    return ids


def _lines_of(file: Path) -> list[str]:
    try:
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{file}: expected text in UTF-8, one item id a line; found other bytes ({error}); "
            "save it as UTF-8"
        ) from error
    return [line.strip() for line in text.split("\n") if line.strip()]


def run_app(program: typer.Typer, name: str, arguments: Sequence[str] | None = None) -> int:
    """Run a command line; an error of the user's is one line on stderr.

    Args:
        program: The commands.
        name: Name to show.
        arguments: Words after the name; those of this process by default.

    Returns:
        Exit code: 0, 2 for a user's error, 130 after Ctrl-C.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    is_debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    try:
        with logging_to_stderr():
            code = _built(program)(words, name, standalone_mode=False) or 0
    except (HidvaeError, OSError, _UsageError) as error:
        if is_debug:
            traceback.print_exc()
        return _fail(f"error: {_one_line(error, name)}", 2)
    except (KeyboardInterrupt, typer.Abort):
        code = _INTERRUPTED
    if code == _INTERRUPTED:  # Typer may turn Ctrl-C into an exit code of its own
        return _fail("stopped; run the same command again to continue", code)
    return int(code)


@functools.cache
def _built(program: typer.Typer) -> Callable[..., Any]:
    """The commands and their options, which take longer to read than many a command to run."""
    return typer.main.get_command(program)


def make_app(command: Callable[..., None]) -> typer.Typer:
    """A program of one command."""
    program = typer.Typer(
        add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False
    )
    program.command()(command)
    return program


def main() -> int:
    """The console script ``hidvae``."""
    return run_app(app, "hidvae", sys.argv[1:] or ["--help"])


def _one_line(error: Exception, name: str) -> str:
    if isinstance(error, OSError):
        place = f"{error.filename}: " if error.filename else ""
        return f"{place}{error.strerror or error}; check the path, its permissions and free space"
    if isinstance(error, _UsageError):
        text = getattr(error, "format_message", error.__str__)()
        return f"{' '.join(text.split()).removesuffix('.')}; see `{name} --help`"
    return " ".join(str(error).split())


def _fail(message: str, code: int) -> int:
    print(f"hidvae: {printable(hide_passwords(message))}", file=sys.stderr)  # noqa: T201
    return code
