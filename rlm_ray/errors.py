"""Every error a user can see, each one sentence that says what to do.

    RLMError
     ├─ InputError            the question or the context cannot be used
     ├─ ConfigError           a setting, a model name or a price is wrong
     ├─ ModelError            a model could not answer
     │   ├─ AuthenticationError    the key is missing or refused
     │   ├─ ContextWindowError     the prompt is longer than the model's window
     │   ├─ QuotaError             the account has nothing left to spend
     │   ├─ ReplyError             the reply is no answer: empty, filtered, refused, a tool call
     │   ├─ TransientModelError    the provider may do better next time; the gateway retries it
     │   └─ ModelUnavailableError  retries are used up
     ├─ SandboxError          the jail cannot be built, or it broke
     ├─ ClusterError          Ray cannot be reached or lost a part of the run
     │   ├─ ActorLostError         the actor of a session died
     │   ├─ ContextLostError       the object store lost a context
     │   ├─ RemoteCallError        a detached actor of the cluster answered a call with an error
     │   └─ VersionMismatchError   the cluster runs detached actors of another version of rlm_ray
     ├─ JournalError          the record of a run cannot be written or read
     ├─ LimitReached          a limit of the run stopped it; carries the partial answer
     ├─ SchemaError           no answer fitted the schema that was asked for; carries the last one
     ├─ SubCallError          a child failed; raised inside the REPL of its parent
     ├─ ToolError             a tool failed, raised inside the REPL; or the tools of a run could not be started
     └─ CitationError         words that do not stand in the context; raised inside the REPL

Errors cross process boundaries by pickle, so each keeps its facts as positional arguments.
Foreign errors are mapped to these once, at the border they cross.
"""

from __future__ import annotations


class RLMError(Exception):
    """The root of all errors of this library."""


class _InvalidInput(RLMError):  # noqa: N818 - not raised itself
    """Something of the user's cannot be used as it is: `what`, and `why` with what to do."""

    def __init__(self, what: str, why: str) -> None:
        super().__init__(what, why)
        self.what = what
        self.why = why

    def __str__(self) -> str:
        return f"{self.what}: {self.why}"


class InputError(_InvalidInput):
    """The question or the context cannot be used as it is."""


class ConfigError(_InvalidInput):
    """A setting cannot be used as it is."""


class ModelError(RLMError):
    """A model could not answer. `why` is a sentence, `status` the HTTP status where there was one."""

    def __init__(self, model: str, why: str, status: int | None = None) -> None:
        super().__init__(model, why, status)
        self.model = model
        self.why = why
        self.status = status

    def __str__(self) -> str:
        return f"{self.model}: {self.why}"


class AuthenticationError(ModelError):
    """The key is missing or refused."""


class ContextWindowError(ModelError):
    """The prompt is longer than the model's window."""


class QuotaError(ModelError):
    """The account has nothing left to spend; waiting a little does not help."""


class ReplyError(ModelError):
    """The provider replied, and the reply is no answer: `kind` is empty, filtered, refused or tool_call.

    `may_pass`: the same question may well be answered the next time.
    """

    def __init__(
        self, model: str, why: str, status: int | None = None, kind: str = "empty", may_pass: bool = False
    ) -> None:
        super().__init__(model, why, status)
        self.args = (model, why, status, kind, may_pass)
        self.kind = kind
        self.may_pass = may_pass


class TransientModelError(ModelError):
    """The provider may do better next time: `kind` is rate_limited, server_error, timeout, connection, loading,
    no_model_yet, or broken (the reply broke off)."""

    def __init__(  # noqa: PLR0913, PLR0917 - pickled by position
        self,
        model: str,
        why: str,
        status: int | None = None,
        kind: str = "server_error",
        retry_after_s: float | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(model, why, status)
        self.args = (model, why, status, kind, retry_after_s, headers)
        self.kind = kind
        self.retry_after_s = retry_after_s
        self.headers = headers or {}


class ModelUnavailableError(ModelError):
    """The provider kept failing until the retries were used up."""


class SandboxError(RLMError):
    """The jail cannot be built here, or broke in a way that is not the model's doing."""


class ClusterError(RLMError):
    """Ray cannot be reached, or lost a part that the run needs."""


class ActorLostError(ClusterError):
    """The actor of a session died under it."""


class ContextLostError(ClusterError):
    """The object store lost a context."""


class RemoteCallError(ClusterError):
    """One call to a detached actor of the cluster failed there, could not be decoded, or took too long."""


class VersionMismatchError(ClusterError):
    """The detached actors of the cluster are those of another version of rlm_ray."""


class JournalError(_InvalidInput):
    """The record of a run cannot be written or read; `what` names the run or its folder."""


class LimitReached(RLMError):  # noqa: N818 - the name is part of the interface
    """A limit stopped the run. `partial` is the best answer from what was known, or None."""

    def __init__(self, reason: str, why: str, partial: str | None = None) -> None:
        super().__init__(reason, why, partial)
        self.reason = reason
        self.why = why
        self.partial = partial

    def __str__(self) -> str:
        return f"{self.why} (stop reason: {self.reason})"


class SchemaError(RLMError):
    """No answer fitted the schema that was asked for. `why` says what was wrong with the last one, `partial` is that one."""

    def __init__(self, why: str, partial: str | None = None) -> None:
        super().__init__(why, partial)
        self.why = why
        self.partial = partial

    def __str__(self) -> str:
        return self.why


class SubCallError(RLMError):
    """A child session or a plain sub-call failed; `kind` names the error it failed with."""

    def __init__(self, kind: str, why: str) -> None:
        super().__init__(kind, why)
        self.kind = kind
        self.why = why

    def __str__(self) -> str:
        return f"{self.kind}: {self.why}"


class ToolError(RLMError):
    """A tool failed, or could not be started; `name` is the tool's or the MCP server's, `why` a sentence."""

    def __init__(self, name: str, why: str) -> None:
        super().__init__(name, why)
        self.name = name
        self.why = why

    def __str__(self) -> str:
        return f"{self.name}: {self.why}"


class CitationError(RLMError):
    """Words that were cited do not stand in the context; says which true ones are nearest."""
