"""Where a run lies: in a folder, or on the Hugging Face Hub, from where it is downloaded."""

from __future__ import annotations

import re
from pathlib import Path

from hidvae.errors import ArtifactError, ConfigError, MissingExtraError
from hidvae.store.cache import is_offline

_PREFIX = re.compile(r"hf:/{1,2}(?!/)")  # Path writes one slash of two
_PLACE = re.compile(r"(?P<repository>[\w.-]+/[\w.-]+)(@(?P<revision>\S+))?")
_FORMATS = ("*.json", "*.parquet", "*.safetensors", "*.csv")
"""What is downloaded: nothing whose loading could run code."""


def is_on_hub(run: Path | str) -> bool:
    """Whether the place of a run is one of the Hub's, so that somebody else wrote it."""
    return _PREFIX.match(str(run)) is not None


def local_folder(run: Path | str) -> Path:
    """The folder of a run; of ``hf://org/name`` or ``hf://org/name@revision``, a downloaded copy.

    A copy is kept in the Hub's own cache. With HIDVAE_OFFLINE only the cache is looked at. The
    token, where one is needed, is the one that the Hub's client finds.

    Raises:
        ConfigError: If the place is not written so.
        ArtifactError: If it cannot be had.
        MissingExtraError: If the Hub's client is not installed.
    """
    prefix = _PREFIX.match(str(run))
    if prefix is None:
        return Path(run)
    place = _PLACE.fullmatch(str(run)[prefix.end() :])
    if place is None:
        raise ConfigError(
            f"expected hf://ORGANISATION/NAME or hf://ORGANISATION/NAME@REVISION; found {run}"
        )
    try:
        import huggingface_hub
        from huggingface_hub.errors import HfHubHTTPError
    except ImportError as error:
        raise MissingExtraError(
            f"{run} needs huggingface_hub, which is not installed; run "
            'pip install "hidvae[hub]", or pass a local folder'
        ) from error
    try:
        folder = huggingface_hub.snapshot_download(
            place["repository"],
            revision=place["revision"],
            allow_patterns=list(_FORMATS),
            local_files_only=is_offline(),
        )
    except (HfHubHTTPError, OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ArtifactError(
            f"{run}: cannot be downloaded ({reason}); check the name, the network and your access"
        ) from error
    return Path(folder)
