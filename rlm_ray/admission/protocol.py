"""The messages between admission clients and the admission server: plain values, no behaviour.

A client sends a `ClientMessage` (requests, settlements, cancellations) and gets a `ServerMessage` (decisions). Every
message may arrive twice or late: request ids are unique for ever, so a repeated one changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from rlm_ray.core.limits import Amount, Limits, Rates
from rlm_ray.core.llm import Usage
from rlm_ray.core.retry_after import RateLimitHeaders
from rlm_ray.events.usage import CallStats, RunUsage


class AttemptOutcome(Enum):
    """How an attempt ended."""

    OK = "ok"
    RATE_LIMITED = "rate_limited"
    """429: try again later. Costs nothing."""
    QUOTA_EXHAUSTED = "quota"
    """The account has nothing left to spend: no use in trying again."""
    REJECTED = "rejected"
    """The provider refused the request itself (400, 401, 404 ...). Costs nothing."""
    SERVER_ERROR = "server_error"
    """500, 503, 529 ... Costs nothing."""
    TIMEOUT = "timeout"
    """No answer in time. It may be billed: stays charged at its estimate unless `usage` is known."""
    CANCELLED = "cancelled"
    """Given up on the way. Charged like a timeout."""
    UNKNOWN = "lost"
    """The connection or the caller broke. Charged like a timeout."""
    NOT_SENT = "unsent"
    """It never went out; all is given back."""


@dataclass(frozen=True, slots=True)
class PermitRequest:
    """Asks to send one HTTP request to a model."""

    run_id: str
    account_key: str
    """See `account_key` in `admission/policy/account.py`."""
    model: str
    input_tokens: int
    """Estimated, rather too many than too few."""
    output_tokens: int
    """At most: `max_tokens`, or the most the model gives. What is reserved of a token limit."""
    cost_usd: float | None = None
    """At most, for these tokens; None where the price is not known, 0 where it is free."""
    run_started_at: float = 0.0
    """The age of its root within the tenant: its number, or the moment it was started. Smaller goes first."""
    depth: int = 0
    attempt: int = 1
    is_retry_of_lost: bool = False
    """The same call was under way before, when its process died."""
    is_final_call: bool = False
    """The root's answer from what it knows, after a limit was reached: may use what is kept for it."""
    min_output_tokens: int = 0
    """Where the budget leaves less than `output_tokens`, as few as this may be granted; 0: all of them or none."""
    input_cost_usd: float | None = None
    """The part of `cost_usd` that is for the input."""
    ttl_s: float = 900.0
    """After so long without a settle the permit is taken back; more than the request's own time-out."""
    request_id: str = ""
    """Names this ask and its permit; unique for ever. The client fills it in, and the next."""
    client_id: str = ""
    """The process that asks. When it dies its permits are taken back."""


@dataclass(frozen=True, slots=True)
class Settle:
    """What became of a permit."""

    permit: str
    outcome: AttemptOutcome
    usage: Usage | None = None
    """None where it is not known."""
    cost_usd: float | None = None
    rate_headers: RateLimitHeaders | None = None
    """What the headers of the answer said about limits."""
    why: str = ""
    """The provider's words about a quota."""


@dataclass(frozen=True, slots=True)
class Granted:
    """The request may go now. The permit has the name of the ticket."""

    request_id: str
    holder: str
    queue_wait_s: float
    rate_wait_s: float
    smaller: PermitRequest | None = None
    """What was granted, where the budget does not leave as long a reply as was asked for."""


@dataclass(frozen=True, slots=True)
class Refused:
    """The request may not go, now or later."""

    request_id: str
    holder: str
    reason: str
    """`cost_usd`, `tokens`, `calls`, `sessions`, `time_s` or `quota`; `closed` where the run is not open; `failed`."""
    why: str
    """A sentence for the user."""


FAILED = "failed"
"""The reason of a refusal that is the admission's own fault."""

Decision = Granted | Refused


@dataclass(frozen=True, slots=True)
class RunPolicy:
    """A run as it is opened, enough to open it again elsewhere."""

    run_id: str
    limits: Limits = field(default_factory=Limits)
    rates: Rates = field(default_factory=Rates)
    """Of the accounts this run uses. Where runs say different things about one account, the smaller holds."""
    tenant: str | None = None
    """Runs of one tenant share one place in the queue, oldest root first; None: a place of its own."""
    weight: float = 1.0
    interactive: bool = True
    age_s: float = 0.0
    """How long it has been open."""
    spent: Amount = field(default_factory=Amount)
    """Part of the budget that earlier attempts of the run have spent."""
    attempt: float = 0.0
    """Names the attempt of the run: when it began, by its driver's clock."""


