"""Files: uploaded once, asked about, and nobody else's."""

from __future__ import annotations

import io

import openai
import pytest
from sample_documents import FACTS
from serve_waiting import MODEL

from rlm_ray.testing.responses import run_query

pytestmark = pytest.mark.ray

COUNT = run_query("FINAL(str(context.count('needle')))")


def about(file_id, text):
    content = [{"type": "file", "file": {"file_id": file_id}}, {"type": "text", "text": text}]
    return [{"role": "user", "content": content}]


def test_a_large_file_is_uploaded_and_asked_about(site):
    client = site.client()
    data = (b"hay " * 250 + b"needle\n") * 20_000
    file = client.files.create(file=("hay.txt", io.BytesIO(data)), purpose="user_data")
    assert file.bytes == len(data)
    reply = client.chat.completions.create(model=MODEL, messages=about(file.id, COUNT))
    assert reply.choices[0].message.content == "20000"
    assert client.files.content(file.id).read() == data
    assert file.id in [one.id for one in client.files.list()]
    assert client.files.delete(file.id).deleted
    with pytest.raises(openai.NotFoundError):
        client.files.retrieve(file.id)


def test_a_file_inside_the_request_needs_no_upload(site):
    coded = "data:text/plain;base64,bmVlZGxlIG5lZWRsZQ=="
    part = {"type": "file", "file": {"file_data": coded, "filename": "two.txt"}}
    messages = [{"role": "user", "content": [part, {"type": "text", "text": COUNT}]}]
    reply = site.client().chat.completions.create(model=MODEL, messages=messages)
    assert reply.choices[0].message.content == "2"


def test_several_files_are_documents(site):
    client = site.client()
    ids = [client.files.create(file=(f"{n}.txt", b"x" * n), purpose="user_data").id for n in (3, 5)]
    parts = [{"type": "input_file", "file_id": one} for one in ids]
    parts.append(
        {"type": "input_text", "text": run_query("FINAL(str([len(one['text']) for one in context]))")}
    )
    reply = client.responses.create(model=MODEL, input=[{"role": "user", "content": parts}])
    assert reply.output_text == "[3, 5]"


def test_files_of_one_key_do_not_exist_for_another(site):
    file = site.client("ann").files.create(file=("a.txt", b"secret"), purpose="user_data")
    bob = site.client("bob")
    assert file.id not in [one.id for one in bob.files.list()]
    for attempt in (
        lambda: bob.files.retrieve(file.id),
        lambda: bob.files.content(file.id),
        lambda: bob.files.delete(file.id),
        lambda: bob.chat.completions.create(model=MODEL, messages=about(file.id, COUNT)),
    ):
        with pytest.raises(openai.NotFoundError):
            attempt()


def test_bytes_that_are_no_text_are_refused_with_what_to_do(site):
    client = site.client()
    file = client.files.create(file=("a.bin", b"\xff\xfe\x00"), purpose="user_data")
    with pytest.raises(openai.BadRequestError, match="UTF-8"):
        client.chat.completions.create(model=MODEL, messages=about(file.id, COUNT))


def test_a_body_that_is_too_large_is_refused(site):
    with pytest.raises(openai.APIStatusError) as caught:
        site.client().chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": "x" * (5 << 20)}]
        )
    assert caught.value.status_code == 413


def test_documents_of_each_kind_are_read_and_named_after_their_files(site, samples):
    client = site.client()
    parts = [
        {"type": "input_file", "file_id": client.files.create(file=path, purpose="user_data").id}
        for path in sorted((samples / "good").iterdir())
    ]
    look = "FINAL('|'.join(one['id'] + '=' + str(facts[one['id']] in one['text']) for one in context))"
    parts.append({"type": "input_text", "text": run_query(f"facts = {FACTS!r}\n{look}")})
    reply = client.responses.create(model=MODEL, input=[{"role": "user", "content": parts}])
    assert reply.output_text == "|".join(f"{name}=True" for name in sorted(FACTS))


def test_protected_document_is_refused_with_what_to_do(site, samples):
    client = site.client()
    file = client.files.create(file=samples / "bad" / "locked.pdf", purpose="user_data")
    with pytest.raises(openai.BadRequestError, match="is protected by a password; save a copy without one"):
        client.chat.completions.create(model=MODEL, messages=about(file.id, COUNT))
