"""The settings of a run: frozen values, checked when they are made.

A setting is one line and its docstring here: type, rule (which values it takes, whether an answer depends on it, whether it
needs trust) and default. Its name in files, variables, options and records follows from that (`sources.py`).
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, get_origin, get_type_hints

from rlm_ray.config.coercion import did_you_mean
from rlm_ray.config.deprecated_names import accept_old_names
from rlm_ray.config.models import (
    ModelChoice,
    check_headers,
    check_model,
    parse_choice,
    parse_fallbacks,
    parse_price,
)
from rlm_ray.core.context import ContextInfo
from rlm_ray.core.display import show_changes
from rlm_ray.core.limits import Limits, Rates
from rlm_ray.core.llm import Price
from rlm_ray.core.profiles import PROFILE_NAMES, PROMPT_VERSION, window_of_params
from rlm_ray.core.setting_rules import (
    FLAG,
    NEEDS_TRUST,
    SHAPES_ANSWER,
    TEXT,
    Number,
    OneOf,
    Whole,
    check_fields,
    marked_fields,
)
from rlm_ray.core.tools import Tool, ToolLimits, check_tools
from rlm_ray.errors import ConfigError
from rlm_ray.sandbox.settings import Sandbox

DEFAULT_MODEL = "offline/extractive"
DEFAULT_CACHE = "~/.rlm_ray/cache"
DEFAULT_RUN_DIR = "~/.rlm_ray/runs"


@accept_old_names("cluster.")
@dataclass(frozen=True, slots=True)
class Cluster:
    """How a run uses the Ray cluster."""

    address: Annotated[str | None, NEEDS_TRUST] = None
    """A running cluster; None: the one in `RAY_ADDRESS`, else Ray is started on this machine."""
    sessions_per_actor: Annotated[int, Whole(1, 100_000)] = 64
    """Sessions at work in one actor; one that waits for its children does not count."""
    min_actors: Annotated[int, Whole(1, 100_000)] = 1
    max_actors: Annotated[int | None, Whole(1, 100_000)] = None
    """None: one for each CPU of the cluster."""
    cpus_per_actor: Annotated[float, Number(0, 1024)] = 1.0
    idle_timeout_s: Annotated[float, Number(1, 1e7)] = 300.0
    """An actor without work for so long is given back, down to `min_actors`."""

    def __post_init__(self) -> None:
        check_fields(self, "cluster.")
        if self.max_actors is not None and self.max_actors < self.min_actors:
            why = f"must be at least min_actors, {self.min_actors}; got {self.max_actors}"
            raise ConfigError("cluster.max_actors", why)


@accept_old_names("tracing.")
@dataclass(frozen=True, slots=True)
class Tracing:
    """How much of a run becomes OpenTelemetry spans; where they go is said by the standard `OTEL_*` variables."""

    max_spans_per_map: Annotated[int, Whole(0, 10**9)] = 500
    """The most plain calls of one map with spans of their own: errors, the slowest, the costliest, then a sample.
    The span of the map counts all of them."""
    max_sessions_per_trace: Annotated[int, Whole(1, 10**9)] = 2_000
    """Above this many sessions, the rest goes into linked traces of so many each."""
    flush_timeout_s: Annotated[float, Number(0, 3600)] = 2.0
    """The longest the end of a run waits for a collector."""

    def __post_init__(self) -> None:
        check_fields(self, "tracing.")


@accept_old_names()
@dataclass(frozen=True, slots=True)
class Settings:
    """Everything a session needs to know of its run."""

    model: Annotated[str, SHAPES_ANSWER] = DEFAULT_MODEL
    recursive_model: Annotated[str, SHAPES_ANSWER] = ""
    """Children and plain sub-calls; empty: the same as `model`."""
    models: Annotated[Mapping[str, ModelChoice], SHAPES_ANSWER] = field(default_factory=dict)
    """Models by names of your own, such as `cheap` and `strong`: code may choose them (`recursive_llm(..., model="strong")`), and
    no others; `model`, `recursive_model` and `fallbacks` may name them. A litellm name, or a table with `model` and
    parameters of its own."""
    fallbacks: Sequence[str] = ()
    """Models that are asked in order where that of a call is down or its replies are empty, after all retries."""
    max_depth: Annotated[int, Whole(0, 100), SHAPES_ANSWER] = 1
    """0: one direct call. 1: a REPL whose sub-calls are plain calls. 2: its children have REPLs too ..."""
    max_iterations: Annotated[int, Whole(1, 10_000), SHAPES_ANSWER] = 20
    """Turns of one session."""
    max_leaf_chars: Annotated[int, Whole(0, 10**12), SHAPES_ANSWER] = 100_000
    """A sub-context up to this long is one plain call; 0: always a child session while depth allows."""
    direct_call_below_chars: Annotated[int | None, Whole(0, 10**12), SHAPES_ANSWER] = 0
    """A root context shorter than this is answered by one direct call; 0: never; None: where there is no context, or the
    first prompt would show all of it."""
    deduplicate_maps: Annotated[bool, FLAG] = False
    """Equal items of a map (same question, same piece) are asked once, and the answer is copied."""
    oversize: Annotated[str, OneOf("split", "refuse", "send")] = "split"
    """What becomes of a plain sub-call about more than its model's window holds: `split` (piece by piece, and the answers put
    together), `refuse` (with the numbers), or `send` all the same."""
    window_tokens: Annotated[int | None, Whole(1_000, 10**9)] = None
    """The window of the models, where litellm does not know it; None: what litellm knows, or `num_ctx`."""
    profile: Annotated[str, OneOf(*PROFILE_NAMES), SHAPES_ANSWER] = "default"
    """The wording of the prompts: full, short (for small models), cautious, small-window; default: what fits the model by its
    name."""
    system_prompt: Annotated[str, TEXT, SHAPES_ANSWER] = ""
    """Instead of the system prompt of the profile, word by word, in every session of the run."""
    instructions: Annotated[str, TEXT, SHAPES_ANSWER] = ""
    """At the end of the system prompt of every session of the run."""
    prompt_version: Annotated[int, Whole(1, PROMPT_VERSION)] = PROMPT_VERSION
    """The version of all prompts; a run that is resumed keeps the one it began with."""
    compact_above_tokens: Annotated[int | None, Whole(0, 10**9)] = None
    """A session's conversation that is longer goes on from a summary by its model; the turns left out are `history` in the
    REPL. None: three quarters of the model's window, where that is known; 0: never."""
    max_tokens: Annotated[int | None, Whole(1, 10**9), SHAPES_ANSWER] = None
    """The most a model may write in one message; None: the provider's own limit."""
    call_timeout_s: Annotated[float, Number(0.001, 1e6)] = 600.0
    """Seconds one attempt of a model call may take."""
    max_attempts: Annotated[int, Whole(1, 1_000)] = 6
    """How often a model call that failed for the moment is tried in all; three times as often where the provider had
    answered before and is down (no connection, 502, 503, 529)."""
    transport: Annotated[str, OneOf("auto", "litellm")] = "auto"
    """Who carries model calls: `auto` (those of OpenAI-compatible providers this package itself, as litellm would, for a
    tenth of the CPU; others litellm), or `litellm` (all)."""
    params: Annotated[Mapping[str, Any], SHAPES_ANSWER] = field(default_factory=dict)
    """Any further litellm parameter: api_base, api_key, temperature ..."""
    cache: Annotated[str, NEEDS_TRUST] = ""
    """A folder for answers: identical calls are paid once, over runs and cluster. Empty: off; True: ~/.rlm_ray/cache."""
    prices: Mapping[str, Price] = field(default_factory=dict)
    """Prices by model name, before litellm's own; US dollars per million tokens."""
    run_dir: Annotated[str, NEEDS_TRUST] = DEFAULT_RUN_DIR
    """Where each run gets a folder for its journal: a path or any fsspec URL. Empty, or False: no record is kept."""
    record_content: bool = True
    """Journals hold questions, code, output and answers; without them a run cannot be resumed."""
    on_journal_error: Annotated[str, OneOf("stop", "continue")] = "stop"
    """When the run folder cannot be written (a full disk): `stop` the run, or `continue` without a record."""
    tenant: str | None = None
    """Runs of one tenant share one place in the queue of the cluster, the oldest first; None: a place of its own."""
    weight: Annotated[float, Number(0.001, 1000)] = 1.0
    """The share of this run, or its tenant, where several want more than the account gives."""
    limits: Limits = field(default_factory=Limits)
    rates: Rates = field(default_factory=Rates)
    cluster: Cluster = field(default_factory=Cluster)
    sandbox: Annotated[Sandbox, SHAPES_ANSWER] = field(default_factory=Sandbox)
    tracing: Tracing = field(default_factory=Tracing)
    log_format: Annotated[str, OneOf("text", "json")] = "text"
    """How log lines of the command line (`-v`, `--log-file`), of session actors and of the service are written: `json` is one object a
    line, with the ids of the run and its trace."""
    citations: Annotated[str, OneOf("off", "optional", "required"), SHAPES_ANSWER] = "off"
    """`optional`: the model is told of `cite`, which finds its quotes in the context. `required`: an answer must cite."""
    tools: tuple[Tool, ...] = ()
    """Functions of your own that code in the REPL can call; in Python, `RLM(tools=[function, ...])`."""
    mcp_servers: Annotated[Mapping[str, Any], SHAPES_ANSWER] = field(default_factory=dict)
    """MCP servers whose tools code in the REPL can call, by name: {"command", "args", "env", "cwd"} or {"url",
    "headers"}; besides "prefix" of its tools' names, and "tools" to take only these."""
    tool_limits: ToolLimits = field(default_factory=ToolLimits)

    def __post_init__(self) -> None:
        check_fields(self)
        for name in FREE_TABLES:
            if not isinstance(getattr(self, name), Mapping):
                raise ConfigError(name, f"must be a table of names and values; got {getattr(self, name)!r}")
        check_model("model", self.model)
        if self.recursive_model != "":
            check_model("recursive_model", self.recursive_model)
        parsed = {
            "models": {name: parse_choice(name, each) for name, each in self.models.items()},
            "fallbacks": parse_fallbacks(self.fallbacks),
            "prices": {name: parse_price(name, price) for name, price in self.prices.items()},
            "cache": _resolve_dir("cache", self.cache, DEFAULT_CACHE),
            "run_dir": _resolve_dir("run_dir", self.run_dir, DEFAULT_RUN_DIR),
        }
        for name, value in parsed.items():
            object.__setattr__(self, name, value)
        check_headers(self.params)
        check_tools(self.tools)
        for name, server in self.mcp_servers.items():
            _check_server(f"mcp_servers.{name}", server)
        if self.citations == "required" and self.max_depth == 0:
            why = "cannot be required of a direct call (max_depth=0): only code can cite"
            raise ConfigError("citations", why)

    def model_at(self, depth: int) -> tuple[str, dict[str, Any]]:
        """Return the model of a session at this depth and the litellm parameters it is called with."""
        return self.model_named(self.model if depth == 0 else self.recursive_model or self.model)

    def model_named(self, name: str) -> tuple[str, dict[str, Any]]:
        """Return the model of this name in `models`, else the litellm model of this name, and the parameters it is called with."""
        choice = self.models.get(name, ModelChoice(name))
        return choice.model, {"timeout": self.call_timeout_s, **(choice.params or self.params)}

    def all_models(self) -> list[str]:
        """Return every model that a run may call."""
        names = [self.model, self.recursive_model or self.model, *self.models, *self.fallbacks]
        return list(dict.fromkeys(self.model_named(name)[0] for name in names))

    @property
    def told_window_tokens(self) -> int | None:
        """Return what the settings say that a window holds; None where they do not."""
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

    def __repr__(self) -> str:
        """Show what differs from the defaults; secrets are `***`."""
        return show_changes(self)

    @property
    def tool_names(self) -> tuple[str, ...]:
        """Return the names of the functions; those of MCP servers are known when these run."""
        return tuple(tool.name for tool in self.tools)