@dataclass(frozen=True, slots=True)
class BudgetShare:
    """What a client may spend of a run's budget while the admission cannot be reached."""

    run_id: str
    spent: Amount
    """By the whole run."""
    amount: Amount
    """Half of this holder's part of what is left."""


@dataclass(frozen=True, slots=True)
class RunStatus:
    """How an open run stands at one moment, for those who watch it."""

    in_flight: int = 0
    """Requests under way."""
    waiting: Mapping[str, int] = field(default_factory=dict)
    """Requests that may not go yet, by what keeps the first of their account: `rate` (requests or tokens a minute),
    `window` (as many are under way as may be) or `pause` (the provider asked to wait, or the admission starts anew);
    `budget` for those that go when a call under way turns out cheaper than it might be. Empty where none waits."""
    usage: RunUsage = field(default_factory=RunUsage)
    """Of settled requests, by model and depth."""
    spent: Amount = field(default_factory=Amount)
    """Of the budget: also estimates, for requests whose truth nobody knows."""
    reserved: Amount = field(default_factory=Amount)
    """The worst of what is under way."""
    limits: Limits = field(default_factory=Limits)
    age_s: float = 0.0
    """How long it has been open."""
    wait_s: Mapping[str, float] = field(default_factory=dict)
    """Seconds until the first of those that wait goes, by the names of `waiting`, where time alone decides it."""


@dataclass(frozen=True, slots=True)
class RunSnapshot:
    """What one client knows of one run."""

    policy: RunPolicy
    charged: Amount = field(default_factory=Amount)
    """Of the budget, for this holder's settled calls."""
    known_spent: Amount = field(default_factory=Amount)
    """By the whole run, by the last message to this client."""
    usage: Mapping[tuple[str, int], CallStats] = field(default_factory=dict)
    """Of this holder's settled calls, by model and depth."""
    largest_root_call: Amount = field(default_factory=Amount)
    """The most that a call of the root reserved, of this holder's settled calls: what is kept for the last answer."""


@dataclass(frozen=True, slots=True)
class Resume:
    """What a client tells an admission that has just started and is empty."""

    runs: tuple[RunSnapshot, ...] = ()
    in_flight: tuple[PermitRequest, ...] = ()
    """Permits it holds."""


@dataclass(frozen=True, slots=True)
class ClientMessage:
    """All that a client sends at one moment."""

    holder: str
    epoch: str | None
    """The epoch of the admission that the client knows; None at first."""
    asks: tuple[PermitRequest, ...] = ()
    settles: tuple[Settle, ...] = ()
    cancelled: tuple[str, ...] = ()
    """Ids of requests that are cancelled, waiting or granted."""
    resume: Resume | None = None
    long_poll: bool = False
    """Requests wait: answer when there is a decision, not before."""

    def parts(self) -> list[ClientMessage]:
        """Split the message into messages of one thing each; every one may arrive twice."""
        resumes = (
            [ClientMessage(self.holder, self.epoch, resume=self.resume)] if self.resume is not None else []
        )
        return [
            *resumes,
            *(ClientMessage(self.holder, self.epoch, settles=(settle,)) for settle in self.settles),
            *(ClientMessage(self.holder, self.epoch, cancelled=(ticket,)) for ticket in self.cancelled),
            *(ClientMessage(self.holder, self.epoch, asks=(ask,)) for ask in self.asks),
        ]


@dataclass(frozen=True, slots=True)
class ServerMessage:
    """All that is sent to a client at one moment."""

    epoch: str
    """Names one start of the admission. If it is not the message's, nothing of the message was done: send `Resume`."""
    verdicts: tuple[Decision, ...] = ()
    runs: tuple[RunPolicy, ...] = ()
    """Runs this holder asked for the first time."""
    budget_shares: tuple[BudgetShare, ...] | None = None
    """Of all open runs that this client ever asked for; None: unchanged."""
    interval_s: float = 0.0
    """How long the client collects at least between two messages: the more messages come, the more each should bring."""
