"""Settings of a run: frozen values, checked where they enter.

The command line takes them from `rlm-ray.toml`, the environment (`RLM_RAY_*`) and its options, each overriding the
one before; all three say the same things with the same names (`[limits] cost_usd`, `RLM_RAY_LIMITS_COST_USD`,
`--limits-cost-usd`). Unknown names are refused. The Python API takes arguments only.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, get_type_hints

from pydantic import TypeAdapter, ValidationError

from rlm_ray.core.context import ContextInfo
from rlm_ray.core.deprecated_names import (
    RENAMED_SETTINGS,
    accept_old_names,
    current_name,
    current_table,
    current_value,
    warn_about_settings,
)
from rlm_ray.core.limits import Limits, Rates
from rlm_ray.core.litellm_params import KNOWN_PARAMS
from rlm_ray.core.llm import Price
from rlm_ray.core.profiles import PROFILE_NAMES, PROMPT_VERSION, window_of_params
from rlm_ray.core.secrets import REDACTED, header_fault, redact
from rlm_ray.core.tools import MAX_CODE_BYTES, MAX_TOOLS, Tool, ToolLimits, check_name
from rlm_ray.core.trusted_settings import destinations
from rlm_ray.errors import ConfigError
from rlm_ray.sandbox.settings import Sandbox

CONFIG_FILE = "rlm-ray.toml"
ENVIRONMENT_PREFIX = "RLM_RAY_"
CONFIG_VARIABLE = "RLM_RAY_CONFIG"
"""Names a file of settings that may say anything: the user's own word."""
OTHER_VARIABLES = frozenset({"RLM_RAY_SERVE_KEYS"})
"""Variables of that prefix that are no settings of a run: other parts of this package read them."""
DEFAULT_MODEL = "offline/extractive"
DEFAULT_CACHE = "~/.rlm_ray/cache"
DEFAULT_RUN_DIR = "~/.rlm_ray/runs"


@accept_old_names("cluster.")
@dataclass(frozen=True, slots=True)
class Cluster:
    """How a run uses the Ray cluster."""

    address: str | None = None
    """A running cluster; None: the one in `RAY_ADDRESS`, else Ray is started on this machine."""
    sessions_per_actor: int = 64
    """Sessions at work in one actor; one that waits for its children does not count."""
    min_actors: int = 1
    max_actors: int | None = None
    """None: one for each CPU of the cluster."""
    cpus_per_actor: float = 1.0
    idle_timeout_s: float = 300.0
    """An actor without work for so long is given back, down to `min_actors`."""

    def __post_init__(self) -> None:
        _check_int("cluster.sessions_per_actor", self.sessions_per_actor, 1, 100_000)
        _check_int("cluster.min_actors", self.min_actors, 1, 100_000)
        if self.max_actors is not None:
            _check_int("cluster.max_actors", self.max_actors, self.min_actors, 100_000)
        _check_float("cluster.cpus_per_actor", self.cpus_per_actor, 0, 1024)
        _check_float("cluster.idle_timeout_s", self.idle_timeout_s, 1, 1e7)


@accept_old_names("tracing.")
@dataclass(frozen=True, slots=True)
class Tracing:
    """How much of a run becomes OpenTelemetry spans; where they go is said by the standard `OTEL_*` variables."""

    max_spans_per_map: int = 500
    """The most plain calls of one map with spans of their own: errors, the slowest, the costliest, then a sample.
    The span of the map counts all of them."""
    max_sessions_per_trace: int = 2_000
    """Above this many sessions, the rest goes into linked traces of so many each."""
    flush_timeout_s: float = 2.0
    """The longest the end of a run waits for a collector."""

    def __post_init__(self) -> None:
        _check_int("tracing.max_spans_per_map", self.max_spans_per_map, 0, 10**9)
        _check_int("tracing.max_sessions_per_trace", self.max_sessions_per_trace, 1, 10**9)
        _check_float("tracing.flush_timeout_s", self.flush_timeout_s, 0, 3600)


