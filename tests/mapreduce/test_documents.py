"""One answer for each document, however documents travel, with models that are functions of what they are sent."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlm_ray.batch.source import read_documents
from rlm_ray.core.context import make_context
from rlm_ray.core.repl_types import Failed, SubCallAnswer
from rlm_ray.errors import InputError, LimitReached, SubCallError
from rlm_ray.events.usage import RunUsage
from rlm_ray.mapreduce.documents import numbers_of
from rlm_ray.mapreduce.execute import map_reduce
from rlm_ray.mapreduce.piece_calls import NUMBERS
from rlm_ray.mapreduce.plan import ModelInfo, plan
from rlm_ray.mapreduce.spec import parse_spec

PEPS = Path(__file__).parents[2] / "examples" / "peps"
STATUSES = ["Final", "Draft", "Active"]
STATUS = {
    "type": "object",
    "properties": {"status": {"enum": [*STATUSES, "Rejected"]}},
    "required": ["status"],
}
DOCUMENTS = [
    {"id": f"d{n}", "text": f"Status: {STATUSES[n % 3]}\n\n{'Words. ' * (n % 40)}"} for n in range(60)
]
TRUTH = {"Final": 20, "Draft": 20, "Active": 20}


def ids_asked(question):
    """The ids of the documents a packed call names; None for any other call."""
    found = re.search(r"documents with these ids: (\[.*?\])\. Answer for each", question)
    return json.loads(found[1]) if found else None


def texts_by_id(ids, text):
    """The text under each heading, in order."""
    texts, at = {}, 0
    for name, following in zip(ids, [*ids[1:], None], strict=True):
        start = text.index(f"[{name}]\n", at) + len(name) + 3
        at = len(text) if following is None else text.index(f"[{following}]\n", start)
        texts[name] = text[start:at]
    return texts


def status_of(text):
    found = re.search(r"^Status: *(\w+)", text, re.MULTILINE)
    return {"status": found[1]} if found else {}


def truthful(question, text, write=json.dumps):
    """One object for each document that is seen."""
    if ids := ids_asked(question):
        found = texts_by_id(ids, text)
        return write([{"id": name, "answer": status_of(found[name])} for name in ids])
    return json.dumps(status_of(text))


class Model:
    def __init__(self, answer):
        self._answer, self.questions, self.numbers, self.texts = answer, [], [], []

    async def llm_calls(self, calls):
        return [self._one(*call) for call in calls]

    def _one(self, _, number, question, part, context):
        text = part if isinstance(part, str) else self._read(part, context)
        self.questions.append(question)
        self.numbers.append(number)
        self.texts.append(text)
        said = self._answer(question, text)
        return said if isinstance(said, Failed | SubCallAnswer) else SubCallAnswer(said)

    def _read(self, part, context):
        return (make_context(part) if isinstance(part, list) else context.slice(part)).text()

    async def usage(self):
        return RunUsage({})


async def run(model, source=DOCUMENTS, max_leaf_chars=2_000, query="What status has it?", **options):
    context = make_context(source)
    options = {"reduce": "count:status", "schema": STATUS} | options
    planned = plan(parse_spec(query, **options), context, ModelInfo("fake"), max_leaf_chars)
    return await map_reduce(model, planned, context)


WRITTEN = {
    "an array": json.dumps,
    "in a fence": lambda elements: f"Here:\n```json\n{json.dumps(elements)}\n```",
    "after thinking": lambda elements: f"Perhaps {json.dumps(elements[:1])}? No:\n{json.dumps(elements)}",
    "an object a line": lambda elements: "\n".join(map(json.dumps, elements)),
    "an object by id": lambda elements: json.dumps({each["id"]: each["answer"] for each in elements}),
    "fields beside the id": lambda elements: json.dumps(
        [{"id": each["id"], **each["answer"]} for each in elements]
    ),
    "under a name": lambda elements: json.dumps({"documents": elements}),
    "ids in brackets": lambda elements: json.dumps(
        [{"id": f"[{each['id']}]", "answer": each["answer"]} for each in elements]
    ),
    "in another order": lambda elements: json.dumps(elements[::-1]),
}


@pytest.mark.parametrize("written", WRITTEN)
async def test_packed_documents_are_counted_one_by_one(written):
    model = Model(lambda question, text: truthful(question, text, WRITTEN[written]))
    found = await run(model)
    assert found.value == {"status": TRUTH}
    assert found.answered == 60
    assert len(model.numbers) == len(found.plan.pieces) < 20
    assert [each.document for each in found.origin.sources("status", "Draft")][:2] == ["d1", "d4"]


LOSSY = {
    "the last is missing": lambda elements: elements[:-1],
    "all are missing": lambda _: [],
    "no ids": lambda elements: [each["answer"] for each in elements],
    "one contradicts itself": lambda elements: [*elements, {**elements[0], "answer": {"status": "Rejected"}}],
    "one does not match": lambda elements: [{**elements[0], "answer": {"status": "?"}}, *elements[1:]],
    "an unknown id": lambda elements: [{**elements[0], "id": "d999"}, *elements[1:]],
    "one object for all": lambda elements: elements[0]["answer"],
}


@pytest.mark.parametrize("loss", LOSSY)
async def test_what_a_packed_answer_lacks_is_asked_alone_and_once(loss):
    model = Model(lambda q, text: truthful(q, text, lambda elements: json.dumps(LOSSY[loss](elements))))
    found = await run(model)
    assert found.value == {"status": TRUTH}
    packed = [question for question in model.questions if ids_asked(question)]
    assert len(packed) < len(model.questions) <= len(packed) + 60
    assert len(set(model.numbers)) == len(model.numbers)


async def test_equal_repeats_and_unknown_ids_cost_no_call():
    def noisy(elements):
        return json.dumps([*elements, elements[0], {"id": "nobody", "answer": {"status": "Draft"}}])

    model = Model(lambda question, text: truthful(question, text, noisy))
    assert (await run(model)).value == {"status": TRUTH}
    assert len(model.questions) == len((await run(model)).plan.pieces)


async def test_a_packed_call_that_fails_is_asked_document_by_document():
    def failing(question, text):
        return Failed("ModelError", "refused") if ids_asked(question) else truthful(question, text)

    assert (await run(Model(failing))).value == {"status": TRUTH}


async def test_a_document_nobody_can_answer_fails_alone():
    def stubborn(question, text):
        if not text:
            return "still no"
        if ids := ids_asked(question):
            return truthful(question, text).replace(f'"id": "{ids[0]}"', '"id": "x"')
        return "no"

    with pytest.raises(SubCallError, match=r"d0:0-\d+: the answer does not match the schema"):
        await run(Model(stubborn))
    found = await run(Model(stubborn), on_error="skip")
    assert len(found.failed) == len(found.plan.pieces)
    assert found.answered == sum(found.value["status"].values()) == 60 - len(found.failed)


async def test_a_limit_counts_the_documents_known_by_then():
    left = iter(range(2))

    def bounded(question, text):
        if next(left, None) is None:
            return Failed("LimitReached", "spent", LimitReached("calls", "the budget is spent"))
        return truthful(question, text)

    found = await run(Model(bounded))
    assert found.stop_reason == "calls"
    assert found.answered == sum(found.value["status"].values())
    assert 0 < found.answered < 60


@settings(deadline=None, max_examples=25)
@given(
    size=st.integers(60, 3_000), packed=st.booleans(), by=st.sampled_from([None, "paragraphs", "characters"])
)
async def test_the_count_is_exact_at_any_size(size, packed, by):
    found = await run(Model(truthful), size=size, pack=packed, split_by=by)
    assert found.value == {"status": TRUTH}


@pytest.mark.parametrize("packed", [True, False])
async def test_the_examples_are_counted_one_by_one(packed):
    context, unread = read_documents([str(PEPS)])
    spec = parse_spec("What status has it?", reduce="count:status", pack=packed)
    planned = plan(spec, context, ModelInfo("fake"), 20_000)
    model = Model(truthful)
    found = await map_reduce(model, planned, context)
    truth = Counter(status_of(path.read_text())["status"] for path in PEPS.iterdir())
    assert unread == []
    assert found.value == {"status": dict(truth)}
    assert len(planned.units) == found.answered == 14
    assert len(planned.pieces) < 14 or not packed


async def test_documents_without_ids_or_with_the_same_id_are_told_apart():
    texts = [each["text"] for each in DOCUMENTS]
    assert (await run(Model(truthful), texts)).value == {"status": TRUTH}
    same = [{"id": "a\nb", "text": text} for text in texts]
    model = Model(truthful)
    found = await run(model, same)
    assert found.value == {"status": TRUTH}
    assert len(model.questions) == len(found.plan.pieces)
    assert found.origin.sources("status", "Final")[0].document == "a\nb"


async def test_empty_documents_are_not_asked_about():
    mixed = [part for each in DOCUMENTS for part in (each, {"id": f"empty {each['id']}", "text": ""})]
    found = await run(Model(truthful), mixed)
    assert found.value == {"status": TRUTH}
    assert found.answered == 60


async def test_plain_answers_of_packed_documents_are_counted_one_by_one():
    def plain(question, text):
        if ids := ids_asked(question):
            found = texts_by_id(ids, text)
            return json.dumps([{"id": name, "answer": status_of(found[name])["status"]} for name in ids])
        return status_of(text)["status"]

    found = await run(Model(plain), reduce="count", schema=None)
    assert found.value == TRUTH
    found = await run(Model(plain), reduce="collect", schema=None)
    assert Counter(found.value) == TRUTH


async def test_a_model_that_puts_values_together_reads_one_for_each_document():
    read = []

    def adding(question, text):
        if "square brackets" in question:
            read.append(text)
            return '{"status": "Final"}'
        return truthful(question, text)

    await run(Model(adding), reduce="model", max_leaf_chars=4_000)
    assert sum(text.count("status") for text in read if "[1]" in text) == 60


# Documents in parts

LONG = {"id": "long", "text": "Status: Final\n\n" + "\n\n".join(f"Paragraph {n}. " * 20 for n in range(30))}


async def test_a_document_in_parts_counts_once():
    model = Model(truthful)
    found = await run(model, [LONG, *DOCUMENTS])
    assert found.value == {"status": TRUTH | {"Final": 21}}
    assert not any("each from another part of one document" in question for question in model.questions)


async def test_parts_that_contradict_each_other_are_settled_by_one_call():
    settled = []

    def torn(question, text):
        if "each from another part of one document" in question:
            settled.append(text)
            return '{"status": "Active"}'
        return json.dumps({"status": "Draft" if "Paragraph 7." in text else "Final"})

    found = await run(Model(torn), [LONG])
    assert found.value == {"status": {"Active": 1}}
    assert len(settled) == 1
    assert '[1]\n{"status": "Final"}' in settled[0]


async def test_what_no_part_tells_is_asked_once_over_all_of_them():
    def silent(question, text):
        return '{"status": "Draft"}' if "another part of one document" in question else "{}"

    assert (await run(Model(silent), [LONG])).value == {"status": {"Draft": 1}}


async def test_a_part_that_fails_fails_its_document():
    def failing(question, text):
        return Failed("ModelError", "is down") if "Paragraph 7." in text else truthful(question, text)

    with pytest.raises(SubCallError, match=r"long:0-\d+: part \d of \d: is down"):
        await run(Model(failing), [LONG, *DOCUMENTS])
    found = await run(Model(failing), [LONG, *DOCUMENTS], on_error="skip")
    assert found.value == {"status": TRUTH}
    assert len(found.failed) == 1


async def test_numbers_of_parts_are_added_up_and_lists_put_together():
    schema = {
        "type": "object",
        "properties": {"n": {"type": "integer"}, "names": {"type": "array", "items": {"type": "string"}}},
        "required": ["n", "names"],
    }

    def counting(question, text):
        names = sorted(set(re.findall(r"Paragraph (\d)\b", text)))
        return json.dumps({"n": text.count("Paragraph"), "names": [*names, "all"]})

    found = await run(Model(counting), [LONG], reduce="sum:n,count:names", schema=schema)
    assert found.value["n"] == 600
    assert found.value["names"] == dict.fromkeys([*map(str, range(10)), "all"], 1)


async def test_a_text_that_is_no_list_of_documents_has_an_answer_for_each_piece():
    found = await run(Model(lambda *_: '{"status": "Final"}'), LONG["text"])
    assert found.value == {"status": {"Final": len(found.plan.pieces)}}
    assert found.plan.unit_name == "pieces"


async def test_a_pydantic_model_checks_what_the_parts_make_together():
    pydantic = pytest.importorskip("pydantic")

    class Status(pydantic.BaseModel):
        status: str
        note: str | None = None

    found = await run(Model(truthful), [LONG, *DOCUMENTS], schema=Status)
    assert found.value == {"status": TRUTH | {"Final": 21}}


async def test_nothing_but_empty_documents_is_refused():
    with pytest.raises(InputError, match="is empty"):
        await run(Model(truthful), ["", ""])


@pytest.mark.parametrize(
    "documents", [["a", "b", "c"], [{"id": "x", "text": "a" * 5_000}, "b"][:1], ["a" * 50_000]]
)
def test_numbers_are_kept_for_each_piece_and_two_more_calls_a_document(documents):
    context = make_context(documents)
    planned = plan(parse_spec("Which?", reduce="collect"), context, ModelInfo("fake"), 2_000)
    assert numbers_of(planned, context) == NUMBERS * (len(planned.pieces) + 2 * len(documents))


# Kinds of calls

OVER_PARTS = "each from another part of one document"
MIXED = [DOCUMENTS[0], DOCUMENTS[1], LONG, {"id": "own", "text": "y" * 1_998}]
"""Two that share a call, one in parts, and one that fits a call only without its name."""


def torn(question, text):
    """Leave out each of several documents, and contradict oneself from part to part."""
    if ids_asked(question):
        return "[]"
    status = "Active" if OVER_PARTS in question else "Draft" if "Paragraph 7." in text else "Final"
    return json.dumps({"status": status}) if "status" in question else status


@pytest.mark.parametrize("options", [{}, {"reduce": "count", "schema": None}])
async def test_each_kind_of_call_has_its_question_its_text_and_its_number_in_the_plan(options):
    model = Model(torn)
    found = await run(model, MIXED, query="What is it?", **options)
    spec, pieces, documents = found.plan.spec, len(found.plan.pieces), len(MIXED)
    parts = pieces - 2
    assert parts > 2
    assert model.questions == [
        spec.question_of_each(["d0", "d1"]),
        *[spec.part_question] * parts,
        *[spec.map_question] * 3,
        spec.parts_question,
    ]
    first = [NUMBERS * piece for piece in range(pieces)]
    alone = [NUMBERS * (pieces + document) for document in (0, 1)]
    assert model.numbers == [*first, *alone, NUMBERS * (pieces + documents + 2)]
    assert max(model.numbers) < numbers_of(found.plan, make_context(MIXED))
    assert model.texts[pieces - 1 : pieces + 2] == [
        MIXED[3]["text"], *(f"[{each['id']}]\n{each['text']}" for each in MIXED[:2]),
    ]  # fmt: skip
    assert model.texts[-1].count("Final") == parts - model.texts[-1].count("Draft") > 0
    assert found.answered == documents
    counts = found.value["status"] if not options else found.value
    assert counts == {"Final": 3, "Active": 1}


async def test_a_repair_has_the_number_behind_that_of_its_call():
    model = Model(lambda question, text: "no" if text else '{"status": "Final"}')
    found = await run(model, MIXED)
    assert len(set(model.numbers)) == len(model.numbers)
    asked = {number for number in model.numbers if number % NUMBERS == 0}
    assert {number for number in model.numbers if number % NUMBERS} <= {number + 1 for number in asked}
    assert found.value == {"status": {"Final": 4}}


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("Final", "Final"), ("Größe", "Größe"), (3, "3"), (0, "0"), (False, "false"), ({"Maß": ["ü"]}, '{"Maß": ["ü"]}'),
        (None, None), ({}, None), ([], None), ("", None),
    ],
)  # fmt: skip
@pytest.mark.parametrize("written", ["beside its id", "by its id"])
async def test_a_plain_answer_that_says_nothing_is_asked_alone(answer, said, written):
    def plain(question, text):
        ids = ids_asked(question)
        if ids and written == "by its id":
            return json.dumps(dict.fromkeys(ids, answer))
        return json.dumps([{"id": name, "answer": answer} for name in ids]) if ids else "alone"

    model = Model(plain)
    found = await run(model, DOCUMENTS[:3], reduce="collect", schema=None)
    assert found.value == [said or "alone"] * 3
    assert len(model.questions) == (1 if said else 4)


@pytest.mark.parametrize(
    ("element", "said"),
    [({}, "alone"), ({"status": "Final"}, '{"status": "Final"}'), ({"answer": None, "note": "x"}, "alone")],
)
async def test_an_element_is_a_plain_answer_by_what_stands_beside_its_id(element, said):
    def plain(question, text):
        ids = ids_asked(question)
        return json.dumps([{"id": name, **element} for name in ids]) if ids else "alone"

    assert (await run(Model(plain), DOCUMENTS[:3], reduce="collect", schema=None)).value == [said] * 3


# Answers about parts


def of_parts(*said):
    """Return a model that says these about the parts of a document, one after the other, and the last for the rest."""
    left = list(said)
    return Model(lambda *_: left.pop(0) if len(left) > 1 else left[0])


@pytest.mark.parametrize(
    ("reduce", "said", "value"),
    [
        ("sum", ["2", "3", "0"], 5),
        ("count", ["nothing here", "Draft", "Nothing here."], {"Draft": 1}),
        ("count", ["nothing here"], {"nothing here": 1}),
        ("collect", [" Draft", "Draft "], ["Draft"]),
    ],
)
async def test_plain_answers_about_parts_are_put_together_by_the_reduction(reduce, said, value):
    model = of_parts(*said)
    found = await run(model, [LONG], reduce=reduce, schema=None)
    assert found.value == value
    assert len(model.questions) == len(found.plan.pieces)


async def test_plain_answers_about_parts_that_contradict_each_other_are_settled_by_one_call():
    model = of_parts("Draft", "Final", *["nothing here"] * 3, "settled")
    found = await run(model, [LONG], reduce="collect", schema=None)
    assert (found.value, len(found.plan.pieces)) == (["settled"], 5)
    assert model.texts[-1].startswith("[1]\nDraft\n\n[2]\nFinal\n\n[3]\nnothing here")


async def test_a_document_with_a_part_that_was_cut_off_is_cut_off_as_its_first_one_says():
    cut = [SubCallAnswer("7", "cut off at 5 tokens"), SubCallAnswer("7", "cut off at 9 tokens")]
    found = await run(of_parts("nothing here", *cut, "nothing here"), [LONG], reduce="collect", schema=None)
    assert found.cut == (f"long:0-{len(LONG['text'])}",)
    assert found.stop_reason == "max_tokens"
    assert found.why == "of 2 of 5 answers, cut off at 5 tokens"


@pytest.mark.parametrize(
    ("failed", "reason"),
    [(Failed("ModelError", "is down"), "answered"), (Failed("L", "spent", LimitReached("calls", "spent")), "calls")],
)  # fmt: skip
async def test_a_document_fails_as_the_first_of_its_parts_that_failed(failed, reason):
    found = await run(of_parts("{}", failed, "{}"), [LONG, DOCUMENTS[0]], on_error="skip", schema=LOOSE)
    (place, why), *_ = found.failed
    assert (place, why) == (f"long:0-{len(LONG['text'])}", f"part 2 of 5: {failed.why}")
    assert (found.stop_reason, found.answered) == (reason, 1)


LOOSE = {
    "type": "object",
    "properties": {"status": {"type": ["string", "null"]}, "note": {"type": ["string", "null"]}},
}


@pytest.mark.parametrize(
    ("required", "said", "value"),
    [
        ([], "{}", {}), (["status"], "{}", {"status": None}), (["status"], '{"status": "a"}', {"status": "a"}),
        (["status", "note"], '{"status": "a"}', {"status": "a", "note": None}),
    ],
)  # fmt: skip
async def test_what_no_part_tells_is_left_out_or_null_where_it_has_to_be_there(required, said, value):
    schema = {**LOOSE, "required": required}
    found = await run(of_parts(said, "{}"), [LONG], reduce="collect", schema=schema)
    assert found.value == [value]
