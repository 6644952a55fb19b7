"""What a session does next: a pure function of its trajectory.

Laws:
- Code that has been written is run once, unless the provider cut it off in the middle.
- An answer on the first turn counts only if the model has looked at the context (or saw it whole).
- Three messages in a row that neither run code nor answer end the session: more of them cost and change nothing.
- An answer that was refused (it does not match the schema) counts as a turn, and the session goes on.
- Where citations are required, an answer that cites nothing is sent back, twice; then the session ends.
- A compaction leaves turns out of the conversation, not out of the trajectory; so does a model that repeats itself, twice;
  then the session ends.
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
from rlm_ray.core.profiles import PROMPT_VERSION, get_profile
from rlm_ray.core.repl_types import CellResult, Citation
from rlm_ray.core.reply import Judgement, judge
from rlm_ray.core.tools import ToolSpec

MAX_IDLE_TURNS = 3
MAX_RESTARTS = 2
"""So often the conversation begins anew for a model that repeats itself; then the session ends."""
MISFIT = "schema"
"""The stop reason of a session none of whose answers matched the schema that was asked for."""
NO_CITATIONS = "no_citations"
"""The stop reason of an answer that cites nothing although it has to."""
MAX_UNCITED_ANSWERS = 3
"""So many answers that cite nothing end a session that has to cite."""


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
        return _stop_uncited(trajectory) if lacks_citations(trajectory) else Finish(answer)
    return _stop(trajectory) or Generate()


def has_runnable_code(turn: Turn) -> bool:
    """Tell whether the message has code, and the provider did not cut it off in the middle."""
    return bool(turn.parsed.blocks) and not was_truncated(turn)


def was_truncated(turn: Turn) -> bool:
    """Tell whether the message's code was cut off at the token limit."""
    return turn.parsed.truncated and turn.judged.kind == "truncated"


def final_answer(turn: Turn) -> str | None:
    """Return the answer the turn gave, from its code or in plain words; one that was refused, or cut off, is none."""
    if turn.refusal:
        return None
    if turn.result is not None:
        return turn.result.final_answer
    return turn.parsed.answer if turn.judged.kind != "truncated" else None


def answered_without_reading_context(trajectory: Trajectory) -> bool:
    """Tell whether the very first message answers although the model has not looked at the context."""
    return len(trajectory.turns) == 1 and not trajectory.context_was_read


def lacks_citations(trajectory: Trajectory) -> bool:
    """Tell whether the answer has to rest on citations, and nothing was cited for this question."""
    return trajectory.task.citations == "required" and not trajectory.citations


def repeats_itself(trajectory: Trajectory) -> bool:
    """Tell whether the code of the last turn did the same before in this conversation, as often as its profile bears."""
    most = get_profile(trajectory.task.profile, trajectory.task.prompt_version).max_repeats
    turns = trajectory.turns_of_this_question[-trajectory.turns_in_conversation or len(trajectory.turns) :]
    if not most or not turns or turns[-1].refusal:
        return False
    return sum(map(turns[-1].did_the_same, turns[:-1])) >= most


def _stop_uncited(trajectory: Trajectory) -> Step:
    turns = trajectory.turns_of_this_question
    answers = sum(final_answer(turn) is not None for turn in turns)
    if answers < MAX_UNCITED_ANSWERS and len(turns) < trajectory.task.max_iterations:
        return Generate()
    why = "the answer cites nothing from the context, although citations are required"
    return Stop(NO_CITATIONS, f"{why}; try a stronger model, or set citations to optional")


def _stop(trajectory: Trajectory) -> Stop | None:
    limit, turns = trajectory.task.max_iterations, trajectory.turns_of_this_question
    if len(turns) >= limit:
        allowed = "1 turn" if limit == 1 else f"{limit} turns"
        return Stop("max_iterations", f"the model did not finish within {allowed}; raise max_iterations")
    restarts = sum(
        item.repeated
        for item in trajectory.compactions
        if item.after_turn > trajectory.turns_of_earlier_questions
    )
    if restarts >= MAX_RESTARTS and repeats_itself(trajectory):
        return Stop(
            "no_progress",
            "the model wrote the same code over and over, with the same result; try a stronger model",
        )
    idle = turns[-MAX_IDLE_TURNS:]
    if len(idle) == MAX_IDLE_TURNS and all(map(_made_no_progress, idle)):
        why = f"the model wrote no code in {MAX_IDLE_TURNS} messages"
        return Stop("no_code", f"{why}; {idle[-1].judged.why or 'try another model'}")
    return None


def _made_no_progress(turn: Turn) -> bool:
    return turn.result is None and final_answer(turn) is None and not turn.refusal


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
    citations: str = "off"
    """`off`, `optional` or `required`."""
    tools: tuple[ToolSpec, ...] = ()
    schema: str = ""
    """The JSON Schema of the answer, as the model reads it; empty: any text."""
    models: tuple[str, ...] = ()
    """Names of models that code may choose for its sub-calls."""

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
    refusal: str = ""
    """What is wrong with the answer it gave, which was not taken."""

    @property
    def judged(self) -> Judgement:
        """Return what the message is worth."""
        return judge(self.reply, takes_code=True)

    @property
    def code(self) -> tuple[str, ...]:
        return tuple(block.strip() for block in self.parsed.blocks)

    def did_the_same(self, other: Turn) -> bool:
        """Tell whether the other turn ran the same code, and it gave the same output or failed with the same error."""
        if self.result is None or other.result is None or self.code != other.code:
            return False
        if self.result.error or other.result.error:
            return self.result.error_line == other.result.error_line
        return self.result.output == other.result.output


