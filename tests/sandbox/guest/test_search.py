"""Many documents in one REPL: finding some, asking all, and handing them on by reference."""

from __future__ import annotations

import ast
import json
import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sandbox_fakes import QUICK, Cells, Served

from rlm_ray.core.context import ByteRange, ContextInfo, DocumentRange, make_context
from rlm_ray.core.prompts import session_messages
from rlm_ray.core.repl_types import Failed, SubCallAnswer
from rlm_ray.core.state_machine import Task, Trajectory
from rlm_ray.sandbox.guest.context_parts import parts_of
from rlm_ray.sandbox.guest.map_reduce import MapReduce
from rlm_ray.sandbox.host.sandbox import SandboxManager

pytestmark = pytest.mark.slow

PAPERS = [
    {"id": f"p{n}", "text": f"Paper {n}\nStatus: {'Final' if n % 2 else 'Draft'}\n" + "filler ä " * (100 * n)}
    for n in range(12)
]


@pytest.fixture
async def papers(host: SandboxManager, served: Served) -> Cells:
    return Cells(await host.open(make_context(PAPERS), "q"), served)


async def test_search_shows_the_first_match_of_each_document(papers):
    out = await papers.prints(r"print(search(r'Status: (Final)', top=2))")
    assert out == (
        "[{'document': 1, 'id': 'p1', 'offset': 8, 'line': 'Status: Final'}, "
        "{'document': 3, 'id': 'p3', 'offset': 8, 'line': 'Status: Final'}]\n"
        "(2 of 6 documents that match)\n"
    )
    assert (
        await papers.prints("import re\nprint(len(search(re.compile('PAPER', re.I))), search('zebra'))")
        == "12 []\n"
    )


async def test_a_long_line_is_shown_where_it_matches(papers):
    out = await papers.prints(
        "h = search('(?s)ä (?=filler ä $)')[-1]\nprint(len(h['line']), h['offset'] > 9000)"
    )
    assert out == "109 True\n"


async def test_bm25_shows_the_best_documents_with_their_scores(papers):
    out = await papers.prints(
        "hits = bm25('paper 7', top=1)\nprint(hits[0]['id'], hits[0]['line'], hits[0]['score'] > 1)"
    )
    assert out == "p7 Paper 7 True\n"


async def test_what_is_found_is_handed_on_by_reference(papers):
    await papers.prints(
        "recursive_map('q', search('Status: Final'))\nrecursive_llm('q', search('Status: Final'))"
    )
    context = make_context(PAPERS)
    offsets = context.offsets
    assert offsets is not None
    assert papers.on_success.calls[0].contexts[2:] == tuple(
        ByteRange(offsets[n], offsets[n + 1]) for n in (5, 7, 9, 11)
    )
    assert papers.on_success.calls[1].contexts == ([PAPERS[n] for n in range(1, 12, 2)],)


async def test_neighbours_that_are_found_are_a_range_of_documents(papers):
    await papers.prints("recursive_llm('q', search('Paper'))")
    assert papers.on_success.calls[0].contexts == (DocumentRange(0, 12),)


async def test_a_stretch_of_a_long_document_is_handed_on_by_reference(host, served):
    texts = ["short", "ä word. " * 10_000 + "needle. " + "ö word. " * 10_000]
    context = make_context(texts)
    cells = Cells(await host.open(context, "q"), served)
    await cells.prints(
        "hits = bm25('needle')\nprint(len(hits))\nrecursive_map('q', hits)\nrecursive_llm('q', hits)"
    )
    (span,) = served.calls[0].contexts
    read = context.slice(span).text()
    assert "needle" in read
    assert len(read) <= 50_000
    assert read in texts[1]
    assert served.calls[1].contexts == ([read],)


async def test_documents_are_the_context_and_count_as_looking(papers):
    assert (await papers("documents is context and len(documents)")).context_was_read
    for code in ("search('x')", "bm25('x')", "map_reduce('x', reduce='collect')"):
        fresh = Cells(papers.repl, Served())
        assert (await fresh(code)).context_was_read


async def test_the_helpers_names_may_be_used_otherwise(papers):
    result = await papers("documents = [1]\nsearch = len\nprint(search(documents))")
    assert (result.output, result.notes) == ("1\n", ())
    assert await papers.prints("print(search(documents))") == "1\n"


