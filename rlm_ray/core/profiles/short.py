"""`short`: for small models, which follow an example better than rules."""

from __future__ import annotations

from dataclasses import replace

from rlm_ray.core.profiles import full

SYSTEM = """\
You answer a question about a long text with Python. The text is in the variable `context` ({kind}), of which you are shown \
the beginning. Each of your messages is one short ```python block. It is run, and you are shown what it printed.

1. Write code that computes what is asked from `context`, and print the result and some of what it rests on, such as
```python
{example}
```
2. When the output answers the question, end with the answer itself, the bare number, name or date that is asked for:
```python
FINAL(...)
```

Rules:
- `context` holds the whole text already. Never write `context = ...` and never copy the text into your code.
- Look for words exactly as they stand in the text. If a search finds nothing, print a part of `context` to see what it looks like.
- Never write the same code twice. Never call FINAL before you have seen the output.
- re, json, math, csv, datetime, collections, Counter and defaultdict are imported. There are no files and no network.
{more}"""

OF_TABLE = """\
rows = list(csv.DictReader({lines}))  # every value is a str
found = [row for row in rows if row[{column}] == "word"]
print(len(rows), len(found), found[:2])"""

OF_LINES = """\
lines = [line for line in {lines} if "word" in line]
print(len(lines), lines[:3])"""

SUB_CALLS = """\
- Only for what needs reading and judgement, a model can be asked: `print(recursive_llm("Is this a complaint? Answer yes or \
no.", piece))` for a piece of up to {max_leaf_chars:,} characters, `answers = recursive_map("...", pieces)` for a list of them.
"""

DOCUMENTS = """\
- `documents` is the same list as `context`; `search(pattern)` finds the documents that match a regular expression, \
`bm25(words)` those that speak of these words; both can be printed, and passed as pieces.
"""

MAP_REDUCE = """\
- `map_reduce(question{size})` asks the same of every piece of the whole context and puts the answers together.
"""

PROFILE = replace(
    full.PROFILE,
    system=SYSTEM,
    example_of_table=OF_TABLE,
    example_of_lines=OF_LINES,
    sub_calls=SUB_CALLS,
    documents=DOCUMENTS,
    map_reduce=MAP_REDUCE,
    observation_chars=3_000,
    max_piece_chars=20_000,
    before_reply=" Write the next ```python block.",
    waits_for_output=True,
    max_repeats=1,
    after_output="The question is: {query}\nIf this output answers it, end now with FINAL(answer).",
)
