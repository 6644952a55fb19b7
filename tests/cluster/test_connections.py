"""An RLM outlives the Ray it was first used with."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def test_questions_go_on_after_ray_was_shut_down_and_started_again_by_us_or_by_the_user():
    script = Path(__file__).with_name("two_connections.py")
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    done = subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        timeout=110,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.splitlines()[-1] == str(["session done"] * 3)
