"""Pre-commit check: no trailing whitespace, a last newline, valid YAML, no file above 500 kB."""

import sys
from pathlib import Path

import yaml

LARGEST_BYTES = 500_000


def problems(file: Path) -> list[str]:
    """What is wrong with one text file, a line each."""
    if file.stat().st_size > LARGEST_BYTES:
        return [f"{file}: expected at most {LARGEST_BYTES} bytes, found {file.stat().st_size}"]
    text = file.read_text(encoding="utf-8")
    found = [
        f"{file}, line {number}: trailing whitespace"
        for number, line in enumerate(text.splitlines(), start=1)
        if line != line.rstrip()
    ]
    if text and not text.endswith("\n"):
        found.append(f"{file}: no newline at the end")
    if file.suffix in {".yml", ".yaml"}:
        try:
            yaml.safe_load(text)
        except yaml.YAMLError as error:
            found.append(f"{file}: not valid YAML: {' '.join(str(error).split())}")
    return found


if __name__ == "__main__":
    all_problems = [line for name in sys.argv[1:] for line in problems(Path(name))]
    print("\n".join(all_problems))
    sys.exit(bool(all_problems))
