from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hidvae.apps.show.page import (
    Section,
    details,
    figures,
    heading,
    page,
    paragraph,
    table,
    write_page,
)
from hidvae.errors import ArtifactError


def test_plain_text_is_escaped_wherever_it_enters() -> None:
    nasty = '<i onclick="x">&'
    made = [paragraph(nasty), heading(nasty), table([[nasty, nasty]], [nasty, nasty])]
    made += [details(nasty, nasty)]
    made += [figures([(nasty, "")]), page(nasty, [], [Section(nasty, [])], "")]
    for html in made:
        assert "<i" not in html
        assert "&lt;i onclick=&#34;x&#34;&gt;&amp;" in html


def test_text_that_was_not_made_a_part_is_escaped_too() -> None:
    nasty: list[Any] = ["<script>alert(1)</script>"]
    whole = page("t", nasty, [Section("One", nasty)], "")
    for html, times in ((whole, 2), (figures([("caption", nasty[0])]), 1)):
        assert "alert(1)</script>" not in html
        assert html.count("&lt;script&gt;") == times


def test_no_text_turns_the_direction_of_what_follows() -> None:
    nasty = "a\u202eb\x1b\x00c"
    made = [paragraph(nasty), table([[nasty]], [nasty]), page(nasty, [], [Section(nasty, [])], "")]
    for html in made:
        assert "a b  c" in html
        assert all(char.isprintable() or char == "\n" for char in html)
    assert "one\n  two" in details("text", "one\n  two")


def test_tables_name_their_rows_and_columns() -> None:
    html = table([("a", "1"), ("b", "2")], ("name", "count"), numbers=(1,))
    assert html.count('<th scope="row">') == 2
    assert '<th scope="col" class="number">count</th>' in html
    assert '<td class="number">2</td>' in html
    assert "<thead>" not in table([("a", "1")])


def test_links_lead_to_the_sections() -> None:
    sections = [Section("One", [paragraph("1")]), Section("Two", [])]
    html = page("t", [paragraph("hello")], sections, "")
    for number in (1, 2):
        assert f'href="#part-{number}"' in html
        assert f'<h2 id="part-{number}">' in html
    assert html.index("hello") < html.index("<main>") < html.index("<p>1</p>")
    assert "prefers-color-scheme: dark" in html
    assert 'name="viewport"' in html


def test_page_is_written_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "page.html"
    write_page("old", file)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(ArtifactError, match="No space left on device"):
        write_page("new ☃", file)
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]
    assert file.read_text(encoding="utf-8") == "old"
    monkeypatch.undo()
    write_page("new ☃", file)
    assert file.read_text(encoding="utf-8") == "new ☃"


@pytest.mark.parametrize("place", ["absent/page.html", "folder"])
def test_a_file_that_cannot_be_written_is_named(tmp_path: Path, place: str) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(ArtifactError, match=place) as caught:
        write_page("x", tmp_path / place)
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_only_a_page_that_may_ask_can_connect_and_only_home() -> None:
    assert "connect-src" not in page("t", [], [], "")
    assert "connect-src 'self'\"" in page("t", [], [], "", may_ask_its_server=True)
