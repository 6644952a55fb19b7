"""Python's grammar, asked within bounds: a message is no reason to parse a megabyte.

CPython before 3.11.8 mixes up threads that parse at the same time (gh-106905), hence the attempts.
"""

from __future__ import annotations

import ast
import contextlib
from typing import Any, Literal

MAX_CHARS = 40_000
"""So much code of one message is parsed in all; about 20 ms."""
PARSE_ATTEMPTS = 10


class Syntax:
    """The grammar for one message."""

    def __init__(self) -> None:
        self._left = MAX_CHARS

    def is_python(self, code: str) -> bool:
        """It parses; False also for what is more than may be parsed."""
        return self.tree(code) is not None

    def tree(self, code: str, mode: Literal["exec", "eval"] = "exec") -> Any:
        """Its tree; None where it has none, or is more than may be parsed."""
        self._left -= len(code)
        if self._left < 0:
            return None
        try:
            return _tree(code, mode)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return None


def _tree(code: str, mode: Literal["exec", "eval"]) -> Any:
    for _ in range(PARSE_ATTEMPTS - 1):
        with contextlib.suppress(SystemError):
            return ast.parse(code, mode=mode)
    return ast.parse(code, mode=mode)
