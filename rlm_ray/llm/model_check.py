"""What is wrong with a model before anything is started for it: its name, its key, its price, its address.

litellm takes seconds to import, so its map of models is read as the file it is: where that and the environment settle
everything, nothing else is asked. Only a model that looks wrong is judged by litellm itself.

What cannot be known here is not refused: keys that nodes of another cluster hold, credentials that are no single key
(AWS roles, Azure tokens), names that are newer than litellm, addresses behind a proxy.
"""

from __future__ import annotations

import difflib
import importlib.util
import json
import socket
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from rlm_ray.config import Settings
from rlm_ray.core.llm import Price, Usage
from rlm_ray.errors import AuthenticationError, ConfigError, ModelUnavailableError
from rlm_ray.llm.model_provider import is_offline

_MAP = "model_prices_and_context_window_backup.json"
_CONNECT_S = 3.0
_ANSWERING = ("chat", "responses", "completion")
_PROXIES = ("http_proxy", "https_proxy", "all_proxy")
_WITHOUT_KEY = frozenset(["ollama", "ollama_chat", "hosted_vllm", "lm_studio", "llamafile"])
"""Providers that run on machines of one's own; litellm knows them by these names."""


def check_before_start(settings: Settings, environ: Mapping[str, str]) -> None:
    """Do `check_models` where Ray is still to be started in this process: what is wrong is said at once, and leaves no run on record.

    Where it runs, the first call says it as soon, and processes of the cluster may have the key.
    """
    ray = sys.modules.get("ray")
    if ray is None or not ray.is_initialized():
        check_models(settings, environ)


def check_models(settings: Settings, environ: Mapping[str, str]) -> None:
    """Raise `ConfigError`, `AuthenticationError` or `ModelUnavailableError` where a model of a run cannot be asked."""
    for depth in range(min(settings.max_depth, 1) + 1):
        model, params = settings.model_at(depth)
        check_name_and_key(model, params, environ, other_keys=_is_elsewhere(settings, environ))
        if not is_offline(model):
            check_address(model, params, settings, environ)
        if settings.limits.cost_usd is not None:
            price = price_of(model, settings)
            if price is None:
                check_price(model)
            elif settings.limits.cost_usd == 0 and price != Price(0.0, 0.0):
                why = f"is 0, which lets only models run that cost nothing, and {model} costs money; give a higher limit"
                raise ConfigError("limits.cost_usd", why)


def check_name_and_key(
    model: str, params: Mapping[str, Any], environ: Mapping[str, str], *, other_keys: bool = False
) -> None:
    """Raise `ConfigError` for a name that leads to no provider, `AuthenticationError` where its key is missing.

    With `other_keys` the processes that call it may have keys that are not here.
    """
    if is_offline(model):
        return
    known = known_model(model)
    has_key = bool(params.get("api_key")) or other_keys
    if known is not None and (has_key or environ.get(f"{known['litellm_provider'].upper()}_API_KEY")):
        return
    if not _models():
        return  # litellm's map has moved, or what is found by its name is another: the first call says what is wrong
    provider, slash, name = model.partition("/")
    if slash and name and (provider in _WITHOUT_KEY or (has_key and provider in _providers())):
        return
    from rlm_ray.llm.litellm_client import import_litellm, missing_keys
    from rlm_ray.llm.litellm_errors import map_error

    litellm = import_litellm()
    try:
        litellm.get_llm_provider(model, api_base=params.get("api_base"))
    except Exception as error:  # litellm raises many things for a name it does not know
        mapped = map_error(litellm, error, model, params)
        if isinstance(mapped, ConfigError):
            raise ConfigError("model", f"{mapped.why}{_similar(model)}") from error
        return
    missing = [] if has_key else missing_keys(model)
    if missing and all(name.endswith("_API_KEY") for name in missing):
        why = f"its key is missing: set {' and '.join(missing)}, or give --api-key (api_key=); any text for a server that checks none"
        raise AuthenticationError(model, why)


