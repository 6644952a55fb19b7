"""What is the same for all sessions and model calls of a run, whichever process they are in."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from rlm_ray.admission.protocol import RunPolicy
from rlm_ray.config import Settings
from rlm_ray.core.limits import Amount
from rlm_ray.core.llm import ModelRequest
from rlm_ray.core.prompts import leaf_messages
from rlm_ray.journal.server import JournalRef
from rlm_ray.util.deadline import Deadline


@dataclass(frozen=True, slots=True)
class RunContext:
    """Describes one run: every message about it carries this, and every session and model call reads it."""

    run_id: str
    settings: Settings
    started: float = 0.0
    """Unix time: older runs of a tenant go first."""
    journal: JournalRef | None = None
    """None: no record is kept."""
    replays: bool = False
    """An earlier attempt of the run is on record."""
    spent: Amount = field(default_factory=Amount)
    """Part of the budget that earlier attempts have spent."""
    root_path_length: int = 0
    """How many places of a path are above the first session: 1 for a batch run, whose rows are sessions of depth 0."""
    trace_id: str = ""
    """Of its spans, for log lines; empty where nothing is traced."""
    context_key: str = ""
    """Set where the context is not that of the earlier attempt; answers about it are not used again then."""
    listener: str = ""
    """Names the driver that passes the answer on while a model writes it; empty: nobody reads along."""

    def depth(self, path: tuple[int, ...]) -> int:
        """Return the depth of the recursion: 0 for a session that a user asked for."""
        return len(path) - self.root_path_length

    @property
    def deadline(self) -> Deadline | None:
        """Return when its time is over; None without a limit."""
        return Deadline.of(self.started, self.settings.limits)

    def policy(self) -> RunPolicy:
        """Return the policy that the run is opened with at the admission."""
        settings = self.settings
        return RunPolicy(
            self.run_id,
            settings.limits,
            settings.rates,
            tenant=settings.tenant,
            weight=settings.weight,
            interactive=not self.root_path_length,
            age_s=time.time() - self.started,
            spent=self.spent,
        )

    def leaf_request(self, path: tuple[int, ...], query: str, text: str, model: str = "") -> ModelRequest:
        """Return the request of a plain call at this place, to the model of this name where one is given."""
        settings = self.settings
        model, params = settings.model_named(model) if model else settings.model_at(self.depth(path))
        return ModelRequest(
            model, leaf_messages(query, text, settings.prompt_version), settings.max_tokens, params
        )
