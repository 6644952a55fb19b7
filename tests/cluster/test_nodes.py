"""Several nodes: work spreads over them, and a lost one costs a second run of what it held."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path


def test_a_run_spreads_over_two_nodes_and_outlives_the_loss_of_one():
    script = Path(__file__).with_name("two_nodes.py")
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    done = subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        timeout=100,
        env=environment,
        check=False,
    )
    printed = [line for line in done.stdout.splitlines() if line.startswith('{"nodes"')]
    assert printed, done.stderr[-3000:]
    figures = json.loads(printed[0])  # the lost node's log follows
    assert figures["nodes"] == 2
    assert figures["answer"] == "session done"
