"""Cells of one namespace, in this process: what a cell leaves, what is put back, what it says of itself."""

from __future__ import annotations

from random import Random

import pytest
from guest_interpreter import Guest

from rlm_ray.core.repl_types import Variable

DOCUMENTS = [{"id": "a", "text": "alpha"}, {"id": "b", "text": "beta"}]


def test_cells_share_their_variables_and_are_numbered():
    guest = Guest()
    assert guest("x = 1").variables == (Variable("x", "int", None),)
    assert guest.prints("x += 1\nprint(x)") == "2\n"
    assert guest("1/0").error == "cell 3, line 1: 1/0\nZeroDivisionError: division by zero"
    assert guest("y = 1", "z = 1", "1/0").error.startswith("cell 4.3, line 1: 1/0\n")
    assert [each.name for each in guest("pass").variables] == ["x", "y", "z"]


def test_error_ends_the_blocks_of_a_message_and_output_is_that_of_one_message():
    guest = Guest()
    done = guest("print(1)", "1/0", "print(2)")
    assert (done.output, done.chars) == ("1\n", 2)
    assert guest.prints("print(3)") == "3\n"


def test_traceback_shows_a_function_of_an_earlier_cell():
    guest = Guest()
    guest("def f():\n    return 1/0")
    assert (
        guest("f()").error
        == "cell 2, line 1: f()\ncell 1, line 2, in f: return 1/0\nZeroDivisionError: division by zero"
    )
    for _ in range(199):
        guest("pass")
    assert guest("f()").error.startswith("cell 202, line 1: f()\nZeroDivisionError")


@pytest.mark.parametrize(
    "code",
    ["  print(1)\n  print(2)", "\n\n\tprint(1)\n\tprint(2)", "print(1)\nprint(2)", " print(1)\n print(2)"],
)
def test_indented_block_runs(code):
    assert Guest().prints(code) == "1\n2\n"


@pytest.mark.parametrize(
    "name",
    [
        "context",
        "query",
        "SHOW_VARS",
        "FINAL",
        "FINAL_VAR",
        "SUBMIT",
        "recursive_llm",
        "recursive_map",
        "llm_query",
        "rlm_query",
    ],
)
def test_reassigned_name_is_put_back_with_a_note(name):
    guest = Guest()
    before = guest.prints(f"print({name})")
    done = guest(f"{name} = 5")
    (note,) = done.notes
    assert note.startswith(f"`{name}` was reassigned; it is put back before each cell, use another name")
    assert done.variables == ()
    assert guest.prints(f"print({name})") == before


def test_helper_and_answer_may_be_reassigned():
    guest = Guest(list(DOCUMENTS))
    for name in ("answer", "search", "documents", "map_reduce", "bm25"):
        assert guest(f"{name} = 5").notes == ()


def test_names_of_python_in_the_namespace_are_no_variables():
    guest = Guest(filtered=False)
    guest("__name__ = 'x'; __builtins__ = {}; y = 2")
    assert guest.prints("print(__name__, y)") == "__main__ 2\n"


@pytest.mark.parametrize(
    ("code", "is_put_back"),
    [
        ("context.append('c')", True),
        ("del context[0]", True),
        ("context[0] = 'x'", True),
        ("context.sort(key=str)", None),
        ("len(context)", False),
    ],
)
def test_changed_list_of_documents_is_put_back(code, is_put_back):
    guest = Guest([dict(each) for each in DOCUMENTS])
    done = guest(code)
    if is_put_back is not None:
        assert (
            done.notes == ("`context` was changed in place; it is put back before each cell, work on a copy",)
        ) is is_put_back
    assert guest.prints("print(len(context), context[0]['id'])") == "2 a\n"


def test_code_that_read_the_context_is_known_from_then_on():
    guest = Guest()
    assert not guest("x = 1").looked
    assert guest("print(len(context))").looked
    assert guest("x = 2").looked


