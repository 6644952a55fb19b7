"""Models of a service: aliases, allowed names, and settings of their own."""

from __future__ import annotations

import pytest

from rlm_ray.errors import ConfigError
from rlm_ray.serve.config import ServerConfig, apply_request_options, make_model_registry


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
