"""A cell's exception as the model sees it: its own lines, the type, a bounded message."""

from __future__ import annotations

import pytest

from rlm_ray.sandbox.guest.traceback_format import format_error


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