def test_query_is_that_of_the_latest_cell():
    guest = Guest()
    assert guest.prints("print(query)") == "what jumps?\n"
    assert guest("print(query)", query="and now?").output == "and now?\n"


def test_show_vars_prints_and_returns_the_variables():
    guest = Guest()
    guest("rows = [1, 2]\ndef f(): pass")
    assert guest.prints("kinds = SHOW_VARS()") == "rows: list (2)\nf: function\n"
    assert guest.prints("print(kinds)") == "{'rows': 'list', 'f': 'function'}\n"


@pytest.mark.parametrize(
    ("code", "output"),
    [
        ("1 + 1", "2\n"), ("'a'", ""), ("'a' + 'b'", "'ab'\n"), ("None", ""), ("x = 5", ""), ("'a' * 10_000", repr("a" * 10_000) + "\n"),
        ("'a' * 10_001", f"{'a' * 10_000!r} … a str of 10,001 characters\n"),
        ("[1] * 200", f"{[1] * 200!r}\n"), ("[1] * 201", f"{[1] * 200!r} … a list of 201 items\n"),
    ],
)  # fmt: skip
def test_value_of_the_last_line_is_displayed(code, output):
    assert Guest(max_output_chars=50_000).prints(code) == output


@pytest.mark.parametrize(
    ("code", "output"),
    [
        ("print()", "\n"), ("print(1, 'a', None)", "1 a None\n"), ("print(1, 2, sep='')", "12\n"), ("print(1, 2, sep=None, end=None)", "1 2\n"),
        ("print(1, end='')\nprint(2)", "12\n"), ("import io\nf = io.StringIO()\nprint(1, 2, file=f)\nprint(repr(f.getvalue()))", "'1 2\\n'\n"),
    ],
)  # fmt: skip
def test_print_takes_what_print_takes(code, output):
    assert Guest().prints(code) == output


@pytest.mark.parametrize("argument", ["sep=1", "end=1"])
def test_print_refuses_what_print_refuses(argument):
    assert "sep and end must be None or a string, not int" in Guest()(f"print(1, {argument})").error


def test_output_beyond_its_limit_keeps_both_ends():
    done = Guest(max_output_chars=10)("print('abcdefghijklmnopqrstuvwxyz', end='')")
    assert (done.output, done.chars) == ("abcde\n… 16 characters left out …\nvwxyz", 26)


def test_clock_stands_at_the_start_of_the_cell_and_ticks_with_each_look():
    guest = Guest()
    code = "import time, datetime\nprint(time.time(), time.time() - 1.8e9 > 0, time.process_time() < 1e-3)\nprint(datetime.datetime.now().isoformat()[:19], datetime.date.today())"
    assert (
        guest(code, now=1_800_000_000.0).output == "1800000000.0 True True\n2027-01-15T08:00:00 2027-01-15\n"
    )
    assert guest("print(time.time())", now=1_800_000_060.0).output == "1800000060.0\n"


def test_random_numbers_are_those_of_the_seed():
    drawn = [
        Guest(seed=seed).prints("import random\nprint(random.random(), random.Random().random())")
        for seed in (1, 1, 2)
    ]
    assert drawn[0] == drawn[1] != drawn[2]


@pytest.mark.parametrize("seed", [0, 1, 1 << 63])
def test_code_that_an_older_version_ran_draws_the_same_numbers_again(seed):
    made = Random(seed + (1 << 64)).getrandbits
    first, second = (Random(made(64)).random() for _ in range(2))
    code = "print(random.random(), random.Random().random(), random.Random().random())"
    assert Guest(seed=seed).prints(code) == f"{Random(seed).random()} {first} {second}\n"


def late():
    """A guest whose time is over while it waits for a sub-call."""
    guest = Guest(answer=lambda _: guest.timer._on_wall_clock(0, None))
    return guest


ASK = "x = 1\ntry:\n    recursive_llm('q')\n"


