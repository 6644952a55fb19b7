"""Files, contexts read from them and from URIs, and what is noted of a request."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest

from rlm_ray.errors import ConfigError, InputError
from rlm_ray.events.records import RunFinished
from rlm_ray.journal.run_store import RunStore
from rlm_ray.serve.config import ServerConfig
from rlm_ray.serve.context_loader import ContextLoader
from rlm_ray.serve.file_store import DAY_S, FileStore, PayloadTooLargeError
from rlm_ray.serve.model_registry import apply_request_options, make_model_registry
from rlm_ray.serve.prompt import FileData, FileRef, NamedContext, Text, Uri
from rlm_ray.serve.run_store import (
    StoredRequest,
    end_from_error,
    end_of,
    is_run_id,
    load_request,
    request_run_id,
    save_failure,
    save_request,
    state_of,
)


@pytest.fixture
def files(tmp_path):
    return FileStore(str(tmp_path / "runs"), max_bytes=1000, days=2)


def save(files, data=b"text", key="ann", now=100.0):
    return files.save(key, "a.txt", "user_data", io.BytesIO(data), now)


def test_a_file_is_kept_for_its_key_until_it_expires(files):
    stored = save(files)
    assert files.find("ann", stored.id, 101.0) == stored
    assert files.find("bob", stored.id, 101.0) is None
    assert files.read("ann", stored.id) == b"".join(files.chunks("ann", stored.id)) == b"text"
    assert files.find("ann", stored.id, 100.0 + 2 * DAY_S) is None
    assert files.list_files("ann", 101.0) == []


def test_files_are_listed_newest_first_and_swept_when_they_expire(files, tmp_path):
    first, second = save(files), save(files, now=200.0)
    assert files.list_files("ann", 201.0) == [second, first]
    files.delete_expired(150.0 + 2 * DAY_S)
    assert files.list_files("ann", 201.0) == [second]
    assert len(list((tmp_path / "runs" / "serve" / "files" / "ann").iterdir())) == 2


def test_a_file_that_is_too_large_leaves_nothing_behind(files, tmp_path):
    with pytest.raises(PayloadTooLargeError, match="1,000 bytes"):
        save(files, b"x" * 1001)
    assert list((tmp_path / "runs" / "serve" / "files" / "ann").iterdir()) == []


@pytest.mark.parametrize("file_id", ["", "../x", "file-1", "file-" + "0" * 24 + "/..", "file-" + "0" * 24])
def test_what_is_no_file_is_not_found(files, file_id):
    assert files.find("ann", file_id, 0.0) is None


def test_one_piece_is_a_text_and_several_are_documents_with_names_of_their_own(files):
    loader = ContextLoader(files, (), 1000)
    stored = save(files, "\ufeffé".encode())
    assert loader.load("ann", []).nbytes == 0
    one = loader.load("ann", [NamedContext("a", FileRef(stored.id))])
    assert bytes(one.data).decode() == "é"
    several = loader.load(
        "ann",
        [NamedContext("a", Text("1")), NamedContext("a", FileData("", b"2")), NamedContext("b", Text("3"))],
    )
    assert several.ids == ("a", "a (2)", "b")
    with pytest.raises(InputError, match="UTF-8"):
        loader.load("ann", [NamedContext("a", FileData("", b"\xff"))])


@pytest.mark.parametrize(
    ("uri", "allowed"),
    [
        ("s3://team/a.txt", True),
        ("s3://other/a.txt", False),
        ("s3://team/../other/a.txt", False),
        ("s3://team/%2e%2e/other", False),
        ("s3://team/a::file:///etc/passwd", False),
        ("file:///etc/passwd", False),
        ("S3://team/a", True),
    ],
)
def test_uris_are_read_only_below_what_is_allowed(files, uri, allowed):
    assert ContextLoader(files, ("s3://team/",), 1000).allows(uri) is allowed


def test_a_uri_is_read_up_to_a_size(files, tmp_path):
    (tmp_path / "a.txt").write_text("x" * 20)
    uri = f"file://{tmp_path}/a.txt"
    assert (
        ContextLoader(files, (f"file://{tmp_path}/",), 20).load("ann", [NamedContext("a", Uri(uri))]).nbytes
        == 20
    )
    with pytest.raises(PayloadTooLargeError):
        ContextLoader(files, (f"file://{tmp_path}/",), 19).load("ann", [NamedContext("a", Uri(uri))])


def test_models_are_aliases_and_allowed_names_with_settings_of_their_own(tmp_path):
    models = make_model_registry(
        {"model": "openai/big", "recursive_model": "openai/small", "limits": {"cost_usd": 2}},
        {"deep": {"max_depth": 3, "limits": {"calls": 9}}},
        ["anthropic/*", "openai/mini"],
        str(tmp_path),
    )
    deep = models.settings("deep")
    assert (deep.model, deep.max_depth, deep.limits.cost_usd, deep.limits.calls) == ("openai/big", 3, 2, 9)
    assert models.settings("rlm/openai/big").recursive_model == "openai/small"
    assert models.settings("rlm/anthropic/x").model == "anthropic/x"
    assert models.settings("rlm/anthropic/x").recursive_model == ""
    assert [models.settings(name) for name in ("rlm/openai/x", "openai/mini", "rlm/deep", "")] == [None] * 4
    assert models.ids() == ["deep", "rlm/openai/big", "rlm/openai/mini"]


@pytest.mark.parametrize(
    ("base", "other", "kept"),
    [
        ("openai/a", "openai/b", {"api_key", "api_base", "extra_headers", "temperature"}),
        ("openai/a", "OpenAI/b", {"api_key", "api_base", "extra_headers", "temperature"}),
        ("openai/a", "anthropic/b", {"temperature"}),
        ("openai/a", "azure/openai/b", {"temperature"}),
        ("hosted_vllm/a", "openai/b", {"temperature"}),
        ("openai/a", "b", {"temperature"}),
        ("gpt-5", "claude-4", {"temperature"}),
        ("gpt-5", "openai/gpt-5", {"temperature"}),
    ],
)
def test_another_provider_gets_neither_key_nor_address_of_the_first(base, other, kept, tmp_path):
    params = {"api_key": "k", "api_base": "http://x", "extra_headers": {"x": "y"}, "temperature": 0}
    unsafe = dict.fromkeys(["base_model"], "gpt-4")
    settings = {"model": base, "recursive_model": "openai/small", "params": params | unsafe}
    models = make_model_registry(settings, {}, ["*"], str(tmp_path))
    assert set(models.settings(f"rlm/{other}").params) == kept
    assert models.settings(f"rlm/{base}").params == params | unsafe


UNKNOWN_TO_OTHERS = [
    "api_key",
    "api_base",
    "base_url",
    "api_version",
    "headers",
    "extra_headers",
    "extra_body",
    "default_headers",
    "organization",
    "project",
    "aws_access_key_id",
    "aws_secret_access_key",
    "aws_session_token",
    "aws_profile_name",
    "vertex_credentials",
    "vertex_project",
    "azure_ad_token",
    "azure_username",
    "client_secret",
    "tenant_id",
    "client",
    "custom_llm_provider",
    "model_list",
    "fallbacks",
    "metadata",
    "user",
    "proxies",
    "ssl_verify",
    "api_token",
    "watsonx_apikey",
    "something_new",
]


@pytest.mark.parametrize("name", UNKNOWN_TO_OTHERS)
def test_whatever_may_be_a_credential_stays_with_its_provider(name, tmp_path):
    models = make_model_registry({"model": "openai/a", "params": {name: "x"}}, {}, ["*"], str(tmp_path))
    assert models.settings("rlm/groq/b").params == {}


@pytest.mark.parametrize("model", ["gpt-4.1", "openai/gpt-4.1", "ollama/qwen2.5:7b", "a.b/c.d:e.f", "plain"])
@pytest.mark.parametrize("where", ["settings", "alias"])
def test_prices_of_models_with_dots_slashes_and_colons_hold(model, where, tmp_path):
    table = {"prices": {model: {"input_usd": 1.5, "output_usd": 2}}}
    settings, models = (table, {"deep": {}}) if where == "settings" else ({}, {"deep": table})
    models = make_model_registry(settings, models, [], str(tmp_path))
    assert models.settings("deep").prices[model].input_usd == 1.5


def test_parameters_whose_names_have_dots_are_one_parameter(tmp_path):
    models = make_model_registry({"params": {"extra.x.y": 1}}, {}, [], str(tmp_path))
    assert models.base.params == {"extra.x.y": 1}


def test_a_sweep_goes_on_after_a_file_that_cannot_be_looked_at(files, tmp_path, caplog):
    bad, old = save(files), save(files)
    other = save(files, key="bob")
    folder = tmp_path / "runs" / "serve" / "files" / "ann"
    (folder / f"{bad.id}.json").write_text("{")
    files.delete_expired(101.0 + 2 * DAY_S)
    assert not (folder / f"{old.id}.json").exists()
    assert files.list_files("bob", 101.0) == []
    assert other.id not in caplog.text
    assert bad.id in caplog.text


def test_wishes_may_lower_what_a_model_allows_and_never_raise_it(tmp_path):
    models = make_model_registry(
        {"max_depth": 2, "limits": {"cost_usd": 2, "calls": 10}}, {}, [], str(tmp_path)
    )
    wanted = apply_request_options(
        models.base, {"max_depth": 9, "limits": {"cost_usd": 5, "calls": 3, "tokens": 7}}
    )
    assert wanted.max_depth == 2
    assert (wanted.limits.cost_usd, wanted.limits.calls, wanted.limits.tokens) == (2, 3, 7)
    assert apply_request_options(models.base, {"max_depth": 0, "max_leaf_chars": 5}).max_depth == 0
    assert apply_request_options(models.base, {}) == models.base


@pytest.mark.parametrize(
    ("settings", "models"),
    [
        ({"modle": "x"}, {}),
        ({}, {"a": {"depth": 1}}),
        ({}, {"a": {"run_dir": "x"}}),
        ({"record_content": False}, {}),
    ],
)
def test_settings_that_are_none_are_refused_before_anything_starts(settings, models, tmp_path):
    with pytest.raises(ConfigError):
        make_model_registry(settings, models, [], str(tmp_path))


def test_arguments_have_defaults_and_no_strangers():
    assert ServerConfig().keys_file == ""
    with pytest.raises(ValueError, match="extra"):
        ServerConfig(modles={})


NOTED = StoredRequest("20260101-000000-abcdef", "ann", "chat", "deep", 1.0, "Who?\udcff", {"max_depth": 1})


def test_a_request_is_noted_with_its_run_and_its_end_found_again(tmp_path):
    folder = RunStore(str(tmp_path), NOTED.run_id)
    assert load_request(folder) is None
    save_request(folder, NOTED)
    assert load_request(folder) == NOTED
    assert end_of(folder) is None
    save_failure(folder, replace(end_from_error(InputError("file", "is no text")), at=1.0))
    assert end_of(folder).error_kind == "InputError"
    assert "is no text" in end_of(folder).why


def test_run_ids_are_told_from_paths():
    assert is_run_id(request_run_id())
    assert not any(map(is_run_id, ["", "..", "serve", "20260101-000000-abcdef/..", "20260101-000000-ABCDEF"]))
    assert len({request_run_id() for _ in range(1000)}) == 1000


@pytest.mark.parametrize(
    ("end", "is_open", "state"),
    [
        (None, True, "running"),
        (None, False, "failed"),
        (RunFinished(1.0, "answered", answer="x"), False, "answered"),
        (RunFinished(1.0, "calls", answer="x"), False, "stopped"),
        (RunFinished(1.0, "calls"), False, "failed"),
        (RunFinished(1.0, "error", error_kind="ModelError"), False, "failed"),
        (RunFinished(1.0, "error", error_kind="cancelled"), False, "cancelled"),
    ],
)
def test_how_a_run_stands_is_read_from_its_end(end, is_open, state):
    assert state_of(end, is_open=is_open) == state
