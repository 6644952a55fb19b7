"""Ask one question of rlm_ray, of whichever checkout this Python has: a process for each question.

The question comes as JSON on standard input, the answer goes as JSON into the file it names. It keeps to names that
older versions have too, so that before and after are measured by the same program.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any


def main() -> None:
    asked = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    context = Path(asked["context"]).read_text("utf-8")
    import rlm_ray

    settings: dict[str, Any] = {
        "model": f"openai/{asked['model']}",
        "api_base": asked["base"],
        "api_key": "none",
        "run_dir": str(Path(asked["result"]).parent / "runs"),
        "limits": rlm_ray.Limits(time_s=asked["time_s"]),
        **asked["settings"],
    }
    how = settings.pop("map_reduce", None)
    rlm = rlm_ray.RLM(**settings)
    (rlm.prewarm if hasattr(rlm, "prewarm") else rlm.warm)(1)
    Path(asked["started"]).touch()
    started = time.monotonic()
    told: Any
    if how is None:
        told = rlm.run(asked["question"], context)
        turns = told.turns
    else:
        told = rlm.map_reduce(asked["question"], context, **how)
        turns = 0
    Path(asked["result"]).write_text(
        json.dumps(
            {
                "answer": told.answer,
                "turns": turns,
                "why": "" if told.stop_reason == "answered" else f"{told.stop_reason}: {told.why}",
                "seconds": time.monotonic() - started,
                "version": str(Path(rlm_ray.__file__).parents[1]),
            }
        ),
        "utf-8",
    )


def _end_with_parent() -> None:
    """Wait until the harness closes the pipe, or dies, and take all processes of this one along."""
    sys.stdin.read()
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    main()
