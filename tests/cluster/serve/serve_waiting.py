"""Waiting for what happens elsewhere, and questions that keep it busy."""

from __future__ import annotations

import time

from rlm_ray.testing.responses import run_query

MODEL = "deep"
SLOW = run_query(*["recursive_map('q', ['piece'] * 60)"] * 20)
"""Keeps a tree at work for many seconds."""
QUICK = run_query("print(len(context))")


def asked(text, *before):
    """Messages that end with a question."""
    return [{"role": "user", "content": part} for part in (*before, text)]


def eventually(what, within_s):
    """Whether something becomes true in time."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        if what():
            return True
        time.sleep(0.05)
    return False
