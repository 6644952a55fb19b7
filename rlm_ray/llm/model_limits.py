"""How long a reply of a model may be, by litellm's map: looked up once for each model."""

from __future__ import annotations

from functools import cache
from typing import Any

from rlm_ray.core.output_limit import OutputLimit


@cache
def output_limit(litellm: Any, model: str) -> OutputLimit:
    """What litellm knows of it; nothing for a model it does not know."""
    try:
        known = litellm.model_cost[litellm.get_model_info(model)["key"]]
    except Exception:  # noqa: BLE001 - litellm raises bare Exception for a model it does not know
        return OutputLimit()
    return OutputLimit(_count(known.get("max_output_tokens")), _count(known.get("max_input_tokens")))


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None