def check_address(
    model: str, params: Mapping[str, Any], settings: Settings, environ: Mapping[str, str]
) -> None:
    """Raise `ConfigError` for an `api_base` that is no address, `ModelUnavailableError` where nothing listens there."""
    base = str(params.get("api_base") or params.get("base_url") or "")
    if not base:
        return
    try:
        parts = urlsplit(base)
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        parts, port = urlsplit(""), 0
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError("api_base", f"{base!r} is no address; write it as http://host:port/v1")
    if _is_elsewhere(settings, environ) or any(
        environ.get(name) or environ.get(name.upper()) for name in _PROXIES
    ):
        return
    try:
        socket.create_connection((parts.hostname, port), timeout=_CONNECT_S).close()
    except TimeoutError:
        return  # a slow network is no wrong address
    except OSError as error:
        why = f"nothing answers at {base} ({error.strerror or error}); start the server, or correct --api-base (api_base=)"
        raise ModelUnavailableError(model, why) from error


def check_price(model: str) -> None:
    """Raise `ConfigError` where litellm knows no price of a model whose cost is limited."""
    from rlm_ray.llm.litellm_client import LitellmProvider

    if LitellmProvider().cost_usd(model, Usage()) is None:
        why = (
            f"cannot be kept: the price of {model!r} is not known; give it as prices={{{model!r}: Price(...)}} "
            f"(--price {model}=IN,OUT) in US dollars per million tokens, or drop the limit"
        )
        raise ConfigError("limits.cost_usd", why)


def price_of(model: str, settings: Settings) -> Price | None:
    """Return the price of a model by the settings or by litellm's map; None where neither knows one for any length."""
    if model in settings.prices:
        return settings.prices[model]
    if is_offline(model):
        return Price(0.0, 0.0)
    known = known_model(model) or {}
    given, made = known.get("input_cost_per_token"), known.get("output_cost_per_token")
    if not isinstance(given, int | float) or not isinstance(made, int | float):
        return None
    return Price(given * 1e6, made * 1e6)


def known_model(model: str) -> Mapping[str, Any] | None:
    """Return what litellm's map says of a model; None where it is not in it."""
    models = _models()
    provider, slash, name = model.partition("/")
    for key in (model, name if slash else ""):
        found = models.get(key)
        if isinstance(found, dict) and isinstance(found.get("litellm_provider"), str):
            # `bedrock/` and `vertex_ai/` are `bedrock_converse` and `vertex_ai-anthropic_models` in the map
            return found if key == model or found["litellm_provider"].startswith(provider) else None
    return None


def chat_models() -> dict[str, Mapping[str, Any]]:
    """Return what litellm's map says of the models that answer questions, by names that litellm takes."""
    found = {}
    for name, facts in _models().items():
        if isinstance(facts, dict) and facts.get("mode") in _ANSWERING and facts.get("litellm_provider"):
            found[name if "/" in name else f"{facts['litellm_provider']}/{name}"] = facts
    return dict(sorted(found.items()))


def has_map() -> bool:
    """Tell whether litellm's map was found."""
    return bool(_models())


@cache
def _models() -> Mapping[str, Any]:
    """Return litellm's map of models, read without importing litellm; empty where it has moved."""
    found = importlib.util.find_spec("litellm")
    for folder in (found.submodule_search_locations or ()) if found is not None else ():
        try:
            models = json.loads((Path(folder) / _MAP).read_bytes())
        except (OSError, ValueError):
            continue
        return models if isinstance(models, dict) else {}
    return {}


@cache
def _providers() -> frozenset[str]:
    """Return the providers of the models in litellm's map."""
    found = (facts.get("litellm_provider") for facts in _models().values() if isinstance(facts, dict))
    return frozenset(name for name in found if isinstance(name, str))


def _similar(model: str) -> str:
    provider, slash, name = model.partition("/")
    if slash and provider not in _providers():  # a slip in the provider; its model may be newer than the map
        close = [
            f"{one}/{name}" for one in difflib.get_close_matches(provider, _providers(), n=1, cutoff=0.75)
        ]
    else:
        close = difflib.get_close_matches(model, _models(), n=1, cutoff=0.8)
    return f"; did you mean {close[0]}?" if close else ""


def _is_elsewhere(settings: Settings, environ: Mapping[str, str]) -> bool:
    """Tell whether models are called from the nodes of a cluster, which may have other keys and reach other addresses."""
    started = Path(environ.get("RAY_TMPDIR") or "/tmp", "ray", "ray_current_cluster")  # noqa: S108 - where Ray notes it
    return bool(settings.cluster.address or environ.get("RAY_ADDRESS") or started.exists())
