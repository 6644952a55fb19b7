"""Scripts of this folder, each run in a process of its own: what it does to Ray is not done to the suite's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

NOT_INHERITED = ("RAY_ADDRESS", "OTEL_")


def run_script(name: str, *arguments: object, timeout_s: float = 110) -> dict[str, Any]:
    """What the script found out: the line of its output that is a JSON object. Logs of Ray may stand around it."""
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name(name)), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        env={name: value for name, value in os.environ.items() if not name.startswith(NOT_INHERITED)},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    figures: dict[str, Any]
    (figures,) = (json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"'))
    return figures


def tell(figures: dict[str, Any]) -> None:
    """What the script found out, for whoever runs it."""
    print(json.dumps(figures), flush=True)  # noqa: T201 - read by `run_script`
