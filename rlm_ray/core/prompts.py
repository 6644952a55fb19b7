"""Every prompt: all text that is sent to a model.

The words of the system prompts are in `core/profiles/`, one file for each kind of model; what a model is told about its
last turn besides is in `core/remarks.py`.

Rules:
- The history only grows: what was said in a turn is said the same way in all later ones, so that a provider's
  prefix cache hits.
- One number in one unit for the size of a sub-call.
- Nothing unbounded goes in: observations keep a head and a tail and say how long they were.
- A run that began with an earlier version of the prompts goes on with it (`Task.prompt_version`): what is sent to a
  model is what its record is found by.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from types import MappingProxyType

from rlm_ray.core.context import ContextInfo
from rlm_ray.core.final_value import written_answer
from rlm_ray.core.limits import NANO, Amount, Limits
from rlm_ray.core.llm import Message
from rlm_ray.core.profiles import PROMPT_VERSION, Profile, get_profile
from rlm_ray.core.remarks import found_nothing, pastes_context, remark
from rlm_ray.core.repl_types import CellResult, Variable
from rlm_ray.core.state_machine import (
    Task,
    Trajectory,
    Turn,
    answered_without_reading_context,
    final_answer,
    lacks_citations,
    was_truncated,
)
from rlm_ray.core.tools import tool_block

DEFAULT_LEAF_CHARS = 100_000
"""What a plain sub-call reads, where the settings say nothing."""

_CITE = """
`cite(words)` says that these exact words stand in the context (a hit of search or bm25 does, too) and gives where; if they \
do not, it raises CitationError with the nearest words that do{required}.
"""
_CITE_REQUIRED = ". Your answer must rest on citations: cite the words that support it before you call FINAL"
_UNCITED = (
    "That answer was not accepted: it cites nothing. Call cite(words) with the exact words of the context that support "
    "it, in a ```python block, then answer again. If nothing in the context does, cite what comes nearest and say so."
)
UNSEEN = "You wrote it before you saw what your code prints, so it cannot rest on it."
"""What is wrong with an answer of a model that has to wait for the output of its code."""
_MODELS = """\
- `model="..."` as a further argument of both: one of {names} answers instead of the usual model
"""

_LINES_OF = MappingProxyType(
    {
        (True, False): "context.splitlines()",
        (True, True): "context.splitlines()",
        (False, False): '"\\n".join(context).splitlines()',
        (False, True): '"\\n".join(d["text"] for d in context).splitlines()',
    }
)
"""All lines of a context, by whether it is one text and whether its documents have ids."""
_LONG_CHARS = 10_000
_ASKED_AGAIN_CHARS = 500
_MANY_DOCUMENTS = 8
_MANY_PIECES = 4
_ANNOUNCED_TURNS = 4
"""The prompt names the search helpers where there is this much to look through."""

_SCHEMA = """

The answer must match this JSON Schema:
{schema}
Give FINAL the value itself (a dict, list, number ... of Python), with nothing around it."""

_COMPACT = """

This conversation nears the end of your window and goes on from a summary that you write now. You will see nothing else of \
it; your variables stay, and code can still read every message and output so far in the list `{name}`. Write the summary: \
what is asked and what was found out about it (numbers, names, places, exact words that the answer needs), what each \
variable holds, what was tried and did not work, and what to do next. Write no code."""

_COMPACTED = """{question}

You have worked on this for {turns} turns, which are left out here. {summary}

All variables, functions and imports are still there. `{name}` is a list of those {turns} turns, in order: each a dict with \
"turn" (from 1), "message" (what you wrote) and "output" (what you were shown then).

{said}"""
_RESTARTED = """{question}

You have worked on this for {turns} turns. They did the same over and over, so they are left out here. The last code \
{outcome}

Do not write that code again. {advice}"""
_RESTARTED_CHARS = 1_000
"""So much of what the repeated code gave is shown."""
_NO_SUMMARY = "There is no summary of them: look at your variables and at `{name}`."
MAX_HISTORY_CHARS = 5_000_000
"""Of all outputs in the variable that holds the turns."""
MIN_HISTORY_CHARS = 500
"""Of each of them, however many there are."""

_FOLLOW_UP = """\
{said}

Next question: {query}

