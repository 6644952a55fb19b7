"""Which kind of failure a provider's error is: one ordered table, by code and status first, by words last.

Rules:
- The first row that holds decides. A row names statuses (none: any), and codes or words.
- Words are looked for where the status leaves the kind open, in phrases of providers and never in single words: an
  error may quote the user's own text. What stands in quotation marks there is not read.
- Waiting helps against a limit per minute, not against one per day, an empty account or a request larger than the limit.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from rlm_ray.llm.provider_error import ProviderError

Kind: TypeAlias = Literal[
    "window", "rate_window", "output_limit", "auth", "quota", "rate_limited", "timeout", "connection", "loading", "server_error",
    "unknown_model", "no_model_yet", "content_filter", "rejected",
]  # fmt: skip
"""`window`: longer than the model reads. `rate_window`: one request is more than the account may send in a minute.
`output_limit`: `max_tokens` is more than the model writes. `loading`: the model is not ready yet. `no_model_yet`: the
server does not know the name now; it may be loading. `rejected`: anything else that the same request meets again."""

_SERVER = frozenset(range(500, 600))
_CLIENT = frozenset(range(400, 500))
_OPEN = frozenset({None, 400, 422, 424, 500})
"""Statuses that providers use for anything."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One row: all that is given has to hold."""

    kind: Kind
    statuses: frozenset[int | None] | frozenset[int] | None = None
    codes: str = ""
    """One of the codes matches as a whole."""
    words: str = ""
    """The sentence holds this."""
    test: Callable[[ProviderError, str], bool] | None = None

    def holds(self, error: ProviderError, said: str) -> bool:
        if self.statuses is not None and error.status not in self.statuses:
            return False
        if self.codes and not any(re.fullmatch(self.codes, code) for code in error.codes):
            return False
        if self.words and not re.search(self.words, said, re.IGNORECASE):
            return False
        return self.test is None or self.test(error, said)


def kind_of(error: ProviderError) -> Kind:
    """Return the kind of a failure."""
    said = _without_quotations(error.message[:4_000])
    return next((rule.kind for rule in RULES if rule.holds(error, said)), "rejected")


_QUOTATION = re.compile(
    r"(?<![\w])(?P<mark>[\"'`])(?=[^\"'`]*\s)(?:(?!(?P=mark)\W).){3,2000}?(?P=mark)(?!\w)"
)


def _without_quotations(said: str) -> str:
    """Return a sentence without what it quotes, names of one word aside."""
    return _QUOTATION.sub(" ", said)


def _requests_more_than_the_limit(_: ProviderError, said: str) -> bool:
    found = re.search(r"limit:? (\d[\d,]*),.{0,80}?requested:? (\d[\d,]*)", said, re.IGNORECASE)
    return found is not None and _number(found[2]) > _number(found[1])


_SUM = re.compile(r"(\d+) \+ \d+ > (\d+)")
_LIMIT = re.compile(r"(?:maximum context length is|must be <=)\s?(\d[\d,]*)", re.IGNORECASE)
_INPUT = re.compile(
    r"(\d[\d,]*) (?:in the messages|(?:tokens )?of text input|`inputs` tokens|(?:prompt |input )tokens)",
    re.IGNORECASE,
)


def _input_fits(_: ProviderError, said: str) -> bool:
    """Tell whether a limit of input and output together is passed, and the input alone fits."""
    found = _input_and_limit(said)
    return found is not None and found[0] < found[1]


def _input_is_told(_: ProviderError, said: str) -> bool:
    """Tell whether the input is set against a limit; where it fits, another row has decided."""
    return _input_and_limit(said) is not None


def _input_and_limit(said: str) -> tuple[int, int] | None:
    if together := _SUM.search(said):
        return int(together[1]), int(together[2])
    limit, read = _LIMIT.search(said), _INPUT.search(said)
    return None if limit is None or read is None else (_number(read[1]), _number(limit[1]))


