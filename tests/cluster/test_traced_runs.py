"""The spans of whole runs, as a collector receives them, over two nodes and with killed parts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize("strike", ["nothing", "actor", "sandbox"])
def test_every_span_of_a_deep_run_over_two_nodes_arrives_below_its_parent(strike):
    script = Path(__file__).with_name("traced_nodes.py")
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("RAY_ADDRESS", "OTEL_"))
    }
    done = subprocess.run(
        [sys.executable, str(script), strike],
        capture_output=True,
        text=True,
        timeout=110,
        env=environment,
        check=False,
    )
    printed = [line for line in done.stdout.splitlines() if line.startswith('{"answer"')]
    assert printed, done.stderr[-3000:]
    found = json.loads(printed[0])
    assert found["answer"] == found["expected"]
    assert found["traces"] == found["roots"] == 1
    assert found["orphans"] == found["misplaced"] == []
    assert found["spans"] == found["journal"]
    if strike == "nothing":
        assert found["nodes"] == 2
        assert found["errors"] == []
    else:
        assert found["errors"]
    if strike == "actor":
        assert "invoke_agent rlm" in found["errors"]
