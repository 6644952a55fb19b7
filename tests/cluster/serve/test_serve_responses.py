"""The responses interface through the unmodified `openai` client."""

from __future__ import annotations

import openai
import pytest
from serve_waiting import MODEL, QUICK, SLOW, eventually

from rlm_ray.testing.responses import run_query

pytestmark = pytest.mark.ray


def test_a_response_has_the_answer_and_the_usage_of_the_whole_tree(site):
    response = site.client().responses.create(model=MODEL, input=QUICK, instructions="Be brief.")
    assert response.status == "completed"
    assert response.output_text == "session done"
    assert response.usage.total_tokens > 0


def test_streamed_events_build_up_the_same_response(site):
    question = run_query("recursive_map('q', ['a', 'b'])")
    with site.client().responses.stream(model=MODEL, input=question) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_response()
    assert kinds[:2] == ["response.created", "response.in_progress"]
    assert "response.reasoning_summary_text.delta" in kinds
    assert "response.output_text.delta" in kinds
    assert kinds[-1] == "response.completed"
    assert final.output_text == "session done"


def test_a_background_response_is_asked_for_later(site):
    client = site.client()
    begun = client.responses.create(model=MODEL, input=QUICK, background=True, metadata={"team": "a"})
    assert begun.status == "in_progress"
    assert eventually(lambda: client.responses.retrieve(begun.id).status == "completed", 20)
    response = client.responses.retrieve(begun.id)
    assert response.output_text == "session done"
    assert response.metadata == {"team": "a"}


def test_a_cancelled_response_stops_spending(site, models):
    client = site.client()
    begun = client.responses.create(model=MODEL, input=SLOW, background=True)
    before = models.calls
    assert eventually(lambda: models.calls > before + 10, 20)
    assert client.responses.cancel(begun.id).status == "cancelled"
    assert eventually(lambda: models.in_flight == 0, 5)
    after = models.calls
    assert client.responses.retrieve(begun.id).status == "cancelled"
    assert models.calls == after


def test_responses_of_one_key_do_not_exist_for_another(site):
    begun = site.client("ann").responses.create(model=MODEL, input=QUICK, background=True)
    for attempt in (site.client("bob").responses.retrieve, site.client("bob").responses.cancel):
        with pytest.raises(openai.NotFoundError):
            attempt(begun.id)


def test_a_background_stream_goes_on_without_its_reader(site):
    client = site.client()
    stream = client.responses.create(model=MODEL, input=QUICK, background=True, stream=True)
    created = next(stream)
    stream.close()
    assert eventually(lambda: client.responses.retrieve(created.response.id).status != "in_progress", 20)
    assert client.responses.retrieve(created.response.id).status == "completed"


def test_what_is_not_followed_is_refused_and_not_ignored(site):
    with pytest.raises(openai.BadRequestError, match="whole conversation"):
        site.client().responses.create(model=MODEL, input=QUICK, previous_response_id="resp_1")


CITING = {
    "model": MODEL,
    "extra_body": {
        "rlm": {"context": "The harbour opened in 1907. " + "More of it. " * 50, "citations": "required"}
    },
}


def test_citations_are_annotations_of_a_response_and_of_a_chat_message(site):
    question = run_query("print(cite('harbour  opened in 1907'))", "FINAL('The harbour opened in 1907.')")
    response = site.client().responses.create(input=question, **CITING)
    (annotation,) = response.output[0].content[0].annotations
    assert (annotation.type, annotation.file_id, annotation.quote) == (
        "file_citation",
        "context",
        "harbour opened in 1907",
    )
    reply = site.client().chat.completions.create(messages=[{"role": "user", "content": question}], **CITING)
    message = reply.choices[0].message
    cited = message.annotations[0].url_citation
    assert message.content[cited.start_index : cited.end_index] == "harbour opened in 1907"
    assert cited.url == "rlm:context#char=4,26"


def test_an_answer_that_cites_nothing_is_incomplete_where_it_must_cite(site):
    response = site.client().responses.create(input=run_query(*["FINAL(len(context))"] * 3), **CITING)
    assert (response.status, response.incomplete_details.reason) == ("incomplete", "no_citations")
