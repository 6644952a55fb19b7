"""Calls real models as litellm does, or through it; it is imported late, and has no retries and no logging here.

Calls of OpenAI-compatible providers are carried by `openai_transport.py`, which learns from litellm how; all others, and all
that is unusual, by litellm itself.

Rules:
- Retries are the gateway's; litellm and the provider's client make none.
- A price litellm does not know is None, never 0. It is looked up once: litellm's own calculation takes 0.3 ms a call, most
  of it to look the model up again, and most models have one price per token. Models that are dearer above some length or
  by the hour are left to litellm.
- What litellm does around a call and we do not use (callbacks, its cost for each response) is turned off:
  it was a third of the CPU of a call.
- A body of plain messages goes to the provider as it is.

The last but one is `QuietLogging` and `make_no_logging_kwargs`: litellm prices each response, builds records for callbacks
and looks for prompt-management hooks whether or not anybody listens (a fifth of the CPU of a call, benchmarks/README.md).
We price the usage ourselves and write our own spans. The last is `send_plain_bodies`: the openai client looks through every
message for values it would have to rewrite (files, dates, models), a sixth of the CPU of a call; texts hold nothing of the
kind. Should a later litellm or client not have these names any more, calls are made without this, only slower.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import threading
import warnings
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from datetime import datetime
from functools import cache, cached_property, wraps
from importlib import import_module
from typing import TYPE_CHECKING, Any

from rlm_ray.core.llm import ModelReply, ModelRequest, Price, Usage
from rlm_ray.core.output_limit import OutputLimit
from rlm_ray.llm import litellm_errors
from rlm_ray.llm.litellm_reply import read_bodies_first, read_reply
from rlm_ray.llm.litellm_request import call_arguments, check_prompt_was_read, check_request
from rlm_ray.llm.own_server import is_own_model

if TYPE_CHECKING:
    from rlm_ray.llm.openai_transport import OpenAITransport

MAX_CONNECTIONS = "10000"
"""Of one process, as many as the admission ever lets out: how many requests are under way is its to say, and one that has its
permit does not wait again."""
_importing = threading.Lock()
_TIERED = ("_above_", "tiered", "off_peak")
_NOT_GIVEN = frozenset({"NotGiven", "Omit"})
"""The openai client's types of fields that are left out."""
_PLAIN = frozenset({str, int, float, bool, type(None)})

OPENAI_COMPATIBLE = frozenset(
    {
        "azure",
        "deepseek",
        "groq",
        "hosted_vllm",
        "lm_studio",
        "mistral",
        "openai",
        "openrouter",
        "together_ai",
    }
)
"""Providers whose calls `openai_transport.py` can carry; servers of one's own are `openai` with an `api_base`."""

NoLoggingKwargs = Callable[[str, list[dict[str, Any]]], dict[str, Any]]


class LitellmProvider:
    """Any model litellm can reach."""

    @cached_property
    def _transport(self) -> OpenAITransport:
        """Import it with the first call: the offline model needs no HTTP client."""
        from rlm_ray.llm.openai_transport import OpenAITransport

        return OpenAITransport()

    async def complete(self, request: ModelRequest) -> ModelReply:
        """Make one attempt. Raises `ModelError` and its kinds, or `ConfigError` for a name nobody knows."""
        if not is_own_model(request.model):
            await load_litellm()
        provider = _provider_of(request.model)
        check_request(request, provider, os.environ)
        call = None
        try:
            known = import_litellm().model_cost if provider.startswith("ollama") else {}
            arguments = call_arguments(request, provider, known)
            if request.transport == "auto" and provider in OPENAI_COMPATIBLE:
                call = self._transport.call(request, arguments)
            reply = await call.reply() if call is not None and call.is_known else None
            if reply is None:
                litellm = await load_litellm()
                unlogged = _no_logging_kwargs()(request.model, arguments["messages"])
                with call.by_litellm() if call is not None else nullcontext():
                    reply = read_reply(await litellm.acompletion(**unlogged | arguments))
        except Exception as error:  # an error inside a 200 is mapped like an HTTP error with its code
            if call is not None and call.failure is not None:
                raise call.failure from error
            raise litellm_errors.map_error(
                await load_litellm(), error, request.model, request.params
            ) from error
        check_prompt_was_read(request, provider, reply.usage)
        return reply

    def cost_usd(self, model: str, usage: Usage) -> float | None:
        """Return the cost by litellm's map; None where it knows no price."""
        return None if is_own_model(model) else cost_usd(import_litellm(), model, usage)

    def output_limit(self, model: str) -> OutputLimit:
        """Return how long replies may be by litellm's map; empty where it does not know the model."""
        return OutputLimit() if is_own_model(model) else output_limit(import_litellm(), model)

    def provider_name(self, model: str) -> str:
        """Return litellm's name of the provider, or what stands before the slash."""
        return _provider_of(model)