@pytest.mark.parametrize(
    "rest",
    [
        "finally:\n    pass", "except ValueError:\n    print('caught')", "except Exception:\n    print('caught')", "except:\n    print('caught')",
        "except BaseException:\n    print('caught')", "except (ValueError, BaseException) as e:\n    print('caught')",
        "except every:\n    print('caught')", "except (lambda: BaseException)():\n    print('caught')",
        "except BaseException:\n    try:\n        pass\n    finally:\n        print('caught')",
    ],
)  # fmt: skip
def test_cell_whose_time_is_over_ends_there_whatever_it_catches(rest):
    guest = late()
    done = guest(f"every = BaseException\n{ASK}{rest}\nprint('went on')\ny = 2")
    assert (
        "CellTimeout: the cell ran longer than 60 s (sub-calls not counted). It was interrupted" in done.error
    )
    assert done.output == ""
    assert [each.name for each in done.variables] == ["every", "x"]
    assert guest.timer.interruptible is False


def test_cell_that_swallows_the_end_of_its_time_is_told_all_the_same():
    guest = late()
    done = guest(
        "def f():\n    try:\n        recursive_llm('q')\n    finally:\n        return 1\nprint(f())",
        "print(2)",
    )
    assert (done.output, "CellTimeout" in done.error) == ("1\n", True)


@pytest.mark.parametrize("code", ["print(1)", "1/0", "FINAL(1)", "x ="])
def test_nothing_is_interrupted_after_the_code_of_a_cell(code):
    guest = Guest()
    guest(code)
    guest.timer._on_wall_clock(0, None)
    assert guest.timer.interruptible is False


def test_answer_that_cannot_be_shown_is_an_error_of_the_cell_that_left_it():
    guest = Guest()
    bad = "class Bad:\n    def __str__(self): raise LookupError('no words')\n"
    done = guest(f"{bad}answer = {{'content': Bad(), 'ready': True}}")
    assert done.error.endswith("LookupError: no words")
    assert guest("answer = {'content': Bad(), 'ready': True}\n1/0").error.endswith(
        "ZeroDivisionError: division by zero"
    )
    assert guest.host.finals == []


def test_history_is_a_variable_unless_the_code_has_one_of_its_name():
    guest = Guest()
    guest.interpreter.set_history("history", [{"role": "user"}])
    assert guest.prints("print(history[0]['role'])") == "user\n"
    assert guest("pass").variables == ()
    assert guest.prints("history = 5\nprint(history)") == "5\n"
    guest.interpreter.set_history("history", [])
    assert guest.prints("print(history)") == "5\n"


def test_cell_that_found_nothing_is_told_what_the_context_does_not_hold_unless_it_answered():
    guest = Guest()
    (note,) = guest("print('the slow fox' in context)").notes
    assert note.startswith("'the slow fox' stands nowhere in `context`")
    assert guest("print('the slow fox' in context)\nFINAL('none')").notes == ()


@pytest.mark.parametrize(
    ("code", "is_read"),
    [
        ("x = 'context'", False), ("context = 1", False), ("len(context)", True), ("f = lambda: context", True), ("documents", True),
        ("search('a')", True), ("def search(a): return a", False), ("map_reduce('q')", True), ("cite('a')", True), ("x.context", False),
    ],
)  # fmt: skip
def test_code_reads_the_context_by_the_names_that_lead_to_it(code, is_read):
    assert Guest(list(DOCUMENTS))(code).looked is is_read


@pytest.mark.parametrize(
    ("code", "is_changed"),
    [
        ("documents.pop()", True), ("documents[0] = 1", True), ("del documents[:]", True), ("context.reverse()", True), ("context.insert(0, 1)", True),
        ("context[0]['text']", False), ("context.index(context[0])", False), ("context.copy()", False), ("x = list(context)\nx.clear()", False),
        ("x = context\nx.append('c')", True),
    ],
)  # fmt: skip
def test_change_of_the_documents_is_told(code, is_changed):
    notes = Guest([dict(each) for each in DOCUMENTS])(code).notes
    assert any("was changed in place" in note for note in notes) is is_changed
