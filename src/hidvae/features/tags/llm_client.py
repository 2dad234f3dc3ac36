"""Talk to a language model: prompts in, answers out, each asked once per machine.

``ChatModel`` is the seam: ``open_chat`` gives one behind which stand an OpenAI-compatible server,
a limit on concurrent requests, retries, and the cache of answers. The key is read from
``$OPENAI_API_KEY`` by the client and goes nowhere but to the server.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol, cast
from urllib.parse import urlsplit

from hidvae.config import LLMConfig
from hidvae.errors import ConfigError, MissingExtraError, ServerError
from hidvae.features.tags.offline_llm import OFFLINE_MODEL, offline_server
from hidvae.store.blobs import BlobStore
from hidvae.store.cache import cache_folder

if TYPE_CHECKING:
    import openai

logger = logging.getLogger(__name__)

OFFLINE = "offline"
"""``LLMConfig.base_url`` of the packaged model."""
ANSWERS_FILE = "answers.sqlite"
"""In the cache folder: every answer, the moment it arrives, under the digest of its prompt; neither
prompts nor keys nor addresses."""
KEY_VARIABLE = "OPENAI_API_KEY"
ADDRESS_VARIABLE = "OPENAI_BASE_URL"
_PUBLIC_ADDRESS = "https://api.openai.com/v1"
_NO_KEY = "none"
"""Sent where no key is set: servers of one's own ask for none, the client insists on some."""
_SEED = 0
_MAX_TOKENS = 4096
"""Longest answer; models that think before they answer need more than the answer itself."""
_MAX_TOKENS_OFFLINE = 512
"""The packaged model does not think, and is slow where it does not stop by itself."""
MAX_RETRIES = 5
"""Further tries of a request that fails, with exponential back-off: about half a minute."""
TIMEOUT_SECONDS = 60.0
"""Longest wait for one answer; a small model on a busy machine takes seconds."""
_SECONDS_BETWEEN_LOG_LINES = 10.0


@dataclass(frozen=True)
class Prompt:
    """One request: what is said, and the form of the answer."""

    messages: Sequence[Mapping[str, str]]
    """Chat messages, ``{"role": …, "content": …}``."""
    schema: Mapping[str, Any]
    """JSON schema of the answer."""


@dataclass(frozen=True)
class Answer:
    """What the model said to a prompt."""

    text: str
    """JSON by the schema, if the server keeps to it; "" if it said nothing."""
    prompt_tokens: int
    completion_tokens: int
    was_cached: bool = False
    """Whether it cost nothing in this run."""
    failed_tries: int = 0
    """Tries that failed before this one."""

    def to_bytes(self) -> bytes:
        """What is kept of it."""
        return json.dumps([self.text, self.prompt_tokens, self.completion_tokens]).encode()

    @classmethod
    def from_bytes(cls, kept: bytes) -> Answer:
        """An answer of an earlier run, or of another process."""
        text, prompt_tokens, completion_tokens = json.loads(kept)
        return cls(text, prompt_tokens, completion_tokens, was_cached=True)


class ChatModel(Protocol):
    """Anything that answers prompts."""

    def complete(self, prompts: Sequence[Prompt]) -> list[Answer]:
        """One answer per prompt, in order.

        Raises:
            ConfigError: If the server refuses the key or does not know the model.
            ServerError: If it gives no answer; those that came are cached.
        """
        ...


@contextlib.contextmanager
def open_chat(config: LLMConfig) -> Iterator[ChatModel]:
    """The configured model; a server is started or contacted when the cache lacks an answer.

    Raises:
        ConfigError: If the address or the model cannot be right, or a key is needed and not set.
        MissingExtraError: If the client (or, offline, the model) is not installed.
        ArtifactError: If the answers cannot be kept.
    """
    _check_address(config)
    with contextlib.ExitStack() as stack:
        cache = stack.enter_context(BlobStore(cache_folder() / ANSWERS_FILE))
        yield CachedChat(config, cache, connect=lambda: _connect(config, stack))