def import_litellm() -> Any:
    """Import litellm, quiet, and offline for prices. Takes 2-3 s the first time."""
    with _importing:
        return _litellm()


async def load_litellm() -> Any:
    """Import litellm beside the event loop, where it is not imported yet."""
    return _litellm() if _litellm.cache_info().currsize else await asyncio.to_thread(import_litellm)


@cache
def _litellm() -> Any:
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # read once, at import, and so are these
    for limit in ("AIOHTTP_CONNECTOR_LIMIT", "AIOHTTP_CONNECTOR_LIMIT_PER_HOST"):
        os.environ.setdefault(limit, MAX_CONNECTIONS)
    # Else it reads the first `.env` above its own folder, as far up as the project that keeps the environment.
    os.environ["LITELLM_MODE"] = "PRODUCTION"
    logging.getLogger("LiteLLM").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", message=".*using the `ReadOnly` qualifier", category=UserWarning)
    warnings.filterwarnings("ignore", message="Pydantic serializer warnings", category=UserWarning)
    gc.disable()  # half a million objects are made and none is garbage: a fifth of the time was looking for some
    import litellm

    gc.freeze()
    gc.enable()
    litellm.suppress_debug_info = True
    litellm.telemetry = False
    litellm.drop_params = True  # a parameter a provider does not know is left out, not an error
    _raise_unprocessable_errors()
    read_bodies_first(litellm)
    send_plain_bodies()
    return litellm


def _raise_unprocessable_errors() -> None:
    """Have litellm raise a 422 that names no parameter; after others it leaves out what they name and asks again.

    litellm asks the same once more instead, and then returns nothing: the provider's sentence would be lost.
    """
    from litellm.llms.openai import openai as handler

    leave_out = getattr(handler, "drop_params_from_unprocessable_entity_error", None)
    if leave_out is None:
        return

    def leave_out_or_raise(error: Any, data: Mapping[str, Any]) -> dict[str, Any]:
        fewer = dict(leave_out(error, data))
        if fewer == data or not {"model", "messages"} <= fewer.keys():
            raise error
        return fewer

    handler.drop_params_from_unprocessable_entity_error = leave_out_or_raise


def missing_keys(model: str) -> list[str]:
    """Return the environment variables that this model's provider wants and does not find."""
    return litellm_errors.missing_keys(import_litellm(), model)


@cache
def _provider_of(model: str) -> str:
    if is_own_model(model):
        return model.partition("/")[0]
    try:
        return str(import_litellm().get_llm_provider(model)[1])
    except Exception:  # noqa: BLE001 - an unknown name fails with a better message when it is called
        return model.partition("/")[0]


@cache
def _no_logging_kwargs() -> NoLoggingKwargs:
    return make_no_logging_kwargs()