_TYPES = get_type_hints(Settings)
SETTINGS = tuple(item.name for item in fields(Settings))
FREE_TABLES = tuple(name for name, hint in _TYPES.items() if get_origin(hint) is Mapping)
"""Settings that are tables of free names: one name changes nothing of the others."""
ANSWER_SETTINGS = tuple(marked_fields(Settings, SHAPES_ANSWER))
"""Settings that an answer depends on; all others say how it is come by."""


def setting_names() -> list[str]:
    """Return every setting by its dotted name; `params` is a table of its own."""
    names = []
    for name, hint in _TYPES.items():
        if is_dataclass(hint):
            names += [f"{name}.{inner.name}" for inner in fields(hint)]
        elif name != "params":
            names.append(name)
    return names


def setting_docs() -> dict[str, str]:
    """Return what stands under each setting in the source, by its dotted name; empty where nothing does."""
    docs = _field_docs(Settings)
    for name, hint in _TYPES.items():
        if is_dataclass(hint) and isinstance(hint, type):
            docs |= {f"{name}.{inner}": text for inner, text in _field_docs(hint).items()}
    return docs


def _field_docs(cls: type) -> dict[str, str]:
    (body,) = (node.body for node in ast.parse(inspect.getsource(cls)).body if isinstance(node, ast.ClassDef))
    docs = {}
    for node, below in pairwise(body):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            text = below.value if isinstance(below, ast.Expr) else None
            found = text.value if isinstance(text, ast.Constant) else ""
            docs[node.target.id] = " ".join(str(found).split())
    return docs


