"""A cell's exception as the model sees it: its own lines, the type, a bounded message."""

from __future__ import annotations

import pytest
from guest_interpreter import Guest

from rlm_ray.sandbox.guest.clock import CellTimeout
from rlm_ray.sandbox.guest.traceback_format import format_error, public_names


def shown(*cells, memory_mb=256):
    """Run cells and format the error of the last one."""
    names, sources = {}, {}
    for number, code in enumerate(cells, 1):
        sources[f"cell {number}"] = code.splitlines()
        try:
            exec(compile(code, f"cell {number}", "exec", dont_inherit=True), names)
        except BaseException as error:  # noqa: BLE001 - SystemExit is an error of a cell
            return format_error(error, sources, memory_mb)
    raise AssertionError("no error")


@pytest.mark.parametrize(
    ("cells", "text"),
    [
        (["1/0"], "cell 1, line 1: 1/0\nZeroDivisionError: division by zero"),
        (["x = 1\n\n   \nraise KeyError('a')"], "cell 1, line 4: raise KeyError('a')\nKeyError: 'a'"),
        (["def f():\n    return [][1]", "f()"],
         "cell 2, line 1: f()\ncell 1, line 2, in f: return [][1]\nIndexError: list index out of range"),
        (["raise SystemExit"], "cell 1, line 1: raise SystemExit\nSystemExit"),
        (["class E(Exception):\n    def __str__(self): 1/0\nraise E"],
         "cell 1, line 3: raise E\nE: (its message cannot be shown: __str__ failed)"),
        (["a = 1\nb = = 2"], "cell 1, line 2: b = = 2\n" + " " * 20 + "^\nSyntaxError: invalid syntax"),
        (["if 1:\n    b = = 2"], "cell 1, line 2: b = = 2\n" + " " * 20 + "^\nSyntaxError: invalid syntax"),
        (["raise RecursionError('deep')"], "cell 1, line 1: raise RecursionError('deep')\nRecursionError: deep; use a loop instead of recursion"),
        (["import json; json.loads('{')"],
         ("cell 1, line 1: import json; json.loads('{')\n"
         "JSONDecodeError: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)")),
    ],
)  # fmt: skip
def test_error_shows_the_lines_of_cells_and_the_message(cells, text):
    assert [line for line in shown(*cells).splitlines() if not line.startswith("Hint: ")] == text.splitlines()


def test_deep_calls_show_the_first_and_the_last_three():
    for depth, more in ((3, None), (4, "  … 1 more calls …"), (40, "  … 37 more calls …")):
        lines = shown(
            f"def f(n):\n    if n == 0: raise ValueError('end')\n    f(n - 1)\nf({depth - 1})"
        ).splitlines()
        assert lines[0] == f"cell 1, line 4: f({depth - 1})"
        assert lines[-2] == "cell 1, line 2, in f: if n == 0: raise ValueError('end')"
        assert lines[-1] == "ValueError: end"
        assert (lines[1] == more) if more else len(lines) == depth + 2
        assert len(lines) <= 6


