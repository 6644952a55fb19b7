"""What a model's reply is worth: the one judgement of root turns, sub-calls, direct answers, rows, pieces, last calls,
remembered and recorded replies.

    ModelReply → without_thinking → judge → Judgement

    usable      text, and the model ended by itself
    truncated   text that was cut off at the token limit
    empty       no text: nothing at all, or the token limit came while the model was thinking
    filtered    the provider held it back, or a part of it
    refused     the model says that it will not answer
    tool_call   it calls a tool in place of an answer, and was given none
    broken      the provider broke off in the middle

An error that a 200 carries is none of these: it is raised where the reply is read, by its code, like an HTTP error.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from rlm_ray.core.llm import ModelReply
from rlm_ray.core.repl_types import SubCallAnswer
from rlm_ray.core.thinking import split_thinking

Kind: TypeAlias = Literal["usable", "truncated", "empty", "filtered", "refused", "tool_call", "broken"]

UNUSABLE_KINDS = frozenset({"empty", "filtered", "refused", "tool_call", "broken"})
CUT_MARK = "[cut off here at the token limit; the rest is missing unless max_tokens is raised]"
"""Stands behind a text that was cut, wherever code or a model goes on with it."""

_CUT = frozenset(
    {
        "length",
        "max_tokens",
        "max_output_tokens",
        "max_completion_tokens",
        "max_new_tokens",
        "max_length",
        "incomplete",
        "model_length",
        "token_limit",
        "length_limit",
        "context_length",
        "context_limit",
        "model_context_window_exceeded",
        "compaction",
    }
)
_FILTERED = frozenset(
    {
        "content_filter",
        "content_filtered",
        "safety",
        "recitation",
        "blocklist",
        "prohibited_content",
        "spii",
        "language",
        "other",
        "image_safety",
        "image_prohibited_content",
        "image_recitation",
        "image_other",
        "no_image",
        "escalation",
        "sensitive",
        "guardrail_intervened",
        "guardrails",
        "error_toxic",
        "blocked",
        "moderation",
        "model_armor",
    }
)
_BROKEN = frozenset(
    {
        "error",
        "abort",
        "aborted",
        "cancelled",
        "canceled",
        "failed",
        "failure",
        "network_error",
        "insufficient_system_resource",
        "server_error",
        "internal_error",
        "timeout",
        "malformed_response",
        "error_limit",
        "user_cancel",
        "engine_error",
    }
)
_REFUSED = frozenset({"refusal", "refused"})
_TOOL = frozenset(
    {
        "tool_calls",
        "tool_call",
        "tool_use",
        "function_call",
        "malformed_function_call",
        "unexpected_tool_call",
        "too_many_tool_calls",
    }
)
_INVISIBLE = re.compile(
    r"[\s\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f\ufeff\ufe00-\ufe0f]*"
)
_SHOWN_CHARS = 300


@dataclass(frozen=True, slots=True)
class Judgement:
    """What one reply is."""

    kind: Kind
    why: str = ""
    """One sentence with what to do; empty for a usable one."""
    may_pass: bool = False
    """The same question may well be answered the next time."""

    @property
    def has_text(self) -> bool:
        """Tell whether there is something to go on with, if not all of it."""
        return self.kind in {"usable", "truncated"}


def without_thinking(reply: ModelReply, *, takes_code: bool) -> ModelReply:
    """Return the reply with its thinking beside its text, as it is judged and recorded.

    `takes_code`: who asked runs code, so that of a tool call becomes a block of its text. A server that takes a whole
    answer for reasoning hands on no text; where the model ended by itself, that is the answer then.
    """
    text, thought = split_thinking(reply.text)
    reasoning = "\n\n".join(filter(None, (reply.reasoning, thought)))
    if takes_code and reply.code:
        text = f"{text}\n\n```python\n{reply.code}\n```".strip()
    reason = _normal(reply.finish_reason)
    ended = reason not in _CUT | _FILTERED | _BROKEN | _REFUSED and not reply.tool_call and not reply.refusal
    if ended and reply.reasoning and not thought and _is_blank(text):
        text = split_thinking(reply.reasoning)[0]
        reasoning = "" if text == reply.reasoning else reasoning
    return replace(reply, text=text, reasoning=reasoning, code="")


def judge(  # noqa: PLR0911 - one for each kind
    reply: ModelReply, *, takes_code: bool = False
) -> Judgement:
    """Judge a reply whose thinking has been taken off. `takes_code`: who asked runs the code in it, whatever else it calls."""
    reason = _normal(reply.finish_reason)
    if reply.refusal.strip() or reason in _REFUSED:
        said = " ".join((reply.refusal or reply.text).split())[:_SHOWN_CHARS]
        return Judgement(
            "refused",
            f"the model refused to answer{f': {said}' if said else ''}; put the question in other words, or use another model",
        )
    if reason in _FILTERED:
        shown = f"finish reason {reply.finish_reason}"
        return Judgement(
            "filtered",
            f"the provider's content filter withheld the reply ({shown}); take out what it objects to, or use another model",
        )
    if reason in _BROKEN:
        return Judgement(
            "broken", f"the provider broke the reply off (finish reason {reply.finish_reason})", may_pass=True
        )
    if (reply.tool_call and not (takes_code and _has_block(reply.text))) or (
        reason in _TOOL and _is_blank(reply.text)
    ):
        return Judgement(
            "tool_call",
            "the model called a tool although it was given none; use a model that answers in text",
            may_pass=True,
        )
    if _is_blank(reply.text):
        return _empty(reply, is_cut=reason in _CUT)
    if reason in _CUT:
        tokens = f" after {reply.usage.output_tokens:,} tokens" if reply.usage.output_tokens else ""
        return Judgement(
            "truncated",
            f"the text was cut off at the token limit{tokens}; raise max_tokens, or ask for less at a time",
        )
    return Judgement("usable")


def answered(reply: ModelReply) -> SubCallAnswer:
    """Return a reply as the outcome of a plain call."""
    judged = judge(reply)
    return SubCallAnswer(reply.text, judged.why if judged.kind == "truncated" else "")


def marked(text: str) -> str:
    """Return a text that was cut off, with a mark that says so."""
    return f"{text}\n{CUT_MARK}"


def _empty(reply: ModelReply, *, is_cut: bool) -> Judgement:
    usage = reply.usage
    thought_all = 0 < usage.output_tokens <= usage.reasoning_tokens
    if thought_all or (is_cut and reply.reasoning):
        count = usage.output_tokens or usage.reasoning_tokens
        amount = f"all {count:,} output tokens" if count else "all output tokens"
        return Judgement(
            "empty",
            f"{amount} went into reasoning; raise max_tokens or lower reasoning_effort",
        )
    if is_cut:
        tokens = f" of {usage.output_tokens:,} tokens" if usage.output_tokens else ""
        return Judgement(
            "empty",
            f"the token limit{tokens} was reached before any text came; raise max_tokens or lower reasoning_effort",
        )
    if reply.reasoning:
        return Judgement(
            "empty",
            "the reply held thinking and no answer; raise max_tokens or lower reasoning_effort, or use another model",
            may_pass=True,
        )
    return Judgement(
        "empty", "the model sent an empty reply; ask in other words, or use another model", may_pass=True
    )


def _normal(reason: str) -> str:
    return reason.strip().lower().replace("-", "_").replace(" ", "_").removeprefix("finish_reason_")


def _is_blank(text: str) -> bool:
    return _INVISIBLE.fullmatch(text) is not None


def _has_block(text: str) -> bool:
    return "```" in text or "~~~" in text
