"""What providers say that a reply used, read with patience: counts may be missing, negative, texts or fractions.

A count that cannot be meant is 0 here; the gateway settles such a reply at its estimate. Without this litellm throws a
whole reply away, answered and billed, for one odd count.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any

from rlm_ray.core.llm import MAX_CREDIBLE_TOKENS, Usage

_COUNTS = ("prompt_tokens", "completion_tokens", "total_tokens")
_DETAILS = ("prompt_tokens_details", "completion_tokens_details")


def usage_in(said: Any) -> Usage:
    """The usage of a reply, as far as it was counted; a total alone is in `output_tokens`."""
    read = _said(said, "prompt_tokens", "input_tokens")
    written = _said(said, "completion_tokens", "output_tokens")
    if not read and not written:
        written = count(_get(said, "total_tokens"))
    return Usage(
        read,
        written,
        min(count(_get(_get(said, _DETAILS[0]), "cached_tokens")), read),
        min(count(_get(_get(said, _DETAILS[1]), "reasoning_tokens")), written),
    )


def count(value: Any) -> int:
    """A number of tokens; 0 for what is none."""
    try:
        number = 0.0 if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        return 0
    return int(number) if 0 <= number <= MAX_CREDIBLE_TOKENS else 0


def tolerate_odd_counts(litellm: Any) -> None:
    """Have litellm read a reply whatever its usage looks like."""
    module = litellm.litellm_core_utils.llm_response_utils.convert_dict_to_response
    name = "convert_to_model_response_object"
    convert: Callable[..., Any] = getattr(module, name)

    @wraps(convert)
    def tolerant(response_object: Any = None, *args: Any, **kwargs: Any) -> Any:
        if isinstance(response_object, dict) and "usage" in response_object:
            response_object = {**response_object, "usage": _readable(response_object["usage"])}
        return convert(response_object, *args, **kwargs)

    for user in (module, litellm.main, litellm.llms.openai.openai, litellm.utils):
        if getattr(user, name, None) is convert:
            setattr(user, name, tolerant)


def _readable(said: Any) -> Any:
    """The same usage where litellm can read it; else what can be read of it."""
    if said is None or (
        isinstance(said, dict) and all(type(said.get(name)) in {int, type(None)} for name in _COUNTS)
    ):
        return said
    if not isinstance(said, dict):
        return None
    counts = {
        name: count(said.get(name)) for name in (*_COUNTS, "input_tokens", "output_tokens") if name in said
    }
    details = {name: said[name] for name in _DETAILS if isinstance(said.get(name), Mapping)}
    return {**counts, **details}


def _said(said: Any, *names: str) -> int:
    return next((number for name in names if (number := count(_get(said, name)))), 0)


def _get(said: Any, name: str) -> Any:
    return said.get(name) if isinstance(said, Mapping) else getattr(said, name, None)