@dataclass(frozen=True, slots=True)
class ModelChoice:
    """A model that goes by a name of the user's own."""

    model: str
    """A litellm model name."""
    params: Mapping[str, Any] = field(default_factory=dict)
    """Its own litellm parameters (`api_base`, `api_key` ...), in place of those of the run; empty: those of the run."""


@accept_old_names()
@dataclass(frozen=True, slots=True)
class Settings:
    """Everything a session needs to know of its run."""

    model: str = DEFAULT_MODEL
    recursive_model: str = ""
    """Children and plain sub-calls; empty: the same as `model`."""
    models: Mapping[str, ModelChoice] = field(default_factory=dict)
    """Models by names of your own, such as `cheap` and `strong`: code may choose them (`recursive_llm(..., model="strong")`), and
    no others; `model`, `recursive_model` and `fallbacks` may name them. A litellm name, or a table with `model` and
    parameters of its own."""
    fallbacks: Sequence[str] = ()
    """Models that are asked in order where that of a call is down or its replies are empty, after all retries."""
    max_depth: int = 1
    """0: one direct call. 1: a REPL whose sub-calls are plain calls. 2: its children have REPLs too ..."""
    max_iterations: int = 20
    """Turns of one session."""
    max_leaf_chars: int = 100_000
    """A sub-context up to this long is one plain call; 0: always a child session while depth allows."""
    direct_call_below_chars: int | None = 0
    """A root context shorter than this is answered by one direct call; 0: never; None: where there is no context, or the
    first prompt would show all of it."""
    deduplicate_maps: bool = False
    """Equal items of a map (same question, same piece) are asked once, and the answer is copied."""
    oversize: str = "split"
    """What becomes of a plain sub-call about more than its model's window holds: `split` (piece by piece, and the answers put
    together), `refuse` (with the numbers), or `send` all the same."""
    window_tokens: int | None = None
    """The window of the models, where litellm does not know it; None: what litellm knows, or `num_ctx`."""
    profile: str = "default"
    """The wording of the prompts: full, short (for small models), cautious, small-window; default: what fits the model by its
    name."""
    system_prompt: str = ""
    """Instead of the system prompt of the profile, word by word, in every session of the run."""
    instructions: str = ""
    """At the end of the system prompt of every session of the run."""
    prompt_version: int = PROMPT_VERSION
    """The version of all prompts; a run that is resumed keeps the one it began with."""
    compact_above_tokens: int | None = None
    """A session's conversation that is longer goes on from a summary by its model; the turns left out are `history` in the
    REPL. None: three quarters of the model's window, where that is known; 0: never."""
    max_tokens: int | None = None
    """The most a model may write in one message; None: the provider's own limit."""
    call_timeout_s: float = 600.0
    """Seconds one attempt of a model call may take."""
    max_attempts: int = 6
    """How often a model call that failed for the moment is tried in all; three times as often where the provider had
    answered before and is down (no connection, 502, 503, 529)."""
    params: Mapping[str, Any] = field(default_factory=dict)
    """Any further litellm parameter: api_base, api_key, temperature ..."""
    cache: str = ""
    """A folder for answers: identical calls are paid once, over runs and cluster. Empty: off; True: ~/.rlm_ray/cache."""
    prices: Mapping[str, Price] = field(default_factory=dict)
    """Prices by model name, before litellm's own; US dollars per million tokens."""
    run_dir: str = DEFAULT_RUN_DIR
    """Where each run gets a folder for its journal: a path or any fsspec URL. Empty, or False: no record is kept."""
    record_content: bool = True
    """Journals hold questions, code, output and answers; without them a run cannot be resumed."""
    on_journal_error: str = "stop"
    """When the run folder cannot be written (a full disk): `stop` the run, or `continue` without a record."""
    tenant: str | None = None
    """Runs of one tenant share one place in the queue of the cluster, the oldest first; None: a place of its own."""
    weight: float = 1.0
    """The share of this run, or its tenant, where several want more than the account gives."""
    limits: Limits = field(default_factory=Limits)
    rates: Rates = field(default_factory=Rates)
    cluster: Cluster = field(default_factory=Cluster)
    sandbox: Sandbox = field(default_factory=Sandbox)
    tracing: Tracing = field(default_factory=Tracing)
    citations: str = "off"
    """`optional`: the model is told of `cite`, which finds its quotes in the context. `required`: an answer must cite."""
    tools: tuple[Tool, ...] = ()
    """Functions of your own that code in the REPL can call; in Python, `RLM(tools=[function, ...])`."""
    mcp_servers: Mapping[str, Any] = field(default_factory=dict)
    """MCP servers whose tools code in the REPL can call, by name: {"command", "args", "env", "cwd"} or {"url",
    "headers"}; besides "prefix" of its tools' names, and "tools" to take only these."""
    tool_limits: ToolLimits = field(default_factory=ToolLimits)

    def __post_init__(self) -> None:
        _check_model("model", self.model)
        if self.recursive_model != "":
            _check_model("recursive_model", self.recursive_model)
        _check_int("max_depth", self.max_depth, 0, 100)
        _check_int("max_iterations", self.max_iterations, 1, 10_000)
        _check_int("max_leaf_chars", self.max_leaf_chars, 0, 10**12)
        if self.direct_call_below_chars is not None:
            _check_int("direct_call_below_chars", self.direct_call_below_chars, 0, 10**12)
        _check_int("max_attempts", self.max_attempts, 1, 1_000)
        object.__setattr__(self, "cache", _resolve_dir("cache", self.cache, DEFAULT_CACHE))
        object.__setattr__(self, "run_dir", _resolve_dir("run_dir", self.run_dir, DEFAULT_RUN_DIR))
        if self.on_journal_error not in ("stop", "continue"):
            raise ConfigError("on_journal_error", f"must be stop or continue; got {self.on_journal_error!r}")
        for name in _TABLES:
            if not isinstance(getattr(self, name), Mapping):
                raise ConfigError(name, f"must be a table of names and values; got {getattr(self, name)!r}")
        object.__setattr__(
            self, "models", {name: _model_choice(name, each) for name, each in self.models.items()}
        )
        object.__setattr__(self, "fallbacks", _names("fallbacks", self.fallbacks))
        object.__setattr__(self, "prices", {name: _price(name, price) for name, price in self.prices.items()})
        for name, least in (("compact_above_tokens", 0), ("max_tokens", 1)):
            if getattr(self, name) is not None:
                _check_int(name, getattr(self, name), least, 10**9)
        _check_float("call_timeout_s", self.call_timeout_s, 0.001, 1e6)
        _check_float("weight", self.weight, 0.001, 1000)
        for name in ("api_key", "extra_headers", "default_headers", "headers"):
            _check_header(name, self.params.get(name))
        self._check_oversize()
        self._check_prompts()
        _check_citations(self)
        _check_tools(self)

    def _check_oversize(self) -> None:
        if not isinstance(self.deduplicate_maps, bool):
            raise ConfigError("deduplicate_maps", f"must be true or false; got {self.deduplicate_maps!r}")
        if self.oversize not in ("split", "refuse", "send"):
            raise ConfigError("oversize", f"must be split, refuse or send; got {self.oversize!r}")
        if self.window_tokens is not None:
            _check_int("window_tokens", self.window_tokens, 1_000, 10**9)

    def _check_prompts(self) -> None:
        if self.profile not in PROFILE_NAMES:
            raise ConfigError("profile", f"must be one of {', '.join(PROFILE_NAMES)}; got {self.profile!r}")
        for name in ("system_prompt", "instructions"):
            if not isinstance(getattr(self, name), str):
                raise ConfigError(name, f"must be a text; got {getattr(self, name)!r}")
        _check_int("prompt_version", self.prompt_version, 1, PROMPT_VERSION)

    def model_at(self, depth: int) -> tuple[str, dict[str, Any]]:
        """The model of a session at this depth and the litellm parameters it is called with."""
        return self.model_named(self.model if depth == 0 else self.recursive_model or self.model)

    def model_named(self, name: str) -> tuple[str, dict[str, Any]]:
        """The model of this name in `models`, else the litellm model of this name, and the parameters it is called with."""
        choice = self.models.get(name, ModelChoice(name))
        return choice.model, {"timeout": self.call_timeout_s, **(choice.params or self.params)}

    def all_models(self) -> list[str]:
        """Every model that a run may call."""
        names = [self.model, self.recursive_model or self.model, *self.models, *self.fallbacks]
        return list(dict.fromkeys(self.model_named(name)[0] for name in names))

    @property
    def told_window_tokens(self) -> int | None:
        """What the settings say that a window holds; None where they do not."""
        return self.window_tokens or window_of_params(self.params)

    def answers_directly(self, info: ContextInfo) -> bool:
        """Tell whether the root is one plain call: by `max_depth=0`, or because the context is short enough."""
        if self.max_depth == 0:
            return True
        if self.citations == "required":
            return False
        below = self.direct_call_below_chars
        if below is not None:
            return info.chars < below
        only_code_can = self.has_tools or self.citations != "off"
        return not only_code_can and (info.fits_in_prompt or info.chars == 0)

    @property
    def has_tools(self) -> bool:
        return bool(self.tools or self.mcp_servers)

    @property
    def tool_names(self) -> tuple[str, ...]:
        """Of the functions; those of MCP servers are known when these run."""
        return tuple(tool.name for tool in self.tools)


