"""Recursive Language Models on Ray: ask questions larger than any model's window."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rlm_ray.batch.job import BatchSummary
    from rlm_ray.batch.python_api import BatchOptions
    from rlm_ray.config import Cluster, Settings, Tracing
    from rlm_ray.core.answer_preview import AnswerDelta, AnswerRestarted
    from rlm_ray.core.limits import Limits, Rates
    from rlm_ray.core.llm import Price
    from rlm_ray.core.pages import page_of
    from rlm_ray.core.repl_types import Citation
    from rlm_ray.core.tools import ToolLimits
    from rlm_ray.documents.files import FileContext, Files
    from rlm_ray.errors import (
        ActorLostError,
        AuthenticationError,
        CitationError,
        ClusterError,
        ConfigError,
        ContextLostError,
        ContextWindowError,
        InputError,
        JournalError,
        LimitReached,
        ModelError,
        ModelUnavailableError,
        QuotaError,
        RemoteCallError,
        ReplyError,
        RLMError,
        SandboxError,
        SchemaError,
        SubCallError,
        ToolError,
        TransientModelError,
        VersionMismatchError,
    )
    from rlm_ray.events.tree import RunTree
    from rlm_ray.events.usage import CallStats, RunUsage
    from rlm_ray.mapreduce.execute import MapReduceResult
    from rlm_ray.mapreduce.spec import MapReduceOptions
    from rlm_ray.rlm import RLM
    from rlm_ray.runs.conversation import Conversation
    from rlm_ray.runs.options import RLMOptions
    from rlm_ray.runs.run import Result, Run
    from rlm_ray.sandbox.settings import Sandbox

_MODULES = {
    "rlm_ray.config": ("Cluster", "Settings", "Tracing"),
    "rlm_ray.core.answer_preview": ("AnswerDelta", "AnswerRestarted"),
    "rlm_ray.core.limits": ("Limits", "Rates"),
    "rlm_ray.core.llm": ("Price",),
    "rlm_ray.core.repl_types": ("Citation",),
    "rlm_ray.core.tools": ("ToolLimits",),
    "rlm_ray.documents.files": ("FileContext", "Files"),
    "rlm_ray.core.pages": ("page_of",),
    "rlm_ray.errors": (
        "ActorLostError", "AuthenticationError", "CitationError", "ClusterError", "ConfigError", "ContextLostError", "ContextWindowError",
        "InputError", "JournalError", "LimitReached", "ModelError", "ModelUnavailableError", "QuotaError", "RLMError",
        "RemoteCallError", "ReplyError", "SandboxError", "SchemaError", "SubCallError", "ToolError", "TransientModelError",
        "VersionMismatchError",
    ),
    "rlm_ray.batch.job": ("BatchSummary",),
    "rlm_ray.batch.python_api": ("BatchOptions",),
    "rlm_ray.events.usage": ("CallStats", "RunUsage"),
    "rlm_ray.events.tree": ("RunTree",),
    "rlm_ray.mapreduce.execute": ("MapReduceResult",),
    "rlm_ray.mapreduce.spec": ("MapReduceOptions",),
    "rlm_ray.rlm": ("RLM",),
    "rlm_ray.runs.conversation": ("Conversation",),
    "rlm_ray.runs.options": ("RLMOptions",),
    "rlm_ray.runs.run": ("Result", "Run"),
    "rlm_ray.sandbox.settings": ("Sandbox",),
}  # fmt: skip
_HOMES = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "RLM",
    "ActorLostError",
    "AnswerDelta",
    "AnswerRestarted",
    "AuthenticationError",
    "BatchOptions",
    "BatchSummary",
    "CallStats",
    "Citation",
    "CitationError",
    "Cluster",
    "ClusterError",
    "ConfigError",
    "ContextLostError",
    "ContextWindowError",
    "Conversation",
    "FileContext",
    "Files",
    "InputError",
    "JournalError",
    "LimitReached",
    "Limits",
    "MapReduceOptions",
    "MapReduceResult",
    "ModelError",
    "ModelUnavailableError",
    "Price",
    "QuotaError",
    "RLMError",
    "RLMOptions",
    "Rates",
    "RemoteCallError",
    "ReplyError",
    "Result",
    "Run",
    "RunTree",
    "RunUsage",
    "Sandbox",
    "SandboxError",
    "SchemaError",
    "Settings",
    "SubCallError",
    "ToolError",
    "ToolLimits",
    "Tracing",
    "TransientModelError",
    "VersionMismatchError",
    "page_of",
]


def __getattr__(name: str) -> object:
    """Import a name when it is first used: the sandbox's processes import this package and must stay small."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
