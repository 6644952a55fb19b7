"""What is shown of a cell: what it printed, counted in full and kept as head and tail, and the variables that persist."""

from __future__ import annotations

import time
import types
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Mapping

from rlm_ray.core.repl_types import Variable
from rlm_ray.sandbox.language.module_proxy import ModuleProxy

_FIRST_SHOWN = 20
_SHOW_EVERY_S = 0.25


class Output:
    """Never holds much more than `limit` characters, however much is printed.

    `show` is called now and then with what there is, so that a cell that is killed later has not
    printed in vain: for the first prints at once, then a few times a second.
    """

    def __init__(self, limit: int, show: Callable[[str, int], None]) -> None:
        self._head_limit = limit // 2
        self._tail_limit = limit - limit // 2
        self._show = show
        self.reset()

    def reset(self) -> None:
        self.chars = 0
        self._head = ""
        self._tail: list[str] = []
        self._tail_chars = 0
        self._times_shown = 0
        self._shown_at = 0.0

    def write(self, text: str) -> None:
        self.chars += len(text)
        room = self._head_limit - len(self._head)
        if room > 0:
            self._head += text[:room]
            text = text[room:]
        if text:
            self._append_tail(text)

    def publish(self) -> None:
        """Send the output so far to the host, unless it was sent a moment ago."""
        if self._times_shown >= _FIRST_SHOWN:
            now = time.monotonic()
            if now - self._shown_at < _SHOW_EVERY_S:
                return
            self._shown_at = now
        self._times_shown += 1
        self._show(self.text(), self.chars)

    def text(self) -> str:
        tail = "".join(self._tail)[-self._tail_limit :]
        missing = self.chars - len(self._head) - len(tail)
        if not missing:
            return self._head + tail
        return f"{self._head}\n… {missing:,} characters left out …\n{tail}"

    def _append_tail(self, text: str) -> None:
        self._tail.append(text[-self._tail_limit :])
        self._tail_chars += len(self._tail[-1])
        if self._tail_chars > 2 * self._tail_limit or len(self._tail) > 10_000:
            kept = "".join(self._tail)[-self._tail_limit :]
            self._tail, self._tail_chars = [kept], len(kept)


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
