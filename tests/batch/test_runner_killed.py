"""A batch that is killed (-9) in the middle, and gone on with."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent
ROWS = 600
PARTS = 20
"""Rows of a part in the killed process."""
UNDER_WAY = 8


def start(*arguments):
    environment = os.environ | {"PYTHONPATH": str(HERE)}
    return subprocess.Popen([sys.executable, HERE / "killed_batch.py", *map(str, arguments)], env=environment)


def parts(out):
    return sorted(out.glob("part-*.jsonl"))


def test_killed_in_the_middle_it_goes_on_and_repays_only_what_was_not_saved(tmp_path):
    corpus, out, log = tmp_path / "rows.jsonl", tmp_path / "out", tmp_path / "log"
    corpus.write_text("".join(json.dumps({"id": f"d{n}", "text": f"t{n}"}) + "\n" for n in range(ROWS)))
    process = start(corpus, out, log)
    deadline = time.monotonic() + 60
    while len(parts(out)) < 10 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    saved = sum(len(part.read_text().splitlines()) for part in parts(out))
    asked_before = len(log.read_text().splitlines())
    assert 0 < saved < ROWS

    assert start(corpus, out, log).wait(60) == 0
    rows = [json.loads(line) for part in parts(out) for line in part.read_text().splitlines()]
    assert sorted(row["row"] for row in rows) == list(range(ROWS))
    assert all(row["answer"] == f"t{row['row']}" for row in rows)
    asked = Counter(map(int, log.read_text().split()))
    assert set(asked) == set(range(ROWS))
    assert sum(asked.values()) == ROWS + asked_before - saved
    assert asked_before - saved <= UNDER_WAY + 2 * PARTS
