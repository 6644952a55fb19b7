"""Tools and `cite` in a cell: what goes to the host, what comes back, and what is refused before anything goes."""

from __future__ import annotations

import datetime as dt
import json
import re
from decimal import Decimal
from fractions import Fraction

import pytest

from rlm_ray.core.repl_types import CitationRequest, Failed, SubCallAnswer, ToolRequest
from rlm_ray.errors import CitationError, ToolError
from rlm_ray.sandbox.guest.context_parts import parts_of
from rlm_ray.sandbox.guest.search import SearchHit
from rlm_ray.sandbox.guest.tool_calls import MAX_QUOTE_CHARS, Cite, ToolCalls

DOCUMENTS = [{"id": "a.txt", "text": "one"}, {"id": "b.txt", "text": "two"}]


class Host:
    def __init__(self, outcome=SubCallAnswer("null")):  # noqa: B008 - frozen
        self.requests, self.outcome = [], outcome

    def call(self, request):
        self.requests.append(request)
        return [self.outcome]


def names(host, max_bytes=1_000):
    return ToolCalls(host, ["weather", "add"], max_bytes).names()


def test_each_tool_is_a_function_of_its_name():
    found = names(Host())
    assert set(found) == {"ToolError", "weather", "add"}
    assert (found["weather"].__name__, found["weather"].__qualname__, found["ToolError"]) == (
        "weather",
        "weather",
        ToolError,
    )


@pytest.mark.parametrize(
    ("args", "kwargs", "sent"),
    [
        ((), {}, [[], {}]), ((1, "ü"), {"b": [None]}, [[1, "ü"], {"b": [None]}]), (({2, 1},), {}, [[[1, 2]], {}]), ((frozenset("ba"),), {}, [[["a", "b"]], {}]),
        ((dt.date(2026, 1, 2), Decimal("1.50"), Fraction(1, 3)), {}, [["2026-01-02", "1.50", "1/3"], {}]), (((1, 2),), {}, [[[1, 2]], {}]),
    ],
)  # fmt: skip
def test_arguments_go_as_json_and_the_result_comes_back(args, kwargs, sent):
    host = Host(SubCallAnswer('{"x": [1, null]}'))
    assert names(host)["add"](*args, **kwargs) == {"x": [1, None]}
    (request,) = host.requests
    assert isinstance(request, ToolRequest)
    assert (request.name, json.loads(request.arguments)) == ("add", sent)
    assert "\\u" not in request.arguments


@pytest.mark.parametrize("argument", [object(), {1: object()}, lambda: 1, {(1, 2): 3}])
def test_arguments_that_are_no_plain_values_are_refused(argument):
    host = Host()
    with pytest.raises(ToolError, match="its arguments cannot be sent"):
        names(host)["add"](argument)
    nested = []
    nested.append(nested)
    with pytest.raises(ToolError, match="its arguments cannot be sent"):
        names(host)["add"](nested)
    assert host.requests == []


@pytest.mark.parametrize(
    ("letter", "length", "fits"), [("x", 12, True), ("x", 13, False), ("ü", 6, True), ("ü", 7, False)]
)
def test_arguments_are_bounded_in_bytes(letter, length, fits):
    host = Host()
    add = names(host, 22)["add"]  # ten bytes of brackets and quotes
    if fits:
        add(letter * length)
    else:
        with pytest.raises(ToolError, match=r"the arguments are 2\d bytes, more than 22"):
            add(letter * length)
    assert len(host.requests) == fits


def test_failure_of_a_tool_is_raised_under_its_name():
    with pytest.raises(ToolError) as failed:
        names(Host(Failed("ValueError", "no such city")))["weather"]("X")
    assert "weather" in str(failed.value)
    assert "no such city" in str(failed.value)


def cite(host, context=DOCUMENTS):
    return Cite(host, parts_of(context)).names()["cite"]


@pytest.mark.parametrize(
    ("quote", "document", "sent"),
    [
        ("one", None, CitationRequest("one")), ("one", "b.txt", CitationRequest("one", 1)), ("one", 0, CitationRequest("one", 0)),
        ("one", DOCUMENTS[1], CitationRequest("one", 1)), (re.search("n", "one"), None, CitationRequest("n")),
        (SearchHit(1, None, {"line": "two"}), None, CitationRequest("two", 1)), (SearchHit(1, None, {"line": "two"}), "a.txt", CitationRequest("two", 1)),
        (SearchHit(0, None, {}), None, CitationRequest("", 0)), pytest.param("x" * MAX_QUOTE_CHARS, None, CitationRequest("x" * MAX_QUOTE_CHARS), id="longest"),
    ],
)  # fmt: skip
def test_words_and_their_document_go_to_the_host(quote, document, sent):
    host = Host(SubCallAnswer('{"quote": "one", "start": 0, "end": 3}'))
    assert cite(host)(quote, document) == {"quote": "one", "start": 0, "end": 3}
    assert host.requests == [sent]


def test_several_quotes_are_cited_one_by_one():
    host = Host(SubCallAnswer("{}"))
    assert cite(host)(["one", ("two", "three")], "a.txt") == [{}, [{}, {}]]
    assert host.requests == [CitationRequest(words, 0) for words in ("one", "two", "three")]


@pytest.mark.parametrize(
    ("quote", "document", "context", "error", "why"),
    [
        (5, None, DOCUMENTS, TypeError, "not int"), (None, None, DOCUMENTS, TypeError, "not NoneType"),
        pytest.param("x" * (MAX_QUOTE_CHARS + 1), None, DOCUMENTS, CitationError, "cite the few sentences that matter", id="too long"),
        ("one", "c.txt", DOCUMENTS, CitationError, "there is no document 'c.txt'"), ("one", 2, DOCUMENTS, CitationError, "there is no document 2"),
        ("one", True, DOCUMENTS, CitationError, "there is no document True"), ("one", -1, DOCUMENTS, CitationError, "there is no document -1"),
        ("one", 0, "a text", CitationError, "it has no documents"),
    ],
)  # fmt: skip
def test_what_cannot_be_cited_is_refused_before_anything_goes(quote, document, context, error, why):
    host = Host()
    with pytest.raises(error, match=re.escape(why)):
        cite(host, context)(quote, document)
    assert host.requests == []


def test_words_that_do_not_stand_there_are_an_error():
    with pytest.raises(CitationError, match="does not stand in the context"):
        cite(Host(Failed("CitationError", "'x' does not stand in the context")))("x")
