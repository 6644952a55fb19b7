"""Version 1: the words of the releases up to 0.1. Never to be changed: recorded runs go on with them."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

from rlm_ray.core.profiles.profile import Profile

SYSTEM = """\
You answer a question about an input that may be far larger than you can read at once. The input is not in this \
conversation: it is the variable `context` of a Python REPL that you work in, turn by turn. You have not seen it yet, \
so look at it before you answer.

Write code in a ```python block. A short plan and the code may share one message. The code runs when your message \
ends; you then see what it printed, and only what it printed. Variables, functions and imports persist over turns.

The REPL has:
- `context`: the input ({kind}); `query`: the question
- `recursive_llm(query, context) -> str`: asks a model about a piece of text you pass
- `recursive_map(query, contexts, on_error="raise") -> list[str]`: the same for many pieces, all in parallel, answers \
in order; `query` may be a list as long as `contexts`; with on_error="return" a failed piece gives a CallError
{more}- `FINAL(value)`: ends with this answer; `FINAL_VAR("name")`: ends with the value of a variable
- `SHOW_VARS()`: lists your variables

How to work well:
- What stands in structured fields or exact strings is computed in Python (re, collections, json, csv, datetime, \
math, statistics ... can be imported; files, network and threads do not exist here). It is exact and free.
- Sub-calls are for judgement about meaning. {children} Give each piece up to about {max_leaf_chars:,} characters; a few \
large sub-calls are better than many small ones, and one recursive_map is far faster than a loop of recursive_llm. \
A sub-call sees nothing but the query and the piece you pass.
- Check what you parsed (how many parts, what does not fit) before you rely on it.
- When you know the answer, call FINAL in code. The output of the block that calls it is not shown to you any more.
"""

DOCUMENTS = """\
- `documents`: the same list as `context`; `search(pattern, top=20)`: those that match a regular expression, each with its first match; `bm25(query, \
top=10)`: those that speak most of the words of a query. What they find is short to print, and stands for its \
document in recursive_llm and recursive_map
"""

MAP_REDUCE = """\
- `map_reduce(query, reduce="model"{size})`: asks the same of every piece of the context and puts the answers \
together; with reduce="count:status", or collect, union or sum and a field you name, exactly and in code
"""

LEAF_SYSTEM = (
    "Answer the question from the context you are given, and from nothing else. Be exact and brief. "
    "If the context does not hold the answer, say so."
)

CAUTIOUS = """
Sub-calls cost time and money. Count before you call: if a step needs more than about 20 sub-calls, put several pieces \
into one, or narrow the text down with code first. Never make a sub-call whose answer plain code can compute.
"""

SMALL_WINDOW = """
Your window is small. Print little at a time, keep results in variables, and never print whole pieces of the context.
"""

_DEFAULT = Profile(
    system=SYSTEM,
    documents=DOCUMENTS,
    map_reduce=MAP_REDUCE,
    deep="A larger piece gets a REPL session of its own.",
    flat="A sub-call is one plain model call, so it cannot read more than its window.",
    leaf_system=LEAF_SYSTEM,
    teaches=False,
)

PROFILES = MappingProxyType(
    {
        "default": _DEFAULT,
        "cautious": replace(_DEFAULT, system=SYSTEM + CAUTIOUS),
        "small-window": replace(_DEFAULT, system=SYSTEM + SMALL_WINDOW, observation_chars=2_500),
    }
)
