from __future__ import annotations

from pathlib import Path

import pytest

from hidvae.apps.show.report.page import (
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
        assert "&lt;i onclick=&quot;x&quot;&gt;&amp;" in html


def test_tables_name_their_rows_and_columns() -> None:
    html = table([("a", "1"), ("b", "2")], ("name", "count"), numbers=(1,))
    assert html.count('<th scope="row">') == 2
    assert '<th scope="col" class="number">count</th>' in html
    assert '<td class="number">2</td>' in html
    assert "<thead>" not in table([("a", "1")])


def test_links_lead_to_the_sections() -> None:
    html = page("t", ["<p>hello</p>"], [Section("One", ["<p>1</p>"]), Section("Two", [])], "")
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
