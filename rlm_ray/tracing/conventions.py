"""Every name of ours that a span or a metric carries.

`gen_ai.*` are the OpenTelemetry semantic conventions for generative AI, which live in
open-telemetry/semantic-conventions-genai with the status Development, so they may change: here only. Those that
metrics need too stand in `rlm_ray.events.metrics`. What has no convention is `rlm.*`.
"""

from __future__ import annotations

from rlm_ray.events import metrics

SCHEMA_URL = "https://opentelemetry.io/schemas/1.44.0"
"""The version of the conventions the names are taken from."""
SCOPE = "rlm_ray"

OPERATION = metrics.OPERATION
PROVIDER = metrics.PROVIDER
MODEL = metrics.MODEL
ERROR_TYPE = metrics.ERROR_TYPE
CHAT = metrics.CHAT
WORKFLOW = "invoke_workflow"
AGENT = "invoke_agent"
TOOL = "execute_tool"

CONVERSATION_ID = "gen_ai.conversation.id"
WORKFLOW_NAME = "gen_ai.workflow.name"
AGENT_NAME = "gen_ai.agent.name"
AGENT_VERSION = "gen_ai.agent.version"
TOOL_NAME = "gen_ai.tool.name"
TOOL_TYPE = "gen_ai.tool.type"
TOOL_ARGUMENTS = "gen_ai.tool.call.arguments"
TOOL_RESULT = "gen_ai.tool.call.result"
INPUT_MESSAGES = "gen_ai.input.messages"
OUTPUT_MESSAGES = "gen_ai.output.messages"
MAX_TOKENS = "gen_ai.request.max_tokens"
TEMPERATURE = "gen_ai.request.temperature"
RESPONSE_MODEL = "gen_ai.response.model"
RESPONSE_ID = "gen_ai.response.id"
FINISH_REASONS = "gen_ai.response.finish_reasons"
INPUT_TOKENS = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS = "gen_ai.usage.output_tokens"
CACHED_TOKENS = "gen_ai.usage.cache_read.input_tokens"
REASONING_TOKENS = "gen_ai.usage.reasoning.output_tokens"

COST_READ_BY_VIEWERS = ("gen_ai.usage.cost", "llm.cost.total")
"""Where viewers look for the US dollars of a call: Langfuse, and those that read OpenInference. OpenTelemetry has no name for it."""
RECURSIVE_MAP = "recursive_map"
"""The span of the sub-calls that a cell sent out together; one `recursive_llm` is a map of one."""

PATH = "rlm.path"
DEPTH = metrics.DEPTH
ROLE = metrics.ROLE
STOP_REASON = metrics.STOP_REASON
COST = metrics.COST
ATTEMPT = "rlm.attempt"
ACTOR = "rlm.actor"
CONTEXT_CHARS = "rlm.context.chars"
CONTEXT_KIND = "rlm.context.kind"
TURN = "rlm.turn"
TURNS = "rlm.turns"
LIFE = "rlm.life"
CALL = "rlm.call"
QUEUE_WAIT_S = "rlm.queue_wait_s"
RATE_WAIT_S = "rlm.rate_wait_s"
RETRIES = "rlm.retries"
CACHE_HIT = "rlm.cache_hit"
FALLBACK_FROM = "rlm.fallback_from"
TOOL_CALL = "rlm.tool_call"
OUTPUT_CHARS = "rlm.cell.output_chars"
WAITED_S = "rlm.cell.waited_s"
KILLED = "rlm.cell.killed"
INCOMPLETE = "rlm.incomplete"
"""The beginning never came; the times are those of the records that did."""
PART = "rlm.part"
"""The number of a linked trace of the same run, from 1."""
MAP = "rlm.map"
"""Prefix of a map's counts."""
TOTAL = "rlm.total"
"""Prefix of the sums of a run or a part; not `gen_ai.usage`, which viewers add up over all spans."""

ATTEMPT_FAILED = "rlm.attempt_failed"
RESUMED = "rlm.resumed"
LOST = "lost"
NOT_FINISHED = "not_finished"

CAPTURE_VARIABLE = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
_CAPTURE_VALUES = ("span_only", "span_and_event", "true")
"""`true` is what it was before it became a choice; `event_only` asks for what we do not write."""


def asks_for_content(value: str | None) -> bool:
    """Tell whether this value of `CAPTURE_VARIABLE` wants content on spans."""
    return (value or "").strip().lower() in _CAPTURE_VALUES