_FIELDS = tuple(item.name for item in fields(Settings))
_TABLES = ("params", "prices", "models", "mcp_servers")
"""Settings that are tables of free names: one name changes nothing of the others."""
ANSWER_SETTINGS = (
    "model",
    "recursive_model",
    "models",
    "max_depth",
    "max_iterations",
    "max_leaf_chars",
    "direct_call_below_chars",
    "profile",
    "system_prompt",
    "instructions",
    "max_tokens",
    "params",
    "sandbox",
    "citations",
    "mcp_servers",
)
"""Settings that an answer depends on; all others say how it is come by."""


@dataclass(frozen=True, slots=True)
class SettingValue:
    """One setting as it was given: its dotted name, what it shall be, and where that was said."""

    name: str
    value: Any
    place: str = ""
    """`--set`, `RLM_RAY_MODEL`, the path of a file; empty for an argument in Python."""


def merge_settings(base: Settings, values: Iterable[SettingValue]) -> Settings:
    """Return settings that differ from `base` in these values, later ones before earlier ones.

    The one way from given values to settings, wherever they come from: names are checked, text is parsed, ranges are
    checked. Raises `ConfigError` with the name of the setting, what is wrong, and where it was said.
    """
    changes: dict[str, Any] = {}
    places: dict[str, str] = {}
    for item in values:
        places[item.name] = item.place
        try:
            _add_change(changes, base, item.name, item.value)
        except ConfigError as error:
            raise _with_place(error, places) from error
    try:
        return replace(
            base, **{name: coerce_field(Settings, name, value, "") for name, value in changes.items()}
        )
    except ConfigError as error:
        raise _with_place(error, places) from error


