"""Tools: functions of the user's own, and those of MCP servers, that a cell calls by name.

They run outside the REPL, in a process that holds no provider key (`rlm_ray.tools`). What passes between is JSON.
"""

from __future__ import annotations

import builtins
import inspect
import json
import keyword
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from rlm_ray.core.repl_types import ENDINGS, FUNCTIONS, VARIABLES
from rlm_ray.core.setting_rules import FLAG, Number, check_fields
from rlm_ray.errors import ConfigError

MAX_TOOLS = 128
MAX_CODE_BYTES = 4_000_000
"""Of all functions as they are shipped: they go with every session."""
MAX_DOC_CHARS = 1_500
"""What the prompt shows of one tool."""
MAX_WHY_CHARS = 2_000
"""What a cell reads of a failure."""

REPL_NAMES = (
    VARIABLES
    | FUNCTIONS
    | ENDINGS
    | {"answer", "Counter", "defaultdict", "CallError", "SubCallError", "ToolError", "CitationError"}
)
"""Names that a cell has already, beside Python's own."""


@dataclass(frozen=True, slots=True)
class ToolLimits:
    """What one call of a tool may take, and how many there may be."""

    timeout_s: Annotated[float, Number(0.01, 86_400)] = 60.0
    """Seconds one call may take; what hangs is given up, and its process ended."""
    max_concurrent: Annotated[int, Number(1, 1_000)] = 8
    """Calls at once in one session actor; others wait."""
    max_argument_bytes: Annotated[int, Number(100, 50_000_000)] = 1_000_000
    """Of the arguments of one call, as JSON."""
    max_result_bytes: Annotated[int, Number(100, 50_000_000)] = 1_000_000
    """Of the result of one call, as JSON; a longer one is refused."""
    max_calls: Annotated[int, Number(1, 10**9)] = 10_000
    """Calls of one session."""
    start_timeout_s: Annotated[float, Number(0.1, 3_600)] = 60.0
    """Seconds the tools' process and its MCP servers may take to start."""
    children: Annotated[bool, FLAG] = True
    """Child sessions have the tools, too."""

    def __post_init__(self) -> None:
        check_fields(self, "tool_limits.")


@dataclass(frozen=True, slots=True)
class Tool:
    """A function of the user's, ready to be shipped."""

    name: str
    signature: str
    """As a model reads it: `(city: str, days: int = 1) -> dict`."""
    doc: str
    code: bytes
    """The function and the types of its parameters, pickled by value."""


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """What a model and its REPL know of a tool."""

    name: str
    signature: str
    doc: str


def check_name(name: str, taken: Iterable[str] = (), *, of: str = "tools") -> None:
    """Raise `ConfigError` for a name that no cell can call, or that means something else there."""
    if not name.isidentifier() or keyword.iskeyword(name):
        why = f"{name!r} is no name that code can call; define it with def and a plain name"
        raise ConfigError(of, why)
    if name.startswith("_"):
        raise ConfigError(
            of, f"{name!r} begins with an underscore, which code in the REPL may not call; rename it"
        )
    if name in REPL_NAMES:
        raise ConfigError(of, f"{name!r} is a name of the REPL already; give the tool another name")
    if hasattr(builtins, name) or name in sys.stdlib_module_names:
        raise ConfigError(of, f"{name!r} is a name of Python's own; give the tool another name")
    if name in taken:
        raise ConfigError(of, f"there are two tools named {name!r}; give one of them another name")


def check_tools(tools: object) -> None:
    """Raise `ConfigError` for what are not tools, for too many or too large ones, and for names that no cell can call."""
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


def tool_block(tools: Sequence[ToolSpec]) -> str:
    """Say in the system prompt what tools there are; empty where there are none."""
    if not tools:
        return ""
    lines = "\n".join(_line(tool) for tool in tools)
    return (
        "\nThe REPL also has these tools. Call them in code as functions; they run outside the REPL and give plain "
        "values (str, numbers, lists, dicts). A call that fails raises ToolError and says why.\n"
        + lines
        + "\n"
    )


def _line(tool: ToolSpec) -> str:
    doc = inspect.cleandoc(tool.doc)
    if len(doc) > MAX_DOC_CHARS:
        doc = f"{doc[:MAX_DOC_CHARS]} …"
    indented = doc.replace("\n", "\n  ")
    return f"- `{tool.name}{tool.signature}`" + (f": {indented}" if indented else "")


def signature_of_schema(schema: Mapping[str, Any]) -> str:
    """Return the parameters of a JSON Schema as a model reads those of a function; the required ones first."""
    properties: Mapping[str, Any] = schema.get("properties") or {}
    required = set(schema.get("required") or ())
    ordered = parameter_order(schema)
    parts = []
    for name in ordered:
        hint = f"{name}: {_hint(properties[name])}"
        if name not in required:
            hint += f" = {properties[name].get('default')!r}" if isinstance(properties[name], Mapping) else ""
        parts.append(hint)
    return f"({', '.join(parts)})"


def parameter_order(schema: Mapping[str, Any]) -> list[str]:
    """Names of a tool's parameters in the order in which positional arguments fill them."""
    properties = schema.get("properties") or {}
    required = set(schema.get("required") or ())
    return [name for name in properties if name in required] + [n for n in properties if n not in required]


_HINTS = {
    "string": "str",
    "integer": "int",
    "number": "float",
    "boolean": "bool",
    "object": "dict",
    "null": "None",
}


def _hint(schema: Any) -> str:
    if not isinstance(schema, Mapping):
        return "object"
    if "enum" in schema:
        return f"Literal[{', '.join(map(repr, schema['enum']))}]"
    if options := schema.get("anyOf") or schema.get("oneOf"):
        return " | ".join(dict.fromkeys(_hint(option) for option in options))
    kind = schema.get("type")
    if isinstance(kind, list):
        return " | ".join(_HINTS.get(each, "object") for each in kind)
    if kind == "array":
        return f"list[{_hint(schema['items'])}]" if "items" in schema else "list"
    return _HINTS.get(str(kind), "object")


def missing_tools(recorded: Iterable[str], given: Iterable[str]) -> str:
    """Say which tools of a record are not given now, in a sentence; empty where all are."""
    gone = sorted(set(recorded) - set(given))
    if not gone:
        return ""
    names = ", ".join(gone)
    return f"the run had the tools {names}, which no record holds: give them again (tools=[...])"


def specs_to_json(specs: Sequence[ToolSpec]) -> str:
    return json.dumps([[spec.name, spec.signature, spec.doc] for spec in specs], ensure_ascii=False)


def specs_from_json(text: str) -> tuple[ToolSpec, ...]:
    return tuple(ToolSpec(*each) for each in json.loads(text))
