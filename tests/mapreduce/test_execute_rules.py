"""Which failures end a map-reduce, and how the places of its results are told."""

from __future__ import annotations

import io
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from rich.console import Console

from rlm_ray.config import Settings
from rlm_ray.core.context import make_context
from rlm_ray.core.repl_types import Failed, SubCallAnswer
from rlm_ray.core.retry_after import MAX_IN_A_ROW
from rlm_ray.errors import AuthenticationError, ConfigError, LimitReached, SubCallError
from rlm_ray.events.usage import RunUsage
from rlm_ray.mapreduce.documents import numbers_of
from rlm_ray.mapreduce.execute import (
    MapReduceResult,
    Provenance,
    _limit,
    _sample,
    build_plan,
    describe_location,
    execute_plan,
    map_reduce,
)
from rlm_ray.mapreduce.piece_calls import NUMBERS, PieceAnswer
from rlm_ray.mapreduce.plan import ModelInfo, plan
from rlm_ray.mapreduce.spec import parse_spec

REFUSED = Failed("AuthenticationError", "no key", AuthenticationError("m", "no key"))
MISSET = Failed("ConfigError", "is wrong", ConfigError("model", "is wrong"))
BROKEN = Failed("ModelError", "is down")
SPENT = Failed("LimitReached", "spent", LimitReached("calls", "spent"))
LATER = Failed("LimitReached", "late", LimitReached("time_s", "late"))
ANSWER = PieceAnswer("yes")


def limit_of(*answers, on_error="skip"):
    spec = parse_spec("Which?", reduce="collect", on_error=on_error)
    failed = [(f"piece {at}", each) for at, each in enumerate(answers) if isinstance(each, Failed)]
    return _limit(spec, answers, failed)


@pytest.mark.parametrize("failure", [REFUSED, MISSET])
@pytest.mark.parametrize(
    ("refused", "answered", "raises"),
    [(1, 1, False), (MAX_IN_A_ROW - 1, 1, False), (MAX_IN_A_ROW, 1, True), (1, 0, True), (3, 0, True)],
)
def test_few_refused_calls_among_answers_are_those_of_their_pieces(failure, refused, answered, raises):
    answers = [failure] * refused + [ANSWER] * answered
    if raises:
        with pytest.raises(type(failure.fatal_error)):
            limit_of(*answers)
    else:
        assert limit_of(*answers) is None


def test_a_refused_call_among_answers_is_raised_as_a_failed_piece_where_errors_are():
    with pytest.raises(SubCallError, match="piece 1: no key"):
        limit_of(ANSWER, REFUSED, on_error="raise")


@pytest.mark.parametrize("on_error", ["skip", "raise"])
def test_the_first_limit_is_the_one_that_ended_it(on_error):
    assert limit_of(ANSWER, SPENT, LATER, BROKEN, on_error=on_error).reason == "calls"
    assert limit_of(LATER, SPENT, on_error=on_error).reason == "time_s"
    assert limit_of(ANSWER, on_error=on_error) is None


def test_a_failed_piece_is_skipped_only_where_it_may_be_and_others_answered():
    assert limit_of(ANSWER, BROKEN) is None
    for answers, on_error in (([ANSWER, BROKEN], "raise"), ([BROKEN], "skip")):
        with pytest.raises(SubCallError, match="is down"):
            limit_of(*answers, on_error=on_error)


DOCUMENTS = make_context([{"id": f"d{n}", "text": "x" * 10} for n in range(12)])
SPEC = parse_spec("Which?", reduce="count")
PLANNED = plan(SPEC, DOCUMENTS, ModelInfo("m"), 100_000)


def test_a_place_is_told_by_its_first_and_its_last_document():
    assert [describe_location(DOCUMENTS, piece) for piece in PLANNED.pieces] == ["d0:0-10 to d11:0-10"]
    one = make_context("some text")
    piece = plan(SPEC, one, ModelInfo("m"), 100_000).pieces[0]
    assert describe_location(one, piece) == "text:0-9"


