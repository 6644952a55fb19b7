"""What passes between a session and the REPL that runs its code."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from rlm_ray.core.context import ContextPart

SubCallKind: TypeAlias = Literal["recursive", "llm", "rlm"]
"""`recursive`: child or plain call as the session decides; `llm`: always a plain call; `rlm`: always a child."""


@dataclass(frozen=True, slots=True)
class SubCallRequest:
    """One `recursive_llm`, `recursive_map` or like call in a cell: as many queries as contexts."""

    kind: SubCallKind
    queries: tuple[str, ...]
    contexts: tuple[ContextPart, ...]
    stop_on_error: bool
    """The first failure fails the whole call, so the others may be cancelled."""


@dataclass(frozen=True, slots=True)
class SubCallAnswer:
    """A sub-call's answer."""

    text: str
    cut: str = ""
    """Where the text was cut off at the token limit: a sentence about it. Shown by a mark behind the text in a REPL."""


@dataclass(frozen=True, slots=True)
class Failed:
    """A sub-call's failure: `kind` is the error's class, `why` one sentence."""

    kind: str
    why: str
    fatal_error: Exception | None = None
    """Set where nobody in the tree can go on: a limit, a refused key, an empty account. Never sent to a REPL."""


SubCallOutcome: TypeAlias = "SubCallAnswer | Failed"


@dataclass(frozen=True, slots=True)
class Variable:
    """A name that persists in the REPL, described for the model."""

    name: str
    kind: str
    """`str`, `list`, `function`, `class`, `module` ..."""
    size: int | None
    """`len()` where it has one."""


@dataclass(frozen=True, slots=True)
class CellResult:
    """What one message's code did."""

    output: str = ""
    """What was printed, already bounded: the head and the tail of it."""
    output_chars: int = 0
    """How much was printed in truth."""
    error: str | None = None
    """The exception as the model shall see it, with the line in its own code."""
    final_answer: str | None = None
    """The answer, if the code ended the session."""
    context_was_read: bool = False
    """Code of this session has read `context` by now."""
    kill_reason: str | None = None
    """Why the interpreter had to be killed; all variables are lost then."""
    variables: tuple[Variable, ...] = ()
    notes: tuple[str, ...] = ()
    """Remarks for the model, such as a reserved name that was put back."""
    killed_externally: bool = False
    """Nothing the code did is known to have caused it: the same code may well run now."""
