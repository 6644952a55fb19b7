"""The offline model as a leaf, as a session, and as a provider."""

import re
from pathlib import Path

import pytest

from rlm_ray.core.context import make_context
from rlm_ray.core.llm import Message, ModelReply, ModelRequest, Usage
from rlm_ray.core.parsing import parse
from rlm_ray.core.prompts import last_call_messages, leaf_messages, session_messages
from rlm_ray.core.repl_types import CellResult
from rlm_ray.core.state_machine import Task, Trajectory
from rlm_ray.errors import InputError
from rlm_ray.llm.model_provider import MODEL, NO_MATCH, PREFIX, OfflineProvider, answer
from rlm_ray.llm.offline.ranking import LEAF_PASSAGES, SESSION_PASSAGES

BOOK = (Path(__file__).parents[2] / "examples" / "frankenstein.txt").read_text(encoding="utf-8")
QUESTION = "How does the creature learn to speak and read?"

_HEADER = re.compile(r"\[score [\d.]+ at (\d+)-(\d+)(?: of document '([^']*)')?: [^\]\n]*\]\n\"")


class Final(Exception):  # noqa: N818 - it is no error
    """FINAL was called."""


def said(messages):
    return answer([{"role": m.role, "content": m.content} for m in messages])


def leaf(query, context):
    return said(leaf_messages(query, context))


def run(query, context, recursive_map=None, depth=1):
    """A session in plain Python: the answer, and how many turns it took."""

    def leaves(queries, contexts, on_error="raise"):
        if depth > 1:
            return [run(queries, piece, depth=depth - 1)[0] for piece in contexts]
        return [leaf(queries, piece) for piece in contexts]

    def final(value):
        raise Final(value)

    trajectory = Trajectory(Task(query, make_context(context).info, max_depth=2))
    for turn in range(1, 6):
        trajectory = trajectory.with_reply(ModelReply(said(session_messages(trajectory, ""))), "")
        (code,) = trajectory.last.parsed.blocks
        names = {"context": context, "query": query, "FINAL": final, "recursive_map": recursive_map or leaves}
        try:
            exec(code, names)
        except Final as ended:
            return ended.args[0], turn
        except Exception as error:  # noqa: BLE001 - a cell may raise anything
            trajectory = trajectory.with_result(CellResult(error=repr(error), context_was_read=True))
    raise AssertionError("the session did not end")


def quotes(text):
    return [(int(m[1]), int(m[2]), m[3], text[m.end() :]) for m in _HEADER.finditer(text)]


def test_a_leaf_quotes_with_offsets():
    """A leaf's passages stand in its context where it says."""
    found = quotes(leaf(QUESTION, BOOK))
    assert len(found) == LEAF_PASSAGES == 8
    for start, stop, _, rest in found:
        assert rest.startswith(BOOK[start:stop] + '"')


@pytest.mark.parametrize(
    ("context", "expected"),
    [("The cat sat on the mat.", NO_MATCH), ("   ", "There is no context to quote from.")],
)
def test_offline_leaf_says_when_nothing_is_found_or_given(context, expected):
    """Nothing found and nothing given are said."""
    text = leaf("Where is the whale?", context)
    assert text.startswith(PREFIX)
    assert expected in text


def test_other_prompts_are_read_too():
    """A bare prompt's first paragraph asks about the rest; a bare question gets an honest answer."""
    assert "The whale swam." in answer(
        [{"role": "user", "content": "Where is the whale?\n\nThe whale swam."}]
    )
    assert "no context" in answer([{"role": "user", "content": [{"type": "text", "text": "Hi?"}]}])
    assert "no context" in answer([])


def test_a_question_may_have_paragraphs():
    """A question with blank lines is not taken for context."""
    text = leaf("Think hard.\n\nWhere is the whale?", "The whale swam off.")
    assert '"The whale swam off."' in text
    assert text.count("[score") == 1


def test_a_session_answers_from_a_book():
    """One program finds a passage that answers, and quotes it word for word."""
    text, turns = run(QUESTION, BOOK)
    found = quotes(text)
    assert turns == 1
    assert text.startswith(PREFIX)
    assert len(found) == SESSION_PASSAGES == 5
    for start, stop, _, rest in found:
        assert rest.startswith(BOOK[start:stop] + '"')
    assert "science of letters" in BOOK[found[0][0] : found[0][1]]


@pytest.mark.parametrize(
    ("question", "holds"),
    [
        ("What books did the creature read?", "Plutarch"),
        ("Who was accused of the murder of William?", "Justine"),
    ],
)
def test_best_passages_answer(question, holds):
    """The first quotation answers the question."""
    start, stop, _, _ = quotes(run(question, BOOK)[0])[0]
    assert holds in BOOK[start:stop]


def test_child_sessions_are_read_like_leaves():
    """Where sub-calls are sessions themselves, their answers are ranked the same way."""
    assert quotes(run(QUESTION, BOOK, depth=2)[0])[:2] == quotes(run(QUESTION, BOOK)[0])[:2]


