"""The spans of whole runs, as a collector receives them, over two nodes and with killed parts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def received():
    """What was received of three runs: nothing was killed, a sandbox, an actor."""
    script = Path(__file__).with_name("traced_nodes.py")
    unset = ("RAY_ADDRESS", "OTEL_")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(unset)}
    done = subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        timeout=110,
        env=environment,
        check=False,
    )
    printed = [line for line in done.stdout.splitlines() if line.startswith('{"nothing"')]
    assert printed, done.stderr[-3000:]
    return json.loads(printed[0])


@pytest.mark.parametrize("strike", ["nothing", "sandbox", "actor"])
def test_every_span_of_a_deep_run_over_two_nodes_arrives_below_its_parent(received, strike):
    found = received[strike]
    assert found["answer"] == found["expected"]
    assert found["nodes"] == 2
    assert found["traces"] == found["roots"] == 1
    assert found["orphans"] == found["misplaced"] == []
    assert found["spans"] == found["journal"]


def test_what_was_killed_is_there_as_an_error(received):
    assert received["nothing"]["errors"] == []
    assert "execute_tool python" in received["sandbox"]["errors"]
    assert "invoke_agent rlm" in received["actor"]["errors"]
