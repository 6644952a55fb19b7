"""litellm's logging object with nothing to log: a fifth of the CPU of a call (benchmarks/README.md).

litellm prices each response, builds records for callbacks and looks for prompt-management hooks whether or not
anybody listens. We price the usage ourselves and write our own spans. Should a later litellm know these names no
more, calls go out without this, only slower.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

Quiet = Callable[[str, list[dict[str, str]]], dict[str, Any]]


def quiet_logging() -> Quiet:
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
