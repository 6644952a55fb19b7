"""The list of litellm's parameters against the litellm that is installed, and the keywords of `RLM` that come of it."""

from __future__ import annotations

import inspect

import pytest

from rlm_ray import RLM, ConfigError, Settings
from rlm_ray.config import load_settings, settings_from
from rlm_ray.config.models import COMPLETION_PARAMS, KNOWN_PARAMS, LITELLM_PARAMS, PROVIDER_PARAMS
from rlm_ray.config.trust import SHAPING_PARAMS
from rlm_ray.serve.config import _OF_ANY_PROVIDER

OURS = {"model", "messages", "model_list", "kwargs"}
"""This package says these itself."""


@pytest.fixture(scope="module")
def litellm():
    import litellm

    return litellm


def test_parameters_of_a_completion_are_those_of_the_installed_litellm(litellm):
    signatures = [inspect.signature(call).parameters for call in (litellm.completion, litellm.acompletion)]
    taken = set().union(*signatures, litellm.OPENAI_CHAT_COMPLETION_PARAMS) - OURS
    assert taken - KNOWN_PARAMS == set()
    assert set(COMPLETION_PARAMS) - taken == set()


def test_keys_and_addresses_that_litellm_takes_are_known():
    from litellm.types.router import CredentialLiteLLMParams

    assert set(CredentialLiteLLMParams.model_fields) - KNOWN_PARAMS == set()


def test_parameters_that_other_modules_name_are_known():
    assert set() == (SHAPING_PARAMS | _OF_ANY_PROVIDER) - KNOWN_PARAMS


def test_lists_name_nothing_twice_and_no_setting():
    names = [*COMPLETION_PARAMS, *LITELLM_PARAMS, *PROVIDER_PARAMS]
    assert len(names) == len(set(names))
    assert KNOWN_PARAMS & set(Settings.__slots__) == {
        "max_tokens",
        "tools",
        "citations",
    }  # settings come first


@pytest.mark.parametrize("name", sorted(KNOWN_PARAMS - set(Settings.__slots__) - {"timeout"}))
def test_known_parameter_is_a_keyword(name):
    assert RLM(**{name: "x"}).settings.params == {name: "x"}


@pytest.mark.parametrize(
    ("keyword", "sentence"),
    [
        ("max_dept", "max_dept: is no setting; did you mean 'max_depth'?"),
        ("temprature", "temprature: is no setting; did you mean 'temperature'?"),
        ("apibase", "apibase: is no setting; did you mean 'api_base'?"),
        ("leaf_char", "did you mean 'max_leaf_chars'?"),
        ("aws_region", "did you mean 'aws_region_name'?"),
        ("cost_usd", r"did you mean limits=Limits\(cost_usd=...\)\?"),
        ("rpm", r"did you mean rates=Rates\(rpm=...\)\?"),
        ("memory_mb", r"did you mean sandbox=Sandbox\(memory_mb=...\)\?"),
        ("idle_timeout_s", r"did you mean cluster=Cluster\(idle_timeout_s=...\)\?"),
        (
            "flux_capacitor",
            r"is no setting; a parameter of the model goes into params=\{'flux_capacitor': ...\}",
        ),
        ("model_list", r"params=\{'model_list': ...\}"),
    ],
)
def test_unknown_keyword_is_refused_with_what_to_do(keyword, sentence):
    with pytest.raises(ConfigError, match=sentence):
        RLM(**{keyword: 1})


def test_params_takes_anything_in_python_and_in_a_file(tmp_path):
    assert settings_from({"params": {"flux_capacitor": 1}, "seed": 2}).params == {
        "flux_capacitor": 1,
        "seed": 2,
    }
    (tmp_path / "rlm-ray.toml").write_text("[params]\nflux = 1.21\n")
    named = {"RLM_RAY_CONFIG": str(tmp_path / "rlm-ray.toml")}
    assert load_settings([], named, tmp_path).params == {"flux": 1.21}
