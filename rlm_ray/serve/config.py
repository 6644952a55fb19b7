"""What a deployment is configured with: the `args` of the application in Serve's YAML, and the models that clients may ask for by them,
with the settings each stands for. Unknown names are refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from rlm_ray.config import DEFAULT_RUN_DIR, Settings, SettingValue, merge_settings, values_from_table
from rlm_ray.config.deprecated_names import current_table
from rlm_ray.core.limits import Limits
from rlm_ray.errors import ConfigError

JsonDict = dict[str, Any]
KEYS_VARIABLE = "RLM_RAY_SERVE_KEYS"
"""The keys, where no `keys_file` has them."""


class ServerConfig(BaseModel):
    """Everything has a default: without arguments it serves the offline model to this machine only."""

    model_config = ConfigDict(extra="forbid")

    run_dir: Annotated[str, Field(min_length=1)] = DEFAULT_RUN_DIR
    """The run store: runs, files and what each key has spent. A path every replica sees, or any fsspec URL."""
    settings: JsonDict = {}
    """The settings of every run, as in `rlm-ray.toml`."""
    models: dict[str, JsonDict] = {}
    """Names that clients may ask for, each with settings of its own on top of `settings`."""
    allow_models: list[str] = []
    """litellm models that clients may ask for as `rlm/<model>`; `*` stands for anything."""
    keys_file: str = ""
    """A YAML file of hashed keys; empty: the variable RLM_RAY_SERVE_KEYS. Without keys only this machine may ask."""
    max_runs: Annotated[int, Field(ge=1)] = 1_000
    """Runs at work or waiting for a place in the engine; more are refused with 429."""
    body_bytes: Annotated[int, Field(ge=1_000)] = 64 << 20
    """The most that a request may hold, but for uploads."""
    file_bytes: Annotated[int, Field(ge=1_000)] = 1 << 30
    """The most that an uploaded file, or what a context URI names, may hold."""
    file_days: Annotated[float, Field(gt=0)] = 30.0
    """So long an uploaded file is kept."""
    context_uris: list[str] = []
    """Folders whose URIs `rlm.context_uri` may name, each with `/` at its end: `s3://team/`, `https://wiki.example.org/`."""
    load_timeout_s: Annotated[float, Field(gt=0)] = 60.0
    """So long the context of a request may take to be read."""
    loads_per_key: Annotated[int, Field(ge=1)] = 4
    """Contexts of one key that are read at the same time, in each replica."""
    direct_without_context: bool = True
    """A conversation without a long text or a file is one plain call; false: always a session."""
    cors_origins: list[str] = []
    """Pages of these origins may ask through a browser: `https://chat.example.org`, or `*` for all where there are keys.
    Without keys, pages of this machine may besides."""
    keep_alive_s: Annotated[float, Field(gt=0)] = 10.0
    """A stream in which nothing happens says so this often."""


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
