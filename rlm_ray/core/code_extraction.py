"""Code that stands in no fence: between tags, in a tool call written as JSON, or as the whole message.

`Syntax` asks Python's grammar within bounds: a message is no reason to parse a megabyte. CPython before 3.11.8 mixes up threads
that parse at the same time (gh-106905), hence the attempts.
"""

from __future__ import annotations

import ast
import contextlib
import json
import re
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, Literal

from rlm_ray.core.repl_types import ENDINGS, FUNCTIONS

MAX_PARSED_CHARS = 40_000
"""So much code of one message is parsed in all; about 20 ms."""
PARSE_ATTEMPTS = 10


class Syntax:
    """The grammar for one message."""

    def __init__(self) -> None:
        self._left = MAX_PARSED_CHARS

    def is_python(self, code: str) -> bool:
        """Tell whether code parses; False also for what is more than may be parsed."""
        return self.tree(code) is not None

    def tree(self, code: str, mode: Literal["exec", "eval"] = "exec") -> Any:
        """Return the syntax tree of code; None where it has none, or where the message has used up what may be parsed."""
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


_OPENING = re.compile(
    r"^[ \t>]*<(?P<tag>code|execute|tool_code|python|repl|run|execute_(?:code|i?python)|ipython|code_interpreter)>",
    re.MULTILINE | re.IGNORECASE,
)
_PYTHON_TAG = "<|python_tag|>"
_END_TAGS = re.compile(r"<\|(?:eom_id|eot_id|end|im_end)\|>\s*\Z")
_TOOL_CALL = re.compile(r"<(?P<tag>tool_call|function_call|toolcall)>", re.IGNORECASE)
_CODE_KEYS = ("code", "source", "script", "python", "source_code", "python_code", "cell", "snippet", "input")
_ARGUMENT_KEYS = ("arguments", "parameters", "args", "input", "tool_input", "action_input", "function", "tool_calls",
                  "function_call")  # fmt: skip
_OTHER_TOOLS = re.compile(r"bash|shell|sql|search|browser|terminal|final|answer|submit", re.IGNORECASE)
_DEEPEST = 4
_MAX_CALLS = 64

_CALLS = FUNCTIONS | ENDINGS | {"print"}


def code_in_tags(text: str, syntax: Syntax) -> tuple[str, ...]:
    """Return the code between `<code>` and its like, or behind `<|python_tag|>`."""
    position = text.find(_PYTHON_TAG)
    if position >= 0:
        code = _END_TAGS.sub("", text[position + len(_PYTHON_TAG) :])
        return code_in_tool_call(code) or ((code.lstrip("\n"),) if code.strip() else ())
    return tuple(code for code in _between(text, _OPENING) if _holds_code(code, syntax))


def code_in_tool_call(text: str) -> tuple[str, ...]:
    """Return the code of tool calls written as JSON: the whole message, or between `<tool_call>` tags."""
    whole = text.strip()
    found = [whole] if whole.startswith(("{", "[")) else list(islice(_between(text, _TOOL_CALL), _MAX_CALLS))
    return tuple(code for each in found for code in _code_of_call(_json(each)))


MAX_BARE_CHARS = 20_000
"""A longer message without a fence is prose."""


def is_bare_code(text: str, syntax: Syntax) -> bool:
    """Tell whether the whole message is Python and does something: prose that happens to parse does not."""
    if len(text) > MAX_BARE_CHARS or not re.search(r"[(=:]|\bimport ", text):
        return False
    tree = syntax.tree(text.strip())
    return tree is not None and _does_something(tree.body)


def _does_something(body: list[ast.stmt]) -> bool:
    if all(isinstance(each, ast.Expr) and _is_final(each.value) for each in body):
        return False  # a FINAL in prose
    assigned = sum(isinstance(each, ast.Assign | ast.AugAssign) for each in body)
    compound = (
        ast.For,
        ast.While,
        ast.With,
        ast.FunctionDef,
        ast.ClassDef,
        ast.Try,
        ast.Import,
        ast.ImportFrom,
        ast.If,
    )
    return assigned > 1 or any(
        isinstance(each, compound) or (isinstance(each, ast.Expr | ast.Assign) and _calls(each.value))
        for each in body
    )


def _calls(value: ast.expr) -> bool:
    if isinstance(value, ast.Await):
        value = value.value
    return isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id in _CALLS


def _is_final(value: ast.expr) -> bool:
    is_call = isinstance(value, ast.Call) and isinstance(value.func, ast.Name)
    return is_call and value.func.id in {"FINAL", "FINAL_VAR"}  # type: ignore[attr-defined]  # a Call of a Name


def _holds_code(code: str, syntax: Syntax) -> bool:
    tree = syntax.tree(code.strip())
    if tree is None:
        return "\n" in code.strip() and re.search(r"[(=]", code) is not None
    return any(not isinstance(each, ast.Expr) or isinstance(each.value, ast.Call) for each in tree.body)


def _between(text: str, opening: re.Pattern[str]) -> Iterator[str]:
    """Yield what stands between tags; behind the last one that is not closed, all there is."""
    position = 0
    while match := opening.search(text, position):
        close = f"</{match['tag']}>"
        end = text.find(close, match.end())
        stop = len(text) if end < 0 else end
        yield text[match.end() : stop].strip("\n")
        position = stop + len(close)


def _json(text: str) -> Any:
    try:
        return json.JSONDecoder().raw_decode(text.strip())[0]
    except (ValueError, RecursionError):
        return None


def _code_of_call(call: Any, depth: int = 0) -> Iterator[str]:
    if depth > _DEEPEST:
        return
    if isinstance(call, list):
        for each in call[:_MAX_CALLS]:
            yield from _code_of_call(each, depth + 1)
    elif isinstance(call, Mapping) and not _OTHER_TOOLS.search(str(call.get("name", ""))):
        code = next(
            (call[key] for key in _CODE_KEYS if isinstance(call.get(key), str) and call[key].strip()), None
        )
        if code is not None and not code.lstrip().startswith("{"):
            yield code
            return
        for key in _ARGUMENT_KEYS:
            value = call.get(key)
            yield from _code_of_call(_json(value) if isinstance(value, str) else value, depth + 1)
