"""What a server of one's own tells of its models: the window, and the most a reply may hold.

    llama.cpp           GET  /props            default_generation_settings.n_ctx
    vLLM, SGLang, LM Studio, OpenRouter
                        GET  /v1/models        max_model_len, loaded_context_length, context_length ...
    Ollama              POST /api/show         parameters num_ctx, else model_info.<family>.context_length

What a server says is checked for being a number that a window can be; everything else counts as nothing said.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

from rlm_ray.core.output_limit import OutputLimit

TIMEOUT_S = 5.0
MIN_TOKENS, MAX_TOKENS = 256, 100_000_000
MAX_BYTES, _CHUNKS = 4 << 20, 64

_WINDOW_NAMES = (
    "loaded_context_length", "max_model_len", "context_length", "context_window", "max_context_length", "max_input_tokens",
)  # fmt: skip
_REPLY_NAMES = ("max_completion_tokens", "max_output_tokens")
_NUM_CTX = re.compile(r"^num_ctx\s+(\d+)$", re.MULTILINE)

Fetch = Callable[[str, str, Mapping[str, Any] | None], Any]
"""Method, address and body; returns the JSON of a reply, None where there is none."""


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """What a server said, and where."""

    limits: OutputLimit
    source: str
    """The path that told it, such as `/props`."""


def ask_server(
    api_base: str, model: str, api_key: str = "", fetch: Fetch | None = None
) -> ServerLimits | None:
    """Ask a server for the limits of a model; None where it tells none. Blocks for a few seconds at most."""
    fetch = fetch or _fetcher(api_key)
    base = api_base.rstrip("/")
    root = base.removesuffix("/v1")
    name = model.partition("/")[2] or model
    questions: tuple[tuple[str, str, Mapping[str, Any] | None, Callable[[Any, str], OutputLimit]], ...] = (
        ("GET", f"{root}/props", None, of_props),
        ("GET", f"{base}/models", None, of_models),
        ("POST", f"{root}/api/show", {"model": name}, of_ollama),
    )
    for method, address, body, read in questions:
        limits = read(fetch(method, address, body), name)
        if limits.window_tokens is not None:
            return ServerLimits(limits, address.removeprefix(root))
    return None


def list_models(
    api_base: str, api_key: str = "", fetch: Fetch | None = None
) -> dict[str, OutputLimit] | None:
    """Ask a server for its models and their limits; None where it does not list any."""
    answer = (fetch or _fetcher(api_key))("GET", f"{api_base.rstrip('/')}/models", None)
    listed = _at(answer, "data")
    if not isinstance(listed, list):
        return None
    entries = [entry for entry in listed if isinstance(entry, Mapping) and isinstance(entry.get("id"), str)]
    return {
        entry["id"]: OutputLimit(_first(entry, _REPLY_NAMES), _first(entry, _WINDOW_NAMES))
        for entry in entries
    }


def of_props(answer: Any, _: str = "") -> OutputLimit:
    """Read `/props` of llama.cpp: the window of one slot."""
    return OutputLimit(window_tokens=_tokens(_at(_at(answer, "default_generation_settings"), "n_ctx")))


def of_models(answer: Any, name: str) -> OutputLimit:
    """Read `/v1/models`: the entry of this name, or the only one there is."""
    listed = _at(answer, "data")
    entries = [entry for entry in listed if isinstance(entry, Mapping)] if isinstance(listed, list) else []
    named = [entry for entry in entries if entry.get("id") in (name, name.rpartition("/")[2])]
    entry = (named or (entries if len(entries) == 1 else [{}]))[0]
    return OutputLimit(_first(entry, _REPLY_NAMES), _first(entry, _WINDOW_NAMES))


def of_ollama(answer: Any, _: str = "") -> OutputLimit:
    """Read `/api/show` of Ollama: the window it was given, else the one the model was trained with."""
    parameters, info = _at(answer, "parameters"), _at(answer, "model_info")
    given = _NUM_CTX.search(parameters) if isinstance(parameters, str) else None
    if given is not None:
        return OutputLimit(window_tokens=_tokens(int(given[1])))
    trained = [_tokens(value) for key, value in _items(info) if key.endswith(".context_length")]
    return OutputLimit(window_tokens=next((value for value in trained if value is not None), None))


def _first(entry: Mapping[str, Any], names: tuple[str, ...]) -> int | None:
    places = (entry, entry.get("top_provider"), entry.get("meta"))
    found = (_tokens(_at(place, name)) for name in names for place in places)
    return next((value for value in found if value is not None), None)


def _tokens(value: Any) -> int | None:
    is_count = isinstance(value, int) and not isinstance(value, bool) and MIN_TOKENS <= value <= MAX_TOKENS
    return value if is_count else None


def _at(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, Mapping) else None


def _items(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        yield from ((str(key), each) for key, each in value.items())


def _fetcher(api_key: str) -> Fetch:
    import requests  # a tenth of a second that no other command needs

    headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}

    def fetch(method: str, address: str, body: Mapping[str, Any] | None) -> Any:
        try:
            with requests.request(
                method,
                address,
                json=body,
                headers=headers,
                timeout=TIMEOUT_S,
                stream=True,
                allow_redirects=False,
            ) as reply:
                answer = b"".join(islice(reply.iter_content(MAX_BYTES // _CHUNKS), _CHUNKS))
                return json.loads(answer) if reply.ok else None
        except (requests.RequestException, ValueError, RecursionError):
            return None

    return fetch