def _number(digits: str) -> int:
    return int(digits.replace(",", ""))


_QUOTA_CODES = (
    r"insufficient_quota|billing_hard_limit_reached|billing_not_active|billing_error|billing_disabled|"
    r"insufficient[_ ]?(balance|credits?|funds)(_error)?|payment_required|exceeded_current_quota_error|arrearage|"
    r"accountoverdue(error)?|quota_exceeded_error|servicequotaexceededexception|credit_limit|1113|"
    r".*(spending|usage)[-_]limit(_reached)?"
)
_PER_DAY = r"per[ _-]?(calendar )?(day|week|month)|/ ?(day|week|month)|\b(daily|weekly|monthly)\b|\b[RT]PD\b"
_PER_MINUTE = r"per[ _-]?(min(ute)?|second|hour)\b|/ ?(min(ute)?|sec(ond)?|hour)\b|\b[RT]P[MS]\b"
_EMPTY = (
    r"exceeded your current quota|check your plan and billing|credit balance is too low|insufficient (account )?"
    r"(balance|credits?|funds|quota)|requires more credits|(used|consumed) all (of )?(your |the )?available credits|"
    r"out of credits|no credits|spending limit|billing hard limit|reached your specified (api |workspace )?usage limits|"
    r"account is not active|billing (is not|to be) (active|enabled)|out of call volume quota|"
    r"exceeded your monthly included credits|free[- ]tier.{0,40}limit: 0\b|余额不足|欠费"
)
_WINDOW_CODES = (
    r"context_length_exceeded|context_window_exceeded|model_context_window_exceeded|exceed_context_size_error|"
    r"prompt_too_long|input_too_long|tokens_limit_reached|context_too_large|model_max_prompt_tokens_exceeded|"
    r"max_context_length_exceeded|contextwindowexceedederror|request_too_large|1261"
)
_WINDOW = (
    r"maximum context|context[ _](length|window|size)s?\b|context limit|maximum prompt length|"
    r"(prompt|input|request|message|conversation|text|query)s? (tokens? )?(is|are|was) too (long|large|big)|"
    r"too many (input |total |prompt )?tokens|too long for (the |this )?(requested )?model|"
    r"(prompt|input)( length| token count| size|s? tokens?)?( \([^)]{0,40}\))? ?(\([^)]{0,40}\) )?(exceeds?|is longer than)|"
    r"input tokens exceed|`?inputs`? tokens? (\+|must)|exceeds (the )?(model'?s? )?(maximum|max|available|limit|input)"
    r".{0,40}(tokens|context|length|size)|maximum (input|number of (input )?tokens|tokens allowed|allowed (input|tokens))|"
    r"must (have|be) (less|fewer|<=?|at most|shorter)( than)? \d+ tokens|"
    r"range of input length should be|reduce (the|your) (length|size) of|current length is \d+ while limit is|"
    r"increase the physical batch size|string too long\. expected|maximum (input|sequence) length|"
    r"tokens? limit exceeded|exceed(s|ed) (the )?model token limit|max(imum)? size: \d+ tokens|larger than the maximum"
)
_OUTPUT = (
    r"max_(new_|output_|completion_)?tokens.{0,60}( > \d| is too large|cannot be greater|must be (less|<|at most)|exceeds|"
    r"too (large|high)|should be (less|in)|range|supports at most|maximum)|maximum (allowed )?(number of )?output tokens|"
    r"supports at most \d+ completion tokens|range of max_tokens|fewer max_tokens|fewer output tokens"
)
_LOADING = (
    r"\b(is|are|still|currently|being)( currently| still)?( being)? (loading|loaded|initiali[sz]ing|warming up|starting)\b|"
    r"loading model|model (is )?not (yet )?(ready|loaded)|(not|no) ready (workers|replicas)|cold start"
)
_KEY = (
    r"(incorrect|invalid|wrong|missing|expired|no|malformed) (or (missing|invalid) )?(api|access|auth\w*)[ _-]?(key|token)|"
    r"api[ _-]key (is )?(not (valid|found|set)|invalid|expired|missing|required|must)|"
    r"api_key client option must be set|missing credentials|you didn'?t provide an api key|unable to locate credentials|"
    r"could not (automatically )?(load|determine|resolve) (default )?credentials|default credentials were not found"
)
_FILTER_CODES = (
    r"content_filter|content_policy_violation|responsibleaipolicyviolation|content_filter_policy|moderation_blocked|"
    r"datainspection_?failed|data_inspection_failed|prompt_blocked|1301|sensitive_words_detected"
)
_FILTER = (
    r"content management policy|content polic(y|ies)|safety system|usage policy|flagged|content filter(ing)? policy|"
    r"requires moderation|inappropriate content|data may contain"
)