def _add_change(changes: dict[str, Any], base: Settings, name: str, value: Any) -> None:
    """Note one value among those of whole fields; a value inside a table changes that table."""
    group, key = _group_and_key(name)
    field_name = group or name
    if field_name not in _FIELDS:
        kind = "group of settings" if group else "setting"
        raise ConfigError(name, f"is no {kind}{did_you_mean(field_name, _FIELDS)}")
    before = changes.get(field_name, getattr(base, field_name))
    if not group and field_name not in _TABLES:
        changes[name] = value
        return
    if not group and not isinstance(value, Mapping):
        raise ConfigError(name, f"must be a table of names and values; got {value!r}")
    inner = {key: value} if group else dict(value)
    if is_dataclass(before):
        before = {item.name: getattr(before, item.name) for item in fields(before)}
    if not isinstance(before, Mapping):
        raise ConfigError(name, f"is no setting; {group} holds one value")
    changes[field_name] = {**before, **inner}


def _with_place(error: ConfigError, places: Mapping[str, str]) -> ConfigError:
    """Return the same error, which says besides where the value came from."""
    what = error.what
    while what and what not in places:
        what = what.rpartition(".")[0]
    place = places.get(what)
    return ConfigError(error.what, f"{error.why} (from {place})") if place else error


def values_from_keywords(options: Mapping[str, Any]) -> list[SettingValue]:
    """Take keyword arguments in Python: settings, or parameters that litellm knows; old names warn, unknown ones are refused."""
    warn_about_settings(options)
    found = []
    for keyword, value in options.items():
        name = current_name(keyword)
        if name != keyword and name in options:
            raise ConfigError(keyword, f"is the old name of {name}; give one of them")
        if name in _FIELDS:
            found.append(SettingValue(name, _current_group(name, value)))
        elif name in KNOWN_PARAMS:
            found.append(SettingValue(f"params.{name}", value))
        else:
            raise ConfigError(name, f"is no setting{_keyword_suggestion(name)}")
    return found


