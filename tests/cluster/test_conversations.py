"""Many questions about one context, in one REPL: a run whose lives are its questions."""

from __future__ import annotations

import re

import pytest

from rlm_ray import RLM
from rlm_ray.errors import ConfigError, InputError
from rlm_ray.testing import ModelServer

pytestmark = pytest.mark.ray

CONTEXT = "one two three " * 100


def play(*programs):
    """A question whose session runs one of these programs each turn."""
    return "\n".join(f"```python\n{program}\n```" for program in programs)


def talk(request):
    """Plays the programs of the question that was asked last, one each turn."""
    if "REPL" not in request.system:
        return "a leaf"
    said = [(message["role"], message["content"]) for message in request.messages]
    asked = [at for at, (role, text) in enumerate(said) if role == "user" and "uestion: " in text]
    programs = re.findall(r"```python\n.*?\n```", said[asked[-1]][1].partition("uestion: ")[2], re.DOTALL)
    turn = sum(role == "assistant" for role, _ in said[asked[-1] :])
    return programs[turn] if turn < len(programs) else "I have nothing to say"


@pytest.fixture
def server():
    with ModelServer(talk) as running:
        yield running


def test_variables_stay_from_question_to_question_and_nothing_is_paid_twice(ask, server, tmp_path):
    with ask(server, run_dir=str(tmp_path)).conversation(CONTEXT) as session:
        asked = [
            play("words = context.split(); r = recursive_map('?', words[:5])", "FINAL(len(words))"),
            play("n = len(r); FINAL(f'{n} {words[0]}')"),
            play("print(words[1])", "FINAL(f'{n} {words[2]} {query[-20:]}')") + " the third one?",
        ]
        answers = [session.ask(query) for query in asked]
        assert answers == ["300", "5 one", "5 three the third one?"[:8] + asked[2][-20:]]
        assert server.calls == 2 + 5 + 1 + 2
        assert session.run_id == RLM.resume(session.run_id, run_dir=str(tmp_path)).run_id
        assert RLM.resume(session.run_id, run_dir=str(tmp_path)).answer == answers[-1]
    assert server.calls == 2 + 5 + 1 + 2


async def test_a_question_that_found_no_answer_does_not_end_the_conversation(ask, server, tmp_path):
    async with ask(server, run_dir=str(tmp_path), max_iterations=2).conversation(CONTEXT) as session:
        first = await session.arun(play("x = 1", "x += 1"))
        assert first.stop_reason == "max_iterations"
        second = await session.arun(play("FINAL(x)"))
    assert (second.answer, second.stop_reason, second.turns) == ("2", "answered", 3)
    assert second.usage.total.calls == first.usage.total.calls + 1


async def test_a_question_stopped_by_a_limit_is_not_remembered(ask, server, tmp_path):
    rlm = ask(server, run_dir=str(tmp_path), limits={"calls": 3})
    session = rlm.conversation(CONTEXT)
    assert (await session.arun(play("x = 1", "FINAL(x)"))).answer == "1"
    stopped = await session.arun(play("x = 2", "x = 3", "FINAL(x)"))
    assert stopped.stop_reason == "calls"
    raised = ask(server, run_dir=str(tmp_path), limits={"calls": 30}).conversation(
        CONTEXT, run_id=session.run_id
    )
    assert await raised.aask(play("FINAL(x)")) == "1"


def test_without_a_run_folder_a_conversation_keeps_its_own(ask, server):
    with ask(server, run_dir="").conversation(CONTEXT) as session:
        assert session.ask(play("x = len(context)", "FINAL(x)")) == str(len(CONTEXT))
        assert session.ask(play("FINAL(x + 1)")) == str(len(CONTEXT) + 1)


def test_what_cannot_be_a_conversation_says_so(ask, server):
    with pytest.raises(ConfigError, match="record_content"):
        ask(server, record_content=False).conversation(CONTEXT)
    with pytest.raises(InputError, match="ask a question"):
        ask(server).conversation(CONTEXT).ask(" ")
