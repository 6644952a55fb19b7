"""Ask one question of the official library (`rlms` on PyPI), in its own environment: a process for each question.

It runs the model's code in this process, unprotected; there is no key in its environment. Else as `ours.py`.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from importlib.metadata import version
from pathlib import Path


def main() -> None:
    asked = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    context = Path(asked["context"]).read_text("utf-8")
    from rlm import RLM
    from rlm.logger import RLMLogger
    from rlm.utils.exceptions import TimeoutExceededError

    logger = RLMLogger()
    settings = {"environment": "local", "max_depth": 1, "max_timeout": asked["time_s"], **asked["settings"]}
    rlm = RLM(
        backend="openai",
        backend_kwargs={
            "model_name": asked["model"],
            "base_url": asked["base"],
            "api_key": "none",
            "timeout": 3600,
        },
        logger=logger,
        **settings,
    )
    Path(asked["started"]).touch()
    started = time.monotonic()
    why = ""
    try:
        answer = rlm.completion(prompt=context, root_prompt=asked["question"]).response
    except TimeoutExceededError as error:
        answer, why = error.partial_answer, f"time_s: {error}"
    Path(asked["result"]).write_text(
        json.dumps(
            {
                "answer": answer
                if answer is None or isinstance(answer, str)
                else json.dumps(answer, default=str),
                "turns": logger.iteration_count,
                "why": why,
                "seconds": time.monotonic() - started,
                "version": f"rlms {version('rlms')}",
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
