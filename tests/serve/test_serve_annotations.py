"""Citations of an answer as OpenAI's types read them."""

from __future__ import annotations

from openai.types.chat.chat_completion_message import Annotation
from openai.types.responses.response_output_text import AnnotationFileCitation

from rlm_ray.core.repl_types import Citation
from rlm_ray.events.records import RunFinished
from rlm_ray.serve.http.response_objects import ResponseStream, response_of
from rlm_ray.serve.http.routers.chat import _completion
from rlm_ray.serve.http.schemas import file_citations, url_citations
from rlm_ray.serve.run_store import StoredRequest

CITED = (
    Citation("opened in 1907", "b.txt", 1, 12, 26),
    Citation("grey sky", "a b.pdf", 0, 5, 13, page=3),
    Citation("closed in 1954", "b.txt", 1, 31, 45),
)
ANSWER = "The harbour opened in 1907."


def test_response_cites_documents_as_files():
    annotations = file_citations(CITED)
    assert [AnnotationFileCitation.model_validate(each).file_id for each in annotations] == [
        "b.txt",
        "a b.pdf",
        "b.txt",
    ]
    assert [each["index"] for each in annotations] == [0, 1, 0]
    assert annotations[1] == {
        "type": "file_citation", "file_id": "a b.pdf", "filename": "a b.pdf", "index": 1, "quote": "grey sky",
        "start": 5, "end": 13, "page": 3,
    }  # fmt: skip


def test_chat_message_cites_by_url_with_the_range_in_the_answer():
    annotations = [Annotation.model_validate(each).url_citation for each in url_citations(ANSWER, CITED)]
    first, second, _ = annotations
    assert ANSWER[first.start_index : first.end_index] == "opened in 1907"
    assert (second.start_index, second.end_index) == (0, len(ANSWER))
    assert (first.url, first.title) == ("rlm:b.txt#char=12,26", "b.txt")
    assert second.url == "rlm:a%20b.pdf#char=5,13"


def test_one_text_is_called_the_context():
    (cited,) = url_citations(ANSWER, [Citation("opened", start=1, end=7)])
    assert cited["url_citation"]["url"] == "rlm:context#char=1,7"


def test_whole_and_streamed_answers_have_them():
    end = RunFinished(1.0, "answered", answer=ANSWER, citations=CITED)
    request = StoredRequest("run", "ann", "response", "m", 0.0, "q", {}, {})
    (message,) = response_of(request, end, "answered").output
    assert message.content[0].annotations == file_citations(CITED)
    events = ResponseStream(request).ending(end)
    assert events.count("event: response.output_text.annotation.added") == 3
    assert _completion("run", "m", end).choices[0].message.annotations == url_citations(ANSWER, CITED)
