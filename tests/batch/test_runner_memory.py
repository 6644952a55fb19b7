"""The memory of a driver does not grow with the number of rows."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from batch_fakes import FakeJob, task_of

pytestmark = pytest.mark.slow

ROWS = 10_000
ANSWER = "an answer of some length " * 100


def resident_bytes():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


async def test_what_is_done_leaves_hardly_a_trace_in_memory(tmp_path):
    """Kept, the answers of the second half alone would be 9 MB."""
    halves = ([], [])

    def source():
        for number in range(ROWS):
            if number % 100 == 0 and number >= ROWS // 4:
                halves[number >= 5 * ROWS // 8].append(resident_bytes())
            yield {"id": str(number), "text": f"text {number}"}

    job = FakeJob(lambda row, query, context: ANSWER + str(row), concurrency=64)
    summary = await task_of(source(), tmp_path / "out", job).run("run")
    assert summary.answered == ROWS
    assert max(halves[1]) < max(halves[0]) + 4_000_000