@pytest.mark.parametrize(("chars", "is_cut"), [(2000, False), (2001, True), (50_000, True)])
def test_long_message_keeps_its_ends(chars, is_cut):
    text = "a" * (chars // 2) + "z" * (chars - chars // 2)
    line = shown(f"raise ValueError({text!r})").splitlines()[-1]
    cut = f"ValueError: {'a' * 1000} … {chars - 2000:,} characters left out … {'z' * 1000}"
    assert line == (cut if is_cut else f"ValueError: {text}")


def test_long_line_is_cut():
    assert shown("1/0" + " " * 3 + "#" * 500).splitlines()[0] == "cell 1, line 1: 1/0   " + "#" * 194


def test_want_of_memory_says_how_much_there_is_and_what_to_do():
    text = shown("raise MemoryError", memory_mb=1234)
    assert "may use 1,234 MB beyond the context" in text
    assert "re.finditer" in text


@pytest.mark.parametrize(("line", "offset"), [(0, 1), (9, 1), (None, None), (1, None), (1, 99), (1, 0)])
def test_syntax_error_without_a_place_in_the_cell_has_no_caret(line, offset):
    error = SyntaxError("odd", ("cell 1", line, offset, "x"))
    lines = format_error(error, {"cell 1": ["a b c"]}, 256).splitlines()
    assert lines == (["cell 1, line 1: a b c", "SyntaxError: odd"] if line == 1 else ["SyntaxError: odd"])


@pytest.mark.parametrize(("offset", "column"), [(1, 0), (2, 1), (5, 4)])
def test_caret_stands_under_the_place(offset, column):
    error = SyntaxError("odd", ("cell 1", 1, offset, "x"))
    lines = format_error(error, {"cell 1": ["a b c"]}, 256).splitlines()
    assert lines[1] == " " * (len("cell 1, line 1: ") + column) + "^"


CLOSE = {
    "total_cuont": "did you mean 'total_count'?",
    "lines": "did you mean 'Lines' or 'list' or 'slice'?",
    "Total_Count": "did you mean 'total_count'?",
    "recursive_mapp": "did you mean 'recursive_map' or 'recursive_llm'?",
    "lenn": "did you mean 'len'?",
    "_hiden": "a variable lives only if the cell that set it ran; SHOW_VARS() lists yours",
    "zzzqqq": "a variable lives only if the cell that set it ran; SHOW_VARS() lists yours",
    "heapq": "import heapq first",
    "dt": "import datetime as dt first",
    "np": "module 'numpy' is not available here: use csv, statistics and collections",
    "timedelta": "it is in a module: from datetime import timedelta",
}


@pytest.mark.parametrize("name", CLOSE)
def test_unknown_name_has_the_likely_one_or_its_module(name):
    guest = Guest()
    guest("total_count = 3; Lines = []; _hidden = 1")
    assert guest(name).error.splitlines()[-1] == f"Hint: {CLOSE[name]}."


@pytest.mark.parametrize(
    ("code", "hint"),
    [
        ("'a'.spilt()", "did you mean 'split'"), ("[].apend(1)", "did you mean 'append'"), ("json.lods('1')", "did you mean 'loads'?"),
        ("re.match('a', 'a').grop()", "did you mean 'group' or 'groups'"), ("'a'.zzzz", None), ("json.zzzz", None),
        ("{'a': 1}.a", "its keys are read with brackets: x['a']"), ("{'a': 1}.keis()", "did you mean 'keys'?"),
        ("class D(dict): pass\nD(a=1).a", None), ("None.x", "a search or a lookup that found nothing gives None"),
        ("class E(AttributeError): pass\nraise E", None), ("raise AttributeError('x')", None), ("x = 'a'\nx[None]", "a search or a lookup that found nothing"),
        ("x = 'a'\nx['b']", "it is a str, not a dict or a list"), ("x = 'abc'\nx['b':]", None), ("datetime()", "datetime is a module: call datetime.datetime(...)"),
        ("json()", "json is a module: call json.<name>(...)"), ("len = 3\nlen('a')", "a variable of yours hides the function of this name"),
        ("1 + 'a'", None), ("int('x')", "print(repr(x)) the value that does not fit"), ("float('x')", "print(repr(x))"), ("a, b = [1]", "print(repr(x))"),
        ("datetime.date.fromisoformat('x')", "print(repr(x))"), ("datetime.datetime.strptime('x', '%Y')", "print(repr(x))"), ("[].index(1)", None),
        ("{}['a']", "print(list(x)[:20])"), ("[][1]", "print(len(x)) first"), ("x = 'a", "the code ends in the middle of something"),
        ("x = (1,", "the code ends in the middle of something"), ("x = = 1", None), ("1/0", None),
    ],
)  # fmt: skip
def test_mistake_is_followed_by_what_to_do(code, hint):
    last = Guest()(code).error.splitlines()[-1]
    assert last.startswith("Hint: ") is (hint is not None)
    assert hint is None or hint in last


def test_names_of_python_s_errors_are_not_proposed():
    assert public_names(["a", "ValueError", "b"], ["b", "len", "KeyboardInterrupt"]) == ["a", "b", "len"]


def test_interrupted_cell_shows_where_it_was_and_that_its_variables_are_kept():
    places = (("host.py", "run", 3), ("cell 1", "<module>", 2), ("cell 1", "f", 1), ("re.py", "search", 9))
    shown = format_error(
        CellTimeout("the cell ran longer than 5 s", places), {"cell 1": ["def f(): go()", "f()"]}, 256
    )
    first, second, last = shown.splitlines()
    assert (first, second) == ("cell 1, line 2: f()", "cell 1, line 1, in f: def f(): go()")
    assert last.startswith(
        "CellTimeout: the cell ran longer than 5 s. It was interrupted at the line above. Variables are kept"
    )


@pytest.mark.parametrize(("line", "shown"), [(0, ""), (1, "a"), (2, "b"), (3, "")])
def test_line_that_is_not_there_is_empty(line, shown):
    error = CellTimeout("late", (("cell 1", "<module>", line),))
    assert format_error(error, {"cell 1": ["a", "b"]}, 256).splitlines()[0] == f"cell 1, line {line}: {shown}"
