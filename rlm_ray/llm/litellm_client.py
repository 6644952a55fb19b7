"""Calls real models through litellm, imported late, without its retries and its logging.

Rules:
- Retries are the gateway's; litellm and the provider's client make none.
- A price litellm does not know is None, never 0.
- What litellm does around a call and we do not use (callbacks, its cost for each response) is turned off:
  it was a third of the CPU of a call.

The last rule is `QuietLogging` and `make_no_logging_kwargs`: litellm prices each response, builds records for callbacks and
looks for prompt-management hooks whether or not anybody listens (a fifth of the CPU of a call, benchmarks/README.md). We
price the usage ourselves and write our own spans. Should a later litellm not have these names any more, calls are made
without this, only slower.
"""

from __future__ import annotations

import gc
import logging
import os
import warnings
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import cache
from typing import Any

from rlm_ray.core.llm import ModelReply, ModelRequest, Usage
from rlm_ray.core.output_limit import OutputLimit
from rlm_ray.llm import litellm_errors, model_limits, ollama, pricing
from rlm_ray.llm.litellm_reply import check_bodies, read_reply
from rlm_ray.llm.openai_body import send_plain_bodies
from rlm_ray.llm.outgoing import check_request
from rlm_ray.llm.usage_counts import tolerate_odd_counts

NoLoggingKwargs = Callable[[str, list[dict[str, str]]], dict[str, Any]]


class LitellmProvider:
    """Any model litellm can reach, and the embedded `offline/extractive`."""

    async def complete(self, request: ModelRequest) -> ModelReply:
        """One attempt. Raises `ModelError` and its kinds, or `ConfigError` for a name nobody knows."""
        litellm = import_litellm()
        check_request(request, _provider_of(request.model), os.environ)
        try:
            reply = read_reply(await litellm.acompletion(**_arguments(request)))
        except Exception as error:  # an error inside a 200 is mapped like an HTTP error with its code
            raise litellm_errors.map_error(litellm, error, request.model, request.params) from error
        ollama.check_read(request, _provider_of(request.model), reply.usage)
        return reply

    def cost_usd(self, model: str, usage: Usage) -> float | None:
        """By litellm's map; None where it knows no price."""
        return pricing.cost_usd(import_litellm(), model, usage)

    def output_limit(self, model: str) -> OutputLimit:
        """By litellm's map; empty where it does not know the model."""
        return model_limits.output_limit(import_litellm(), model)

    def provider_name(self, model: str) -> str:
        """litellm's name of the provider, or what stands before the slash."""
        return _provider_of(model)


@cache
def import_litellm() -> Any:
    """Import litellm, quiet, offline for prices, with our own provider registered. Takes 2-3 s the first time."""
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # read once, at import
    # Else it reads the first `.env` above its own folder, as far up as the project that keeps the environment.
    os.environ["LITELLM_MODE"] = "PRODUCTION"
    logging.getLogger("LiteLLM").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", message=".*using the `ReadOnly` qualifier", category=UserWarning)
    warnings.filterwarnings("ignore", message="Pydantic serializer warnings", category=UserWarning)
    gc.disable()  # half a million objects are made and none is garbage: a fifth of the time was looking for some
    import litellm

    from rlm_ray.llm.offline import provider

    gc.freeze()
    gc.enable()
    litellm.suppress_debug_info = True
    litellm.telemetry = False
    litellm.drop_params = True  # a parameter a provider does not know is left out, not an error
    _raise_unprocessable_errors()
    check_bodies(litellm)
    tolerate_odd_counts(litellm)
    send_plain_bodies()
    provider.register()
    litellm.utils.custom_llm_setup()  # litellm does it in its own logging set-up, which quiet calls do not run
    return litellm


def _raise_unprocessable_errors() -> None:
    """After a 422, litellm leaves out the parameters it names and asks again; where it names none, it must be raised.

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
    """The environment variables this model's provider wants and does not find."""
    return litellm_errors.missing_keys(import_litellm(), model)


@cache
def _provider_of(model: str) -> str:
    try:
        return str(import_litellm().get_llm_provider(model)[1])
    except Exception:  # noqa: BLE001 - an unknown name fails with a better message when it is called
        return model.partition("/")[0]


@cache
def _no_logging_kwargs() -> NoLoggingKwargs:
    return make_no_logging_kwargs()


def _arguments(request: ModelRequest) -> dict[str, Any]:
    messages = [{"role": message.role, "content": message.content} for message in request.messages]
    arguments = {
        "model": request.model,
        "messages": messages,
        "num_retries": 0,
        "max_retries": 0,
        **_no_logging_kwargs()(request.model, messages),
        **request.params,
    }
    if request.max_tokens is not None:
        arguments["max_tokens"] = request.max_tokens
    return ollama.parameters(request, _provider_of(request.model), import_litellm().model_cost) | arguments


def make_no_logging_kwargs() -> NoLoggingKwargs:
    """A function of model and messages that gives the extra arguments of a quiet call."""
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

    def arguments(model: str, messages: list[dict[str, str]]) -> dict[str, Any]:
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