@pytest.mark.parametrize(
    ("results", "places", "lines"),
    [
        (1, 1, ["status: r0 from d0:0-10"]),
        (1, 2, ["status: r0 from d0:0-10, d1:0-10"]),
        (1, 3, ["status: r0 from d0:0-10, d1:0-10 and 1 more"]),
        (2, 1, ["status: r0 from d0:0-10", "status: r1 from d0:0-10"]),
        (3, 1, ["status: r0 from d0:0-10", "status: r1 from d0:0-10", "… and 1 more results"]),
    ],
)
def test_places_of_results_are_told_up_to_a_bound(results, places, lines):
    numbers = {"status": {f"r{n}": tuple(range(places)) for n in range(results)}}
    assert list(Provenance(DOCUMENTS, PLANNED.units, numbers).lines(2, 2)) == lines


def test_ten_results_with_five_places_each_are_told_unless_said():
    numbers = {"": {f"r{n}": tuple(range(6)) for n in range(11)}}
    *told, rest = Provenance(DOCUMENTS, PLANNED.units, numbers).lines()
    assert (len(told), rest) == (10, "… and 1 more results")
    assert told[0] == "r0 from d0:0-10, d1:0-10, d2:0-10, d3:0-10, d4:0-10 and 1 more"


def test_a_long_result_is_told_by_its_first_sixty_characters():
    (line,) = Provenance(DOCUMENTS, PLANNED.units, {"": {"y" * 61: (0,)}}).lines()
    assert line == "y" * 60 + " from d0:0-10"


def test_a_sample_is_twenty_bits_of_a_thousand_bytes_from_all_over():
    text = "".join(f"{n:09} " for n in range(4_000))
    sample = _sample(make_context(text))
    assert len(sample) == 20_000
    assert sample[:1_000] == text[:1_000]
    assert sample[1_000:2_000] == text[2_000:3_000]
    assert _sample(make_context("short")) == "short" + "hort" + "ort" + "rt" + "t"


@pytest.mark.parametrize(
    ("source", "options", "by_document"),
    [
        (["a", "b"], {"reduce": "count"}, True),
        (["a", "b"], {}, False),
        ("a text", {"reduce": "count"}, False),
        ("a text", {}, False),
    ],
)
def test_only_documents_whose_values_are_put_together_have_an_answer_each(source, options, by_document):
    planned = plan(parse_spec("Which?", **options), make_context(source), ModelInfo("m"), 1_000)
    assert planned.by_document == by_document
    assert planned.unit_name == ("documents" if by_document else "pieces")


@pytest.mark.parametrize("documents", [1, 3])
def test_each_document_has_numbers_for_two_more_calls(documents):
    context = make_context(["a"] * documents)
    planned = plan(SPEC, context, ModelInfo("m"), 1_000)
    assert numbers_of(planned, context) == NUMBERS * (len(planned.pieces) + 2 * documents)


def test_a_plan_is_built_for_the_model_and_the_piece_size_of_the_settings():
    planned = build_plan(Settings(max_leaf_chars=50), "Why?", make_context("x" * 100), overlap=10)
    assert (planned.model, planned.size, planned.spec.query) == ("offline/extractive", 50, "Why?")
    assert [(piece.start, piece.stop) for piece in planned.pieces] == [(0, 50), (40, 90), (80, 100)]


# What is shown of a result

RESULT = MapReduceResult(
    '{"Final": 2}', {"Final": 2}, Provenance(DOCUMENTS, PLANNED.units, {"": {"Final": (0, 3)}}), PLANNED, RunUsage({}), 1_010,
    failed=(("d1:0-10", "is down"), ("d2:0-10", "is late")), cut=("d3:0-10",), why="a reason", run_id="r",
)  # fmt: skip


