"""Ready-made scripts, by name: what benchmarks and quick tests ask of a model server.

`recursion` is stateless: what a session does stands in its question. `run_query(a, b)` makes a
question whose session runs program `a` in its first turn and `b` in its second. A program may
itself call `recursive_map(run_query(...), pieces)` (put the string in), so one server plays trees
of any shape.
"""

from __future__ import annotations

import base64
import re
from types import MappingProxyType

from rlm_ray.testing.responses import Request, Script, text_of

LEAF_ANSWER = "leaf answer"
"""What `recursion` says to a plain call, followed by the length of the prompt."""

_RUN = re.compile(r"RUN:([A-Za-z0-9_\-]+=*)")
_LOOK = "print(len(context))"


def echo(request: Request) -> str:
    """Says the last message back."""
    return request.last


def recursion(request: Request) -> str:
    """Play the sessions and leaves of a recursion tree.

    A session with `RUN:` programs in its question runs one of them each turn, and a session
    without looks at the length of its context; both then end with `FINAL`. A plain call gets a short text.
    """
    if not is_session(request):
        return f"{LEAF_ANSWER} to {len(request.last)} chars"
    programs = [_decode(found) for found in _RUN.findall(_question(request))] or [_LOOK]
    if request.turn <= len(programs):
        return _block(programs[request.turn - 1])
    return _block("FINAL('session done')")


def is_session(request: Request) -> bool:
    """Tell whether code is wanted and not an answer: the system message speaks of a REPL."""
    system = request.system
    return "REPL" in system or "```python" in system


def run_query(*programs: str) -> str:
    """Make a question for `recursion`: one program for each turn."""
    return " ".join(f"RUN:{base64.urlsafe_b64encode(program.encode()).decode()}" for program in programs)


def _question(request: Request) -> str:
    """Return the first user message; observations come later and may show programs again."""
    return next((text_of(m) for m in request.messages if m.get("role") == "user"), "")


def _decode(found: str) -> str:
    return base64.urlsafe_b64decode(found).decode()


def _block(program: str) -> str:
    return f"```python\n{program}\n```"


SCRIPTS: MappingProxyType[str, Script] = MappingProxyType({"echo": echo, "recursion": recursion})
"""The names that `python -m rlm_ray.testing --script` knows."""