def _current_group(name: str, value: Any) -> Any:
    """Return a group given as a table, or a single value, in today's words."""
    if not isinstance(value, Mapping):
        return current_value(name, value)
    warn_about_settings(value, f"{name}.")
    return current_table(value, f"{name}.")


def _keyword_suggestion(name: str) -> str:
    """Return the end of a sentence that refuses a keyword."""
    grouped = [dotted for dotted in setting_names() if dotted.endswith(f".{name}")]
    if grouped:
        group, key = _group_and_key(grouped[0])
        return f"; did you mean {group}={group.capitalize()}({key}=...)?"
    other = f"parameter of the model goes into params={{{name!r}: ...}}"
    close = difflib.get_close_matches(name, [*_FIELDS, *sorted(KNOWN_PARAMS)], 1, cutoff=0.75)
    return f"; did you mean {close[0]!r}? Another {other}" if close else f"; a {other}"


def values_from_table(table: Mapping[str, Any], place: str = "") -> list[SettingValue]:
    """Take a table as it lies in a file, a record or a request: groups are tables in it, or dotted names."""
    found = []
    for key, value in table.items():
        name = current_name(key)
        if isinstance(value, Mapping) and name in _FIELDS:
            if not value:
                continue
            for inner, each in current_table(value, f"{name}.").items():
                found.append(SettingValue(f"{name}.{inner}", each, place))
        else:
            found.append(SettingValue(name, current_value(name, value), place))
    return found


def values_from_environment(environment: Mapping[str, str]) -> list[SettingValue]:
    """Take the variables `RLM_RAY_*`, under their current names or those of before."""
    names = [*setting_names(), *RENAMED_SETTINGS]
    known = {ENVIRONMENT_PREFIX + name.replace(".", "_").upper(): name for name in names}
    found = []
    for variable, value in environment.items():
        if not variable.startswith(ENVIRONMENT_PREFIX) or variable.startswith(ENVIRONMENT_PREFIX + "TEST_"):
            continue
        if variable in OTHER_VARIABLES or variable == CONFIG_VARIABLE:
            continue
        if variable not in known:
            raise ConfigError(variable, f"is no setting{did_you_mean(variable, [*known, *OTHER_VARIABLES])}")
        found += values_from_table({known[variable]: value}, variable)
    return found


def settings_from(options: Mapping[str, Any], base: Settings | None = None) -> Settings:
    """Make settings of keyword arguments."""
    return merge_settings(base or Settings(), values_from_keywords(options))


def load_settings(options: Iterable[SettingValue], environment: Mapping[str, str], folder: Path) -> Settings:
    """Load settings from `rlm-ray.toml` in `folder`, or the file `RLM_RAY_CONFIG` names, then the environment, then
    `options`.
    """
    given = _values_from_files(folder / CONFIG_FILE, environment.get(CONFIG_VARIABLE, ""))
    return merge_settings(Settings(), [*given, *values_from_environment(environment), *options])


