"""The models clients may ask for, and the settings each stands for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any

from rlm_ray.config import Settings, SettingValue, merge_settings, values_from_table
from rlm_ray.config.deprecated_names import current_table
from rlm_ray.core.limits import Limits
from rlm_ray.errors import ConfigError

PREFIX = "rlm/"

_OF_ANY_PROVIDER = frozenset(
    {
        "temperature", "top_p", "top_k", "min_p", "seed", "stop", "frequency_penalty", "presence_penalty",
        "repetition_penalty", "reasoning_effort", "drop_params", "verbosity",
    }
)  # fmt: skip
"""Parameters that say how a model answers. All others may hold a key or an address, so they stay with their provider."""
CLIENT_LOWERABLE = ("max_depth", "max_iterations")
CLIENT_SETTABLE = ("max_leaf_chars", "direct_call_below_chars", "profile", "citations")


@dataclass(frozen=True, slots=True)
class ModelRegistry:
    """Aliases, and models that may be named as `rlm/<model>`."""

    base: Settings
    aliases: Mapping[str, Settings]
    allowed: tuple[str, ...]
    """Patterns of litellm models."""

    def settings(self, model: str) -> Settings | None:
        """Return the settings a model id stands for; None where it may not be asked for."""
        if model in self.aliases:
            return self.aliases[model]
        plain = model.removeprefix(PREFIX)
        if plain == model or not any(fnmatchcase(plain, pattern) for pattern in self.allowed):
            return None
        if plain == self.base.model:
            return self.base
        return replace(self.base, model=plain, recursive_model="", params=self._params_for(plain))

    def _params_for(self, model: str) -> dict[str, Any]:
        """Return the base's parameters for another model: whole for the same provider, else without what leads to
        one.
        """
        if _provider_of(model) == _provider_of(self.base.model):
            return {name: value for name, value in self.base.params.items() if name != "base_model"}
        return {name: value for name, value in self.base.params.items() if name in _OF_ANY_PROVIDER}

    def ids(self) -> list[str]:
        """List the models that can be listed: a pattern names no model."""
        plain = [PREFIX + name for name in self.allowed if "*" not in name and "?" not in name]
        return [*self.aliases, *plain]


def make_model_registry(
    settings: Mapping[str, Any],
    models: Mapping[str, Mapping[str, Any]],
    allow_models: list[str],
    run_dir: str,
) -> ModelRegistry:
    """Make the models of a deployment. Raises `ConfigError` for settings that are none."""
    given = [*values_from_table(settings, "the settings of the service"), SettingValue("run_dir", run_dir)]
    base = merge_settings(Settings(), given)
    if not base.record_content:
        raise ConfigError("record_content", "must stay on in a service: runs go on from their records")
    aliases = {}
    for name, table in models.items():
        if "run_dir" in table:
            raise ConfigError(f"models.{name}.run_dir", "is the same for the whole service")
        aliases[name] = merge_settings(base, values_from_table(table, f"models.{name}"))
    allowed = dict.fromkeys([base.model, *allow_models])
    return ModelRegistry(base, aliases, tuple(allowed))


def apply_request_options(settings: Settings, options: Mapping[str, Any]) -> Settings:
    """Apply a request's own options, within what the model's settings allow. Raises `ConfigError`."""
    options = current_table({name: value for name, value in options.items() if value is not None})
    if not options:
        return settings
    changes = {name: options[name] for name in CLIENT_SETTABLE if name in options}
    if settings.citations == "required":
        changes.pop("citations", None)
    for name in CLIENT_LOWERABLE:
        if name in options:
            changes[name] = min(options[name], getattr(settings, name))
    wanted = merge_settings(settings, values_from_table(changes))
    return replace(wanted, limits=min_limits(settings.limits, Limits(**options.get("limits", {}))))


def min_limits(first: Limits, second: Limits) -> Limits:
    """Return the lower of two limits, each by each."""
    return Limits(
        **{name: _min_or_none(getattr(first, name), getattr(second, name)) for name in Limits.__slots__}
    )


def _provider_of(model: str) -> str:
    """Return the prefix of a litellm model; a bare name has none, and may be of any provider, so it is its own."""
    provider, slash, _ = model.partition("/")
    return provider.lower() if slash else f"{model}/"


def _min_or_none(first: Any, second: Any) -> Any:
    known = [value for value in (first, second) if value is not None]
    return min(known) if known else None
