"""`rlm-ray models`: what litellm knows and what a server offers."""

from __future__ import annotations

import json

import pytest

from rlm_ray.llm.server_limits import list_models


def test_models_of_litellm_have_windows_and_prices(invoke):
    found = json.loads(invoke("models", "openai/gpt-4o", "--json").stdout)
    (exact,) = [model for model in found if model["model"] == "openai/gpt-4o"]
    assert exact == {
        "model": "openai/gpt-4o", "window_tokens": 128_000, "reply_tokens": 16_384, "input_usd": 2.5, "output_usd": 10.0,
        "source": "litellm",
    }  # fmt: skip


def test_a_table_for_people(invoke):
    lines = invoke(
        "models", "openai/gpt-4o-2024-08", "--price", "openai/gpt-4o-2024-08-06=7,8"
    ).stdout.splitlines()
    assert lines[0].split() == ["MODEL", "WINDOW", "REPLY", "$/M", "IN", "$/M", "OUT"]
    assert lines[1].split() == ["openai/gpt-4o-2024-08-06", "128,000", "16,384", "7", "8"]


def test_more_than_wanted_is_said(invoke):
    done = invoke("models", "gpt", "--limit", "3")
    assert len(done.stdout.splitlines()) == 4
    assert "3 of " in done.stderr


def test_a_name_that_nothing_has_is_said(invoke):
    done = invoke("models", "no-such-model")
    assert (done.exit_code, done.stdout) == (0, "")
    assert done.stderr == "no model of litellm has 'no-such-model' in its name\n"


def test_the_models_of_a_server_are_listed_by_the_names_to_give(invoke, monkeypatch):
    listed = {"data": [{"id": "org/small", "max_model_len": 4096}, {"id": "big"}, {"no": "id"}, 7]}
    monkeypatch.setattr("rlm_ray.llm.server_limits._fetcher", lambda _: lambda *_: listed)
    monkeypatch.setattr("rlm_ray.cli.models.check_address", lambda *_: None)
    base = "http://localhost:1/v1"
    found = json.loads(invoke("models", "--api-base", base, "--price", "openai/big=1,2", "--json").stdout)
    assert [
        (model["model"], model["window_tokens"], model["input_usd"], model["source"]) for model in found
    ] == [
        ("openai/org/small", 4096, None, base),
        ("openai/big", None, 1.0, base),
    ]


@pytest.mark.parametrize("told", [None, {}, {"data": None}, [], "text", {"error": {"message": "no key"}}])
def test_a_server_that_lists_no_models_is_told_from_one_with_none(told):
    assert list_models("http://x/v1", fetch=lambda *_: told) is None
    assert list_models("http://x/v1/", fetch=lambda *_: {"data": []}) == {}


def test_a_server_that_is_not_there_is_one_sentence(invoke, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    done = invoke("models", "--api-base", "http://127.0.0.1:9/v1")
    assert (done.exit_code, done.stdout) == (1, "")
    assert "nothing answers at http://127.0.0.1:9/v1" in done.stderr
