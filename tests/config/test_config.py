"""Settings, where they come from and what they refuse."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from rlm_ray import RLM, Cluster, Limits, Sandbox
from rlm_ray.config import (
    ANSWER_SETTINGS,
    Settings,
    load_settings,
    setting_names,
    settings_from,
    settings_from_dict,
    settings_to_dict,
    values_from_table,
)
from rlm_ray.config.sources import SettingValue, merge_settings
from rlm_ray.core.context import make_context
from rlm_ray.core.tools import Tool
from rlm_ray.errors import ConfigError


def test_arguments_that_are_no_setting_are_litellm_parameters():
    settings = settings_from({"model": "openai/x", "temperature": 0.7, "api_base": "http://h"})
    assert settings.model == "openai/x"
    assert settings.model_at(0) == (
        "openai/x",
        {"timeout": 600.0, "temperature": 0.7, "api_base": "http://h"},
    )


def test_children_use_the_recursive_model():
    settings = settings_from({"model": "a", "recursive_model": "b"})
    assert [settings.model_at(depth)[0] for depth in (0, 1, 2)] == ["a", "b", "b"]
    assert settings_from({"model": "a"}).model_at(1)[0] == "a"


def test_a_misspelt_argument_is_not_mistaken_for_a_litellm_parameter():
    with pytest.raises(ConfigError, match="did you mean 'max_depth'"):
        settings_from({"max_depht": 2})


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"max_depth": -1}, "max_depth: must be a whole number"),
        ({"max_depth": True}, "max_depth"),
        ({"max_iterations": 0}, "max_iterations"),
        ({"max_leaf_chars": -5}, "max_leaf_chars"),
        ({"call_timeout_s": float("nan")}, "call_timeout_s"),
        ({"timeout": "soon"}, "call_timeout_s"),
        ({"profile": "bold"}, "profile: must be default, full, short, cautious or small-window"),
        ({"model": " "}, "model: is empty"),
        ({"limits": {"cost_usd": -1}}, "limits.cost_usd"),
        ({"limits": {"dollars": 1}}, "limits.dollars: is no setting"),
        ({"limits": 5}, r"limits: must be Limits\(...\)"),
        ({"cluster": {"sessions_per_actor": 0}}, "cluster.sessions_per_actor"),
        ({"max_attempts": 0}, "max_attempts"),
    ],
)
def test_absurd_values_get_one_sentence_that_names_the_setting(options, said):
    with pytest.raises(ConfigError, match=said):
        settings_from(options)


def test_file_environment_and_options_say_the_same_and_override_in_this_order(tmp_path):
    (tmp_path / "rlm-ray.toml").write_text(
        'model = "from/file"\nmax_depth = 1\nmax_iterations = 5\n[limits]\ncost_usd = 1.5\n[params]\ntemperature = 0.1\n'
    )
    environment = {"RLM_RAY_MAX_DEPTH": "2", "RLM_RAY_LIMITS_TOKENS": "1000", "OTHER": "x"}
    settings = load_settings(
        values_from_table({"max_iterations": 7, "sandbox.memory_mb": "512"}), environment, tmp_path
    )
    assert (settings.model, settings.max_depth, settings.max_iterations) == ("from/file", 2, 7)
    assert settings.limits == Limits(cost_usd=1.5, tokens=1000)
    assert settings.sandbox == Sandbox(memory_mb=512)
    assert settings.params == {"temperature": 0.1}


def test_unknown_options_in_the_file_are_refused_with_a_suggestion(tmp_path):
    (tmp_path / "rlm-ray.toml").write_text("max_dept = 2\n")
    with pytest.raises(ConfigError, match="max_dept: is no setting; did you mean 'max_depth'"):
        load_settings([], {}, tmp_path)


def test_unknown_variables_are_refused_with_a_suggestion(tmp_path):
    with pytest.raises(ConfigError, match="RLM_RAY_MODLE: is no setting; did you mean 'RLM_RAY_MODEL'"):
        load_settings([], {"RLM_RAY_MODLE": "x"}, tmp_path)


def test_a_broken_file_is_named(tmp_path):
    (tmp_path / "rlm-ray.toml").write_text("model = \n")
    with pytest.raises(ConfigError, match=r"rlm-ray.toml: cannot be read as TOML"):
        load_settings([], {}, tmp_path)


def test_text_that_is_no_number_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="max_depth"):
        load_settings(values_from_table({"max_depth": "two"}), {}, tmp_path)


def test_every_setting_has_a_dotted_name():
    assert {
        "model",
        "limits.cost_usd",
        "rates.rpm",
        "cluster.idle_timeout_s",
        "sandbox.cell_timeout_s",
    } <= set(setting_names())


def test_journals_and_jobs_are_compared_by_the_settings_that_shape_answers():
    assert ANSWER_SETTINGS == (
        "model", "recursive_model", "models", "max_depth", "max_iterations", "max_leaf_chars", "direct_call_below_chars",
        "profile", "system_prompt", "instructions", "max_tokens", "params", "sandbox", "citations", "mcp_servers",
    )  # fmt: skip


@pytest.mark.parametrize("limits", [{"min_actors": 3, "max_actors": 2}, {"max_actors": 0}])
def test_no_more_actors_are_wanted_at_least_than_at_most(limits):
    with pytest.raises(ConfigError, match=r"cluster.max_actors: must be"):
        Cluster(**limits)
    assert Cluster(min_actors=3, max_actors=3).max_actors == 3


def test_settings_are_values():
    assert Settings() == Settings()
    assert Settings(cluster=Cluster(min_actors=2)) != Settings()


def test_variables_of_the_service_are_no_settings_and_harm_no_other_command(tmp_path):
    assert load_settings([], {"RLM_RAY_SERVE_KEYS": "keys: []"}, tmp_path).model == Settings().model
    with pytest.raises(ConfigError, match="did you mean 'RLM_RAY_SERVE_KEYS'"):
        load_settings([], {"RLM_RAY_SERVE_KEY": "x"}, tmp_path)


FOUND = [
    '[params]\napi_base = "http://evil/v1"', '[params]\nbase_url = "http://evil"', '[params]\nextra_headers = {X = "y"}',
    '[params]\napi_key = "sk-of-somebody"', "[params]\nssl_verify = false", '[params]\nstop = "http://evil"',
    '[cluster]\naddress = "evil:6379"', 'run_dir = "s3://evil/runs"', 'cache = "/home/me/evil"',
    'model = "huggingface/https://evil"', "[sandbox]\nallow_degraded = true",
    '[mcp_servers.shop]\ncommand = "evil"',
]  # fmt: skip


@pytest.mark.parametrize("text", FOUND)
def test_a_file_that_just_lies_there_does_not_say_where_questions_and_keys_go(tmp_path, text):
    (tmp_path / "rlm-ray.toml").write_text(text)
    with pytest.raises(
        ConfigError, match=r"a file that just lies there may not say that: set RLM_RAY_CONFIG="
    ):
        load_settings([], {}, tmp_path)
    named = {"RLM_RAY_CONFIG": str(tmp_path / "rlm-ray.toml")}
    assert load_settings([], named, tmp_path / "elsewhere") != Settings()


def test_a_named_file_that_is_not_there_is_said(tmp_path):
    with pytest.raises(ConfigError, match=r"RLM_RAY_CONFIG: there is no file nowhere\.toml"):
        load_settings([], {"RLM_RAY_CONFIG": "nowhere.toml"}, tmp_path)


PLACES = [
    ("rlm-ray.toml", "max_depth = -1", "max_depth: must be a whole number"),
    ("rlm-ray.toml", "[cluster]\nmin_actors = 0", "cluster.min_actors: must be a whole number"),
    ("rlm-ray.toml", "[cluster]\nmin_actor = 1", "cluster.min_actor: is no setting; did you mean 'min_actors'?"),
    ("rlm-ray.toml", "[limit]\ncalls = 1", "limit: is no setting; did you mean 'limits'?"),
    ("rlm-ray.toml", "limits = 5", r"limits: must be Limits\(...\) or a table; got 5"),
    ("rlm-ray.toml", "params = 5", "params: must be a table of names and values; got 5"),
    ("rlm-ray.toml", "[model]\nname = 1", "model.name: is no setting; model holds one value"),
    ("rlm-ray.toml", "[prices.m]\ninput = 1", "prices.m.input: is no setting"),
    ("RLM_RAY_MAX_DEPTH", "two", "max_depth: input should be a valid integer.*got 'two'"),
    ("RLM_RAY_LIMITS_CALLS", "0", "limits.calls: must be a whole number from 1"),
    ("RLM_RAY_ATTEMPTS", "0", "max_attempts: must be a whole number"),
    ("RLM_RAY_RECORD_CONTENT", "maybe", "record_content: input should be a valid boolean"),
    ("--set", "sandbox.memory_mb=1", "sandbox.memory_mb: must be a number from 16"),
    ("--set", "limit.calls=1", "limit.calls: is no group of settings; did you mean 'limits'?"),
    ("--set", "params=5", "params: must be a table"),
    ("--set", "model.name=5", "model.name: is no setting"),
]  # fmt: skip


@pytest.mark.parametrize(("place", "said", "refusal"), PLACES)
def test_a_refused_value_is_named_with_its_source(tmp_path, place, said, refusal):
    environment, options = {}, []
    if place == "rlm-ray.toml":
        (tmp_path / place).write_text(said)
    elif place == "--set":
        name, _, value = said.partition("=")
        options = values_from_table({name: value}, place)
    else:
        environment = {place: said}
    with pytest.raises(ConfigError, match=rf"^{refusal}.* \(from .*{place}\)$") as error:
        load_settings(options, environment, tmp_path)
    assert "\n" not in str(error.value)


def test_the_source_is_that_of_the_value_that_holds(tmp_path):
    (tmp_path / "rlm-ray.toml").write_text("max_depth = -1")
    assert load_settings([], {"RLM_RAY_MAX_DEPTH": "2"}, tmp_path).max_depth == 2
    with pytest.raises(ConfigError, match=r"max_depth.*got -2 \(from RLM_RAY_MAX_DEPTH\)"):
        load_settings([], {"RLM_RAY_MAX_DEPTH": "-2"}, tmp_path)


def test_an_argument_in_python_names_no_source():
    with pytest.raises(ConfigError, match=r"got -1$"):
        settings_from({"max_depth": -1})


def test_python_file_variables_and_options_build_the_same_settings(tmp_path):
    (tmp_path / "rlm-ray.toml").write_text(
        "max_leaf_chars = 5\n[cluster]\nidle_timeout_s = 9\n[limits]\ncalls = 3\n"
    )
    environment = {
        "RLM_RAY_MAX_LEAF_CHARS": "5",
        "RLM_RAY_CLUSTER_IDLE_TIMEOUT_S": "9",
        "RLM_RAY_LIMITS_CALLS": "3",
    }
    options = values_from_table(
        {"max_leaf_chars": "5", "cluster.idle_timeout_s": "9", "limits.calls": "3"}, "--set"
    )
    elsewhere = tmp_path / "elsewhere"
    built = [
        load_settings([], {}, tmp_path),
        load_settings([], environment, elsewhere),
        load_settings(options, {}, elsewhere),
        settings_from({"max_leaf_chars": 5, "cluster": {"idle_timeout_s": 9.0}, "limits": {"calls": 3}}),
    ]
    assert (
        built == [Settings(max_leaf_chars=5, cluster=Cluster(idle_timeout_s=9.0), limits=Limits(calls=3))] * 4
    )


def test_one_name_of_a_table_changes_nothing_of_its_others():
    base = settings_from({"temperature": 0.5, "prices": {"a": {"input_usd": 1, "output_usd": 2}}})
    changed = settings_from({"seed": 3, "prices": {"b": {"input_usd": 3, "output_usd": 4}}}, base=base)
    assert changed.params == {"temperature": 0.5, "seed": 3}
    assert changed.prices.keys() == {"a", "b"}


def test_a_group_given_whole_replaces_the_one_before():
    base = settings_from({"limits": Limits(calls=1)})
    assert settings_from({"limits": Limits(tokens=2)}, base=base).limits == Limits(tokens=2)
    assert settings_from({"limits": {"tokens": 2}}, base=base).limits == Limits(tokens=2)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"citations": "yes"}, "citations: must be off, optional or required; got 'yes'"),
        ({"citations": "required", "max_depth": 0}, "only code can cite"),
        ({"mcp_servers": {"shop": "uvx shop"}}, "mcp_servers.shop: must be a table"),
        ({"mcp_servers": {"shop": {}}}, 'mcp_servers.shop: needs a "command" or a "url"'),
        ({"mcp_servers": {"shop": {"command": "a", "url": "b"}}}, "and not both"),
        (
            {"mcp_servers": {"shop": {"comand": "a"}}},
            "mcp_servers.shop.comand: is no setting; did you mean 'command'?",
        ),
        (
            {"mcp_servers": {"shop": {"command": "a", "args": "b"}}},
            "mcp_servers.shop.args: must be a list of texts",
        ),
        (
            {"mcp_servers": {"shop": {"command": "a", "env": ["b"]}}},
            "mcp_servers.shop.env: must be a table of texts",
        ),
        ({"mcp_servers": "shop"}, "mcp_servers: must be a table"),
        ({"tool_limits": {"timeout_s": 0}}, "tool_limits.timeout_s: must be a number from 0.01"),
        ({"tool_limits": {"max_concurrent": 0}}, "tool_limits.max_concurrent: must be a number from 1"),
        ({"tool_limits": {"timeouts": 1}}, "tool_limits.timeouts: is no setting; did you mean 'timeout_s'?"),
        ({"tools": ["weather"]}, "tools: takes functions"),
    ],
)
def test_wrong_settings_of_tools_and_citations_get_one_sentence(options, said):
    with pytest.raises(ConfigError) as refused:
        RLM(**options)
    assert said in str(refused.value)


def test_a_record_holds_names_of_tools_and_no_secret_of_a_server():
    server = {"command": "uvx", "env": {"SHOP_TOKEN": "secret-1", "MODE": "open"}}
    remote = {"url": "https://shop", "headers": {"authorization": "Bearer secret-2"}}
    tool = Tool("add", "(a)", "Adds.", b"code")
    settings = replace(Settings(), tools=(tool,), mcp_servers={"shop": server, "remote": remote})
    table = settings_to_dict(settings)
    assert table["tools"] == ["add"]
    assert "secret" not in str(table)
    again = settings_from_dict(json.loads(json.dumps(table)))
    assert (again.tools, again.mcp_servers["shop"]) == ((), {"command": "uvx", "env": {"MODE": "open"}})


@pytest.mark.parametrize(
    ("options", "chars", "direct"),
    [
        ({"direct_call_below_chars": None}, 10, True),
        ({"direct_call_below_chars": None, "mcp_servers": {"shop": {"command": "uvx"}}}, 10, False),
        ({"direct_call_below_chars": None, "citations": "optional"}, 10, False),
        ({"citations": "required", "direct_call_below_chars": 100}, 10, False),
        ({"citations": "optional", "direct_call_below_chars": 100}, 10, True),
        ({"mcp_servers": {"shop": {"command": "uvx"}}, "max_depth": 0}, 10, True),
    ],
)
def test_what_only_code_can_do_is_not_answered_directly(options, chars, direct):
    assert Settings(**options).answers_directly(make_context("x" * chars).info) is direct


def test_settings_of_a_request_are_coerced_without_reading_the_types_again(monkeypatch):
    """Reading them takes a millisecond, and a service coerces settings for every request."""
    wished = [
        SettingValue("max_depth", "2"),
        SettingValue("max_iterations", 7),
        SettingValue("limits.calls", 9),
    ]
    first = merge_settings(Settings(), wished)

    def read_again(*_, **__):
        raise AssertionError("types are read again")

    monkeypatch.setattr("rlm_ray.config.coercion.get_type_hints", read_again)
    assert merge_settings(Settings(), wished) == first