It is about the same `context`. Your variables are still there; `query` is this question now."""

_NUDGES = MappingProxyType(
    {
        "truncated": "Your message was cut off at the token limit, so nothing of it was taken. Be brief.",
        "empty": "Your message was empty.",
        "filtered": "Your message was withheld by a content filter. Say it in other words.",
        "refused": "Your message was taken as a refusal to answer.",
        "tool_call": "You called a tool, but there are none here.",
    }
)
"""What was wrong with a message that holds no code."""
_WRITE = "Write Python in a ```python block, or FINAL(answer) when you know the answer."

_LAST_CALL_SCHEMA = (
    "\n\nAnswer with one JSON value that matches this JSON Schema, and with nothing else:\n{schema}"
)

_LAST_CALL = (
    "This session has to end now: {why}. Do not write code. Give the best answer to the question that what you have "
    "seen so far supports, say what is missing, and invent nothing."
)
_LAST_CALL_UNSEEN = (
    "This session has to end now: {why}. Do not write code. Your code has shown nothing of the input, so all that you know of "
    "it is what the first message shows. If that does not hold the answer, your whole answer is: not found. Invent nothing."
)


def session_messages(trajectory: Trajectory, status: str) -> tuple[Message, ...]:
    """Return the conversation that asks for the next message of a session."""
    return (*_history(trajectory), Message("user", _ask(trajectory, status)))


def last_call_messages(trajectory: Trajectory, why: str) -> tuple[Message, ...]:
    """Return the conversation that asks for the best answer from what is known."""
    return (
        *_history(trajectory),
        Message(
            "user",
            f"{_next_user_message(trajectory)}\n\n{_last_call(trajectory).format(why=why)}{_last_call_schema(trajectory)}",
        ),
    )


def _last_call(trajectory: Trajectory) -> str:
    seen = trajectory.task.info.fits_in_prompt or any(
        turn.result is not None and turn.result.output.strip() for turn in trajectory.turns
    )
    return _LAST_CALL if seen or not _profile(trajectory.task).teaches else _LAST_CALL_UNSEEN


def _last_call_schema(trajectory: Trajectory) -> str:
    return _LAST_CALL_SCHEMA.format(schema=trajectory.schema) if trajectory.schema else ""


def short_last_call_messages(trajectory: Trajectory, why: str) -> tuple[Message, ...]:
    """Return the same as `last_call_messages` with only the last turn as history, for a conversation that no longer fits the model's window."""
    task = replace(trajectory.task, query=trajectory.query, schema=trajectory.schema)
    recent = Trajectory(task, trajectory.turns[-1:])
    return last_call_messages(recent, why)


def leaf_messages(query: str, context: str, prompt_version: int = PROMPT_VERSION) -> tuple[Message, ...]:
    """Return the messages of a plain call about a piece of text small enough to read at once."""
    if not context:
        return (Message("user", query),)
    return (
        Message("system", get_profile("default", prompt_version).leaf_system),
        Message("user", f"Question:\n{query}\n\nContext:\n{context}"),
    )


def status_line(task: Task, turn: int, budget: str) -> str:
    """Say where the session stands, shown with each request: `turn` counts from 1."""
    left = f" Left for the whole run: {budget}." if budget else ""
    ending = _ending(task.max_iterations, task.max_iterations - turn)
    return f"Turn {turn} of {task.max_iterations}.{left}{ending}{_profile(task).before_reply}"


