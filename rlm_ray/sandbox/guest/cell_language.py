"""What every cell can use, whatever its session: builtins, modules, `print`, and the clock and the chance behind them."""

from __future__ import annotations

import builtins
from typing import Any, Protocol

from rlm_ray.sandbox.guest.clock import Clock
from rlm_ray.sandbox.guest.output import Output
from rlm_ray.sandbox.language.builtins_table import make_builtins
from rlm_ray.sandbox.language.modules import Modules


class _Writer(Protocol):
    def write(self, text: str, /) -> object: ...


class CellLanguage:
    """The names of one process, made before its fork and opened after it.

    Making them takes 1.2 ms and writes to 350 pages of memory, which each child would copy.
    """

    def __init__(self, *, filtered: bool = True) -> None:
        self.filtered = filtered
        self.clock = Clock()
        self._modules = Modules(self.clock, self.print)
        self._output: Output | None = None
        self.builtins: dict[str, Any] = (
            make_builtins(self._modules, self.print) if filtered else {**vars(builtins), "print": self.print}
        )

    def open(self, seed: int, output: Output) -> None:
        """Begin a session: chance begins at `seed`, and `print` writes to `output`."""
        self._modules.seed(seed)
        self._output = output

    def print(
        self,
        *values: Any,
        sep: str | None = " ",
        end: str | None = "\n",
        file: _Writer | None = None,
        flush: bool = False,  # noqa: ARG002 - as print has it; everything is flushed in time
    ) -> None:
        """Write values as the builtin does, to the output of the cell where no file is given."""
        assert self._output is not None
        write = self._output.write if file is None else file.write
        sep, end = _text(sep, " "), _text(end, "\n")
        for number, value in enumerate(values):
            if number:
                write(sep)
            write(str.__str__(str(value)))
        write(end)
        if file is None:
            self._output.publish()


def _text(value: str | None, default: str) -> str:
    if value is None:
        return default
    if not isinstance(value, str):
        raise TypeError(f"sep and end must be None or a string, not {type(value).__name__}")
    return str.__str__(value)
