"""Log lines as JSON, with the run and the trace that they are about (`log_format="json"`).

A program's logging is its own: nothing here touches the process of a user's program. The command line, session actors and
replicas of the service are ours, and write in the format that the settings name. What is done for several runs at once (batches,
connections) is about none of them: such tasks start in an empty context.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}(-.*)?")
_run: ContextVar[tuple[str, str | Callable[[], str]]] = ContextVar("rlm_ray_run", default=("", ""))


@contextmanager
def log_run(run_id: str, trace_id: str | Callable[[], str] = "") -> Iterator[None]:
    """Have log lines of this task, and of tasks it starts, name the run and its trace; a function is asked at each line, for a trace
    without a parent has its id only once its first span has begun."""
    before = _run.get()
    _run.set((run_id, trace_id))
    try:
        yield
    finally:
        _run.set(before)  # no token: the end of an async generator may run in another context


def trace_id_of(traceparent: str) -> str:
    """Return the trace of a W3C `traceparent`; empty where it names none."""
    found = _TRACEPARENT.fullmatch(traceparent.strip().lower())
    return found[1] if found and found[1].strip("0") else ""


class JsonFormatter(logging.Formatter):
    """One JSON object a line: `time` (UTC, ISO 8601), `level`, `logger`, `message`; where they are known `run_id`, `trace_id`, and
    `error` with its traceback."""

    def format(self, record: logging.LogRecord) -> str:
        run_id, trace_id = _run.get()
        said: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            "run_id": run_id,
            "trace_id": trace_id() if callable(trace_id) else trace_id,
            "error": self.formatException(record.exc_info) if record.exc_info else "",
        }
        return json.dumps({name: value for name, value in said.items() if value or name == "message"})


class _ProcessHandler(logging.StreamHandler[Any]):
    """Writes the lines of a process of ours to its stderr, which Ray keeps in a file."""


def use_log_format(log_format: str) -> None:
    """Have this process, one of ours, write its log lines to stderr in this format: `text`, or `json`."""
    logger = logging.getLogger("rlm_ray")
    known = [handler for handler in logger.handlers if isinstance(handler, _ProcessHandler)]
    if log_format == "json" and not known:
        handler = _ProcessHandler(sys.stderr)
        handler.setFormatter(JsonFormatter())
        logger.addHandler(handler)
    elif log_format != "json":
        for handler in known:
            logger.removeHandler(handler)
    logger.propagate = log_format != "json"  # else Ray would write every line again, as text