def _ending(turns: int, left: int) -> str:
    """Announce the end of the turns while there is time to write an answer."""
    if left <= 0:
        return " This is your last turn: call FINAL in this message."
    if left > min(_ANNOUNCED_TURNS, turns // 4):
        return ""
    more = "1 more turn" if left == 1 else f"{left} more turns"
    return f" Only {more} after this one: call FINAL as soon as you can, with what you know."


def format_budget(limits: Limits, spent: Amount) -> str:
    """Say what is left of a run's limits; empty where nothing is limited."""
    left = []
    if limits.cost_usd is not None:
        left.append(f"${max(0.0, limits.cost_usd - spent.nano_usd / NANO):.2f}")
    if limits.tokens is not None:
        left.append(f"{max(0, limits.tokens - spent.tokens):,} tokens")
    if limits.calls is not None:
        left.append(f"{max(0, limits.calls - spent.calls):,} model calls")
    return ", ".join(left)


def cut_note(count: int) -> tuple[str, ...]:
    """Return a remark about sub-calls whose answers were cut off."""
    if not count:
        return ()
    answers = "The answer of a sub-call was" if count == 1 else f"The answers of {count:,} sub-calls were"
    return (f"{answers} cut off at the token limit; a mark at the end shows it. Ask for less at a time.",)


def truncate_middle(text: str, limit: int, true_chars: int | None = None) -> str:
    """Return the text, or its head and tail with how much is left out between. At most `limit` characters of it."""
    if len(text) <= limit:
        return text
    head, tail = limit * 2 // 3, limit // 3
    out = (true_chars or len(text)) - head - tail
    return f"{text[:head]}\n… {out:,} characters left out …\n{text[-tail:]}"


def compaction_messages(trajectory: Trajectory) -> tuple[Message, ...]:
    """Return the conversation that asks for a summary of itself."""
    name = trajectory.with_compaction("").compactions[-1].name
    said = f"{_next_user_message(trajectory)}{_COMPACT.format(name=name)}"
    return (*_history(trajectory), Message("user", said))


def history_items(trajectory: Trajectory) -> list[dict[str, object]]:
    """Return the turns before the last compaction, as the REPL's variable holds them."""
    count = trajectory.summary.after_turn if trajectory.summary else 0
    most = max(MIN_HISTORY_CHARS, MAX_HISTORY_CHARS // max(1, count))
    return [
        {
            "turn": number,
            "message": truncate_middle(trajectory.turns[number - 1].reply.text, most),
            "output": truncate_middle(_observe(trajectory.truncated_to(number)), most),
        }
        for number in range(1, count + 1)
    ]


def _history(trajectory: Trajectory) -> tuple[Message, ...]:
    messages = [Message("system", _system(trajectory.task))]
    first = trajectory.compaction.after_turn if trajectory.compaction else 0
    for index, turn in list(enumerate(trajectory.turns))[first:]:
        messages.append(Message("user", _ask(trajectory.truncated_to(index), turn.status)))
        messages.append(Message("assistant", turn.reply.text or "(empty message)"))
    return tuple(messages)


def _ask(trajectory: Trajectory, status: str) -> str:
    return f"{_next_user_message(trajectory)}\n\n{status}"


def _next_user_message(trajectory: Trajectory) -> str:
    """Return the next message to the model."""
    compaction = trajectory.compaction
    if compaction is None or compaction.after_turn < len(trajectory.turns):
        return _next_text(trajectory)
    if compaction.repeated:
        return _restarted(trajectory)
    summary = f"Your summary of them:\n{compaction.summary}" if compaction.summary else ""
    return _COMPACTED.format(
        question=_question_now(trajectory),
        turns=compaction.after_turn,
        summary=summary or _NO_SUMMARY.format(name=compaction.name),
        name=compaction.name,
        said=_next_text(trajectory),
    )


def _restarted(trajectory: Trajectory) -> str:
    """Return the question anew, with what the code gave that was written over and over."""
    result = trajectory.turns[-1].result
    assert result is not None
    if result.error or result.kill_reason:
        outcome = (
            f"failed:\n{truncate_middle(result.error_line or str(result.kill_reason), _RESTARTED_CHARS)}"
        )
        advice = "Begin with a short block that prints some of `context`, and go about it in another way."
    elif found_nothing(result):
        outcome = f"found nothing:\n{truncate_middle(result.output, _RESTARTED_CHARS)}"
        advice = "Begin with a short block that prints some of `context`, and look for other words."
    elif result.output.strip():
        outcome = f"printed:\n{truncate_middle(result.output, _RESTARTED_CHARS, result.output_chars)}"
        advice = "If this answers the question, write only\n```python\nFINAL(<the answer>)\n```\nIf not, go about it in another way."
    else:
        outcome = "printed nothing."
        advice = "Begin with a short block that prints some of `context`."
    return _RESTARTED.format(
        question=_question_now(trajectory),
        turns=len(trajectory.turns_of_this_question),
        outcome="\n".join((outcome, *(f"Note: {note}" for note in result.notes)))
        + _variables(result.variables),
        advice=advice,
    )


def _question_now(trajectory: Trajectory) -> str:
    """Return the question that is to be answered now, with what the context is."""
    return _question(replace(trajectory.task, query=trajectory.query, schema=trajectory.schema))


def _next_text(trajectory: Trajectory) -> str:
    """Return what follows the last turn: the question, what the code did, or the next question."""
    if not trajectory.turns:
        return _question_now(trajectory)
    if trajectory.turns_of_earlier_questions < len(trajectory.turns):
        return _observe(trajectory)
    ended = final_answer(trajectory.turns[-1]) is not None
    said = _answered(trajectory.turns[-1]) if ended else _observe(trajectory)
    return _FOLLOW_UP.format(said=said, query=trajectory.query) + _schema(trajectory.schema)


def _answered(turn: Turn) -> str:
    held = turn.result.variables if turn.result is not None else ()
    return f"Your answer was taken.{_variables(held)}"


def _profile(task: Task) -> Profile:
    return get_profile(task.profile, task.prompt_version)


def _system(task: Task) -> str:
    profile = _profile(task)
    text = task.system_prompt or profile.system.format(
        kind=_context_type(task),
        children=profile.deep if task.children_are_sessions else profile.flat,
        max_leaf_chars=_leaf_chars(task),
        observation_chars=profile.observation_chars,
        cell_timeout_s=task.cell_timeout_s,
        cell_cpu_s=task.cell_cpu_s,
        example=_example(task.info, profile),
        more=_model_choice(task) + _optional_helpers(task, profile),
    )
    text += _cite_block(task) + tool_block(task.tools)
    return f"{text.rstrip()}\n\n{task.instructions.strip()}\n" if task.instructions.strip() else text


def _example(info: ContextInfo, profile: Profile) -> str:
    """Return the code that the profile shows for a context of this form."""
    lines = _LINES_OF[info.kind == "text", info.with_ids]
    first, *others = info.sample.splitlines()[:2] or [""]
    sign = max(",;\t", key=first.count)
    columns = [column.strip(' "') for column in first.split(sign)]
    named = len(columns) > 1 and all(column and not column[0].isdigit() for column in columns)
    if info.kind == "text" and named and all(line.count(sign) >= len(columns) - 1 for line in others):
        lines = lines if sign == "," else f"{lines}, delimiter={sign!r}"
        return profile.example_of_table.format(lines=lines, column=repr(columns[0]))
    return profile.example_of_lines.format(lines=lines)


def _cite_block(task: Task) -> str:
    if task.citations == "off":
        return ""
    return _CITE.format(required=_CITE_REQUIRED if task.citations == "required" else "")


def _model_choice(task: Task) -> str:
    """Say which models code may choose, where there are some."""
    return _MODELS.format(names=", ".join(map(repr, task.models))) if task.models else ""


def _optional_helpers(task: Task, profile: Profile) -> str:
    """Describe the helpers that this context is large enough for."""
    info = task.info
    more = ""
    if profile.sub_calls and info.chars >= _LONG_CHARS:
        more += profile.sub_calls.format(max_leaf_chars=_leaf_chars(task))
    more += profile.documents if info.kind == "documents" and info.documents >= _MANY_DOCUMENTS else ""
    if info.chars >= _MANY_PIECES * _leaf_chars(task):
        size = "" if _leaf_chars(task) == DEFAULT_LEAF_CHARS else f", size={_leaf_chars(task):_}"
        more += profile.map_reduce.format(size=size)
    return more


def _leaf_chars(task: Task) -> int:
    return min(task.max_leaf_chars or DEFAULT_LEAF_CHARS, _profile(task).max_piece_chars)


def _context_type(task: Task) -> str:
    info = task.info
    if info.kind == "text":
        return "a str"
    return "a list of {'id', 'text'} dicts" if info.with_ids else "a list of str"


def _question(task: Task) -> str:
    info = task.info
    if info.chars == 0:
        size = "`context` is empty."
    elif info.kind == "text":
        size = f"`context` is a str of {info.chars:,} characters."
    else:
        size = f"`context` is {_context_type(task)}: {info.documents:,} documents, {info.chars:,} characters in all."
    if not info.chars:
        sample = ""
    elif info.fits_in_prompt:
        sample = f"\nThis is all of it:\n<context>\n{info.sample}\n</context>"
    else:
        first = "It begins" if info.kind == "text" else "The first document begins"
        sample = f"\n{first}:\n<sample>\n{info.sample}\n</sample>"
    return f"Question: {task.query}{_schema(task.schema)}\n\n{size}{sample}"


def _schema(schema: str) -> str:
    """Say what the answer has to look like; empty for text."""
    return _SCHEMA.format(schema=schema) if schema else ""


def _observe(trajectory: Trajectory) -> str:
    turn = trajectory.turns[-1]
    if final_answer(turn) is not None and answered_without_reading_context(trajectory):
        return (
            "That answer was not accepted: you have not looked at `context` yet. "
            "Look at it with code in a ```python block, then answer."
        )
    if turn.refusal:
        return _refused(turn, _profile(trajectory.task).observation_chars)
    if final_answer(turn) is not None and lacks_citations(trajectory):
        return _UNCITED + _variables(turn.result.variables if turn.result is not None else ())
    if turn.result is None:
        return _no_code_feedback(trajectory)
    profile = _profile(trajectory.task)
    shown = _result(turn.result, profile.observation_chars)
    said = remark(trajectory) if profile.teaches else ""
    if not said and turn.result.output.strip() and not (turn.result.error or turn.result.kill_reason):
        said = profile.after_output.format(query=truncate_middle(trajectory.query, _ASKED_AGAIN_CHARS))
    return f"{shown}\n\n{said}" if said else shown


def answered_before_output(trajectory: Trajectory) -> bool:
    """Tell whether the last answer was written beside code that printed, and not computed by it; told once for each question."""
    *before, turn = trajectory.turns_of_this_question
    if (
        not _profile(trajectory.task).waits_for_output
        or turn.result is None
        or not turn.result.output.strip()
    ):
        return False
    answer = written_answer("\n".join(turn.code))
    if answer is None or any(earlier.refusal == UNSEEN for earlier in before):
        return False
    return not any(answer in earlier.result.output for earlier in before if earlier.result is not None)


def _refused(turn: Turn, limit: int) -> str:
    """Say why an answer was not taken, and what the code printed that gave it."""
    said = f"That answer was not accepted. {turn.refusal}\nPut that right and call FINAL again."
    if turn.result is None:
        return said
    return (
        f"{said}\n{_result(turn.result, limit)}"
        if turn.result.output
        else said + _variables(turn.result.variables)
    )


def _no_code_feedback(trajectory: Trajectory) -> str:
    turn = trajectory.turns[-1]
    if _profile(trajectory.task).teaches and turn.judged.kind == "truncated" and pastes_context(trajectory):
        return (
            "Your message was cut off at the token limit because you copied text of the input into it, so nothing was run. The "
            "whole input is in the variable `context` already: never write `context = ...`. Write a short block that uses it."
        )
    if was_truncated(turn):
        return (
            "Your message was cut off at the token limit before its code ended, so nothing was run. "
            "Write a shorter block."
        )
    if turn.parsed.unresolved is not None:
        return _unresolved(turn.parsed.unresolved)
    judged = turn.judged
    nudge = _NUDGES.get(judged.kind)
    if judged.kind == "tool_call" and trajectory.task.tools:
        nudge = "Your tools are functions of the REPL: call them in code."
    if judged.kind == "empty" and turn.reply.reasoning:
        nudge = "Your message held only thinking, and no code."
    if nudge is not None:
        return f"{nudge} {_WRITE}"
    return (
        "Your message had no ```python block, so nothing was run. Write code in a ```python block, "
        "or put your answer on a line of its own as FINAL(answer)."
    )


def _unresolved(inside: str) -> str:
    return (
        f"FINAL({truncate_middle(inside, 100)}) ended nothing: what stands inside is neither an answer nor a variable of your REPL. "
        "To end with a value you computed, write\n```python\nFINAL(variable)\n```\nTo end with words, put them in "
        'quotation marks on a line of its own: FINAL("the words of your answer")'
    )


def _result(result: CellResult, limit: int) -> str:
    parts = []
    if result.output:
        shown = truncate_middle(result.output, limit, result.output_chars)
        cut = result.output_chars > len(result.output) or len(result.output) > limit
        parts.append(
            f"Output{f' (head and tail of {result.output_chars:,} characters)' if cut else ''}:\n{shown}"
        )
    if result.error:
        parts.append(f"Error:\n{truncate_middle(result.error, limit // 2)}")
    if result.kill_reason:
        parts.append(result.kill_reason)
    if not parts:
        parts.append("The code ran and printed nothing. Use print() to see values.")
    parts.extend(f"Note: {note}" for note in result.notes)
    return "\n".join(parts) + _variables(result.variables)


def _variables(held: Sequence[Variable]) -> str:
    return f"\nVariables: {', '.join(map(_variable, held))}" if held else ""


def _variable(variable: Variable) -> str:
    size = f", {variable.size:,}" if variable.size is not None else ""
    return f"{variable.name} ({variable.kind}{size})"
