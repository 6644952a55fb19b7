"""What a model is told about its last turn besides what its code did: that it repeats itself, and the like.

A function of the trajectory alone, so that a turn is spoken of in the same words in every later message. One function
for each cause in `_CAUSES`; the first that has something to say is heard.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from rlm_ray.core.repl_types import CellResult
from rlm_ray.core.state_machine import Trajectory, Turn

_TURNS_COMPARED = 10
_PASTED_CHARS = 120
"""So much of the sample in a message is no accident."""
_ASSIGNS_CONTEXT = re.compile(r"^[ \t]*context[ \t]*=[ \t]*[\[({]?[ \t\n]*[rRfFbB]{0,2}[\"']", re.MULTILINE)

_END = (
    "If it answers the question, end now:\n```python\nFINAL(<the answer>)\n```\nIf not, write different code."
)
_LOOK = (
    "Running it again changes nothing. Look at what the failing line works on, with print(repr(...)[:500]) for each of its "
    "variables, or go about it in another way."
)


def remark(trajectory: Trajectory) -> str:
    """Return what to tell about the last turn, or nothing."""
    return next((said for cause in _CAUSES if (said := cause(trajectory))), "")


def pastes_context(trajectory: Trajectory) -> bool:
    """Tell whether the last message writes the context down instead of using the variable."""
    turn = trajectory.turns[-1]
    code = "\n".join(turn.parsed.blocks) or turn.reply.text
    return bool(_ASSIGNS_CONTEXT.search(code)) or _holds_sample(turn.reply.text, trajectory.task.info.sample)


def _holds_sample(text: str, sample: str) -> bool:
    """Tell whether a long stretch of the sample that the prompt shows stands in a message."""
    sample = sample.strip()
    starts = range(0, len(sample) - _PASTED_CHARS + 1, _PASTED_CHARS)  # none in a short one
    return any(sample[at : at + _PASTED_CHARS] in text for at in starts)


def _same_code(trajectory: Trajectory) -> str:
    turn, code = trajectory.turns[-1], _code(trajectory.turns[-1])
    for number, earlier in _earlier_turns(trajectory):
        if earlier.result is None or turn.result is None or _code(earlier) != code:
            continue
        if turn.result.error and _last_line(turn.result) == _last_line(earlier.result):
            return f"This is the same code as in turn {number}, with the same error. {_LOOK}"
        if not turn.result.error and turn.result.output == earlier.result.output:
            if not turn.result.output:
                return f"This is the same code as in turn {number}, and again it printed nothing. Print what you want to see."
            return f"This is the same code as in turn {number}, with the same output. {_END}"
    return ""


def _same_result(trajectory: Trajectory) -> str:
    """Other code than in the turn before, and nothing new."""
    for number, earlier in _earlier_turns(trajectory)[:1]:
        result, before = trajectory.turns[-1].result, earlier.result
        if result is None or before is None:
            return ""
        if result.error and before.error and _last_line(result) == _last_line(before):
            return f"This is the same error as in turn {number}. {_LOOK}"
        if not result.error and not before.error and result.output.strip() and result.output == before.output:
            return f"This is the same output as in turn {number}. {_END}"
    return ""


def _pasted(trajectory: Trajectory) -> str:
    if trajectory.turns[-1].result is None or not pastes_context(trajectory):
        return ""
    return "You wrote text of the input into your code. All of it is in the variable `context` already: use that."


_CAUSES: tuple[Callable[[Trajectory], str], ...] = (_same_code, _same_result, _pasted)


def _earlier_turns(trajectory: Trajectory) -> list[tuple[int, Turn]]:
    """The turns before the last one, of the same question, with their numbers; the newest first."""
    begin = trajectory.turns_of_earlier_questions
    asked = [(number - begin, turn) for number, turn in enumerate(trajectory.turns[:-1], 1) if number > begin]
    return asked[: -_TURNS_COMPARED - 1 : -1]


def _code(turn: Turn) -> tuple[str, ...]:
    return tuple(block.strip() for block in turn.parsed.blocks)


def _last_line(result: CellResult) -> str:
    """The line of an error that says what went wrong, without the advice that may follow it."""
    lines = [line for line in (result.error or "").splitlines() if not line.startswith("Hint: ")]
    return lines[-1] if lines else ""