RULES: tuple[Rule, ...] = (
    # a window, whatever the status: codes nobody uses for anything else
    Rule("rate_window", words=_PER_MINUTE + "|" + _PER_DAY, test=_requests_more_than_the_limit),
    Rule("output_limit", _OPEN, test=_input_fits),
    Rule("window", _OPEN, test=_input_is_told),
    Rule("window", codes=_WINDOW_CODES),
    Rule("content_filter", _CLIENT, codes=_FILTER_CODES),
    # money
    Rule("quota", frozenset({402})),
    Rule("quota", codes=_QUOTA_CODES),
    # a refusal to go so fast
    Rule("quota", frozenset({429}), codes=r".*per[-_]?(day|week|month).*"),
    Rule("quota", frozenset({429}), words=r"limit: 0\b"),
    Rule("rate_limited", frozenset({429}), codes=r".*per[-_]?(minute|second|hour).*"),
    Rule("rate_limited", frozenset({429}), words=_PER_MINUTE),
    Rule("quota", frozenset({429}), words=_PER_DAY),
    Rule("rate_limited", frozenset({429}), words=r"(retry|try again|wait) (\w+ )?(in|after|for) (about )?\d|please wait"),
    Rule("quota", frozenset({429}), words=_EMPTY),
    Rule("rate_limited", frozenset({429})),
    Rule("quota", _CLIENT, codes=r"throttling.*", words=_PER_DAY),
    Rule("rate_limited", _CLIENT, codes=r"throttling(exception|error)?|throttling\..*|rate_limit_(error|exceeded)"
         r"|too_?many_?requests(exception)?|resource_exhausted"),
    Rule("rate_limited", _OPEN, words=r"too many (tokens|requests), please wait"),
    # the size of the request
    Rule("window", frozenset({413})),
    Rule("output_limit", _OPEN, words=_OUTPUT),
    Rule("loading", frozenset({*_SERVER, 400, 404, 409, 424, 425}), words=_LOADING),
    Rule("quota", frozenset({400, 401, 403, 412}), words=_EMPTY),
    Rule("content_filter", frozenset({400, 403, 422}), words=_FILTER),
    # who asks, and for what
    Rule("auth", _CLIENT, codes=r"api_key_(invalid|expired)|invalid_api_key|authentication_error|unauthorized|"
         r"invalid_authentication(_error)?|unrecognizedclientexception|expiredtoken(exception)?"),
    Rule("auth", frozenset({401, 403})),
    Rule("auth", frozenset({None, 400, 500}), words=_KEY),
    Rule("unknown_model", _CLIENT, codes=r"model_not_found|deploymentnotfound|model_not_exist|invalid_model"),
    Rule("no_model_yet", frozenset({404})),
    Rule("window", _OPEN, words=_WINDOW),
    # the rest by status
    Rule("timeout", frozenset({408})),
    Rule("rate_limited", codes="overloaded_error|engine_overloaded.*", statuses=frozenset({None})),
    Rule("server_error", frozenset({*_SERVER, 425})),
    Rule("server_error", frozenset({None, 200}), codes="overloaded_error|server_error|internal_error|api_error|serviceunavailable.*"),
)  # fmt: skip
