"""The wheel: built, installed where no checkout can be seen, and used as the README says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from what git would hand on: a copy without build output and caches."""
    place = tmp_path_factory.mktemp("wheel")
    source = place / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        (source / name).write_bytes((ROOT / name).read_bytes())
    for file in (ROOT / "src" / "hidvae").rglob("*"):
        if file.is_file() and "__pycache__" not in file.parts:
            copy = source / file.relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(file.read_bytes())
    run(
        *(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"),
        *("--no-index", "--wheel-dir", str(place), str(source)),
    )
    (built,) = place.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty environment with the wheel in it.

    Its dependencies are those of the tests' environment, read through a .pth file, as installing
    torch anew takes minutes. What that environment says of the checkout in .pth files of its own is
    not read there.
    """
    place = tmp_path_factory.mktemp("environment") / "venv"
    run(sys.executable, "-m", "venv", str(place))
    python = place / "bin" / "python"
    run(str(python), "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", str(wheel))
    packages = run(str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))")
    (Path(packages.strip()) / "of_the_tests.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python


def run(*words: str, cwd: Path | None = None) -> str:
    """Output of a command that must succeed, without the checkout in its path."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    made = subprocess.run(words, cwd=cwd, env=environment, capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    return made.stdout


def test_the_wheel_holds_every_file_of_the_package(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if name.startswith("hidvae/")}
    source = ROOT / "src"
    files = (file for file in (source / "hidvae").rglob("*") if file.is_file())
    wanted = {
        file.relative_to(source).as_posix() for file in files if "__pycache__" not in file.parts
    }
    assert packed == wanted


def test_the_installed_package_is_not_the_checkout(python: Path, tmp_path: Path) -> None:
    place = run(str(python), "-c", "import hidvae; print(hidvae.__file__)", cwd=tmp_path)
    assert Path(place.strip()).is_relative_to(python.parents[1])


@pytest.mark.parametrize("words", [["--help"], ["demo", "--help"], ["recommend", "--help"]])
def test_the_command_is_installed(python: Path, tmp_path: Path, words: list[str]) -> None:
    assert "Usage: hidvae" in run(str(python.parent / "hidvae"), *words, cwd=tmp_path)


def test_the_lines_of_the_readme_run_from_another_folder(
    python: Path, tmp_path: Path, tiny_settings: list[str], tiny_run: Path
) -> None:
    from hidvae.data.sources.demo import generate_demo

    demo = generate_demo(120, 200, 7)
    demo.items.with_columns(demo.items["categories"].list.join(" > ")).write_csv(
        tmp_path / "items.csv"
    )
    demo.interactions.write_csv(tmp_path / "interactions.csv")
    (snippet,) = re.findall(
        r"^```python\n(.*?)^```$", (ROOT / "README.md").read_text("utf-8"), re.S | re.M
    )
    quick = [setting for setting in tiny_settings if not setting.startswith("DatasetConfig")]
    snippet = snippet.replace('"runs/shop")', f'"runs/shop", settings={quick!r})')
    shown = run(str(python), "-c", snippet, cwd=tmp_path)
    assert shown.count("tags:") == 10
    hidvae = str(python.parent / "hidvae")
    run(hidvae, "report", "runs/shop", cwd=tmp_path)  # templates
    run(hidvae, "export", "runs/shop", "--output", "exported", cwd=tmp_path)  # the card's text
    assert "hidvae on" in (tmp_path / "exported" / "README.md").read_text("utf-8")
    page = "from hidvae.apps.serve.app import app_without_run; print(app_without_run().openapi())"
    assert "/recommend" in run(str(python), "-c", page, cwd=tmp_path)
