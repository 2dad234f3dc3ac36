"""What the commands print stays text, whatever the catalogue calls its items."""

from __future__ import annotations

import dataclasses
import io
import logging
from pathlib import Path

import pytest
from rich.console import Console

from hidvae import Recommender
from hidvae.apps.cli import app, run_app
from hidvae.apps.show.terminal import print_explanation, print_items, print_recommendations
from hidvae.log import logging_to_stderr, printable
from hidvae.ranking.explain import Cause, CauseParts, OrderParts, ScoreParts

NASTY = "[bold]loud[/bold] \x1b[2J"


@pytest.fixture
def console() -> Console:
    return Console(file=io.StringIO(), width=100, highlight=False)


def written(console: Console) -> str:
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert all(char.isprintable() or char == "\n" for char in text)
    return str(text)


def test_items_are_shown_with_their_codes_and_tags(tiny_run: Path, console: Console) -> None:
    recommender = Recommender.load(tiny_run, device="cpu")
    ids = recommender.catalogue.item_ids[:7]
    print_items(recommender, ids, console)
    shown = written(console)
    assert " ".join(recommender.semantic_ids.strings(0)) in shown
    assert recommender.catalogue.titles[0][:20] in shown
    assert "[green]" not in shown
    assert "and 2 more" in shown


def test_titles_are_text(tiny_run: Path, console: Console) -> None:
    recommender = Recommender.load(tiny_run, device="cpu")
    (item,) = recommender.recommend(recommender.catalogue.item_ids[:3], 1)
    print_recommendations(
        [dataclasses.replace(item, title=NASTY, tag_path=(NASTY,), tag_confidences=(0.5,))], console
    )
    assert written(console).count("[bold]loud[/bold]") == 2


def test_no_title_tag_or_id_steers_the_terminal(
    tiny_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recommender = Recommender.load(tiny_run, device="cpu")
    history = recommender.catalogue.item_ids[:3]
    item = recommender.explain(history, recommender.catalogue.item_ids[4])
    nasty = "[/] [link=x]y[/link] :smile: \\[red] \x1b]0;title\x07 \u202eabc\u2066 \r\n\x9b2J \\"
    cause = Cause("a", nasty, 0.6, CauseParts(words=0.6), 1)
    item = dataclasses.replace(
        item,
        item_id=nasty,
        title=nasty,
        tag_path=(nasty,),
        tag_confidences=(0.5,),
        because=(cause,),
    )
    print_explanation(item)
    print_recommendations([item])
    shown = capsys.readouterr().out
    assert all(char.isprintable() or char == "\n" for char in shown)
    assert shown.count("[/] [link=x]y[/link] :smile: \\[red]") == 8
    assert shown.count("abc") == 8


def test_an_explanation_says_what_score_and_place_are_made_of(
    tiny_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ids = (recommender := Recommender.load(tiny_run, device="cpu")).catalogue.item_ids
    item = dataclasses.replace(
        recommender.explain(ids[:3], ids[4]),
        score=-1.75,
        score_parts=ScoreParts(-4.0, 2.0, 0.0, 0.25),
        order_parts=OrderParts(generator=-0.5, followers=1.25),
    )
    print_explanation(item)
    shown = capsys.readouterr().out
    assert "score -1.75: generator -4.00, item graph +2.00, reranker +0.25\n" in shown
    assert "placed by generator -0.50, followers +1.25\n" in shown
    print_explanation(dataclasses.replace(item, order_parts=None))
    assert "placed by" not in capsys.readouterr().out


def test_log_lines_and_errors_cannot_steer_the_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with logging_to_stderr():
        logging.getLogger("hidvae").warning("column %s", "a\x1b[2J\u202e\nb")
    code = run_app(app, "hidvae", ["check", "absent\x1b[31m\u202e"])
    shown = capsys.readouterr().err
    assert code == 2 and shown.count("\n") == 2
    assert all(char.isprintable() or char == "\n" for char in shown)


def test_letters_that_are_joined_stay_joined() -> None:
    assert printable("می\u200cخواهم 👩\u200d🔧") == "می\u200cخواهم 👩\u200d🔧"