class CachedChat:
    """A ``ChatModel`` that asks a server for what the cache does not have."""

    def __init__(self, config: LLMConfig, cache: BlobStore, connect: Callable[[], openai.OpenAI]):
        self._config = config
        self._cache = cache
        self._connect = connect
        self._client: openai.OpenAI | None = None
        self._parameters = _default_parameters(config)

    def complete(self, prompts: Sequence[Prompt]) -> list[Answer]:
        """See ``ChatModel``; equal prompts are asked once."""
        keys = [self._key(prompt) for prompt in prompts]
        known = {k: Answer.from_bytes(kept) for k, kept in self._cache.read(keys).items()}
        missing = {key: p for key, p in zip(keys, prompts, strict=True) if key not in known}
        fresh = self._ask_all(missing) if missing else {}
        # a second prompt like one that was asked now costs nothing more
        known |= {key: replace(answer, was_cached=True) for key, answer in fresh.items()}
        return [fresh.pop(key) if key in fresh else known[key] for key in keys]

    def _key(self, prompt: Prompt) -> bytes:
        """SHA-256 of all that the answer depends on."""
        config = self._config
        parameters = _default_parameters(config)
        content = [config.model, _address(config), prompt.messages, prompt.schema, parameters]
        return hashlib.sha256(json.dumps(content, ensure_ascii=False).encode()).digest()

    def _ask_all(self, prompts: Mapping[bytes, Prompt]) -> dict[bytes, Answer]:
        """Ask for all prompts, some at a time; the first failure stops the rest."""
        if self._client is None:
            self._client = self._connect()
        client = self._client
        answers: dict[bytes, Answer] = {}
        last_logged = time.monotonic()
        with ThreadPoolExecutor(self._config.concurrency) as pool:
            key_of = {pool.submit(self._ask, client, k, p): k for k, p in prompts.items()}
            try:
                for done in as_completed(key_of):
                    answers[key_of[done]] = done.result()
                    if time.monotonic() - last_logged > _SECONDS_BETWEEN_LOG_LINES:
                        last_logged = time.monotonic()
                        logger.info(
                            "%s: %d of %d answers", self._config.model, len(answers), len(prompts)
                        )
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        return answers

    def _ask(self, client: openai.OpenAI, key: bytes, prompt: Prompt) -> Answer:
        """Ask once (the client tries again where that may help) and keep the answer."""
        with _explained_errors(self._config):
            response = self._request(client, prompt)
            completion = response.parse()
        choices = getattr(completion, "choices", None)
        if not choices:
            raise ServerError(
                f"{_address(self._config)}: expected a chat completion; found "
                f"{' '.join(str(completion).split())[:100]!r}; check LLMConfig.base_url (it often "
                "ends in /v1)"
            )
        usage = completion.usage
        answer = Answer(
            text=choices[0].message.content or "",
            prompt_tokens=usage.prompt_tokens if usage else 0,
            completion_tokens=usage.completion_tokens if usage else 0,
        )
        self._cache.add({key: answer.to_bytes()})
        # another process may have been first: its answer is the one that counts
        kept = self._cache.read([key]).get(key, answer.to_bytes())
        return replace(
            Answer.from_bytes(kept), was_cached=False, failed_tries=response.retries_taken
        )

    def _request(self, client: openai.OpenAI, prompt: Prompt) -> Any:
        """The raw response; parameters that the model does not take are left out from then on."""
        import openai

        form = {"name": "answer", "strict": True, "schema": prompt.schema}
        while True:
            parameters = dict(self._parameters)
            try:
                return client.chat.completions.with_raw_response.create(
                    model=self._config.model,
                    messages=cast(Any, prompt.messages),  # dicts are what the client sends anyway
                    response_format=cast(Any, {"type": "json_schema", "json_schema": form}),
                    **parameters,
                )
            except openai.BadRequestError as error:
                refused = error.param or ""
                if refused not in parameters:
                    raise
                if self._parameters.pop(refused, None) is not None:  # the first thread to see it
                    logger.warning(
                        "%s does not accept %s; continuing without", self._config.model, refused
                    )


def _default_parameters(config: LLMConfig) -> dict[str, Any]:
    """How answers are drawn: always the most probable word, as far as the server can."""
    max_tokens = _MAX_TOKENS_OFFLINE if config.base_url == OFFLINE else _MAX_TOKENS
    return {"temperature": 0, "seed": _SEED, "max_tokens": max_tokens}


