"""Settings that say where questions, keys and files go: they want a user's own word.

A record that was copied here, or a `rlm-ray.toml` of a downloaded folder, is somebody else's: what only shapes an answer
is taken from it, where it goes is not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import is_dataclass
from typing import Any, get_type_hints

from rlm_ray.config.settings import Settings
from rlm_ray.core.secrets import REDACTED, is_secret
from rlm_ray.core.setting_rules import NEEDS_TRUST, marked_fields

SHAPING_PARAMS = frozenset(
    [
        "cache_control",
        "drop_params",
        "frequency_penalty",
        "keep_alive",
        "logit_bias",
        "logprobs",
        "max_completion_tokens",
        "max_tokens",
        "min_p",
        "n",
        "num_ctx",
        "presence_penalty",
        "reasoning",
        "reasoning_effort",
        "repetition_penalty",
        "response_format",
        "seed",
        "service_tier",
        "stop",
        "temperature",
        "thinking",
        "timeout",
        "top_k",
        "top_logprobs",
        "top_p",
        "user",
        "verbosity",
    ]
)
"""litellm parameters that go to the provider and no further; any other may name an address, a key or a file."""


_MARKED = marked_fields(Settings, NEEDS_TRUST) | {
    f"{group}.{name}": inner
    for group, hint in get_type_hints(Settings).items()
    if is_dataclass(hint) and isinstance(hint, type)
    for name, inner in marked_fields(hint, NEEDS_TRUST).items()
}
"""The dotted names of settings that need trust whatever they say, and their types."""


def destinations(table: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of a table of settings that need trust, by their dotted names. What is hidden there comes from the caller in any case."""
    found = {
        f"params.{name}": value for name, value in _table(table, "params").items() if _leads_away(name, value)
    }
    for name in ("model", "recursive_model"):
        if "://" in str(table.get(name, "")):
            found[name] = table[name]
    for name, choice in _table(table, "models").items():
        given = choice if isinstance(choice, Mapping) else {"model": choice}
        own = {**given, **_table(given, "params")}
        if "://" in str(own.get("model")) or any(
            _leads_away(key, value) for key, value in own.items() if key not in {"model", "params"}
        ):
            found[f"models.{name}"] = choice
    if "://" in str(table.get("fallbacks") or ""):
        found["fallbacks"] = table["fallbacks"]
    found |= {f"mcp_servers.{name}": server for name, server in _table(table, "mcp_servers").items()}
    for name, hint in _MARKED.items():
        value = value_at(table, name)
        if value and (value is not True or hint is bool):  # True asks for the folder of everybody
            found[name] = value
    return found


def without(table: Mapping[str, Any], names: Mapping[str, Any]) -> dict[str, Any]:
    """Return the table without these dotted names."""
    return {
        name: without(value, {key.removeprefix(f"{name}."): 1 for key in names if key.startswith(f"{name}.")})
        if isinstance(value, Mapping)
        else value
        for name, value in table.items()
        if name not in names
    }


def value_at(table: Mapping[str, Any], name: str) -> Any:
    """Return what stands under a dotted name; None where nothing does."""
    group, _, key = name.rpartition(".")
    return (_table(table, group) if group else table).get(key)


def _leads_away(name: str, value: Any) -> bool:
    if name in SHAPING_PARAMS:
        return "://" in str(value)
    return value is not None and not (is_secret(name) and value == REDACTED)


def _table(table: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    inner = table.get(name)
    return inner if isinstance(inner, Mapping) else {}
