"""The long job itself."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.oddities import __main__ as long_job


def _quick(seed: int, folder: Path) -> tuple[int, str, str]:
    return seed, str(os.getpid()), ""


def test_the_job_goes_on_after_its_process_was_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before, it waited for ever after 500 draws."""
    monkeypatch.setattr(long_job, "outcome", _quick)
    monkeypatch.setattr(long_job, "_DRAWS_PER_PROCESS", 2)
    for name in (*long_job._ENVIRONMENT, "HIDVAE_CACHE"):
        monkeypatch.setenv(name, os.environ.get(name, ""))
    found = list(long_job._outcomes(list(range(5)), 1, tmp_path))
    assert [seed for seed, _, _ in sorted(found)] == list(range(5))
    assert len({process for _, process, _ in found}) == 3
