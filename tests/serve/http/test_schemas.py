"""What clients send, as settings, questions and pieces of context."""

from __future__ import annotations

import json

import pytest

from rlm_ray.errors import InputError
from rlm_ray.serve.http.routers.chat import ChatRequest
from rlm_ray.serve.http.routers.responses import ResponseRequest
from rlm_ray.serve.http.schemas import FilePart, RunOptions, response_schema
from rlm_ray.serve.prompt import FileData, FileRef, Text


def test_files_come_by_id_or_in_base64():
    assert FilePart(file_id="file-1").piece() == FileRef("file-1")
    assert FilePart(file_data="data:text/plain;base64,YQ==", filename="a").piece() == FileData("a", b"a")
    assert FilePart(file_data="YQ==").piece() == FileData("", b"a")
    for wrong in (FilePart(), FilePart(file_data="?")):
        with pytest.raises(InputError):
            wrong.piece()


def test_wishes_are_settings_or_pieces_of_context():
    options = RunOptions(
        context=["a", "b"], file_ids=["file-1"], context_uri="s3://x", max_depth=0, limits={"calls": 3}
    )
    assert options.settings() == {"max_depth": 0, "limits": {"calls": 3}}
    assert [piece.name for piece in options.context_parts()] == ["context 1", "context 2", "file-1", "s3://x"]
    assert RunOptions().context_parts() == []


TITLE = {"type": "object", "properties": {"title": {"type": "string"}}}


@pytest.mark.parametrize(
    ("form", "schema"),
    [
        (None, None),
        ({"type": "text"}, None),
        ({"type": "json_object"}, {"type": "object"}),
        ({"type": "json_schema", "json_schema": {"name": "t", "strict": True, "schema": TITLE}}, TITLE),
        ({"type": "json_schema", "name": "t", "schema": TITLE}, TITLE),
    ],
)
def test_response_format_is_a_schema(form, schema):
    said = response_schema(form)
    assert (json.loads(said) if said else None) == schema


@pytest.mark.parametrize(
    "form",
    [
        {},
        {"type": "xml"},
        {"type": "json_schema"},
        {"type": "json_schema", "json_schema": {"name": "t"}},
        {"type": "json_schema", "json_schema": {"schema": [1]}},
        {"type": "json_schema", "json_schema": {"schema": {"type": "objekt"}}},
        {"type": "json_schema", "json_schema": {"schema": {"$ref": "https://example.com/a"}}},
        {"type": "json_schema", "json_schema": {"schema": {"type": "string", "pattern": "(?=a)a"}}},
    ],
)
def test_response_format_that_cannot_be_used_is_refused(form):
    with pytest.raises(InputError, match="response_format"):
        response_schema(form)


IMAGES = [
    {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}},
    {"type": "input_audio", "input_audio": {"data": "", "format": "wav"}},
    {"type": "video_url", "video_url": {"url": "https://example.org/x"}},
]
SAID = {"type": "text", "text": "What is this?"}


def chat(*messages):
    return ChatRequest(model="m", messages=list(messages)).parse()


@pytest.mark.parametrize("image", IMAGES)
def test_an_image_of_an_earlier_turn_is_a_placeholder(image):
    wanted = chat(
        {"role": "user", "content": [SAID, image]},
        {"role": "assistant", "content": "A cat."},
        {"role": "user", "content": "And who wrote Faust?"},
    )
    assert wanted.messages[0].pieces == (
        Text("What is this?"),
        Text(f"[{image['type']}: cannot be read here]"),
    )


@pytest.mark.parametrize("image", IMAGES)
def test_an_image_in_the_question_is_refused_with_what_to_do(image):
    with pytest.raises(InputError, match=r"cannot be read here; describe it in words"):
        chat({"role": "user", "content": [SAID, image]})
    with pytest.raises(InputError, match=image["type"]):
        chat({"role": "user", "content": "Hi"}, {"role": "user", "content": [image]}, {"role": "assistant"})


def test_responses_treat_images_alike():
    image = {"type": "input_image", "image_url": "https://example.org/x.png"}
    old = {"role": "user", "content": [{"type": "input_text", "text": "Look"}, image]}
    wanted = ResponseRequest(model="m", input=[old, {"role": "user", "content": "Who?"}]).parse()
    assert wanted.messages[0].pieces[1] == Text("[input_image: cannot be read here]")
    with pytest.raises(InputError, match="input_image"):
        ResponseRequest(model="m", input=[old]).parse()


def test_a_refusal_of_the_assistant_is_a_text():
    wanted = chat(
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]},
        {"role": "user", "content": "Why?"},
    )
    assert wanted.messages[0].pieces == (Text("No."),)
