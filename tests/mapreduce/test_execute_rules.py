"""Which failures end a map-reduce, and how the places of its results are told."""

from __future__ import annotations

import pytest

from rlm_ray.core.context import make_context
from rlm_ray.core.repl_types import Failed
from rlm_ray.core.retry_after import MAX_IN_A_ROW
from rlm_ray.errors import AuthenticationError, ConfigError, LimitReached, SubCallError
from rlm_ray.mapreduce.documents import numbers_of
from rlm_ray.mapreduce.execute import Provenance, _limit, _sample, describe_location
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


@pytest.mark.parametrize(("source", "documents"), [(["a", "b", "c"], 3), ("a text", 1)])
def test_each_document_has_numbers_for_two_more_calls(source, documents):
    context = make_context(source)
    planned = plan(SPEC, context, ModelInfo("m"), 1_000)
    assert numbers_of(planned, context) == NUMBERS * (len(planned.pieces) + 2 * documents)
