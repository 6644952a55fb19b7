"""Settings, where they come from and what they refuse."""

from __future__ import annotations

import pytest

from rlm_ray import Cluster, Limits, Sandbox
from rlm_ray.config import Settings, load_settings, setting_names, settings_from
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
        ({"leaf_chars": -5}, "leaf_chars"),
        ({"timeout": float("nan")}, "timeout"),
        ({"timeout": "soon"}, "timeout"),
        ({"profile": "bold"}, "default, cautious, small-window"),
        ({"model": " "}, "model: is empty"),
        ({"limits": {"cost_usd": -1}}, "limits.cost_usd"),
        ({"limits": {"dollars": 1}}, "limits.dollars: is no setting"),
        ({"limits": 5}, r"limits: must be Limits\(...\)"),
        ({"cluster": {"sessions_per_actor": 0}}, "cluster.sessions_per_actor"),
        ({"attempts": 0}, "attempts"),
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
    settings = load_settings({"max_iterations": 7, "sandbox.memory_mb": "512"}, environment, tmp_path)
    assert (settings.model, settings.max_depth, settings.max_iterations) == ("from/file", 2, 7)
    assert settings.limits == Limits(cost_usd=1.5, tokens=1000)
    assert settings.sandbox == Sandbox(memory_mb=512)
    assert settings.params == {"temperature": 0.1}


def test_unknown_options_in_the_file_are_refused_with_a_suggestion(tmp_path):
    (tmp_path / "rlm-ray.toml").write_text("max_dept = 2\n")
    with pytest.raises(ConfigError, match="max_dept: is no setting; did you mean 'max_depth'"):
        load_settings({}, {}, tmp_path)


def test_unknown_variables_are_refused_with_a_suggestion(tmp_path):
    with pytest.raises(ConfigError, match="RLM_RAY_MODLE: is no setting; did you mean 'RLM_RAY_MODEL'"):
        load_settings({}, {"RLM_RAY_MODLE": "x"}, tmp_path)


def test_a_broken_file_is_named(tmp_path):
    (tmp_path / "rlm-ray.toml").write_text("model = \n")
    with pytest.raises(ConfigError, match=r"rlm-ray.toml: cannot be read as TOML"):
        load_settings({}, {}, tmp_path)


def test_text_that_is_no_number_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="max_depth"):
        load_settings({"max_depth": "two"}, {}, tmp_path)


def test_every_setting_has_a_dotted_name():
    assert {"model", "limits.cost_usd", "rates.rpm", "cluster.idle_s", "sandbox.cell_timeout_s"} <= set(
        setting_names()
    )


def test_settings_are_values():
    assert Settings() == Settings()
    assert Settings(cluster=Cluster(min_actors=2)) != Settings()


def test_variables_of_the_service_are_no_settings_and_harm_no_other_command(tmp_path):
    assert load_settings({}, {"RLM_RAY_SERVE_KEYS": "keys: []"}, tmp_path).model == Settings().model
    with pytest.raises(ConfigError, match="did you mean 'RLM_RAY_SERVE_KEYS'"):
        load_settings({}, {"RLM_RAY_SERVE_KEY": "x"}, tmp_path)


FOUND = [
    '[params]\napi_base = "http://evil/v1"', '[params]\nbase_url = "http://evil"', '[params]\nextra_headers = {X = "y"}',
    '[params]\napi_key = "sk-of-somebody"', "[params]\nssl_verify = false", '[params]\nstop = "http://evil"',
    '[cluster]\naddress = "evil:6379"', 'run_dir = "s3://evil/runs"', 'cache = "/home/me/evil"',
    'model = "huggingface/https://evil"', "[sandbox]\nallow_degraded = true",
]  # fmt: skip


@pytest.mark.parametrize("text", FOUND)
def test_a_file_that_just_lies_there_does_not_say_where_questions_and_keys_go(tmp_path, text):
    (tmp_path / "rlm-ray.toml").write_text(text)
    with pytest.raises(
        ConfigError, match=r"a file that just lies there may not say that: set RLM_RAY_CONFIG="
    ):
        load_settings({}, {}, tmp_path)
    named = {"RLM_RAY_CONFIG": str(tmp_path / "rlm-ray.toml")}
    assert load_settings({}, named, tmp_path / "elsewhere") != Settings()


def test_a_named_file_that_is_not_there_is_said(tmp_path):
    with pytest.raises(ConfigError, match=r"RLM_RAY_CONFIG: there is no file nowhere\.toml"):
        load_settings({}, {"RLM_RAY_CONFIG": "nowhere.toml"}, tmp_path)