async def test_documents_changed_in_place_are_put_back(papers):
    result = await papers("documents[0] = 'poisoned'")
    assert "changed in place" in result.notes[0]
    assert await papers.prints("print(context[0]['id'])") == "p0\n"


async def test_a_text_has_no_documents(host, served):
    cells = Cells(await host.open(make_context("x" * 1000), "q"), served)
    assert "NameError" in ((await cells("search('x')")).error or "")


async def test_ten_thousand_documents_are_searched_within_a_cell(served):
    host = SandboxManager(QUICK)
    try:
        texts = [f"Document {n} is about topic {n % 100}. " * 20 for n in range(10_000)]
        cells = Cells(await host.open(make_context(texts), "q"), served)
        out = await cells.prints(
            "print(bm25('document 4711')[0]['document'], len(search('topic 77', top=200)))"
        )
        assert out == "4711 100\n"
    finally:
        await host.aclose()


# map_reduce


class Asked:
    """`recursive_map` over a context, answered by a function of question and text."""

    def __init__(self, content, answer):
        self.context = make_context(content)
        self.parts = parts_of(self.context.documents() if isinstance(content, list) else content)
        self.read, self.kinds = [], []
        self._answer = answer

    def __call__(self, query, contexts, on_error):
        parts = [self.parts.to_part(item) for item in contexts]
        texts = [part if isinstance(part, str) else self._text(part) for part in parts]
        self.kinds += [type(part).__name__ for part in parts]
        self.read += texts
        queries = [query] * len(texts) if isinstance(query, str) else query
        return [self._answer(*each) for each in zip(queries, texts, strict=True)]

    def _text(self, part):
        return (make_context(part) if isinstance(part, list) else self.context.slice(part)).text()

    def map_reduce(self, query, **options):
        return MapReduce(self, self.parts).map_reduce(query, **options)


def statuses(query, text):
    return "So: " + json.dumps({"status": re.findall(r"^Status: (\w+)", text, re.MULTILINE)})


@settings(deadline=None, max_examples=30)  # every example reads all documents
@given(st.integers(300, 20_000))
@example(8122)  # the last paper fits, but not with its id above
def test_counting_over_all_documents_is_exact_at_any_size(size):
    asked = Asked(PAPERS, statuses)
    found = asked.map_reduce("Which status?", reduce="count:status", size=size)
    assert found == {"status": {"Draft": 6, "Final": 6}}
    assert all(len(text) <= size for text in asked.read)


def test_pieces_travel_by_reference():
    documents = [*PAPERS[:3], {"id": "long", "text": "ä word. " * 30_000}]
    asked = Asked(documents, lambda *_: "x")
    asked.map_reduce("q", reduce="model")
    assert asked.kinds[:4] == ["DocumentRange", "ByteRange", "ByteRange", "ByteRange"]
    asked = Asked(documents, lambda *_: "x")
    asked.map_reduce("q", reduce="collect")
    assert asked.kinds == [
        "DocumentRange",
        "ByteRange",
        "ByteRange",
        "ByteRange",
        "DocumentRange",
        "DocumentRange",
        "DocumentRange",
    ]  # no ids: each asked alone
    text = "A sentence here. " * 20_000
    asked = Asked(text, lambda *_: "x")
    asked.map_reduce("q", reduce="collect")
    assert asked.kinds == ["ByteRange"] * 3 + ["str"]
    assert "".join(asked.read) == text


def test_a_list_changed_by_code_is_asked_about_as_it_was_given():
    asked = Asked(PAPERS, statuses)
    asked.parts.content.clear()
    assert asked.map_reduce("q", reduce="count:status", contexts=asked.parts.content)["status"]["Final"] == 6


def test_a_model_puts_answers_together_level_by_level():
    def adding(query, text):
        numbers = [int(n) for n in re.findall(r"(\d+) are", text)]
        return f"{sum(numbers) if numbers else text.count('Status: Final')} are final"

    asked = Asked(PAPERS, adding)
    assert asked.map_reduce("How many?", size=1_000) == "6 are final"
    assert Asked("short", lambda *_: "yes").map_reduce("Is it?") == "yes"
    assert Asked([], lambda *_: "yes").map_reduce("Is it?") == ""