def _resolve_dir(name: str, value: object, default: str) -> str:
    """Return an absolute path, or a URL as it is; empty for none."""
    if isinstance(value, bool):
        value = default if value else ""
    if not isinstance(value, str | Path):
        raise ConfigError(name, f"must be a folder, or True for {default}; got {value!r}")
    if "://" in str(value) or not str(value):
        return str(value)
    return str(Path(value).expanduser().absolute())


_SERVER_KEYS = {"command": str, "args": list, "env": Mapping, "cwd": str, "url": str, "headers": Mapping,
                "prefix": str, "tools": list}  # fmt: skip


def _check_server(name: str, server: object) -> None:
    if not isinstance(server, Mapping):
        raise ConfigError(name, 'must be a table such as {"command": "uvx", "args": ["some-server"]}')
    for key, value in server.items():
        if key not in _SERVER_KEYS:
            raise ConfigError(f"{name}.{key}", f"is no setting{did_you_mean(key, _SERVER_KEYS)}")
        wanted = _SERVER_KEYS[key]
        if not isinstance(value, list | tuple if wanted is list else wanted):
            raise ConfigError(f"{name}.{key}", f"must be a {_SERVER_WORDS[wanted]}; got {value!r}")
    if ("command" in server) == ("url" in server):
        raise ConfigError(name, 'needs a "command" or a "url", and not both')


_SERVER_WORDS = {str: "text", list: "list of texts", Mapping: "table of texts"}
