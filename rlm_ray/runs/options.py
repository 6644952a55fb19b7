"""The keywords of `RLM` and of its methods, as types: an editor completes them, and a type checker refuses others.

What they mean is said at the fields of `Settings`; `values_from_keywords` checks them where they are given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypedDict

from rlm_ray.config import Cluster, ModelChoice, Tracing
from rlm_ray.config.coercion import did_you_mean
from rlm_ray.core.limits import Limits, Rates
from rlm_ray.core.llm import Price
from rlm_ray.core.tools import Tool, ToolLimits
from rlm_ray.errors import InputError
from rlm_ray.sandbox.settings import Sandbox

_Table: TypeAlias = Mapping[str, Any]


class RLMOptions(TypedDict, total=False):
    """Holds the keywords of `RLM`: the fields of `Settings`, and the usual parameters of model calls.

    Any other parameter that litellm knows is taken, too; for a type checker it goes into `params`.
    """

    model: str
    recursive_model: str | None
    models: Mapping[str, str | _Table | ModelChoice]
    fallbacks: Sequence[str]
    max_depth: int
    max_iterations: int
    max_leaf_chars: int
    direct_call_below_chars: int | None
    deduplicate_maps: bool
    oversize: Literal["split", "refuse", "send"]
    window_tokens: int | None
    profile: Literal["default", "full", "short", "cautious", "small-window"]
    system_prompt: str
    instructions: str
    prompt_version: int
    compact_above_tokens: int | None
    max_tokens: int | None
    call_timeout_s: float
    max_attempts: int
    transport: Literal["auto", "litellm"]
    params: _Table
    cache: str | Path | bool
    prices: Mapping[str, Price | _Table]
    run_dir: str | Path | bool
    record_content: bool
    on_journal_error: Literal["stop", "continue"]
    tenant: str | None
    weight: float
    limits: Limits | _Table
    rates: Rates | _Table
    cluster: Cluster | _Table
    sandbox: Sandbox | _Table
    tracing: Tracing | _Table
    log_format: str
    citations: Literal["off", "optional", "required"]
    tools: Sequence[Callable[..., Any] | Tool]
    mcp_servers: Mapping[str, _Table]
    tool_limits: ToolLimits | _Table

    # Of each model call, with litellm's names.
    api_base: str | None
    api_key: str | None
    api_version: str | None
    base_url: str | None
    extra_headers: Mapping[str, str]
    extra_body: _Table
    timeout: float
    """litellm's own word for `call_timeout_s`."""
    temperature: float | None
    top_p: float | None
    top_k: int | None
    min_p: float | None
    seed: int | None
    stop: str | Sequence[str] | None
    presence_penalty: float | None
    frequency_penalty: float | None
    repetition_penalty: float | None
    reasoning_effort: str | None
    thinking: _Table
    service_tier: str
    user: str
    num_ctx: int
    num_retries: int
    keep_alive: str | int
    chat_template_kwargs: _Table
    drop_params: bool


def check_names(given: Iterable[str], known: Iterable[str], what: str) -> None:
    """Raise `InputError` for a keyword that is not known, with the one that may be meant."""
    names = list(known)
    for name in given:
        if name not in names and name in RLMOptions.__annotations__:
            raise InputError(name, f"is a keyword of RLM, and not of {what}; give it there: RLM({name}=...)")
        if name not in names:
            raise InputError(name, f"is no keyword of {what}{did_you_mean(name, names)}")