def make_no_logging_kwargs() -> NoLoggingKwargs:
    """Return a function of model and messages that gives the extra arguments of a quiet call."""
    try:
        from litellm._internal_context import is_internal_call
        from litellm.litellm_core_utils.litellm_logging import Logging
    except ImportError:
        return lambda _model, _messages: {}

    class QuietLogging(Logging):  # type: ignore[misc]  # litellm is untyped here
        def response_cost_calculator(self, *_: Any, **__: Any) -> None:
            return None

        def should_run_prompt_management_hooks(self, *_: Any, **__: Any) -> bool:
            return False

        def pre_call(self, *_: Any, **__: Any) -> None: ...

        def post_call(self, *_: Any, **__: Any) -> None: ...

    def arguments(model: str, messages: list[dict[str, Any]]) -> dict[str, Any]:
        is_internal_call.set(True)  # of this task only: no success record, no thread for callbacks
        return {
            "litellm_logging_obj": QuietLogging(
                model=model,
                messages=messages,
                stream=False,
                call_type="acompletion",
                start_time=datetime.now(),  # noqa: DTZ005 - litellm subtracts its own naive times
                litellm_call_id="",
                function_id="",
                kwargs={},
            )
        }

    return arguments


def send_plain_bodies() -> None:
    """Have the openai client, which litellm uses, pass on the body of a chat completion whose values are plain."""
    try:
        completions: Any = import_module("openai.resources.chat.completions.completions")
    except ImportError:
        return
    rewrite: Any = getattr(completions, "async_maybe_transform", None)
    if rewrite is None:
        return

    @wraps(rewrite)
    async def rewrite_unless_plain(data: Any, expected_type: Any) -> Any:
        if isinstance(data, dict):
            given = {name: value for name, value in data.items() if type(value).__name__ not in _NOT_GIVEN}
            if is_plain(given):
                return given
        return await rewrite(data, expected_type)

    completions.async_maybe_transform = rewrite_unless_plain


def is_plain(body: Mapping[str, Any]) -> bool:
    """Tell whether all messages are texts, and all other values single ones."""
    messages = body.get("messages")
    return (
        type(messages) is list
        and all(type(message) is dict and _is_flat(message) for message in messages)
        and all(type(value) in _PLAIN for name, value in body.items() if name != "messages")
    )


def _is_flat(message: dict[str, Any]) -> bool:
    return all(type(value) in _PLAIN for value in message.values())


def cost_usd(litellm: Any, model: str, usage: Usage) -> float | None:
    """Return the cost of this usage; None where litellm knows no price."""
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
        cache_creation_input_tokens=usage.cache_write_tokens,
    )
    return float(prompt_usd + completion_usd)


@cache
def _price(litellm: Any, model: str) -> tuple[Price | None, bool]:
    """Return the model's price if it is flat, and whether it has tiers."""
    raw = _entry(litellm, model)
    input_usd, output_usd = raw.get("input_cost_per_token"), raw.get("output_cost_per_token")
    if input_usd is None or output_usd is None:
        return None, False
    if any(mark in name for name in raw for mark in _TIERED):
        return None, True
    cached_usd = raw.get("cache_read_input_token_cost", input_usd)
    write_usd = raw.get("cache_creation_input_token_cost", input_usd)
    return Price(input_usd * 1e6, output_usd * 1e6, cached_usd * 1e6, write_usd * 1e6), False


@cache
def output_limit(litellm: Any, model: str) -> OutputLimit:
    """Return how long its replies may be; empty for a model that litellm does not know."""
    known = _entry(litellm, model)
    return OutputLimit(_count(known.get("max_output_tokens")), _count(known.get("max_input_tokens")))


def _entry(litellm: Any, model: str) -> Mapping[str, Any]:
    try:
        entry: Mapping[str, Any] = litellm.model_cost[litellm.get_model_info(model)["key"]]
    except Exception:  # noqa: BLE001 - litellm raises bare Exception for a model it does not know
        return {}
    return entry


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None
