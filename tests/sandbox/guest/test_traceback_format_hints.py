"""What the REPL says of a cell's mistakes: the cause, and the words that the model reads."""

from __future__ import annotations

import pytest
from sandbox_fakes import Cells, Served

from rlm_ray.core.context import make_context
from rlm_ray.sandbox.host.sandbox import SandboxManager

NOTHING_FOUND = "found nothing gives None"

HINTS = {
    "a group of no match": ("re.search('zebra', context).group()", NOTHING_FOUND),
    "a group of no match, by number": ("m = re.match('zebra', context)\nprint(m.group(1))", NOTHING_FOUND),
    "a span of no match": ("re.fullmatch('zebra', context).span()", NOTHING_FOUND),
    "an item of no match": ("re.search('zebra', context)[0]", NOTHING_FOUND),
    "a length of no match": ("len(re.search('zebra', context))", NOTHING_FOUND),
    "a loop over nothing": ("for x in {}.get('a'): pass", NOTHING_FOUND),
    "nothing plus one": ("{}.get('a') + 1", NOTHING_FOUND),
    "an attribute of a lookup": ("{'a': 1}.get('b').strip()", NOTHING_FOUND),
    "a variable with a slip": ("total_count = 3\nprint(total_cuont)", "did you mean 'total_count'?"),
    "a variable in other letters": ("Lines = []\nprint(lines)", "did you mean 'Lines'"),
    "a helper of another library": ("recursive_call('q', context)", "did you mean 'recursive_"),
    "a helper with a slip": ("recusive_map('q', [context])", "did you mean 'recursive_map'"),
    "a builtin with a slip": ("pirnt(1)", "did you mean 'print'"),
    "a variable that nobody set": ("print(zzzqqq)", "SHOW_VARS() lists yours"),
    "a module that was not imported": ("print(heapq.nlargest(1, [1]))", "import heapq first"),
    "a name out of a module": ("print(timedelta(days=1))", "from datetime import timedelta"),
    "another name out of a module": ("print(namedtuple)", "from collections import namedtuple"),
    "pandas by its short name": ("df = pd.DataFrame()", "use csv, statistics and collections"),
    "a method with a slip": ("'a,b'.spilt(',')", "did you mean 'split'"),
    "a method of another type": ("[1].apend(2)", "did you mean 'append'"),
    "a function of a module with a slip": ("re.findal('a', 'b')", "did you mean 'findall'"),
    "a key as an attribute": ("d = {'text': 'a'}\nprint(d.text)", "x['text']"),
    "a text taken for a dict": ("context['text']", "it is a str, not a dict"),
    "a module called": ("datetime(2024, 1, 1)", "datetime.datetime(...)"),
    "a hidden function": ("list = [1]\nlist('ab')", "hides the function of this name"),
    "a line of another form": ("a, b, c = 'x y'.split()", "print(repr(x))"),
    "a number that is none": ("int('12 apples')", "print(repr(x))"),
    "a date of another form": ("datetime.datetime.strptime('1 May', '%Y-%m-%d')", "print(repr(x))"),
    "a missing key": ("{'a': 1}['b']", "print(list(x)[:20])"),
    "a missing item": ("[1][3]", "print(len(x)) first"),
    "a string that does not end": ("text = '''the quick brown", "never paste it"),
    "a list that does not end": ("rows = ['the quick brown',", "never paste it"),
}

SILENT = {
    "what says itself what to use": "open('x')",
    "an error of the model's own": "raise ValueError('my own words')",
    "an attribute of an object of its own": "class A: pass\nA().x",
    "a name error of its own": "raise NameError('x is not defined')",
    "a hostile key": "class K(str):\n    def __eq__(self, o): raise OSError\n    def __hash__(self): return hash('text')\n{K('a'): 1}.text",
    "zero": "1 / 0",
}


@pytest.mark.parametrize("name", HINTS)
async def test_an_error_says_what_to_do(cells: Cells, name: str) -> None:
    code, said = HINTS[name]
    error = (await cells(code)).error or ""
    assert error.splitlines()[-1].startswith("Hint: ")
    assert said in error.splitlines()[-1]


@pytest.mark.parametrize("name", SILENT)
async def test_an_error_without_a_known_remedy_says_nothing_more(cells: Cells, name: str) -> None:
    error = (await cells(SILENT[name])).error or ""
    assert error
    assert "Hint:" not in error


DISPLAYED = {
    "1 + 1": "2\n",
    "x = 3\nx": "3\n",
    "'a\\nb'.upper()": "'A\\nB'\n",
    "[1, 2]\n": "[1, 2]\n",
    "x = 1": "",
    "None": "",
    "print('a')": "a\n",
    "[].append(1)": "",
    "'''a remark'''": "",
    "for i in range(2): i": "",
    "if True:\n    5": "",
    "recursive_llm('q')": "'Q'\n",
    "def f():\n    return 7\nf()": "7\n",
    "x = 5; x": "5\n",
    "len(context) if True else 0": "1000\n",
    "(1,)": "(1,)\n",
    "class A:\n    def __repr__(self): return 'me'\nA()": "me\n",
    "'x' * 30_000": repr("x" * 10_000) + " … a str of 30,000 characters\n",
    "list(range(1000))": repr(list(range(200))) + " … a list of 1,000 items\n",
}


@pytest.mark.parametrize("code", DISPLAYED)
async def test_a_last_expression_is_displayed(cells: Cells, code: str) -> None:
    assert await cells.prints(code) == DISPLAYED[code]


async def test_each_block_displays_its_last_expression(cells: Cells) -> None:
    assert await cells.prints("x = 1\nx", "x + 1", "y = 3") == "1\n2\n"


async def test_a_last_expression_runs_once(cells: Cells) -> None:
    await cells.prints("recursive_llm('once')")
    assert [call.queries for call in cells.on_success.calls] == [("once",)]


async def test_common_names_need_no_import(cells: Cells) -> None:
    code = "print(Counter('aab')['a'], defaultdict(int)[1], csv.reader, io.StringIO('x').read(), math.pi > 3)"
    assert (await cells.prints(code)).startswith("2 0 ")


async def test_a_hit_shows_what_there_is_to_see(host: SandboxManager) -> None:
    texts = ["\n\n  \nTitle: one\nred fox\nred hen\nred cow\nred dog", "\n\nTitle: two\nno match", "red once"]
    cells = Cells(await host.open(make_context(texts), "q"), Served())
    assert (
        await cells.prints("print(sorted(h['line'] for h in bm25('title')))")
        == "['Title: one', 'Title: two']\n"
    )
    assert await cells.prints("for h in search('red'): print(dict(h))") == (
        "{'document': 0, 'offset': 16, 'line': 'red fox', 'matches': 4, 'more': ['red hen', 'red cow']}\n"
        "{'document': 2, 'offset': 0, 'line': 'red once'}\n"
    )
    assert await cells.prints("print(search('(?m)^')[0]['matches'], search('d')[0]['matches'])") == "8 5\n"
    assert await cells.prints("print(search('.', flags=re.S)[0]['line'])") == "Title: one\n"
