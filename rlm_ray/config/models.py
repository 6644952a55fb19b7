"""Which models a run calls, by which names, with which parameters and at which prices."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rlm_ray.config.coercion import from_mapping
from rlm_ray.core.display import show_changes
from rlm_ray.core.llm import Price
from rlm_ray.core.secrets import header_fault
from rlm_ray.errors import ConfigError


@dataclass(frozen=True, slots=True)
class ModelChoice:
    """A model that goes by a name of the user's own."""

    model: str
    """A litellm model name."""
    params: Mapping[str, Any] = field(default_factory=dict)
    """Its own litellm parameters (`api_base`, `api_key` ...), in place of those of the run; empty: those of the run."""

    def __repr__(self) -> str:
        return show_changes(self)


def parse_choice(name: str, choice: Any) -> ModelChoice:
    if isinstance(choice, str):
        choice = {"model": choice}
    if isinstance(choice, Mapping):  # as it was given, or as it is on record
        inner = choice.get("params")
        table = {**choice, **inner} if isinstance(inner, Mapping) else dict(choice)
        table.pop("params", None)
        choice = ModelChoice(table.pop("model", ""), table)
    if not isinstance(choice, ModelChoice) or not isinstance(choice.model, str) or not choice.model.strip():
        why = f"must be a litellm model name, or a table with `model` and its parameters; got {choice!r}"
        raise ConfigError(f"models.{name}", why)
    check_headers(choice.params, f"models.{name}.")
    return choice


def parse_fallbacks(value: Any) -> tuple[str, ...]:
    """Return a list of names, given as one or as a text with commas between them."""
    given = value.split(",") if isinstance(value, str) else value
    if not isinstance(given, list | tuple) or not all(isinstance(each, str) for each in given):
        raise ConfigError("fallbacks", f"must be a list of model names; got {value!r}")
    return tuple(each.strip() for each in given if each.strip())


def parse_price(model: str, price: Any) -> Price:
    if isinstance(price, Price):
        return price
    if isinstance(price, Mapping):
        built: Price = from_mapping(Price, price, f"prices.{model}.")
        return built
    raise ConfigError(
        f"prices.{model}", f"must be Price(input_usd=..., output_usd=...) or a table; got {price!r}"
    )


def check_model(name: str, model: object) -> None:
    if not isinstance(model, str):
        raise ConfigError(name, "must be a litellm model name such as 'openai/gpt-5-mini'")
    if not model.strip():
        why = "is empty; give a litellm model name, or 'offline/extractive' to try without one"
        raise ConfigError(name, why)


def check_headers(params: Mapping[str, Any], prefix: str = "") -> None:
    """Refuse parameters that no HTTP header can hold, before anything is sent."""
    for name in ("api_key", "extra_headers", "default_headers", "headers"):
        _check_header(prefix + name, params.get(name))


def _check_header(name: str, value: object) -> None:
    """Refuse what no HTTP header can hold, in a key or a table of headers."""
    if isinstance(value, Mapping):
        for inner, each in value.items():
            _check_header(f"{name}.{inner}", each)
    elif isinstance(value, str) and (why := header_fault(value)):
        raise ConfigError(name, why)