def _group_and_key(name: str) -> tuple[str, str]:
    """Split a dotted name at its first dot: what follows may be a model's name, with dots of its own."""
    group, dot, key = name.partition(".")
    return (group, key) if dot else ("", name)


def settings_to_dict(settings: Settings) -> dict[str, Any]:
    """Return plain values, `***` in place of secrets."""
    table: dict[str, Any] = redact(asdict(replace(settings, tools=())))
    return table | {"tools": list(settings.tool_names)}


def settings_from_dict(table: Mapping[str, Any]) -> Settings:
    """Return the settings a recorded table was made of, without the secrets: whoever goes on gives them anew."""
    plain = {name: value for name, value in _without_hidden(table).items() if name != "tools"}
    return merge_settings(Settings(), values_from_table(plain, "the record"))


def _without_hidden(table: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: _without_hidden(value) if isinstance(value, Mapping) else value
        for name, value in table.items()
        if value != REDACTED
    }


def setting_names() -> list[str]:
    """Return every setting by its dotted name; `params` is a table of its own."""
    names = []
    for item in fields(Settings):
        inner = get_type_hints(Settings)[item.name]
        if is_dataclass(inner):
            names += [f"{item.name}.{sub.name}" for sub in fields(inner)]
        elif item.name != "params":
            names.append(item.name)
    return names


def _values_from_files(path: Path, named: str) -> list[SettingValue]:
    """Read the settings of the file that is named, else of the one that is found; that one may not say where things
    go.
    """
    if named:
        path = Path(named).expanduser()
        if not path.is_file():
            raise ConfigError(CONFIG_VARIABLE, f"there is no file {named}")
        return values_from_table(_read_toml(path), str(path))
    table = _read_toml(path)
    for name, value in destinations(table).items():
        why = f"is {value!r} in {path}, where questions and keys would go; a file that just lies there may not say that"
        raise ConfigError(name, f"{why}: set {CONFIG_VARIABLE}={path} if it is yours")
    return values_from_table(table, str(path))


