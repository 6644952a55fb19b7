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
_NOTHING = re.compile(r"(?:\s*(?:0(?:\.0)?|None|False|nan|\[\]|\{\}|\(\)|''|\"\"|set\(\)|Counter\(\)))+\s*")
_NOT_FOUND = (
    "Nothing was found. The text may write it in another way than your code does: print some lines that hold one word of the "
    "question, and compare. Only when they show that there is none, that is the answer."
)


def remark(trajectory: Trajectory) -> str:
    """Return what to tell about the last turn, or nothing."""
    return next((said for cause in _CAUSES if (said := cause(trajectory))), "")


def found_nothing(result: CellResult) -> bool:
    """Tell whether the code went well and printed nothing but zeros, empty lists and their like."""
    return not (result.error or result.kill_reason) and bool(_NOTHING.fullmatch(result.output))


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
    turn = trajectory.turns[-1]
    number = next(
        (number for number, earlier in _earlier_turns(trajectory) if turn.did_the_same(earlier)), None
    )
    if number is None or turn.result is None:
        return ""
    if turn.result.error:
        return f"This is the same code as in turn {number}, with the same error. {_LOOK}"
    if not turn.result.output:
        return f"This is the same code as in turn {number}, and again it printed nothing. Print what you want to see."
    return f"This is the same code as in turn {number}, with the same output. {_END}"


def _same_result(trajectory: Trajectory) -> str:
    """Say so where other code than in the turn before printed nothing new."""
    for number, earlier in _earlier_turns(trajectory)[:1]:
        result, before = trajectory.turns[-1].result, earlier.result
        if result is None or before is None:
            return ""
        if result.error and before.error and result.error_line == before.error_line:
            return f"This is the same error as in turn {number}. {_LOOK}"
        if not result.error and not before.error and result.output.strip() and result.output == before.output:
            return f"This is the same output as in turn {number}. {_END}"
    return ""


def _pasted(trajectory: Trajectory) -> str:
    if trajectory.turns[-1].result is None or not pastes_context(trajectory):
        return ""
    return "You wrote text of the input into your code. All of it is in the variable `context` already: use that."


def _found_nothing(trajectory: Trajectory) -> str:
    result = trajectory.turns[-1].result
    return _NOT_FOUND if result is not None and found_nothing(result) else ""


_CAUSES: tuple[Callable[[Trajectory], str], ...] = (_same_code, _same_result, _pasted, _found_nothing)


def _earlier_turns(trajectory: Trajectory) -> list[tuple[int, Turn]]:
    """Return the turns before the last one, of the same question, with their numbers; the newest first."""
    begin = trajectory.turns_of_earlier_questions
    asked = [(number - begin, turn) for number, turn in enumerate(trajectory.turns[:-1], 1) if number > begin]
    return asked[: -_TURNS_COMPARED - 1 : -1]
