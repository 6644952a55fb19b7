"""What a model's message asks for: code to run, or an answer in plain words. Linear in the length of the message.

Where code is looked for, in this order; the first that holds some decides:
1. Fences of the REPL's language by any of its names (`markdown_fences.py`), and bare ones; all blocks run in order. A bare fence
   that is not Python is a quotation, unless it is the only block.
2. `<code>`, `<execute>` and their like, `<|python_tag|>`, and a tool call as JSON with code among its arguments.
3. A message that is nothing but Python.

A message without code whose line starts with `FINAL(` (also in bold, in backticks, behind "Final answer:") ends with
what stands inside: text and literals as they are; an expression or a variable as code. A placeholder or a name nobody
knows is no answer (`final_value.py`). FINAL in prose, in a comment or inside a string ends nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import islice

from rlm_ray.core.code_extraction import Syntax, code_in_tags, code_in_tool_call, is_bare_code
from rlm_ray.core.final_value import Value, read_value
from rlm_ray.core.markdown_fences import Block, split_message

FINAL_LINE = re.compile(
    r"^[ \t]*[*_`]{0,3}(?:(?:my |the )?final answer(?: is)?[:*_ \t]{0,4}[*_`]{0,3})?"
    r"(?P<name>(?-i:FINAL|FINAL_VAR))(?P<open>[ \t]?\(|:(?=[ \t]*[^\s*]))",
    re.MULTILINE | re.IGNORECASE,
)
"""How a line begins that ends a session."""
_CLOSING = "*_`.!;\"' \t"
"""What may stand behind the closing parenthesis."""
_MAX_FINALS = 5
_MAX_PARENTHESES = 20_000
_PROMPT = re.compile(r"^[ \t]*(?:>>>|\.\.\.|In \[\d*\]:)(?: |$)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Parsed:
    """A message's code, or its answer, or neither."""

    blocks: tuple[str, ...] = ()
    answer: str | None = None
    truncated: bool = False
    """The last block was not closed before the message ended."""
    unresolved: str | None = None
    """What stood in a FINAL that is no answer: a placeholder, or a name the REPL does not hold."""
    is_word: bool = False
    """The unresolved one may be meant as it stands: a word, and no placeholder."""


def parse(text: str, variables: frozenset[str] = frozenset()) -> Parsed:
    """Read a model's message. `variables` are the names the REPL holds: `FINAL(name)` means theirs."""
    text = text.replace("\r\n", "\n")
    syntax = Syntax()
    blocks, prose = split_message(text, syntax.is_python)
    code = _code_blocks(blocks, syntax)
    if len(code) == 1 and (said := _final_alone(code[0].code, variables, syntax)) is not None:
        return said
    if code:
        return Parsed(tuple(_without_prompts(block.code) for block in code), truncated=not code[-1].closed)
    other = code_in_tags(prose, syntax) or code_in_tool_call(prose)
    if not other and is_bare_code(text, syntax):
        other = (text.strip() + "\n",)
    if other:
        return Parsed(tuple(map(_without_prompts, other)))
    return _final_in_prose(prose, variables, syntax)


def _code_blocks(blocks: list[Block], syntax: Syntax) -> list[Block]:
    is_tagged = any(block.is_code for block in blocks)
    alone = not is_tagged and len(blocks) == 1
    return [
        block
        for block in blocks
        if block.code.strip()
        and (block.is_code or (not block.tag and (alone or syntax.is_python(_without_prompts(block.code)))))
    ]


def _final_alone(code: str, variables: frozenset[str], syntax: Syntax) -> Parsed | None:
    """Read a block that is nothing but `FINAL(XKL-9040)` as the words it means; None where it is code."""
    code = code.strip()
    if not code.startswith("FINAL(") or "\n" in code:
        return None
    said = _final_in_prose(code, variables, syntax)
    runs = said.answer is not None and syntax.is_python(code)
    return said if (said.answer is not None and not runs) or said.is_word else None


def _without_prompts(code: str) -> str:
    """Return the code of an interpreter session: what stands behind its prompts, without what it printed."""
    if not code.lstrip().startswith((">>>", "In [")):
        return code
    lines = [line for line in code.split("\n") if _PROMPT.match(line)]
    return "".join(_PROMPT.sub("", line, count=1) + "\n" for line in lines)


def _final_in_prose(prose: str, variables: frozenset[str], syntax: Syntax) -> Parsed:
    """Return what the first FINAL line that is an answer says; else the first that is not."""
    unresolved = Parsed()
    position = len(prose) if "FINAL" not in prose else 0
    for _ in range(_MAX_FINALS):
        match = FINAL_LINE.search(prose, position)
        if match is None:
            break
        position = match.end()
        found = _final(prose, match, variables, syntax)
        if found.unresolved is None:
            return found
        if unresolved.unresolved is None:
            unresolved = found
    return unresolved


def _final(prose: str, match: re.Match[str], variables: frozenset[str], syntax: Syntax) -> Parsed:
    rest = prose[match.end() :]
    if match["open"] == ":":
        line, _, more = rest.partition("\n")
        if more.strip() or match["name"] != "FINAL":
            return Parsed()
        inside = line.strip(_CLOSING)
    else:
        inside = _inside_parentheses(rest).strip()
    if match["name"] == "FINAL_VAR":
        name = inside.strip("\"'` ")
        return Parsed((f"FINAL_VAR({name!r})",)) if name in variables else Parsed(unresolved=name[:200])
    value: Value = read_value(inside, variables, syntax)
    match value.kind:
        case "code":
            return Parsed((f"FINAL({value.text})",))
        case "text":
            return Parsed(answer=value.text)
        case _:
            return Parsed(unresolved=value.text[:200], is_word=value.kind == "word")


def _inside_parentheses(rest: str) -> str:
    """Return what stands before the parenthesis that closes `FINAL(`: the balanced one, or the last at a line's end."""
    balanced = _balanced_end(rest)
    if balanced is not None and not rest[balanced + 1 :].split("\n", 1)[0].strip(_CLOSING):
        return rest[:balanced]
    lines = rest.split("\n")
    while lines:
        last = lines.pop().rstrip(_CLOSING)
        if last.endswith(")"):
            return "\n".join([*lines, last[:-1]])
    return rest[:balanced] if balanced is not None else rest


def _balanced_end(rest: str) -> int | None:
    depth = 1
    for match in islice(re.finditer(r"[()]", rest), _MAX_PARENTHESES):
        depth += 1 if match[0] == "(" else -1
        if depth == 0:
            return match.start()
    return None
