"""Recursive Language Models on Ray: ask questions larger than any model's window."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rlm_ray.config import Cluster, Settings
    from rlm_ray.core.limits import Limits, Rates
    from rlm_ray.core.llm import Price
    from rlm_ray.errors import LimitReached, RLMError
    from rlm_ray.rlm import RLM
    from rlm_ray.runs.run import Result
    from rlm_ray.sandbox.settings import Sandbox

_HOMES = {
    "RLM": "rlm_ray.rlm",
    "Cluster": "rlm_ray.config",
    "LimitReached": "rlm_ray.errors",
    "Limits": "rlm_ray.core.limits",
    "Price": "rlm_ray.core.llm",
    "RLMError": "rlm_ray.errors",
    "Rates": "rlm_ray.core.limits",
    "Result": "rlm_ray.runs.run",
    "Sandbox": "rlm_ray.sandbox.settings",
    "Settings": "rlm_ray.config",
}

__all__ = [
    "RLM",
    "Cluster",
    "LimitReached",
    "Limits",
    "Price",
    "RLMError",
    "Rates",
    "Result",
    "Sandbox",
    "Settings",
]


def __getattr__(name: str) -> object:
    """Names are imported when first used: the sandbox's processes import this package and must stay small."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
