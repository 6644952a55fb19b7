"""Which slices of a context sub-calls read, from the records of a run through Ray."""

from __future__ import annotations

import pytest

from rlm_ray.journal.run_store import find_run
from rlm_ray.report.page_data import coverage_of
from rlm_ray.report.run_data import run_data_from_records
from rlm_ray.testing.responses import run_query

pytestmark = pytest.mark.ray

BOOK = " ".join(f"{number}é" for number in range(20_000))
SIZE = len(BOOK.encode())
SLICES = {
    "all chunks": (
        "recursive_map('q', [context[at:at + 1000] for at in range(0, len(context), 1000)])", (SIZE, 0)
    ),
    "overlapping chunks": (
        "recursive_map('q', [context[at:at + 5000] for at in range(0, len(context), 4000)])", (SIZE, 0)
    ),
    "three slices, backwards": (
        "[recursive_llm('q', context[at:at + 6]) for at in (600, 300, 0)]", (sum(len(BOOK[at : at + 6].encode()) for at in (600, 300, 0)), 0)
    ),
    "upper case": ("recursive_map('q', [context[:6000].upper(), context[:6000]])", (len(BOOK[:6000].encode()), 1)),
}  # fmt: skip


@pytest.mark.parametrize("case", SLICES)
def test_small_slices_that_plain_calls_read_are_counted_where_they_stand(ask, server, tmp_path, case):
    program, expected = SLICES[case]
    ask(server, run_dir=tmp_path).completion(run_query(program), BOOK)
    facts = run_data_from_records(find_run("last", str(tmp_path)).records())
    found, whole = coverage_of(facts), BOOK.encode()
    assert (found.total, found.read, found.unplaced) == (SIZE, *expected)
    for node in facts.nodes:
        if node.path and node.input.start is not None:
            assert whole[node.input.start : node.input.stop].decode().startswith(node.input.sample)
