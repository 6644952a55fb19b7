"""The bound of a reply, by whichever name it was given."""

from __future__ import annotations

import pytest

from rlm_ray.core.llm import Message, ModelRequest

MESSAGES = (Message("system", "abc"), Message("user", "de"))
OTHERS = {"temperature": 0.5, "api_base": "x"}


def request(max_tokens=None, **params):
    return ModelRequest("m", MESSAGES, max_tokens, OTHERS | params)


def test_chars_are_those_of_all_messages():
    assert request().chars == 5


@pytest.mark.parametrize(
    ("given", "bound"),
    [
        (request(), None), (request(7), 7), (request(max_completion_tokens=9), 9), (request(7, max_completion_tokens=9), 7),
        (request(max_completion_tokens=None), None), (request(max_completion_tokens="many"), None), (request(max_completion_tokens=True), None),
        (request(max_completion_tokens=0), None), (request(max_completion_tokens=-1), None), (request(max_completion_tokens=1), 1),
    ],
)  # fmt: skip
def test_bound_is_read_by_any_of_its_names(given, bound):
    assert given.output_bound == bound


@pytest.mark.parametrize(
    ("given", "changed"),
    [(request(), request(5)), (request(7), request(5)), (request(max_completion_tokens=9), request(max_completion_tokens=5)),
     (request(7, max_completion_tokens=9), request(max_completion_tokens=5))],
)  # fmt: skip
def test_bound_is_changed_under_its_name_and_nothing_else_is(given, changed):
    assert given.with_output_bound(5) == changed


@pytest.mark.parametrize(
    ("given", "name", "changed"),
    [
        (request(), "max_completion_tokens", request()), (request(7), "max_completion_tokens", request(max_completion_tokens=7)),
        (request(max_completion_tokens=9), "max_tokens", request(9)), (request(7), "max_tokens", request(7)),
    ],
)  # fmt: skip
def test_bound_gets_the_name_that_is_wanted(given, name, changed):
    assert given.with_bound_named(name) == changed
