"""Mapped tensors against safetensors' own reader."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from hidvae.features.mapped import map_tensor


@pytest.fixture
def file(tmp_path: Path) -> Path:
    generator = np.random.default_rng(0)
    tensors = {
        "narrow": generator.normal(size=(7, 3)).astype(np.float32),
        "wide": generator.normal(size=(5,)),
        "numbers": np.arange(4),
        "empty": np.zeros((0, 3), np.float32),
    }
    save_file(tensors, tmp_path / "tensors.safetensors")
    return tmp_path / "tensors.safetensors"


@pytest.mark.parametrize("name", ["narrow", "wide", "empty"])
def test_a_mapped_tensor_is_the_one_that_was_saved(file: Path, name: str) -> None:
    mapped, wanted = map_tensor(file, name), load_file(file)[name]
    assert (mapped.dtype, mapped.shape) == (wanted.dtype, wanted.shape)
    assert (mapped == wanted).all()


def test_writing_to_it_leaves_the_file_as_it_is(file: Path) -> None:
    before = file.read_bytes()
    mapped = map_tensor(file, "narrow")
    mapped[:] = 0
    assert file.read_bytes() == before
    assert (map_tensor(file, "narrow") != 0).any()


@pytest.mark.parametrize("kept", [0, 5, 30, -1])
def test_a_file_that_was_cut_off_is_refused(file: Path, kept: int) -> None:
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises((ValueError, KeyError)):
        [map_tensor(file, name) for name in ("narrow", "wide")]


@pytest.mark.parametrize("name", ["other", "numbers"])
def test_what_is_not_there_or_no_floating_point_is_refused(file: Path, name: str) -> None:
    with pytest.raises(KeyError):
        map_tensor(file, name)
