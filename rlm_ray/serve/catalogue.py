"""The models clients may ask for, and the settings each stands for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any

from rlm_ray.config import Settings, changed
from rlm_ray.core.limits import Limits
from rlm_ray.errors import ConfigError

PREFIX = "rlm/"

_LOWER_ONLY = ("max_depth", "max_iterations")
_FREE = ("leaf_chars", "direct_below_chars", "profile")


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Aliases, and models that may be named as `rlm/<model>`."""

    base: Settings
    aliases: Mapping[str, Settings]
    allowed: tuple[str, ...]
    """Patterns of litellm models."""

    def settings(self, model: str) -> Settings | None:
        """What a model id stands for; None where it may not be asked for."""
        if model in self.aliases:
            return self.aliases[model]
        plain = model.removeprefix(PREFIX)
        if plain == model or not any(fnmatchcase(plain, pattern) for pattern in self.allowed):
            return None
        return self.base if plain == self.base.model else replace(self.base, model=plain, recursive_model="")

    def ids(self) -> list[str]:
        """Those that can be listed: a pattern names no model."""
        plain = [PREFIX + name for name in self.allowed if "*" not in name and "?" not in name]
        return [*self.aliases, *plain]


def make_catalogue(
    settings: Mapping[str, Any],
    models: Mapping[str, Mapping[str, Any]],
    allow_models: list[str],
    run_dir: str,
) -> Catalogue:
    """The catalogue of a deployment. Raises `ConfigError` for settings that are none."""
    base = changed(Settings(), _dotted(settings) | {"run_dir": run_dir})
    if not base.record_content:
        raise ConfigError("record_content", "must stay on in a service: runs go on from their records")
    aliases = {}
    for name, table in models.items():
        if "run_dir" in table:
            raise ConfigError(f"models.{name}.run_dir", "is the same for the whole service")
        aliases[name] = changed(base, _dotted(table))
    allowed = dict.fromkeys([base.model, *allow_models])
    return Catalogue(base, aliases, tuple(allowed))


def with_options(settings: Settings, options: Mapping[str, Any]) -> Settings:
    """A request's own wishes, within what the model's settings allow. Raises `ConfigError`."""
    changes = {name: options[name] for name in _FREE if options.get(name) is not None}
    for name in _LOWER_ONLY:
        if options.get(name) is not None:
            changes[name] = min(options[name], getattr(settings, name))
    wanted = changed(settings, changes) if changes else settings
    return replace(wanted, limits=lower(settings.limits, Limits(**(options.get("limits") or {}))))


def lower(first: Limits, second: Limits) -> Limits:
    """Both at once."""
    return Limits(**{name: _least(getattr(first, name), getattr(second, name)) for name in Limits.__slots__})


def _least(first: Any, second: Any) -> Any:
    known = [value for value in (first, second) if value is not None]
    return min(known) if known else None


def _dotted(table: Mapping[str, Any]) -> dict[str, Any]:
    """Inner tables as `limits.cost_usd`."""
    flat: dict[str, Any] = {}
    for name, value in table.items():
        if isinstance(value, Mapping):
            flat |= {f"{name}.{inner}": deep for inner, deep in value.items()}
        else:
            flat[name] = value
    return flat
