"""A session's only state: its task, the turns so far and what it was asked further, all frozen."""

from __future__ import annotations

from dataclasses import dataclass, replace

from rlm_ray.core.cell import CellResult
from rlm_ray.core.context import ContextInfo
from rlm_ray.core.model import ModelReply
from rlm_ray.core.parsing import Parsed, parse
from rlm_ray.core.reply import Judgement, judge


@dataclass(frozen=True, slots=True)
class Task:
    """What a session was asked, and the rules it works under."""

    query: str
    info: ContextInfo
    depth: int = 0
    """0 for the root."""
    max_depth: int = 1
    max_iterations: int = 20
    leaf_chars: int = 100_000
    profile: str = "default"

    @property
    def children_have_repls(self) -> bool:
        return self.depth + 1 < self.max_depth


@dataclass(frozen=True, slots=True)
class Turn:
    """One model message and what its code did."""

    status: str
    """The status line the model was asked under; kept so that the history never changes."""
    reply: ModelReply
    parsed: Parsed
    result: CellResult | None = None
    """None while the code has not run, or where there was none."""

    @property
    def judged(self) -> Judgement:
        """What the message is worth."""
        return judge(self.reply, takes_code=True)


@dataclass(frozen=True, slots=True)
class FollowUp:
    """A further question of the same session."""

    query: str
    after: int
    """How many turns were before it."""


@dataclass(frozen=True, slots=True)
class Trajectory:
    """The task and its turns. `with_*` return the next trajectory."""

    task: Task
    turns: tuple[Turn, ...] = ()
    follow_ups: tuple[FollowUp, ...] = ()

    @property
    def last(self) -> Turn | None:
        return self.turns[-1] if self.turns else None

    @property
    def query(self) -> str:
        """The question that is to be answered now."""
        return self.follow_ups[-1].query if self.follow_ups else self.task.query

    @property
    def turns_before(self) -> int:
        """How many turns went to earlier questions."""
        return self.follow_ups[-1].after if self.follow_ups else 0

    @property
    def looked(self) -> bool:
        """The model has looked at the context, or seen all of it in the prompt."""
        seen = any(turn.result is not None and turn.result.looked for turn in self.turns)
        return seen or self.task.info.shown_whole

    @property
    def variables(self) -> frozenset[str]:
        """Names the REPL holds after the last code that ran."""
        results = (turn.result for turn in reversed(self.turns) if turn.result is not None)
        result = next(results, None)
        return frozenset(variable.name for variable in result.variables) if result else frozenset()

    def upto(self, turns: int) -> Trajectory:
        """As it was when the next message after so many turns was asked for."""
        asked = tuple(item for item in self.follow_ups if item.after <= turns)
        return Trajectory(self.task, self.turns[:turns], asked)

    def with_question(self, query: str) -> Trajectory:
        return replace(self, follow_ups=(*self.follow_ups, FollowUp(query, len(self.turns))))

    def with_reply(self, reply: ModelReply, status: str) -> Trajectory:
        """The next message; nothing of one that was withheld or refused is taken."""
        is_said = judge(reply, takes_code=True).kind not in {"filtered", "refused"}
        parsed = parse(reply.text, self.variables) if is_said else Parsed()
        last = self.last.parsed if self.last is not None else Parsed()
        if parsed.is_word and parsed.unresolved == last.unresolved:
            parsed = Parsed(
                answer=parsed.unresolved
            )  # it was told that no variable has this name, and means the word
        return replace(self, turns=(*self.turns, Turn(status, reply, parsed)))

    def with_result(self, result: CellResult) -> Trajectory:
        return replace(self, turns=(*self.turns[:-1], replace(self.turns[-1], result=result)))
