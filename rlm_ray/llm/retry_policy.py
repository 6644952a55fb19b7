"""Decides whether a failed attempt is made again, after how long, and with which error a call ends.

- After a 429 the admission holds the whole account back as long as the provider asks, so nothing is waited for here;
  after other failures the wait doubles, with full jitter.
- A provider that has answered before and is down now is waited for: minutes, with half a minute between attempts.
- A refusal of one call (a proxy that stumbles, an adapter that is swapped) fails that call; a wrong or missing key all.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

from rlm_ray.admission.protocol import AttemptOutcome
from rlm_ray.core.retry_after import Refusals
from rlm_ray.errors import (
    AuthenticationError,
    ConfigError,
    JournalError,
    ModelError,
    ModelUnavailableError,
    QuotaError,
    ReplyError,
    RLMError,
    TransientModelError,
)

FIRST_BACKOFF_S = 0.5
LONGEST_BACKOFF_S = 30.0
LONGEST_WAIT_S = 600.0
"""A provider that asks to wait longer will not answer this run."""
ATTEMPTS_PER_429 = 10
"""A 429 counts as a tenth of an attempt: the admission already waits as it should."""
ATTEMPTS_PER_OUTAGE = 3
"""A provider that is down and has answered before: a third of an attempt. With 6 attempts, about three minutes."""
UNKNOWN_MODEL_ATTEMPTS = 4
"""A server that does not know the model may be loading it (an adapter); or the name is wrong."""
ACCESS_REFUSED = 403
OUTAGE_STATUSES = frozenset({502, 503, 529})
_OUTCOMES = {
    "rate_limited": AttemptOutcome.RATE_LIMITED,
    "server_error": AttemptOutcome.SERVER_ERROR,
    "timeout": AttemptOutcome.TIMEOUT,
    "connection": AttemptOutcome.UNKNOWN,
    "loading": AttemptOutcome.SERVER_ERROR,
    "no_model_yet": AttemptOutcome.REJECTED,
}
"""By the kind of a `TransientModelError`."""
_ATTEMPT = ATTEMPTS_PER_429 * ATTEMPTS_PER_OUTAGE
"""One attempt, in units that divide a 429 and an outage as well."""


class RetryPolicy:
    """Remembers of each account whether it has answered, and how often it refused since. `jitter` draws from 0 to 1."""

    def __init__(self, jitter: Callable[[], float]) -> None:
        self.jitter = jitter
        self._refusals: defaultdict[str, Refusals] = defaultdict(Refusals)

    def on_answer(self, account: str) -> None:
        self._refusals[account].answered()

    def start(self, account: str, attempts: int) -> CallRetries:
        """Begin a call that may be attempted so often."""
        return CallRetries(self, self._refusals[account], attempts)

    def error_of_attempt(self, error: RLMError, model: str, account: str) -> RLMError:
        """Turn a refusal that is about one call only into an error that fails that call and not the run: access or a
        model name that worked before and is refused once."""
        if not isinstance(error, AuthenticationError | ConfigError):
            return error
        status = ACCESS_REFUSED if isinstance(error, ConfigError) else error.status
        if status != ACCESS_REFUSED or self._refusals[account].refused():
            return error
        return ModelError(model, error.why, getattr(error, "status", None))


class CallRetries:
    """Counts the attempts of one call."""

    def __init__(self, policy: RetryPolicy, refusals: Refusals, attempts: int) -> None:
        self.attempt = 1
        self._policy, self._refusals = policy, refusals
        self._attempts = attempts
        self._patience = attempts * _ATTEMPT
        self._asked_again = False

    def wait_s(self, error: TransientModelError) -> float:
        """Return how long to wait before the next attempt. Raises the error that ends the call where there is none."""
        self._patience -= self._cost(error)
        is_429 = error.kind == "rate_limited"
        if self._patience <= 0 or (not is_429 and (error.retry_after_s or 0.0) > LONGEST_WAIT_S):
            raise self._final_error(error) from error
        wait_s = 0.0 if is_429 else self._backoff_s(error.retry_after_s)
        self.attempt += 1
        return wait_s

    def may_ask_again(self, error: ReplyError) -> bool:
        """Tell whether to ask once more after a reply that is no answer."""
        if self._asked_again or not error.may_pass:
            return False
        self._asked_again = True
        self.attempt += 1
        return True

    def _cost(self, error: TransientModelError) -> int:
        if error.kind == "rate_limited":
            return ATTEMPTS_PER_OUTAGE
        if error.kind == "no_model_yet":
            return max(_ATTEMPT, -(-_ATTEMPT * self._attempts // UNKNOWN_MODEL_ATTEMPTS))
        is_down = error.kind == "connection" or error.status in OUTAGE_STATUSES
        is_outage = error.kind == "loading" or (is_down and self._refusals.has_answered)
        return ATTEMPTS_PER_429 if is_outage else _ATTEMPT

    def _backoff_s(self, retry_after_s: float | None) -> float:
        jitter = self._policy.jitter()
        if retry_after_s is not None:
            return retry_after_s * (1 + 0.1 * jitter)
        return float(min(LONGEST_BACKOFF_S, FIRST_BACKOFF_S * 2 ** (self.attempt - 1)) * jitter)

    def _final_error(self, error: TransientModelError) -> RLMError:
        if error.kind == "no_model_yet" and self._refusals.refused():
            return ConfigError("model", error.why)
        tries = "1 attempt" if self.attempt == 1 else f"{self.attempt} attempts"
        if (wait_s := error.retry_after_s or 0.0) > LONGEST_WAIT_S:
            tries += f", for the provider asks to wait {wait_s / 60:.0f} minutes"
        return ModelUnavailableError(error.model, f"{error.why}; gave up after {tries}", error.status)


def outcome_of(error: RLMError) -> AttemptOutcome:
    """Return how the admission settles an attempt that ended with this error."""
    match error:
        case TransientModelError():
            return _OUTCOMES[error.kind]
        case QuotaError():
            return AttemptOutcome.QUOTA_EXHAUSTED
        case JournalError():
            return AttemptOutcome.NOT_SENT
        case _:
            return AttemptOutcome.REJECTED