def _connect(config: LLMConfig, stack: contextlib.ExitStack) -> openai.OpenAI:
    """A client of the configured server, which is started first if it is the offline one."""
    import openai

    address, key, http_client = _address(config), os.environ.get(KEY_VARIABLE, ""), None
    if address == OFFLINE:
        address, key = stack.enter_context(offline_server(config.concurrency)), ""
        http_client = openai.DefaultHttpxClient(trust_env=False)  # no proxy before loopback
    client = openai.OpenAI(
        base_url=address,
        api_key=key or _NO_KEY,
        max_retries=MAX_RETRIES,  # with back-off, or as the server's Retry-After says
        timeout=TIMEOUT_SECONDS,
        http_client=http_client,
    )
    return stack.enter_context(client)


def _check_address(config: LLMConfig) -> None:
    """Refuse what cannot work before anything is asked."""
    if importlib.util.find_spec("openai") is None:
        raise MissingExtraError(
            "tags by a language model need openai, which is not installed; run "
            'pip install "hidvae[llm]"'
        )
    if config.base_url == OFFLINE:
        if config.model != OFFLINE_MODEL:
            raise ConfigError(
                f'LLMConfig.model: expected {OFFLINE_MODEL!r} with base_url = "offline"; found '
                f"{config.model!r}; set LLMConfig.base_url to the server that has it (empty for "
                f"${ADDRESS_VARIABLE}, or OpenAI's)"
            )
        return
    address = _address(config)
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
        shown = f"{parts.scheme}://…" if "@" in parts.netloc else repr(address)
        raise ConfigError(
            f"LLMConfig.base_url: expected an address such as http://localhost:8000/v1, without "
            f"user or password; found {shown}; a key belongs in ${KEY_VARIABLE}"
        )
    if address == _PUBLIC_ADDRESS and not os.environ.get(KEY_VARIABLE):
        raise ConfigError(
            f"${KEY_VARIABLE}: expected a key for {_PUBLIC_ADDRESS}; found none; set it, or "
            "LLMConfig.base_url to a server of your own"
        )


def _address(config: LLMConfig) -> str:
    """Where the model is: "offline" or a base URL."""
    return config.base_url or os.environ.get(ADDRESS_VARIABLE, "") or _PUBLIC_ADDRESS


@contextlib.contextmanager
def _explained_errors(config: LLMConfig) -> Iterator[None]:
    """Turn the client's errors into one line that says what to do."""
    import openai

    address = _address(config)
    goes_on = "answers so far are cached; the same command continues from there"
    try:
        yield
    except (openai.AuthenticationError, openai.PermissionDeniedError) as error:
        # some servers repeat the key in their message: it is not shown, nor chained
        raise ConfigError(
            f"${KEY_VARIABLE}: expected a key that {address} accepts for {config.model!r}; it "
            f"refused {'the one set' if os.environ.get(KEY_VARIABLE) else 'to answer without one'} "
            f"(status {error.status_code}); set a valid key in the environment"
        ) from None
    except openai.NotFoundError as error:
        raise ConfigError(
            f"LLMConfig.model: expected a model that {address} serves; found {config.model!r} "
            f"({_reason(error)}); check LLMConfig.model and LLMConfig.base_url (it often ends in "
            "/v1)"
        ) from error
    except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
        raise ServerError(
            f"{address}: refused the request ({_reason(error)}); choose a model with JSON-schema "
            f"output, or lower LLMConfig.items_per_request; {goes_on}"
        ) from error
    except (openai.OpenAIError, json.JSONDecodeError) as error:  # the latter: not even an envelope
        raise ServerError(
            f"{address}: expected an answer of {config.model!r}; found none in "
            f"{MAX_RETRIES + 1} tries ({_reason(error)}); {goes_on} (a lower "
            "LLMConfig.concurrency may help)"
        ) from error


def _reason(error: Exception) -> str:
    """The error in one short line, with what caused it."""
    text = " ".join(str(error).split()) or type(error).__name__
    if error.__cause__ is not None:
        text += f": {' '.join(str(error.__cause__).split())}"
    return text[:200]