def test_given_texts_have_one_answer_each():
    asked = Asked("x", lambda _, text: text.strip())
    texts = ["a", "b b b", "b"]
    assert asked.map_reduce("q", contexts=texts, reduce="count", size=3) == {
        "a": 1,
        "b": 1,
        "[1]\nb\n\n[2]\nb b": 1,
    }
    documents = [{"id": "x", "text": "a"}, {"id": "y", "text": "b b"}]
    assert asked.map_reduce("q", contexts=documents, reduce="collect", size=3) == ["a", "b b"]


def one_status_each(query, text):
    """Truthful: an object for each document that is seen."""
    named = re.search(r"documents with these ids: (\[.*?\])\. Answer for each", query)
    found = re.findall(r"(?:^\[(.+)\]\n)?(?:.*\n)??Status: (\w+)", text, re.MULTILINE)
    if named:
        return json.dumps([{"id": name, "answer": {"status": status}} for name, status in found])
    return json.dumps({"status": found[0][1]} if found else {})


SMALL = [
    {"id": f"d{n}", "text": f"Status: {'Draft' if n % 3 else 'Final'}\n{'word ' * n}"} for n in range(60)
]


@pytest.mark.parametrize("size", [100, 400, 5_000, 100_000])
@pytest.mark.parametrize("kind", ["ids", "no ids", "same ids"])
def test_packed_documents_are_counted_one_by_one(size, kind):
    documents = {
        "ids": SMALL,
        "no ids": [each["text"] for each in SMALL],
        "same ids": [{**each, "id": "same"} for each in SMALL],
    }[kind]
    asked = Asked(documents, one_status_each)
    found = asked.map_reduce("Which status?", reduce="count:status", size=size)
    assert found == {"status": {"Draft": 40, "Final": 20}}
    assert len(asked.read) < 20 or size < 5_000


def test_a_pack_that_answers_with_one_object_counts_every_document():
    def careless(query, text):
        return '{"status": "Final"}' if "these ids" in query else one_status_each(query, text)

    found = Asked(SMALL, careless).map_reduce("Which status?", reduce="count:status")
    assert found == {"status": {"Draft": 40, "Final": 20}}


def test_parts_of_a_document_that_contradict_each_other_are_settled_once():
    settled = []

    def torn(query, text):
        if "another part of one document" in query:
            settled.append(text)
            return '{"status": "Final"}'
        return json.dumps({"status": "Draft" if "five" in text else "Active"})

    asked = Asked([{"id": "a", "text": "five hundred words. " * 20 + "others. " * 40}], torn)
    assert asked.map_reduce("q", reduce="count:status", size=300) == {"status": {"Final": 1}}
    assert len(settled) == 1


async def test_failures_are_raised_or_skipped(papers):
    def half(query: str) -> SubCallAnswer:
        return SubCallAnswer('{"n": 1}')

    papers.on_success = Served(half)
    assert (
        ast.literal_eval(await papers.prints("print(map_reduce('q', reduce='sum:n', size=4_000))"))["n"] > 2
    )
    papers.on_success = Served(lambda _: SubCallAnswer("none"))
    result = await papers("map_reduce('q', reduce='sum:n')")
    assert "the answer about piece 1 holds no JSON object: 'none'" in (result.error or "")
    assert await papers.prints("print(map_reduce('q', reduce='sum:n', on_error='skip'))") == "{'n': 0}\n"
    papers.on_success = Served(lambda _: Failed("ModelError", "is down"))
    result = await papers("map_reduce('q', on_error='skip')")
    assert "pieces failed, the first with CallError(ModelError: is down)" in (result.error or "")
    for code, why in (("reduce='median'", "reduce"), ("on_error='x'", "on_error")):
        assert why in ((await papers(f"map_reduce('q', {code})")).error or "")


# What the model is told


def told(**info):
    facts = {"kind": "documents", "chars": 1_000, "documents": 100, "with_ids": True, "sample": "x"} | info
    task = Task("q", ContextInfo(**facts), max_leaf_chars=info.pop("max_leaf_chars", 100_000))
    return session_messages(Trajectory(task), "")[0].content


def test_the_model_hears_of_helpers_only_where_they_help():
    assert "bm25" in told(documents=8)
    assert "bm25" not in told(documents=7)
    assert "bm25" not in told(kind="text", documents=1)
    assert "map_reduce" in told(chars=400_000)
    assert "map_reduce" not in told(chars=399_999)
