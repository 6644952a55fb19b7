"""What a session does next: a pure function of its trajectory.

Laws:
- Code that has been written is run once, unless the provider cut it off in the middle.
- An answer on the first turn counts only if the model has looked at the context (or saw it whole).
- Three messages in a row that neither run code nor answer end the session: more of them cost and change nothing.
- A further question starts the count of turns anew.
- `Stop` is followed by one last call for the best answer from what is known; `Finish` by nothing.

A session's only state: its task, the turns so far and what it was asked further, all frozen.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeAlias

from rlm_ray.core.context import ContextInfo
from rlm_ray.core.llm import ModelReply
from rlm_ray.core.parsing import Parsed, parse
from rlm_ray.core.profiles import PROMPT_VERSION
from rlm_ray.core.repl_types import CellResult
from rlm_ray.core.reply import Judgement, judge

MAX_IDLE_TURNS = 3


@dataclass(frozen=True, slots=True)
class Generate:
    """Ask the model for its next message."""


@dataclass(frozen=True, slots=True)
class Execute:
    """Run this code."""

    blocks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Finish:
    """The session has its answer."""

    answer: str


@dataclass(frozen=True, slots=True)
class Stop:
    """No further turn: `reason` is a stop reason, `why` a sentence for people."""

    reason: str
    message: str


Step: TypeAlias = "Generate | Execute | Finish | Stop"


def next_step(trajectory: Trajectory) -> Step:
    """Decide the next step."""
    turn = trajectory.last
    if turn is None or trajectory.turns_of_earlier_questions == len(trajectory.turns):
        return Generate()
    if turn.result is None and has_runnable_code(turn):
        return Execute(turn.parsed.blocks)
    answer = final_answer(turn)
    if answer is not None and not answered_without_reading_context(trajectory):
        return Finish(answer)
    return _stop(trajectory) or Generate()


def has_runnable_code(turn: Turn) -> bool:
    """The message has code, and the provider did not cut it off in the middle."""
    return bool(turn.parsed.blocks) and not was_truncated(turn)


def was_truncated(turn: Turn) -> bool:
    """The message's code was cut off at the token limit."""
    return turn.parsed.truncated and turn.judged.kind == "truncated"


def final_answer(turn: Turn) -> str | None:
    """The answer the turn gave, from its code or in plain words; words that were cut off are none."""
    if turn.result is not None:
        return turn.result.final_answer
    return turn.parsed.answer if turn.judged.kind != "truncated" else None


def answered_without_reading_context(trajectory: Trajectory) -> bool:
    """The very first message answers although the model has not looked at the context."""
    return len(trajectory.turns) == 1 and not trajectory.context_was_read


def _stop(trajectory: Trajectory) -> Stop | None:
    limit, turns = trajectory.task.max_iterations, trajectory.turns[trajectory.turns_of_earlier_questions :]
    if len(turns) >= limit:
        allowed = "1 turn" if limit == 1 else f"{limit} turns"
        return Stop("max_iterations", f"the model did not finish within {allowed}; raise max_iterations")
    idle = turns[-MAX_IDLE_TURNS:]
    if len(idle) == MAX_IDLE_TURNS and all(map(_made_no_progress, idle)):
        why = f"the model wrote no code in {MAX_IDLE_TURNS} messages"
        return Stop("no_code", f"{why}; {idle[-1].judged.why or 'try another model'}")
    return None


def _made_no_progress(turn: Turn) -> bool:
    return turn.result is None and final_answer(turn) is None


@dataclass(frozen=True, slots=True)
class Task:
    """What a session was asked, and the rules it works under."""

    query: str
    info: ContextInfo
    depth: int = 0
    """0 for the root."""
    max_depth: int = 1
    max_iterations: int = 20
    max_leaf_chars: int = 100_000
    profile: str = "default"
    prompt_version: int = PROMPT_VERSION
    system_prompt: str = ""
    """Instead of the profile's, word by word."""
    instructions: str = ""
    """At the end of the system prompt."""
    cell_timeout_s: float = 60.0
    cell_cpu_s: float = 30.0

    @property
    def children_are_sessions(self) -> bool:
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
    after_turn: int
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
    def turns_of_earlier_questions(self) -> int:
        """How many turns went to earlier questions."""
        return self.follow_ups[-1].after_turn if self.follow_ups else 0

    @property
    def context_was_read(self) -> bool:
        """The model has looked at the context, or seen all of it in the prompt."""
        seen = any(turn.result is not None and turn.result.context_was_read for turn in self.turns)
        return seen or self.task.info.fits_in_prompt

    @property
    def variables(self) -> frozenset[str]:
        """Names the REPL holds after the last code that ran."""
        results = (turn.result for turn in reversed(self.turns) if turn.result is not None)
        result = next(results, None)
        return frozenset(variable.name for variable in result.variables) if result else frozenset()

    def truncated_to(self, turns: int) -> Trajectory:
        """As it was when the next message after so many turns was asked for."""
        asked = tuple(item for item in self.follow_ups if item.after_turn <= turns)
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
            )  # the model was told that no variable has this name, and means the word
        return replace(self, turns=(*self.turns, Turn(status, reply, parsed)))

    def with_result(self, result: CellResult) -> Trajectory:
        return replace(self, turns=(*self.turns[:-1], replace(self.turns[-1], result=result)))
