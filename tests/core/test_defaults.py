"""What values say of which nothing more is known."""

from __future__ import annotations

from dataclasses import MISSING, fields

import pytest

from rlm_ray.config.settings import Settings
from rlm_ray.core.context import Context, ContextInfo
from rlm_ray.core.limits import Amount
from rlm_ray.core.llm import ModelReply, ModelRequest, Price, Usage
from rlm_ray.core.output_limit import OutputLimit
from rlm_ray.core.parsing import Parsed
from rlm_ray.core.repl_types import (
    CellResult,
    Citation,
    CitationRequest,
    Failed,
    SubCallAnswer,
    SubCallRequest,
)
from rlm_ray.core.reply import Judgement
from rlm_ray.core.retry_after import RateLimitHeaders
from rlm_ray.core.state_machine import Compaction, FollowUp, Task, Trajectory, Turn

INFO = ContextInfo("text", 1, 1, with_ids=False, sample="x")
NAMED = {"finish_reason": "stop", "transport": "auto", "name": "history", "usage": Usage(), "params": {}}
"""The defaults that say something."""


@pytest.mark.parametrize(
    "value",
    [
        Amount(), CellResult(), Citation("q"), CitationRequest("q"), Compaction(1, ""), Context(b"x", INFO), Failed("E", "why"), FollowUp("q", 1),
        Judgement("usable"), OutputLimit(), ModelReply("x"), ModelRequest("m", ()), Parsed(), Price(1, 1), RateLimitHeaders({}), SubCallAnswer("x"),
        SubCallRequest("llm", (), (), stop_on_error=True), Trajectory(Task("q", INFO)), Turn("s", ModelReply("x"), Parsed()), Usage(),
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_nothing_is_claimed_that_nobody_has_said(value):
    optional = [item.name for item in fields(value) if item.default is not MISSING]
    said = {name: getattr(value, name) for name in optional if getattr(value, name)}
    assert said == {name: NAMED[name] for name in said}


def test_task_has_the_defaults_of_the_settings():
    settings, task = Settings(), Task("q", INFO)
    for name in (
        "max_depth",
        "max_iterations",
        "max_leaf_chars",
        "profile",
        "prompt_version",
        "system_prompt",
        "instructions",
        "citations",
    ):
        assert getattr(task, name) == getattr(settings, name)
    for name in ("cell_timeout_s", "cell_cpu_s"):
        assert getattr(task, name) == getattr(settings.sandbox, name)
    assert (task.depth, task.tools, task.schema, task.models) == (0, (), "", ())