@pytest.mark.parametrize("with_ids", [True, False])
def test_documents_are_named(with_ids):
    """Passages of documents say which document, and count from its beginning."""
    texts = [part for part in re.split(r"\n\n(?=Chapter \d+\n)", BOOK) if part.strip()]
    names = [f"part-{n}" if with_ids else str(n) for n in range(len(texts))]
    documents = [{"id": n, "text": t} for n, t in zip(names, texts, strict=True)] if with_ids else texts
    found = quotes(run(QUESTION, documents)[0])
    assert len(found) >= 3
    for start, stop, name, rest in found:
        assert rest.startswith(texts[names.index(name)][start:stop] + '"')


def test_small_documents_share_a_piece():
    """Thousands of short documents make few sub-calls, and are still told apart."""
    documents = [f"Document {n} speaks of topic{n} and weather." for n in range(2_000)]
    sizes = []

    def counted(query, contexts, on_error="raise"):
        sizes.append(len(contexts))
        return [leaf(query, piece) for piece in contexts]

    text, _ = run("Which document speaks of topic1234?", documents, counted)
    assert sizes[0] < 10
    assert quotes(text)[0][2] == "1234"


@pytest.mark.parametrize("context", ["", [], ["", ""]])
def test_an_empty_context_is_reported(context):
    """There is nothing to quote, and no sub-call to pay for."""
    text, turns = run("Why?", context, lambda *_, **__: pytest.fail("a sub-call"))
    assert "The context is empty." in text
    assert turns == 1


@pytest.mark.parametrize(
    "context", ["whale" * 40_000, "🐳 " * 30_000 + "a whale", '[score 1 at 0-5: x]\n"whale"']
)
def test_offline_model_quotes_odd_contexts_exactly_or_not_at_all(context):
    """Giant lines, emoji and text that looks like an extract are quoted exactly or not at all."""
    text, turns = run("Where is the whale?", context)
    assert turns == 1
    for start, stop, _, rest in quotes(text)[:1]:
        assert rest.startswith(context[start:stop])


def test_failed_pieces_are_reported():
    """A piece that could not be read is missing in the answer, and the answer says so."""

    def flaky(query, contexts, on_error="raise"):
        assert on_error == "return"
        return [RuntimeError("no"), *(leaf(query, piece) for piece in contexts[1:])]

    text, turns = run(QUESTION, BOOK, flaky)
    assert turns == 1
    assert "1 of 22 pieces could not be read." in text
    assert "science of letters" in text


def test_in_the_end_it_says_what_went_wrong():
    """When nothing works the answer names the error."""
    task = Task("Why?", make_context("some text " * 500).info)
    trajectory = Trajectory(task)
    trajectory = trajectory.with_reply(ModelReply(said(session_messages(trajectory, ""))), "")
    trajectory = trajectory.with_result(CellResult(error='MemoryError: it\'s "full"', context_was_read=True))
    (code,) = parse(said(session_messages(trajectory, "Turn 2 of 20."))).blocks
    with pytest.raises(Final, match='MemoryError: it\'s "full"') as ended:
        exec(code, {"FINAL": lambda value: (_ for _ in ()).throw(Final(value))})
    assert "Turn 2" not in ended.value.args[0]


def test_a_last_call_is_answered_in_prose():
    """Asked to stop, it quotes what it has seen and writes no code."""
    context = "The whale was white. " + "The sea was blue. " * 200
    trajectory = Trajectory(Task("What colour was the whale?", make_context(context).info))
    trajectory = trajectory.with_reply(ModelReply("```python\nprint(1)\n```"), "")
    trajectory = trajectory.with_result(
        CellResult(output="The whale grew grey.", output_chars=20, context_was_read=True)
    )
    text = said(last_call_messages(trajectory, "the budget is spent"))
    assert "The whale was white." in text
    assert "The whale grew grey." in text
    assert "```" not in text
    assert "ended early" in text


def test_it_always_says_the_same():
    """Two askings give one answer."""
    assert run(QUESTION, BOOK) == run(QUESTION, BOOK)


async def test_a_request_gets_a_reply_with_a_count_of_tokens_at_no_cost():
    prompt = "Question:\nWhere is the whale?\n\nContext:\nThe whale swam."
    reply = await OfflineProvider().complete(ModelRequest(MODEL, (Message("user", prompt),)))
    assert '"The whale swam."' in reply.text
    assert reply.finish_reason == "stop"
    assert reply.usage == Usage(len(prompt) // 4, len(reply.text) // 4)
    assert OfflineProvider().cost_usd(MODEL, reply.usage) == 0
    assert OfflineProvider().provider_name(MODEL) == "offline"


async def test_half_of_a_surrogate_pair_is_refused_as_by_every_other_model():
    with pytest.raises(InputError, match="half of a surrogate pair"):
        await OfflineProvider().complete(ModelRequest(MODEL, (Message("user", "a \ud83d b"),)))


def test_a_further_question_of_a_conversation_gets_a_program_of_its_own():
    talk = [
        {"role": "system", "content": "a REPL"},
        {"role": "user", "content": "Question: Who?\n\n`context` is a str"},
        {"role": "assistant", "content": "```python\nFINAL('a')\n```"},
        {
            "role": "user",
            "content": "Taken.\n\nNext question: What colour was the whale?\n\nIt is about the same",
        },
    ]
    assert answer(talk) == answer(talk[:2])
    quoted = [{"role": "user", "content": "Output:\nThe whale was white.\n\nDo not write code"}]
    assert '"The whale was white.' in answer([*talk, {"role": "assistant", "content": "hm"}, *quoted])
