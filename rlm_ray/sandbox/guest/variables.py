"""The list of what persists in a REPL, for the model to see."""

from __future__ import annotations

import types
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Mapping

from rlm_ray.core.repl_types import Variable
from rlm_ray.sandbox.language.module_proxy import ModuleProxy

MAX_VARIABLES = 50

_SIZED = {
    str, bytes, bytearray, list, tuple, dict, set, frozenset, range, Counter, OrderedDict, defaultdict, deque
}  # fmt: skip
_KINDS = {
    types.FunctionType: "function",
    types.BuiltinFunctionType: "function",
    types.BuiltinMethodType: "function",
    types.MethodType: "function",
    ModuleProxy: "module",
}


def list_variables(names: Mapping[str, object]) -> tuple[Variable, ...]:
    """The newest names of the model's own, most recent last; functions, imports and all."""
    own = [(name, value) for name, value in names.items() if not name.startswith("__")]
    return tuple(Variable(name, _kind(value), _size(value)) for name, value in own[-MAX_VARIABLES:])


def format_variables(variables: tuple[Variable, ...]) -> str:
    lines = [
        f"{variable.name}: {variable.kind}" + (f" ({variable.size:,})" if variable.size is not None else "")
        for variable in variables
    ]
    return "\n".join(lines) or "(no variables yet)"


def _kind(value: object) -> str:
    if isinstance(value, type):
        return "class"
    kind = ModuleProxy if isinstance(value, ModuleProxy) else type(value)
    return _KINDS.get(kind) or type.__dict__["__name__"].__get__(kind)


def _size(value: object) -> int | None:
    """Only for types whose `len()` is not code of the model's."""
    return len(value) if type(value) in _SIZED else None  # type: ignore[arg-type]
