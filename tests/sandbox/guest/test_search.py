"""Many documents in one REPL: finding some, asking all, and handing them on by reference."""

from __future__ import annotations

import ast

import pytest
import pytest_asyncio
from sandbox_fakes import QUICK, Cells, Served

from rlm_ray.core.context import ByteRange, DocumentRange, make_context
from rlm_ray.core.repl_types import Failed, SubCallAnswer
from rlm_ray.sandbox.host.sandbox import SandboxManager

pytestmark = pytest.mark.slow

PAPERS = [
    {"id": f"p{n}", "text": f"Paper {n}\nStatus: {'Final' if n % 2 else 'Draft'}\n" + "filler ä " * (100 * n)}
    for n in range(12)
]


@pytest_asyncio.fixture(loop_scope="module")
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
