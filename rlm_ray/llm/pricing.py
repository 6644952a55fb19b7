"""Prices from litellm's map. Unknown is None, never 0.

litellm's own calculation takes 0.3 ms a call, most of it to look the model up again; most models have one price per
token, so it is looked up once. Models that are dearer above some length or by the hour are left to litellm.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from rlm_ray.core.llm import Price, Usage

_TIERED = ("_above_", "tiered", "off_peak")


def cost_usd(litellm: Any, model: str, usage: Usage) -> float | None:
    """What this usage costs, or None where litellm knows no price."""
    price, tiered = _price(litellm, model)
    if price is not None:
        return price.cost(usage)
    if not tiered:
        return None
    prompt_usd, completion_usd = litellm.cost_per_token(
        model=model,
        prompt_tokens=usage.input_tokens,
        completion_tokens=usage.output_tokens,
        cache_read_input_tokens=usage.cached_tokens,
    )
    return float(prompt_usd + completion_usd)


@cache
def _price(litellm: Any, model: str) -> tuple[Price | None, bool]:
    """The model's price if it is flat, and whether it has tiers."""
    try:
        raw = litellm.model_cost[litellm.get_model_info(model)["key"]]
    except Exception:  # noqa: BLE001 - litellm raises bare Exception for a model it does not know
        return None, False
    input_usd, output_usd = raw.get("input_cost_per_token"), raw.get("output_cost_per_token")
    if input_usd is None or output_usd is None:
        return None, False
    if any(mark in name for name in raw for mark in _TIERED):
        return None, True
    cached_usd = raw.get("cache_read_input_token_cost", input_usd)
    return Price(input_usd * 1e6, output_usd * 1e6, cached_usd * 1e6), False
