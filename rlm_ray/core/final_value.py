"""What stands inside a FINAL that is written in prose: text, code, or nothing that could be an answer.

Rules, in order:
- A placeholder (`...`, `<your answer>`, `answer`) is never an answer, unless the REPL holds a variable of that name.
- A literal is text: a string without its quotes, others as they stand. `answer=42` is what stands behind the sign.
- A variable of the REPL, a call, an f-string and their like are code.
- A name nobody knows may be a word that is meant so: a capitalised one is, any other only when the model insists.
- What is no Python is text.
"""

from __future__ import annotations

import ast
import builtins
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from rlm_ray.core.code_extraction import Syntax
from rlm_ray.core.repl_types import FUNCTIONS, VARIABLES

MAX_CHARS = 20_000
"""Anything longer is text."""

_KNOWN = VARIABLES | FUNCTIONS | frozenset(dir(builtins))
_SLOT = r"(your|my|the|insert|put|write|final|actual|complete|computed|best|correct|here|goes|value|text|string|of)"
_PLACEHOLDER = re.compile(
    rf"\W*|<[^<>\n]{{0,80}}>|({_SLOT}[\s_-]+)*(answer|result|response|output|solution|conclusion)s?"
    rf"([\s_-]+{_SLOT})*\W*|({_SLOT}[\s_-]+)+(value|text|string|variable|var|here)\W*|"
    r"value|variable(_name)?|var(_name)?|name|placeholder|todo|tbd|xxx+|some_?(thing|value|answer)|foo|bar|x",
    re.IGNORECASE,
)
_STRICT = re.compile(
    r"[.…]{2,}|<[^<>\n]{1,80}>|(insert |put |write )?(your|the) (final |actual )?(answer|result)( here| goes here)?\.*|"
    r"your_(final_)?answer(_here)?",
    re.IGNORECASE,
)
"""Also where it stands in quotation marks."""
_SLOT_WORD = re.compile(
    rf"{_SLOT}|(answer|result|response|output|solution|conclusion)s?|variable|var|name|placeholder|todo|tbd|xxx+|"
    r"some(thing|value|answer)?|foo|bar|x",
    re.IGNORECASE,
)
_LONGEST_TAG = 82
"""Of a placeholder such as `<your answer>`."""
_PLAIN_WORDS = frozenset(
    ["yes", "no", "none", "null", "unknown", "true", "false", "positive", "negative", "neutral"]
)


@dataclass(frozen=True, slots=True)
class Value:
    """What a FINAL holds."""

    kind: Literal["text", "code", "word", "placeholder"]
    """`word`: a name nobody knows, which may be meant as it stands."""
    text: str


def written_answer(code: str) -> str | None:
    """Return the answer that code gives to FINAL word by word, as text; None where it computes it, or gives none."""
    try:
        tree = ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id == "FINAL"
            and node.args
        ):
            return str(node.args[0].value) if isinstance(node.args[0], ast.Constant) else None
    return None


def read_value(inside: str, variables: frozenset[str], syntax: Syntax) -> Value:
    """Read what stands between the parentheses."""
    inside = inside.strip()
    if inside in variables:
        return Value("code", inside)
    if len(inside) > MAX_CHARS:
        return Value("text", _unquoted(inside))
    if _is_placeholder(inside, variables):
        return Value("placeholder", inside)
    tree = syntax.tree(inside, "eval") or _string_over_lines(inside, syntax)
    if tree is None:
        return _argument(inside, variables, syntax)
    literal = _literal(tree.body)
    return (
        _expression(tree.body, inside, variables) if literal is None else _text_value(literal.value, inside)
    )


def _string_over_lines(inside: str, syntax: Syntax) -> Any:
    """Return the tree of a string that goes over lines, which Python allows in three quotation marks only; None for anything else."""
    mark = inside[:1]
    if mark not in {'"', "'"} or not inside.endswith(mark) or "\n" not in inside:
        return None
    return syntax.tree(f"{mark * 3}{inside[1:-1]}{mark * 3}", "eval") if _ends_there(inside, mark) else None


