"""The README and the docs are true: what they name exists. Snippets: tests/docs/."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest
import typer
from tests.docs.pages import fit_in_seconds, write_shop

from hidvae.apps.cli import app
from hidvae.config import SECTIONS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
COMMANDS = set(typer.main.get_command(app).commands)  # type: ignore[attr-defined]
page = pytest.mark.parametrize("file", PAGES, ids=lambda file: str(file.relative_to(ROOT)))


def blocks(text: str, language: str) -> list[str]:
    """Contents of the fenced blocks of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def file_map() -> list[str]:
    """Paths that the README's file map names, from the root."""
    (text,) = (block for block in blocks(README, "text") if "README.md" in block)
    paths, folder = [], ""
    for line in text.splitlines():
        name = line.split()[0]
        path = folder + name if line.startswith("  ") else name
        folder = folder if line.startswith("  ") else name
        paths.append(path)
    return paths


def test_the_snippet_trains_and_recommends(
    tiny_run: Path,
    tiny_settings: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_shop(tmp_path, tiny_run)
    fit_in_seconds(monkeypatch, tiny_settings)
    monkeypatch.chdir(tmp_path)
    (snippet,) = blocks(README, "python")
    exec(compile(snippet, "README.md", "exec"), {})
    shown = capsys.readouterr().out
    assert len(re.findall(r"^0\.\d{3}  .+  <a_\d+> <b_\d+> <c_\d+>$", shown, re.MULTILINE)) == 10
    assert shown.count("tags: ") == 10
    assert (tmp_path / "runs" / "shop" / "retriever" / "manifest.json").is_file()


def test_the_two_commands_stand_in_blocks_of_their_own() -> None:
    commands = [block.strip() for block in blocks(README, "sh")]
    install, run = "pip install hidvae\nhidvae demo", "hidvae run --data FOLDER --output runs/mine"
    assert {install, run} <= set(commands)


def test_the_file_map_names_what_exists() -> None:
    for path in file_map():
        assert (ROOT / path).exists(), path
        assert (ROOT / path).is_dir() == path.endswith("/"), path


def test_the_file_map_leaves_nothing_of_the_package_out() -> None:
    named = set(file_map())
    for entry in (ROOT / "src" / "hidvae").iterdir():
        is_code = entry.suffix == ".py" or (entry / "__init__.py").is_file()
        path = f"src/hidvae/{entry.name}" + ("/" if entry.is_dir() else "")
        assert not is_code or path in named, f"README: add {path} to the file map"


@page
def test_commands_exist(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    named = set(re.findall(r"(?:`|^|bin/|run )hidvae ([a-z][a-z-]*)", text, re.MULTILINE))
    assert named <= COMMANDS


def test_every_command_is_in_the_readme() -> None:
    assert set(re.findall(r"`hidvae ([a-z-]+)` \|", README)) == COMMANDS


@page
def test_links_lead_somewhere(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(((?!https?:)[^)\s]+)\)", text):
        path, _, heading = target.partition("#")
        linked = file.parent / path if path else file
        assert linked.exists(), target
        if heading:
            headings = re.findall(r"^#+ (.+)$", linked.read_text(encoding="utf-8"), re.MULTILINE)
            assert heading in {h.lower().replace(" ", "-") for h in headings}, target


@page
def test_settings_exist(file: Path) -> None:
    known = {f"{cls.__name__}.{name}" for cls in SECTIONS.values() for name in vars(cls)}
    known |= {f"{cls.__name__}.{name}" for cls in SECTIONS.values() for name in cls.__annotations__}
    named = re.findall(r"\b([A-Z][A-Za-z]+Config\.[a-z_]+)", file.read_text(encoding="utf-8"))
    if file.name != "results.md":  # its runs had the settings of their time
        assert set(named) <= known


@page
def test_source_files_and_tests_that_are_named_exist(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    tests = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("*.py"))
    for name in set(re.findall(r"`(test_\w+)`", text)) - {"test_excluding_history"}:  # a metric
        assert f"def {name}(" in tests, name
    # A page may show a whole file to be added: its name, a colon, its text.
    named = r"`((?:src/hidvae/|tests/)?[a-z_]+/[a-z_/]+\.py)`(?!:\n\n```python)"
    for path in re.findall(named, text):
        places = [ROOT / path, ROOT / "src" / "hidvae" / path]
        assert any(place.is_file() for place in places), path


def named(parts: list[str]) -> object:
    """What a dotted name stands for: its longest part is a module, the rest attributes."""
    try:
        return importlib.import_module(".".join(parts))
    except ModuleNotFoundError:
        return getattr(named(parts[:-1]), parts[-1])


@page
def test_python_names_exist(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    for dotted in set(re.findall(r"(?:`|^::: )(hidvae(?:\.\w+)+)\b", text, re.MULTILINE)):
        assert named(dotted.split(".")), dotted


@page
def test_no_page_names_a_place_of_one_machine(file: Path) -> None:
    found = re.findall(r"(?<![\w.~])/(?:work|home|tmp|root|Users)/\S*", file.read_text("utf-8"))
    assert found == []
