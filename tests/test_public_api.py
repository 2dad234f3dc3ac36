"""What ``import hidvae`` gives: exactly the names of ``__all__``, without importing torch."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys

import pytest

import hidvae


def test_all_is_sorted_and_equal_to_the_public_names() -> None:
    own = {
        name
        for name, value in vars(hidvae).items()
        if not name.startswith("_") and getattr(value, "__module__", "").startswith("hidvae.")
    }
    assert hidvae.__all__ == sorted(own | set(hidvae._LAZY))  # imported when asked for


@pytest.mark.parametrize("name", hidvae.__all__)
def test_public_names_can_be_had_and_say_what_they_are(name: str) -> None:
    assert getattr(hidvae, name).__doc__


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="Recomender"):
        hidvae.Recomender  # noqa: B018


def test_importing_the_package_imports_no_torch() -> None:
    code = "import sys, hidvae; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_version_is_that_of_the_installed_package() -> None:
    assert hidvae.__version__ == importlib.metadata.version("hidvae")
