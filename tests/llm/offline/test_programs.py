"""The offline model's programs run as they are in the jailed, filtered REPL."""

from pathlib import Path

import pytest

from rlm_ray.core.context import make_context
from rlm_ray.core.repl_types import Failed, SubCallAnswer
from rlm_ray.llm.model_provider import answer
from rlm_ray.llm.offline.programs import NO_MATCH, PREFIX, extract, failure_program, program
from rlm_ray.llm.offline.ranking import Passage, Ranking
from rlm_ray.sandbox.host.sandbox import Sandbox, SandboxManager

BOOK = (Path(__file__).parents[3] / "examples" / "frankenstein.txt").read_text(encoding="utf-8")
QUESTION = "How does the creature learn to speak and read?"


@pytest.fixture
async def host():
    async with SandboxManager(Sandbox()) as host:
        yield host


async def run(host, code, context, failing=()):
    source = make_context(context)

    async def serve(calls):
        answers = []
        for number, part in enumerate(calls.contexts):
            prompt = f"Question:\n{calls.queries[number]}\n\nContext:\n{source.slice(part).text()}"
            said = SubCallAnswer(answer([{"role": "user", "content": prompt}]))
            answers.append(Failed("QuotaError", "nothing left") if number in failing else said)
        return answers

    repl = await host.open(source, QUESTION)
    try:
        return await repl.run([code], serve)
    finally:
        await repl.aclose()


@pytest.mark.parametrize("documents", [False, True])
async def test_first_program_answers_from_a_text_and_from_documents(host, documents):
    """It ends with an answer, from a text and from documents."""
    context = (
        [{"id": f"part {n}", "text": t} for n, t in enumerate(BOOK.split("\n\n\n"))] if documents else BOOK
    )
    result = await run(host, program(), context)
    assert (result.error, result.kill_reason) == (None, None)
    assert "science of letters" in result.final_answer


async def test_a_failed_piece_is_a_value(host):
    """A CallError in a slot is told in the answer."""
    result = await run(host, program(), BOOK, failing={0, 3})
    assert result.error is None
    assert "2 of 22 pieces could not be read." in result.final_answer


async def test_all_pieces_failed(host):
    """Then the program fails, and says why."""
    result = await run(host, program(), "a short text", failing={0})
    assert "no piece could be read" in result.error
    assert "nothing left" in result.error


@pytest.mark.parametrize("code", [failure_program("Error:\nsomething 'odd'")])
async def test_other_programs_answer_without_a_subcall(host, code):
    """They end without a sub-call."""
    result = await run(host, code, BOOK)
    assert (result.error, result.kill_reason) == (None, None)
    assert result.final_answer.startswith("Extractive answer")


def test_answer_of_a_leaf_quotes_each_passage_with_its_place_and_strengths():
    passages = (Passage(4, 9, 7.308, {"ahab": 1.5, "leg": 1.0}), Passage(0, 3, 0.5, {"leg": 0.3333}))
    assert extract("leg ahab.", Ranking(passages, 48, {"ahab": 34, "leg": 5})) == (
        f'{PREFIX}\n\n[score 7.31 at 4-9: ahab 1.5, leg 1]\n"ahab."\n\n[score 0.50 at 0-3: leg 0.33]\n"leg"\n\n'
        "Counted in 48 windows: ahab 34, leg 5"
    )
    nothing = f"{PREFIX}\n\n{NO_MATCH}\n\nCounted in 1 windows: ahab 0"
    assert extract("leg", Ranking((), 1, {"ahab": 0})) == nothing


@pytest.mark.parametrize(
    ("observation", "why"),
    [
        ("Error: odd", "Error: odd"), ("Error: odd\n\nTurn 2 of 20.", "Error: odd"), ("Turn 2 of 20.", "Turn 2 of 20."), ("x" * 600, "x" * 600), ("x" * 601, "x" * 600),
    ],
)  # fmt: skip
def test_last_program_says_what_went_wrong_in_600_characters(observation, why):
    text = f"{PREFIX}\n\nNo passage could be extracted. What went wrong:\n{why}"
    assert failure_program(observation) == f"FINAL({text!r})"