def test_a_result_is_plain_values():
    assert RESULT.as_dict() == {
        "answer": '{"Final": 2}', "value": {"Final": 2}, "stop_reason": "answered", "why": "a reason", "run_id": "r",
        "documents": 12, "pieces": 1, "answered": 1_010,
        "failed": [{"where": "d1:0-10", "why": "is down"}, {"where": "d2:0-10", "why": "is late"}], "cut": ["d3:0-10"],
        "origin": {"": {"Final": [{"document": "d0", "start": 0, "stop": 10}, {"document": "d3", "start": 0, "stop": 10}]}},
        "usage": RunUsage({}).as_dict(),
    }  # fmt: skip
    assert RESULT.origin.sources("status", "Final") == RESULT.origin.sources("", "Draft") == []


@pytest.mark.parametrize(
    ("changes", "counts"),
    [
        ({}, "answered=1010, failed=2, cut=1"), ({"cut": ()}, "answered=1010, failed=2"), ({"failed": (), "cut": ()}, "answered=1010, failed=0"),
    ],
)  # fmt: skip
def test_a_result_is_shown_by_its_counts(changes, counts):
    shown = repr(replace(RESULT, **changes))
    assert shown == (
        "MapReduceResult(value={'Final': 2}, stop_reason='answered', why='a reason', documents=12, "
        f"{counts}, calls=0, tokens=0, cost_usd=0.0)"
    )


@pytest.mark.parametrize(
    ("changes", "head"),
    [
        ({}, "answered: a reason · 1,010 of 12 documents answered"), ({"why": ""}, "answered · 1,010 of 12 documents answered"),
        ({"plan": replace(PLANNED, is_of_documents=False)}, "answered: a reason · 1,010 of 12 pieces answered"),
    ],
)  # fmt: skip
def test_a_notebook_shows_a_result_with_where_it_is_from_and_what_failed(changes, head):
    page = replace(RESULT, **changes)._repr_html_()
    assert f"<b>{head}</b>" in page
    assert "<li>Final from d0:0-10, d3:0-10</li>" in page
    assert "<li>d1:0-10: is down</li><li>d2:0-10: is late</li>" in page
    many = replace(RESULT, failed=tuple((f"d{n}", "is down") for n in range(60)))._repr_html_()
    assert ("d49: is down" in many, "d50: is down" in many) == (True, False)


@pytest.mark.parametrize(
    ("changes", "text"), [({}, '{"Final": 2}'), ({"answer": None}, "a reason"), ({"answer": "[bold]x"}, "[bold]x")]
)  # fmt: skip
def test_a_terminal_shows_a_result_as_a_panel(changes, text):
    console = Console(file=io.StringIO(), width=100, color_system=None)
    console.print(replace(RESULT, **changes))
    title, answer, _ = console.file.getvalue().splitlines()
    assert " answered · 1,010 of 12 documents answered " in title
    assert answer.strip(" │") == text


# How it ends


class Backend:
    """Answers pieces by a list, in order, and every other question with one outcome."""

    def __init__(self, pieces, other=None):
        self.left, self.other, self.questions = list(pieces), other, []

    async def llm_calls(self, calls):
        self.questions += [question for _, _, question, *_ in calls]
        return [self.left.pop(0) if self.left else self.other for _ in calls]

    async def usage(self):
        return RunUsage({})


async def ended(backend, documents=3, **options):
    context = make_context([{"id": f"d{n}", "text": "x" * 10} for n in range(documents)])
    planned = plan(parse_spec("Which?", pack=False, **options), context, ModelInfo("m"), 1_000)
    return await map_reduce(backend, planned, context)


YES = SubCallAnswer("yes")
TORN = SubCallAnswer("hal", "cut off at 5 tokens")


@pytest.mark.parametrize("options", [{"reduce": "count"}, {}])
async def test_answers_that_were_cut_off_end_it_at_the_limit_of_tokens(options):
    found = await ended(Backend([YES, TORN, YES], YES), **options)
    asked = 3 if options else 4
    assert (found.stop_reason, found.why) == ("max_tokens", f"of 1 of {asked} answers, cut off at 5 tokens")
    assert (found.cut, found.answered, found.failed) == (("d1:0-10",), 3, ())
    whole = await ended(Backend([YES] * 3, YES), **options)
    assert (whole.stop_reason, whole.why, whole.cut) == ("answered", "", ())


