"""One session's namespace, and how the code of one message runs in it.

All names of ours live in `__builtins__`, so whatever stands in the namespace is the model's own:
a reserved name found there has been reassigned, and taking it away puts ours back. One dict is
globals and locals, so functions and comprehensions see what a cell defined. Nothing is evaluated
twice and only what is printed is shown.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rlm_ray.core.repl_types import Variable
from rlm_ray.sandbox.guest import traceback_format
from rlm_ray.sandbox.guest.cell_language import CellLanguage
from rlm_ray.sandbox.guest.clock import CellTimer
from rlm_ray.sandbox.guest.context_parts import ContextReferences, DocumentReferences
from rlm_ray.sandbox.guest.map_reduce import MapReduce
from rlm_ray.sandbox.guest.model_calls import FinalAnswer, FinalAnswerSignal, HostChannel, ModelCalls
from rlm_ray.sandbox.guest.output import Output, absent_text_notes, format_variables, list_variables
from rlm_ray.sandbox.guest.tool_calls import Cite, ToolCalls
from rlm_ray.sandbox.language import policy
from rlm_ray.sandbox.wire.messages import CellDone

_SOURCES_KEPT = 200
_DISPLAYED_CHARS, _DISPLAYED_ITEMS = 10_000, 200
"""Of a value that is displayed and not printed: one that is all of a large context must not be copied for it."""


@dataclass(frozen=True, slots=True)
class InterpreterConfig:
    """What the interpreter gets at its start."""

    query: str = ""
    seed: int = 0
    memory_mb: int = 256
    tools: tuple[str, ...] = ()
    """Names of the tools that the session has."""
    argument_bytes: int = 0
    """The most that the arguments of one call of a tool may take."""


class Interpreter:
    """The interpreter of one session."""

    def __init__(  # noqa: PLR0913, PLR0917 - what a session brings along
        self,
        parts: ContextReferences,
        terms: InterpreterConfig,
        channel: HostChannel,
        output: Output,
        timer: CellTimer,
        language: CellLanguage,
    ) -> None:
        language.open(terms.seed, output)
        self._language = language
        self._timer = timer
        self._output = output
        self._terms = terms
        self._parts = parts
        self._ending = FinalAnswer(channel, self._lookup)
        calls = ModelCalls(channel, self._part)
        self._reserved: dict[str, Any] = {
            "context": parts.content,
            "query": terms.query,
            "SHOW_VARS": self._show_vars,
            **calls.names(),
            **ToolCalls(channel, terms.tools, terms.argument_bytes).names(),
            **self._ending.names(),
        }
        # Added to and not copied: a copy writes to whatever is in it, and so to each page where that lies.
        self._builtins = language.builtins
        self._builtins |= {
            policy.CHECK_TIME: timer.check,
            policy.DISPLAY: self._display,
            **_helper_builtins(calls, parts),
            **Cite(channel, parts).names(),
            **self._reserved,
        }
        self._namespace: dict[str, Any] = {"__name__": "__main__", "__builtins__": self._builtins}
        self._sources: dict[str, list[str]] = {}
        self._cells = 0
        self._looked = False
        self._changed = False

    def set_history(self, name: str, items: list[Any]) -> None:
        """Give the turns that were left out of the conversation this name; a variable of the code's goes before it."""
        self._builtins[name] = items

    def run(self, blocks: Sequence[str], now: float, query: str) -> CellDone:
        """Run the blocks of one message, in order, up to the first error or FINAL; for them it is `now`."""
        self._language.clock.start(now)
        self._ending.begin()
        self._reserved["query"] = self._builtins["query"] = query
        self._cells += 1
        self._changed = False
        self._output.reset()
        error = None
        for number, block in enumerate(blocks, 1):
            name = f"cell {self._cells}" if len(blocks) == 1 else f"cell {self._cells}.{number}"
            error = self._run(block, name)
            if error is not None or self._ending.given:
                break
        error = self._check_answer_variable(error)
        output = self._output
        notes = self._restore_reserved()
        if not self._ending.given:
            notes += absent_text_notes(blocks, output.text(), error, query, self._parts.texts())
        return CellDone(output.text(), output.chars, error, self._variables(), notes, self._looked)

    def _run(self, block: str, name: str) -> str | None:
        """Run a block; return its error as the model shall see it, None where there is none."""
        if block.lstrip("\n")[:1] in (" ", "\t"):  # as fenced blocks inside a list are
            block = textwrap.dedent(block)
        self._store_source(name, block)
        return self._guarded(lambda: exec(self._compile(block, name), self._namespace))  # noqa: S102 - what this process is for

    def _guarded(self, work: Callable[[], object]) -> str | None:
        """Run code of the model's, for as long as the cell may take: None, or the error as the model shall see it."""
        timer = self._timer
        try:
            timer.interruptible = True
            work()
            timer.interruptible = False
            timer.check()  # code that swallowed it has ended late, and is told
        except BaseException as error:  # noqa: BLE001 - SystemExit and the like are errors of the cell
            timer.interruptible = False
            if isinstance(error, FinalAnswerSignal):
                return None
            return traceback_format.format_error(
                error,
                self._sources,
                self._terms.memory_mb,
                traceback_format.public_names(self._namespace, self._builtins),
            )
        return None

    def _compile(self, block: str, name: str) -> Any:
        if not self._language.filtered:
            return compile(block, name, "exec", dont_inherit=True)
        cell = policy.compile_cell(block, name)
        self._looked = self._looked or cell.reads_context
        self._changed = self._changed or cell.changes_context
        return cell.code

    def _store_source(self, name: str, block: str) -> None:
        self._sources[name] = block.splitlines()
        if len(self._sources) > _SOURCES_KEPT:
            del self._sources[next(iter(self._sources))]

    def _check_answer_variable(self, error: str | None) -> str | None:
        """Take the answer that the variable `answer` holds, also after an error: the cell had set it ready before."""
        failed = self._guarded(  # str() of the answer is code of the model's
            lambda: self._ending.ready(self._namespace.get("answer", self._ending.answer))
        )
        return error or failed

    def _restore_reserved(self) -> tuple[str, ...]:
        notes = [
            self._reassigned_note(name)
            for name in self._reserved
            if name in self._namespace and name != "answer"
        ]
        for name in self._reserved:
            if name != "answer":
                self._namespace.pop(name, None)
        self._namespace["__name__"] = "__main__"
        self._namespace["__builtins__"] = self._builtins
        if isinstance(self._parts, DocumentReferences) and (self._changed or self._parts.was_modified()):
            self._parts.restore()
            notes.append("`context` was changed in place; it is put back before each cell, work on a copy")
        return tuple(notes)

    def _reassigned_note(self, name: str) -> str:
        why = "; the whole input is in it already" if name == "context" else ""
        return f"`{name}` was reassigned; it is put back before each cell, use another name{why}"

    # The names that look at the namespace

    def _part(self, value: object) -> Any:
        return self._parts.to_part(value)

    def _lookup(self, name: str) -> Any:
        for names in (self._namespace, self._reserved):
            if name in names and not name.startswith("__"):
                return names[name]
        known = ", ".join(variable.name for variable in self._variables()) or "none yet"
        raise NameError(f"FINAL_VAR: there is no variable {name!r}; variables: {known}")

    def _variables(self) -> tuple[Variable, ...]:
        own = {name: value for name, value in self._namespace.items() if name not in self._reserved}
        return list_variables(own)

    def _show_vars(self) -> dict[str, str]:
        """Print the list, and return it as names and kinds."""
        shown = self._variables()
        self._language.print(format_variables(shown))
        return {variable.name: variable.kind for variable in shown}

    def _display(self, value: object) -> None:
        """Show the value of a block's last line, as Jupyter does."""
        if value is None:
            return
        if type(value) is str and len(value) > _DISPLAYED_CHARS:
            self._language.print(f"{value[:_DISPLAYED_CHARS]!r} … a str of {len(value):,} characters")
        elif type(value) is list and len(value) > _DISPLAYED_ITEMS:
            self._language.print(f"{value[:_DISPLAYED_ITEMS]!r} … a list of {len(value):,} items")
        else:
            self._language.print(repr(value))


def _helper_builtins(calls: ModelCalls, parts: ContextReferences) -> dict[str, Any]:
    """Names a cell may use for its own instead."""
    helpers = MapReduce(calls.recursive_map, parts).names()
    if isinstance(parts, DocumentReferences):
        helpers |= {"documents": parts.content, **parts.finder().names()}
    return helpers