def _read_toml(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise ConfigError(str(path), f"cannot be read as TOML: {error}") from error


def _resolve_dir(name: str, value: object, default: str) -> str:
    """Return an absolute path, or a URL as it is; empty for none."""
    if isinstance(value, bool):
        value = default if value else ""
    if not isinstance(value, str | Path):
        raise ConfigError(name, f"must be a folder, or True for {default}; got {value!r}")
    if "://" in str(value) or not str(value):
        return str(value)
    return str(Path(value).expanduser().absolute())


def _check_citations(settings: Settings) -> None:
    if settings.citations not in ("off", "optional", "required"):
        raise ConfigError("citations", f"must be off, optional or required; got {settings.citations!r}")
    if settings.citations == "required" and settings.max_depth == 0:
        raise ConfigError(
            "citations", "cannot be required of a direct call (max_depth=0): only code can cite"
        )


_SERVER_KEYS = {"command": str, "args": list, "env": Mapping, "cwd": str, "url": str, "headers": Mapping,
                "prefix": str, "tools": list}  # fmt: skip


def _check_tools(settings: Settings) -> None:
    tools = settings.tools
    if not isinstance(tools, tuple) or not all(isinstance(tool, Tool) for tool in tools):
        raise ConfigError("tools", "are Python functions, given in Python: RLM(tools=[function, ...])")
    if len(tools) > MAX_TOOLS:
        raise ConfigError(
            "tools", f"are {len(tools)}, more than {MAX_TOOLS}; a model cannot choose among so many"
        )
    for place, tool in enumerate(tools):
        check_name(tool.name, [other.name for other in tools[:place]])
    size = sum(len(tool.code) for tool in tools)
    if size > MAX_CODE_BYTES:
        why = f"hold {size:,} bytes of code and data, more than {MAX_CODE_BYTES:,}; have them read large data themselves"
        raise ConfigError("tools", why)
    for name, server in settings.mcp_servers.items():
        _check_server(f"mcp_servers.{name}", server)


def _check_server(name: str, server: object) -> None:
    if not isinstance(server, Mapping):
        raise ConfigError(name, 'must be a table such as {"command": "uvx", "args": ["some-server"]}')
    for key, value in server.items():
        if key not in _SERVER_KEYS:
            raise ConfigError(f"{name}.{key}", f"is no setting{did_you_mean(key, _SERVER_KEYS)}")
        wanted = _SERVER_KEYS[key]
        if not isinstance(value, list | tuple if wanted is list else wanted):
            raise ConfigError(f"{name}.{key}", f"must be a {_PLAIN_NAMES[wanted]}; got {value!r}")
    if ("command" in server) == ("url" in server):
        raise ConfigError(name, 'needs a "command" or a "url", and not both')


_PLAIN_NAMES = {str: "text", list: "list of texts", Mapping: "table of texts"}


def _check_header(name: str, value: object) -> None:
    """Refuse what no HTTP header can hold, in a key or a table of headers, before anything is sent."""
    if isinstance(value, Mapping):
        for inner, each in value.items():
            _check_header(f"{name}.{inner}", each)
    elif isinstance(value, str) and (why := header_fault(value)):
        raise ConfigError(name, why)


def _price(model: str, price: Any) -> Price:
    if isinstance(price, Price):
        return price
    if isinstance(price, Mapping):
        built: Price = from_mapping(Price, price, f"prices.{model}.")
        return built
    raise ConfigError(
        f"prices.{model}", f"must be Price(input_usd=..., output_usd=...) or a table; got {price!r}"
    )


def _check_model(name: str, model: object) -> None:
    if not isinstance(model, str):
        raise ConfigError(name, "must be a litellm model name such as 'openai/gpt-5-mini'")
    if not model.strip():
        why = "is empty; give a litellm model name, or 'offline/extractive' to try without one"
        raise ConfigError(name, why)


def _model_choice(name: str, choice: Any) -> ModelChoice:
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
    for key in ("api_key", "extra_headers", "default_headers", "headers"):
        _check_header(f"models.{name}.{key}", choice.params.get(key))
    return choice


def _names(name: str, value: Any) -> tuple[str, ...]:
    """A list of names, or a text with commas between them."""
    given = value.split(",") if isinstance(value, str) else value
    if not isinstance(given, list | tuple) or not all(isinstance(each, str) for each in given):
        raise ConfigError(name, f"must be a list of model names; got {value!r}")
    return tuple(each.strip() for each in given if each.strip())


def _check_int(name: str, value: object, least: int, most: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise ConfigError(name, f"must be a whole number from {least:,} to {most:,}; got {value!r}")


def _check_float(name: str, value: object, least: float, most: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        raise ConfigError(name, f"must be a number from {least:g} to {most:g}; got {value!r}")


def from_mapping(cls: type[Any], table: Mapping[str, Any], prefix: str) -> Any:
    """Make a settings dataclass from a table of plain values; unknown names are refused."""
    names = [item.name for item in fields(cls)]
    for name in table:
        if name not in names:
            raise ConfigError(prefix + name, f"is no setting{did_you_mean(name, names)}")
    return cls(**{name: coerce_field(cls, name, value, prefix) for name, value in table.items()})


def coerce_field(cls: type[Any], name: str, value: Any, prefix: str) -> Any:
    """Return the value as its field wants it: tables become dataclasses, text from the environment numbers."""
    hint = get_type_hints(cls)[name]
    if is_dataclass(hint) and isinstance(hint, type):
        if isinstance(value, Mapping):
            return from_mapping(hint, value, f"{prefix}{name}.")
        if isinstance(value, hint):
            return value
        raise ConfigError(prefix + name, f"must be {hint.__name__}(...) or a table; got {value!r}")
    if isinstance(value, str) and hint != Sequence[str]:
        try:
            return TypeAdapter(hint).validate_python(value)
        except ValidationError as error:
            raise ConfigError(prefix + name, f"{error.errors()[0]['msg'].lower()}; got {value!r}") from error
    return value


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return the end of a sentence that says that there is no such name."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, 1)
    return f"; did you mean {close[0]!r}?" if close else f"; known are {', '.join(names)}"