def _ends_there(inside: str, mark: str) -> bool:
    """Tell whether the first quotation mark that ends the string is the last character."""
    return mark not in re.sub(r"\\.", "", inside[1:-1], flags=re.DOTALL)


def _text_value(value: object, inside: str) -> Value:
    if not isinstance(value, str):
        return Value("text", inside)
    return Value("placeholder", inside) if _STRICT.fullmatch(value.strip()) else Value("text", value)


def may_be_placeholder(beginning: str) -> bool:
    """Tell whether a text that begins so may turn out to be a placeholder; of its last word there may be more."""
    if beginning.startswith("<") and "\n" not in beginning:
        return len(beginning) <= _LONGEST_TAG
    whole_words = re.findall(r"[^\W_]+(?=[\W_])", beginning)
    return len(beginning) < 200 and all(map(_SLOT_WORD.fullmatch, whole_words))


@dataclass(frozen=True, slots=True)
class _Literal:
    value: object


def _literal(node: ast.expr) -> _Literal | None:
    try:
        return _Literal(ast.literal_eval(node))
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return None


def _is_placeholder(inside: str, variables: frozenset[str]) -> bool:
    names = set(re.findall(r"[A-Za-z_]\w*", inside))
    if names & variables or inside in {"[]", "{}", "()"}:
        return False
    return any(map(_PLACEHOLDER.fullmatch, (inside, inside.strip("<>[]{}()`*"))))


def _argument(inside: str, variables: frozenset[str], syntax: Syntax) -> Value:
    """Read `answer=42`, or plain text."""
    keyword = re.match(r"(?:answer|value|result|final|final_answer|content|text)\s*=\s*(?=[^=\s])", inside)
    if keyword is None:
        return Value("text", inside)
    return read_value(inside[keyword.end() :], variables, syntax)


def _expression(node: ast.expr, inside: str, variables: frozenset[str]) -> Value:
    """Read an expression: code where it can be one, a text that happens to parse, or a name nobody knows."""
    unknown = _unknown_names(node, variables)
    if not unknown:
        return Value("code", inside)
    if isinstance(node, ast.Name):
        is_text = inside.lower() in _PLAIN_WORDS or (inside[:1].isupper() and "_" not in inside)
        return Value("text" if is_text or not inside.isascii() else "word", inside)
    if _reads_as_text(node, inside):
        return Value("text", inside)
    is_call = any(
        isinstance(each, ast.Call | ast.Subscript | ast.JoinedStr | ast.comprehension)
        for each in ast.walk(node)
    )
    return Value("code" if is_call else "word", inside)


def _reads_as_text(node: ast.expr, inside: str) -> bool:
    """Tell whether these are words with commas, `and`, `in`, or a remark in parentheses, such as `Paris (France)`."""
    if re.search(r"\w[ \t]+[\[(]", inside) and isinstance(node, ast.Call | ast.Subscript):
        return True
    words = ast.Name | ast.Constant | ast.Tuple | ast.BoolOp | ast.Compare | ast.UnaryOp
    signs = ast.expr_context | ast.boolop | ast.cmpop | ast.unaryop
    return all(isinstance(each, words | signs) for each in ast.walk(node))


def _unknown_names(node: ast.expr, variables: frozenset[str]) -> set[str]:
    """Names the expression reads and nobody has bound."""
    nodes = list(ast.walk(node))
    bound = set(_bound_names(nodes))
    read = {each.id for each in nodes if isinstance(each, ast.Name)}
    return read - bound - variables - _KNOWN


def _bound_names(nodes: list[ast.AST]) -> Iterator[str]:
    for each in nodes:
        if isinstance(each, ast.Name) and not isinstance(each.ctx, ast.Load):
            yield each.id
        elif isinstance(each, ast.arg):
            yield each.arg


def _unquoted(inside: str) -> str:
    """Take the quotation marks off a long text, where it is one string."""
    mark = next((mark for mark in ('"""', "'''", '"', "'") if inside.startswith(mark)), "")
    if not mark or not inside.endswith(mark):
        return inside
    try:
        value = ast.literal_eval(inside)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return inside
    return value if isinstance(value, str) else inside