async def test_a_limit_that_was_met_is_told_rather_than_answers_that_were_cut_off():
    found = await ended(Backend([TORN, SPENT, YES]), reduce="collect")
    assert (found.stop_reason, found.why, found.cut) == ("calls", "spent", ("d0:0-10",))
    assert (found.answered, found.failed) == (2, (("d1:0-10", "spent"),))


@pytest.mark.parametrize(
    ("pieces", "joined", "reason", "asked"),
    [([YES, YES, YES], SPENT, "calls", 4), ([YES, LATER, SPENT], YES, "time_s", 3)],
)
async def test_a_limit_before_the_model_has_put_answers_together_leaves_none(pieces, joined, reason, asked):
    backend = Backend(pieces, joined)
    found = await ended(backend)
    assert (found.answer, found.value, found.stop_reason) == (None, None, reason)
    assert found.origin.as_dict() == {}
    assert (len(backend.questions), found.answered) == (asked, sum(each is YES for each in pieces))


@pytest.mark.parametrize(
    ("failed", "raises", "why"),
    [(BROKEN, SubCallError, "putting answers together: is down"), (REFUSED, AuthenticationError, "no key")],
)
async def test_a_failure_to_put_answers_together_is_raised(failed, raises, why):
    with pytest.raises(raises, match=why):
        await ended(Backend([YES] * 3, failed), on_error="skip")


NAMED = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}


@pytest.mark.parametrize(
    ("options", "joined", "numbers"),
    [
        ({}, "So it is [2].", (1,)), ({}, "So it is.", (0, 1, 2)), ({}, "So it is [3-4].", (2,)), ({}, "So [5].", (0, 1, 2)),
        ({"schema": NAMED}, '{"n": 2, "of": "[2]"}', (0, 1, 2)),
    ],
)  # fmt: skip
async def test_an_answer_of_the_model_comes_from_the_pieces_it_cites_or_from_all_that_said_anything(
    options, joined, numbers
):
    said = SubCallAnswer('{"n": 1}' if options else "yes")
    silent = Failed("ModelError", "is down") if options else SubCallAnswer("nothing here")
    found = await ended(
        Backend([said, said, said, silent], SubCallAnswer(joined)), 4, on_error="skip", **options
    )
    assert found.origin.numbers == {"": {"answer": numbers}}
    assert found.value == ({"n": 2, "of": "[2]"} if options else joined)


@pytest.mark.parametrize(
    ("joined", "end"), [(SubCallAnswer("So it is."), ("answered", "", "So it is.")), (SPENT, ("calls", "spent", None))]
)  # fmt: skip
@pytest.mark.parametrize("run_id", [None, "earlier"])
async def test_a_plan_is_carried_out_as_one_run_that_ends_as_its_result(monkeypatch, joined, end, run_id):
    opened, ended = [], []
    backend = Backend([YES, YES], joined)
    backend.run_id, backend.end_as = "r7", lambda *how: ended.append(how)

    @asynccontextmanager
    async def open_run(settings, query, *, run_id, observers):
        opened.append((settings, query, run_id, observers))
        yield backend

    monkeypatch.setattr("rlm_ray.mapreduce.execute.open_batch_run", open_run)
    context = make_context(["a", "b"])
    planned = plan(parse_spec("Which?", pack=False), context, ModelInfo("m"), 1_000)
    result = await execute_plan(Settings(), planned, context, run_id=run_id, observers=["watcher"])
    assert opened == [(Settings(), "Which?", run_id, ["watcher"])]
    assert ended == [end]
    assert (result.run_id, result.stop_reason, result.why, result.answer) == ("r7", *end)
