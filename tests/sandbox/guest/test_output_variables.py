"""The list of what persists in a REPL."""

from __future__ import annotations

from collections import Counter, defaultdict, deque

import pytest

from rlm_ray.core.repl_types import Variable
from rlm_ray.sandbox.guest.output import format_variables, list_variables


class Sized:
    def __len__(self):
        raise AssertionError("code of the model's is not run")


def function():
    return None


@pytest.mark.parametrize(
    ("value", "kind", "size"),
    [
        ("abc", "str", 3), (b"ab", "bytes", 2), ([1], "list", 1), ((), "tuple", 0), ({1: 2}, "dict", 1), ({1, 2}, "set", 2),
        (range(5), "range", 5), (Counter("aab"), "Counter", 2), (defaultdict(list), "defaultdict", 0), (deque([1]), "deque", 1),
        (1, "int", None), (None, "NoneType", None), (function, "function", None), (len, "function", None), ("".join, "function", None),
        (Sized, "class", None), (Sized(), "Sized", None),
    ],
)  # fmt: skip
def test_variable_has_kind_and_size(value, kind, size):
    assert list_variables({"x": value}) == (Variable("x", kind, size),)


def test_the_newest_fifty_are_listed_without_names_of_python():
    names = {"__name__": "x", **{f"v{at}": at for at in range(60)}, "__builtins__": {}}
    assert [each.name for each in list_variables(names)] == [f"v{at}" for at in range(10, 60)]


def test_list_for_the_model_has_a_line_for_each():
    shown = format_variables(
        (Variable("rows", "list", 12_345), Variable("n", "int", None), Variable("s", "str", 0))
    )
    assert shown == "rows: list (12,345)\nn: int\ns: str (0)"
    assert format_variables(()) == "(no variables yet)"
