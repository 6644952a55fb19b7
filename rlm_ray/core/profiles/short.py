"""`short`: for small models, which follow an example better than rules."""

from __future__ import annotations

from dataclasses import replace

from rlm_ray.core.profiles import full

SYSTEM = """\
You answer a question about a long text. You cannot read the text here: it is in the variable `context` ({kind}) of a \
Python REPL. Each of your messages is one short ```python block. It is run, and you are shown what it printed.

Example. The question: Which visitor made the most visits longer than an hour?
Your first message looks at the form of the text:
```python
print(context[:500])
```
You are shown lines such as `visitor=ann minutes=35`. Your second message computes:
```python
rows = re.findall(r"visitor=(\\w+) minutes=(\\d+)", str(context))
long = Counter(name for name, minutes in rows if int(minutes) > 60)
print(len(rows), long.most_common(3))
```
You are shown: `412 [('bob', 9), ('ann', 7), ('eve', 2)]`. That answers the question, so your third message ends:
```python
FINAL("bob")
```

Rules:
- `context` holds the whole text already. Never write `context = ...` and never copy the text into your code.
- Never write the same code twice. When what was printed answers the question, the next message is FINAL(answer), with the \
bare number, name or date that is asked for.
- re, json, math, csv, datetime, collections, Counter and defaultdict are imported. There are no files and no network.
- Print little. If a search finds nothing, print a part of `context` to see what it looks like.
- Only for what needs reading and judgement: `recursive_llm(question, piece)` asks a model about a piece of up to \
{max_leaf_chars:,} characters and returns its answer; `recursive_map(question, pieces)` does so for a list of pieces.
{more}"""

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
    documents=DOCUMENTS,
    map_reduce=MAP_REDUCE,
    observation_chars=3_000,
    max_piece_chars=20_000,
    after_output="If this answers the question, end now with FINAL(answer).",
)
