"""Sub-calls about more than the window of their model holds."""

from __future__ import annotations

import pytest

from rlm_ray.config import Settings
from rlm_ray.core.context import ByteRange, DocumentRange, make_context
from rlm_ray.core.llm import ModelReply
from rlm_ray.core.repl_types import CellResult, Failed, SubCallAnswer, SubCallRequest
from rlm_ray.errors import ConfigError
from rlm_ray.llm.run_context import RunContext
from rlm_ray.session.session import Session

TEXT = "".join(f"line {n} of the log says that all is well with worker {n % 7}\n" for n in range(2_000))
"""About 30,000 tokens."""
DOCUMENTS = [f"document {n}: " + "word " * 900 for n in range(40)]


class Gateway:
    def __init__(self, window):
        self.window = window

    async def complete(self, request, run, place, recorder):
        return ModelReply("```python\nx\n```")

    def budget_left(self, _):
        return ""

    def window_tokens(self, model, params):
        return self.window


class Repl:
    """Makes one map of sub-calls, then ends."""

    def __init__(self, request):
        self.request = request
        self.outcomes = []

    async def run(self, blocks, serve, **_):
        self.outcomes = list(await serve(self.request))
        return CellResult(final_answer="done", context_was_read=True)

    async def aclose(self):
        pass


async def ask(
    parts, *, context=TEXT, queries=None, window=8_000, kind="recursive", answer=None, stop=False, **settings
):
    """Make one map; returns the outcomes and the maps that were dispatched, as (query, text) pairs."""
    held, maps = make_context(context), []

    async def spawn(calls, slots, *, first, stop_on_error):
        texts = [call.part if isinstance(call.part, str) else held.slice(call.part).text() for call in calls]
        maps.append([(call.query, text) for call, text in zip(calls, texts, strict=True)])
        slots[:] = [
            (answer or (lambda query, text: SubCallAnswer(f"{len(text)}")))(*each) for each in maps[-1]
        ]

    repl = Repl(SubCallRequest(kind, tuple(queries or ["q"] * len(parts)), tuple(parts), stop))

    async def open_repl(context, query):
        return repl

    await Session(
        (), RunContext("run", Settings(model="root", recursive_model="small", **settings)), "q", held,
        Gateway(window), open_repl, spawn,
    ).run()  # fmt: skip
    return repl.outcomes, maps


WHOLE = ByteRange(0, len(TEXT))


async def test_a_piece_that_fits_is_one_call():
    outcomes, maps = await ask([TEXT[:9_000], "b"])
    assert maps == [[("q", TEXT[:9_000]), ("q", "b")]]
    assert outcomes == [SubCallAnswer("9000"), SubCallAnswer("1")]


@pytest.mark.parametrize(
    "part", [WHOLE, TEXT, [TEXT], [{"id": "a", "text": TEXT}]], ids=["range", "text", "list", "document"]
)
async def test_a_piece_over_the_window_is_split_and_its_answers_put_together(part):
    def answer(query, text):
        return SubCallAnswer("all together" if query.startswith("The context holds answers") else "part")

    outcomes, maps = await ask(["short", part], answer=answer)
    assert outcomes == [SubCallAnswer("part"), SubCallAnswer("all together")]
    asked, put_together = maps
    assert asked[0] == ("q", "short")
    pieces = [text for _, text in asked[1:]]
    assert TEXT in "".join(pieces)
    assert 4 <= len(pieces) <= 8
    assert all(len(piece) < 8_000 * 5 for piece in pieces)
    assert all(query.startswith("q\n\nThe context is one part") for query, _ in asked[1:])
    assert len(put_together) == 1
    assert "The question was: q" in put_together[0][0]


async def test_documents_over_the_window_are_split():
    outcomes, maps = await ask([DocumentRange(0, 40)], context=DOCUMENTS)
    assert isinstance(outcomes[0], SubCallAnswer)
    read = "".join(text for _, text in maps[0])
    assert all(f"document {n}:" in read for n in range(40))


async def test_parts_that_hold_nothing_are_left_out():
    def answer(query, text):
        return SubCallAnswer("here it is" if "line 7 of" in text else "nothing here")

    outcomes, maps = await ask([WHOLE], answer=answer)
    assert outcomes == [SubCallAnswer("here it is")]
    assert len(maps) == 1


async def test_a_failed_part_fails_its_piece_only():
    def answer(query, text):
        return Failed("ModelUnavailableError", "down") if "line 7 of" in text else SubCallAnswer("fine")

    outcomes, _ = await ask([WHOLE, "short"], answer=answer)
    assert outcomes == [Failed("ModelUnavailableError", "down"), SubCallAnswer("fine")]


async def test_a_piece_is_refused_with_the_numbers():
    outcomes, maps = await ask([WHOLE, "short"], oversize="refuse")
    refusal = outcomes[0]
    assert isinstance(refusal, Failed)
    assert refusal.kind == "ContextWindowError"
    assert f"the piece has {len(TEXT):,} characters, about " in refusal.why
    assert "the window of small holds 8,000: pass pieces of at most " in refusal.why
    assert "map_reduce(query, [piece], size=" in refusal.why
    assert outcomes[1] == SubCallAnswer("5")
    assert maps == [[("q", "short")]]


async def test_a_refused_piece_of_a_map_that_stops_costs_nothing():
    outcomes, maps = await ask([WHOLE, "short"], oversize="refuse", stop=True)
    assert [outcome.kind for outcome in outcomes] == ["ContextWindowError", "Cancelled"]
    assert maps == []


async def test_a_question_that_fills_the_window_is_refused():
    outcomes, maps = await ask([""], queries=[TEXT], kind="llm")
    assert "the question alone has" in outcomes[0].why
    assert maps == []


@pytest.mark.parametrize(
    ("window", "settings"),
    [
        (None, {}),
        (1_000_000, {}),
        (8_000, {"oversize": "send"}),
        (8_000, {"window_tokens": 1_000_000}),
        (8_000, {"params": {"num_ctx": 1_000_000}}),
        (8_000, {"max_depth": 2, "max_leaf_chars": 10_000}),
    ],
    ids=["unknown", "large", "send", "told by the settings", "told by num_ctx", "a session of its own"],
)
async def test_a_piece_is_sent_whole(window, settings):
    _, maps = await ask([WHOLE], window=window, **settings)
    assert maps == [[("q", TEXT)]]


@pytest.mark.parametrize("given", [{"window_tokens": 8_000}, {"params": {"num_ctx": 8_000}}])
async def test_a_window_that_the_settings_tell_counts(given):
    _, maps = await ask([WHOLE], window=None, **given)
    assert len(maps[0]) > 3


@pytest.mark.parametrize("given", [{"oversize": "cut"}, {"window_tokens": 10}, {"window_tokens": "wide"}])
def test_absurd_settings_are_refused(given):
    with pytest.raises(ConfigError, match=next(iter(given))):
        Settings(**given)