@dataclass(frozen=True, slots=True)
class FollowUp:
    """A further question of the same session."""

    query: str
    after_turn: int
    """How many turns were before it."""
    schema: str = ""
    """As `Task.schema`."""


@dataclass(frozen=True, slots=True)
class Compaction:
    """The conversation began anew with a summary of the turns so far."""

    after_turn: int
    """How many turns were before it."""
    summary: str
    """By the model; empty where it made none."""
    name: str = "history"
    """The variable of the REPL that holds those turns."""
    repeated: bool = False
    """It began anew since the last turns repeated themselves."""


@dataclass(frozen=True, slots=True)
class Trajectory:
    """The task and its turns. `with_*` return the next trajectory."""

    task: Task
    turns: tuple[Turn, ...] = ()
    follow_ups: tuple[FollowUp, ...] = ()
    compactions: tuple[Compaction, ...] = ()

    @property
    def compaction(self) -> Compaction | None:
        """Return the last compaction."""
        return self.compactions[-1] if self.compactions else None

    @property
    def summary(self) -> Compaction | None:
        """Return the last compaction for want of room: its turns are in the REPL's variable."""
        return next((item for item in reversed(self.compactions) if not item.repeated), None)

    @property
    def turns_in_conversation(self) -> int:
        """Return how many turns the model still reads word by word."""
        return len(self.turns) - (self.compaction.after_turn if self.compaction else 0)

    @property
    def last(self) -> Turn | None:
        return self.turns[-1] if self.turns else None

    @property
    def query(self) -> str:
        """Return the question that is to be answered now."""
        return self.follow_ups[-1].query if self.follow_ups else self.task.query

    @property
    def schema(self) -> str:
        """Return the schema of the answer to that question."""
        return self.follow_ups[-1].schema if self.follow_ups else self.task.schema

    @property
    def turns_of_earlier_questions(self) -> int:
        """Return how many turns went to earlier questions."""
        return self.follow_ups[-1].after_turn if self.follow_ups else 0

    @property
    def turns_of_this_question(self) -> tuple[Turn, ...]:
        return self.turns[self.turns_of_earlier_questions :]

    @property
    def citations(self) -> tuple[Citation, ...]:
        """Return what the code cited for the question that is to be answered now, each place once."""
        results = (turn.result for turn in self.turns_of_this_question if turn.result is not None)
        return tuple(dict.fromkeys(cited for result in results for cited in result.citations))

    @property
    def context_was_read(self) -> bool:
        """Tell whether the model has looked at the context, or seen all of it in the prompt."""
        seen = any(turn.result is not None and turn.result.context_was_read for turn in self.turns)
        return seen or self.task.info.fits_in_prompt

    @property
    def variables(self) -> frozenset[str]:
        """Names the REPL holds after the last code that ran."""
        results = (turn.result for turn in reversed(self.turns) if turn.result is not None)
        result = next(results, None)
        return frozenset(variable.name for variable in result.variables) if result else frozenset()

    def truncated_to(self, turns: int) -> Trajectory:
        """Return the trajectory as it was when the next message after so many turns was asked for."""
        asked = tuple(item for item in self.follow_ups if item.after_turn <= turns)
        compacted = tuple(item for item in self.compactions if item.after_turn <= turns)
        return Trajectory(self.task, self.turns[:turns], asked, compacted)

    def with_compaction(self, summary: str, *, repeated: bool = False) -> Trajectory:
        """Return the trajectory whose conversation begins anew with this summary of all turns so far."""
        name = "history" if "history" not in self.variables else "full_history"
        compaction = Compaction(len(self.turns), summary, name, repeated)
        return replace(self, compactions=(*self.compactions, compaction))

    def with_question(self, query: str, schema: str = "") -> Trajectory:
        return replace(self, follow_ups=(*self.follow_ups, FollowUp(query, len(self.turns), schema)))

    def with_refusal(self, why: str) -> Trajectory:
        """Return the trajectory in which the answer of the last turn was not taken."""
        return replace(self, turns=(*self.turns[:-1], replace(self.turns[-1], refusal=why)))

    def with_reply(self, reply: ModelReply, status: str) -> Trajectory:
        """Return the trajectory with the next message; nothing of one that was withheld or refused is taken."""
        is_said = judge(reply, takes_code=True).kind not in {"filtered", "refused"}
        parsed = parse(reply.text, self.variables) if is_said else Parsed()
        if parsed.is_word and self._is_meant(str(parsed.unresolved)):
            parsed = Parsed(answer=parsed.unresolved)
        return replace(self, turns=(*self.turns, Turn(status, reply, parsed)))

    def _is_meant(self, word: str) -> bool:
        """Tell whether a word that is no variable is meant as the answer: code has printed it, or the model insists on it."""
        insists = self.last is not None and self.last.parsed.unresolved == word
        results = (turn.result for turn in self.turns_of_this_question)
        return insists or any(result is not None and word in result.output for result in results)

    def with_result(self, result: CellResult) -> Trajectory:
        return replace(self, turns=(*self.turns[:-1], replace(self.turns[-1], result=result)))
