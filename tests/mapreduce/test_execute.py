"""One question over more than a window holds, with models that are functions."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from rlm_ray.batch.source import read_documents
from rlm_ray.core.context import make_context
from rlm_ray.core.prompts import leaf_messages
from rlm_ray.core.repl_types import Failed, SubCallAnswer
from rlm_ray.errors import AuthenticationError, InputError, LimitReached, SubCallError
from rlm_ray.events.usage import CallStats, RunUsage
from rlm_ray.mapreduce.execute import map_reduce
from rlm_ray.mapreduce.plan import ModelInfo, plan
from rlm_ray.mapreduce.spec import parse_spec

STATUSES = ["Final", "Draft", "Active"]
DOCUMENTS = [
    {"id": f"pep-{n:04}", "text": f"Title: {n}\nStatus: {STATUSES[n % 3]}\n\n{'Words. ' * (n % 50)}"}
    for n in range(100)
]
EXAMPLES = {"Rejected": 4, "Withdrawn": 2, "Final": 4, "Active": 2, "Superseded": 1, "Deferred": 1}
TRUTH = {"Final": 34, "Draft": 33, "Active": 33}
LISTED = {
    "type": "object",
    "properties": {"status": {"type": "array", "items": {"enum": STATUSES}}},
    "required": ["status"],
}


class Model:
    """Answers each call with a function of its question and text, four characters a token."""

    def __init__(self, answer):
        self._answer = answer
        self.numbers, self.questions, self.texts = [], [], []
        self._tally = CallStats()

    async def llm_calls(self, calls):
        return [self._one(*call) for call in calls]

    def _one(self, row, number, question, part, context):
        text = part if isinstance(part, str) else self._read(part, context)
        self.numbers.append((row, number))
        self.questions.append(question)
        self.texts.append(text)
        said = self._answer(question, text)
        if isinstance(said, Failed):
            return said
        asked = sum(len(message.content) for message in leaf_messages(question, text))
        self._tally += CallStats(1, 1, input_tokens=asked // 4, output_tokens=len(said) // 4, unpriced=1)
        return SubCallAnswer(said)

    def _read(self, part, context):
        return (make_context(part) if isinstance(part, list) else context.slice(part)).text()

    async def usage(self):
        return RunUsage({("fake", 1): self._tally})


def statuses(question, text):
    return json.dumps({"status": re.findall(r"^Status: (\w+)", text, re.MULTILINE)})


async def run(model, query, source, max_leaf_chars=2_000, **options):
    context = make_context(source)
    planned = plan(parse_spec(query, **options), context, ModelInfo("fake"), max_leaf_chars)
    return await map_reduce(model, planned, context)


@pytest.mark.parametrize("options", [{}, {"size": 700}, {"pack": False}, {"split_by": "paragraphs"}])
async def test_counting_over_pieces_is_exact(options):
    found = await run(
        Model(statuses), "Which status?", DOCUMENTS, reduce="count:status", schema=LISTED, **options
    )
    assert found.value == {"status": TRUTH}
    assert found.answer is not None
    assert json.loads(found.answer) == {"status": TRUTH}
    assert (found.answered, found.failed) == (100, ())


async def test_a_field_without_a_schema_makes_one():
    model = Model(statuses)
    found = await run(model, "Which status?", DOCUMENTS, reduce="count:status")
    assert found.value == {"status": TRUTH}
    assert '"required":["status"]' in model.questions[0]


async def test_result_shows_what_came_of_it_and_nothing_of_its_input():
    result = await run(Model(statuses), "Which?", DOCUMENTS, reduce="count:status", schema=LISTED)
    shown, page = repr(result), result._repr_html_()
    assert shown.startswith("MapReduceResult(value={'")
    assert "stop_reason='answered', documents=" in shown
    assert len(shown) < 500
    assert "documents answered</b>" in page
    assert "<summary>where it comes from</summary>" in page
    hostile = replace(result, answer="<script>", why="<b>", failed=(("<i>", "<img>"),))._repr_html_()
    assert not re.search("<script|<img|<i>", hostile)


async def test_each_result_knows_the_documents_it_comes_from():
    found = await run(Model(statuses), "Which?", DOCUMENTS, reduce="count:status", schema=LISTED, pack=False)
    for status, count in TRUTH.items():
        places = found.origin.sources("status", status)
        expected = [d["id"] for d in DOCUMENTS if f"Status: {status}" in d["text"]]
        assert [place.document for place in places] == expected
        assert len(places) == count
    assert len(found.as_dict()["origin"]["status"]["Final"]) == TRUTH["Final"]
    assert list(found.origin.lines(1, 2)) == [
        "status: Final from pep-0000:0-24, pep-0003:0-45 and 32 more",
        "… and 2 more results",
    ]
    first, *others = found.origin.lines(3, 33)
    assert first.endswith(" and 1 more")
    assert [line.endswith("more") for line in others] == [False, False]
    assert len(list(found.origin.lines())) == 3
    assert next(found.origin.lines()).endswith(" and 29 more")


async def test_what_was_planned_is_what_is_used():
    model = Model(statuses)
    one = {"type": "object", "properties": {"status": {"enum": STATUSES}}, "required": ["status"]}

    def status(question, text):
        return json.dumps({"status": re.findall(r"^Status: (\w+)", text, re.MULTILINE)[0]})

    model = Model(status)
    found = await run(model, "Which?", DOCUMENTS, reduce="count:status", schema=one, pack=False)
    total, used = found.plan.total, found.usage.total
    assert total.calls == used.calls == 100
    assert total.input_tokens == pytest.approx(used.input_tokens, rel=0.01)
    assert total.output_tokens == pytest.approx(used.output_tokens, rel=0.1)


async def test_an_answer_that_does_not_fit_is_repaired_once():
    def careless(question, text):
        if text:
            return "Status: Final"
        assert "holds no JSON object" in question
        return '{"status": ["Final"]}'

    model = Model(careless)
    found = await run(model, "Which?", DOCUMENTS[:3], reduce="count:status", schema=LISTED, pack=False)
    assert found.value == {"status": {"Final": 3}}
    assert model.numbers == [(0, 0), (0, 2), (0, 4), (0, 1), (0, 3), (0, 5)]


async def test_an_answer_that_cannot_be_repaired_fails_its_piece():
    def stubborn(question, text):
        return "no" if "pep-0001" in text or not text else statuses(question, text)

    options = {"reduce": "count:status", "schema": LISTED, "pack": False}
    with pytest.raises(SubCallError, match=r"pep-0001:0-\d+: the answer does not match the schema"):
        await run(Model(stubborn), "Which?", DOCUMENTS[:3], **options)
    found = await run(Model(stubborn), "Which?", DOCUMENTS[:3], on_error="skip", **options)
    assert found.value == {"status": {"Final": 1, "Active": 1}}
    assert found.answered == 2
    assert [place for place, _ in found.failed] == ["pep-0001:0-31"]
    assert list(found.origin.numbers["status"]["Active"]) == [2]


async def test_skipping_everything_is_a_failure():
    model = Model(lambda *_: Failed("ModelError", "is down"))
    with pytest.raises(SubCallError, match="is down"):
        await run(model, "Which?", DOCUMENTS, on_error="skip", reduce="collect")


async def test_what_nobody_can_mend_is_raised_even_when_skipping():
    model = Model(lambda *_: Failed("AuthenticationError", "no key", AuthenticationError("m", "no key")))
    with pytest.raises(AuthenticationError):
        await run(model, "Which?", DOCUMENTS, on_error="skip", reduce="collect")


async def test_a_limit_ends_with_what_is_known():
    left = iter(range(2))

    def bounded(question, text):
        if next(left, None) is None:
            return Failed("LimitReached", "spent", LimitReached("cost_usd", "the budget is spent"))
        return statuses(question, text)

    found = await run(Model(bounded), "Which?", DOCUMENTS, reduce="count:status", schema=LISTED, pack=False)
    assert found.value == {"status": {"Final": 1, "Draft": 1}}
    assert (found.stop_reason, found.why) == ("cost_usd", "the budget is spent")
    assert found.answered == 2


async def test_a_model_reduces_as_a_tree_whose_groups_fit():
    def adding(question, text):
        if "one part of a larger input" in question:
            return f"{text.count('Status: Final')} are final"
        found = re.findall(r"(\d+) are final", text)
        return f"{sum(map(int, found))} are final"

    model = Model(adding)
    found = await run(model, "How many are final?", DOCUMENTS, max_leaf_chars=300, pack=False)
    assert found.answer == "34 are final"
    reducing = [text for q, text in zip(model.questions, model.texts, strict=True) if "square brackets" in q]
    assert len(reducing) > 3
    assert all(len(text) <= 300 for text in reducing)
    assert len(set(model.numbers)) == len(model.numbers)


async def test_a_model_that_cites_parts_tells_where_the_answer_is_from():
    def citing(question, text):
        if "one part of a larger input" in question:
            return "nothing here." if "Status: Draft" in text else "It says so."
        assert "nothing here" not in text
        return "So it is [1]. And so on [3-4]."

    found = await run(Model(citing), "Is it so?", DOCUMENTS, pack=False)
    assert found.origin.numbers == {"": {"answer": (0, 2, 3)}}
    assert [place.document for place in found.origin.sources("", "answer")] == [
        "pep-0000",
        "pep-0002",
        "pep-0003",
    ]


async def test_one_piece_needs_no_reduction():
    model = Model(lambda *_: "yes")
    found = await run(model, "Is it?", "A short text.")
    assert (found.answer, len(model.texts)) == ("yes", 1)


async def test_a_model_reduces_values_of_a_schema():
    counts = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}

    def adding(question, text):
        numbers = re.findall(r'"n": (\d+)', text)
        return json.dumps({"n": sum(map(int, numbers)) if numbers else text.count("Status: Final")})

    found = await run(
        Model(adding), "How many are final?", DOCUMENTS, schema=counts, pack=False, max_leaf_chars=400
    )
    assert found.value == {"n": 34}


async def test_a_failed_reduction_is_reported():
    def failing(question, text):
        return "x" if "one part" in question else Failed("ModelError", "is down")

    with pytest.raises(SubCallError, match="putting answers together: is down"):
        await run(Model(failing), "Is it?", DOCUMENTS, on_error="skip")


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"query": " "}, "query"),
        ({"on_error": "ignore"}, "on_error"),
        ({"on_eror": "skip"}, "on_eror: is no keyword of map_reduce; did you mean 'on_error'"),
        ({"chunk": 5}, "chunk: is no keyword of map_reduce"),
        ({"reduce": "count:title", "schema": LISTED}, "'title' is no field of the schema; it has status"),
        ({"source": []}, "empty"),
        ({"source": ""}, "empty"),
    ],
)
async def test_what_cannot_work_is_refused_before_any_call(options, why):
    model = Model(statuses)
    options = {"query": "Which?", "source": DOCUMENTS} | options
    with pytest.raises(InputError, match=why):
        await run(model, options.pop("query"), options.pop("source"), **options)
    assert model.texts == []


async def test_a_long_answer_is_cut_to_fit_beside_another():
    model = Model(lambda question, _: "x" * 1_000 if "one part" in question else "done")
    await run(model, "Is it?", DOCUMENTS[:2], max_leaf_chars=300, pack=False)
    assert "700 characters left out" not in model.texts[-1]
    assert "850 characters left out" in model.texts[-1]
    assert len(model.texts[-1]) < 450


async def test_the_examples_are_counted_from_their_folder():
    folder = Path(__file__).parents[2] / "examples" / "peps"
    context, unread = read_documents([str(folder)])
    planned = plan(parse_spec("Which?", reduce="count:status"), context, ModelInfo("fake"), 20_000)
    found = await map_reduce(Model(statuses), planned, context)
    assert unread == []
    assert found.value["status"] == EXAMPLES
    assert len(planned.pieces) < context.info.documents == sum(EXAMPLES.values())
