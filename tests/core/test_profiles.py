"""Which words a kind of model gets, and that recorded runs go on with theirs."""

from __future__ import annotations

import pytest
from render_prompts import FOLDER, NAMES, TEXT, render

from rlm_ray.config import Settings, settings_from_dict, settings_to_dict
from rlm_ray.core import prompts
from rlm_ray.core.profiles import PROFILES, profile_name
from rlm_ray.core.state_machine import Task, Trajectory
from rlm_ray.errors import ConfigError
from rlm_ray.runs.run_history import RunHistory

CHOSEN = {
    "openai/qwen": "short",
    "openai/Qwen2.5-Coder-1.5B-Instruct": "short",
    "ollama/llama3.2": "short",
    "ollama_chat/qwen2.5-coder": "short",
    "groq/llama-3.1-8b-instant": "short",
    "gemini/gemma-3n-e4b-it": "short",
    "phi-4": "short",
    "huggingface/TinyLlama/TinyLlama-1.1B-Chat": "short",
    "hosted_vllm/Qwen/Qwen3-4B": "short",
    "deepseek-coder": "short",
    "ollama/llama3.1:70b": "full",
    "hosted_vllm/Qwen/Qwen3-235B-A22B": "full",
    "openai/qwen3-coder-480b-a35b-instruct": "full",
    "openai/qwen3-coder-plus": "full",
    "together_ai/mistralai/Mixtral-8x7B-Instruct-v0.1": "full",
    "gpt-5": "full",
    "gpt-5-mini": "full",
    "anthropic/claude-sonnet-4": "full",
    "deepseek/deepseek-chat": "full",
    "offline/extractive": "full",
    "openai/my-deployment": "full",
}


@pytest.mark.parametrize("name", NAMES)
def test_a_profile_is_rendered_as_it_lies_in_its_file(name):
    assert render(name) == (FOLDER / f"{name}.txt").read_text()


@pytest.mark.parametrize("model", CHOSEN)
def test_a_model_gets_the_profile_that_fits_its_name(model):
    assert profile_name("default", 2, model, {}) == CHOSEN[model]


def test_a_profile_of_the_settings_goes_before_the_choice():
    assert [profile_name(name, 2, "openai/qwen", {}) for name in PROFILES] == list(PROFILES)
    assert profile_name("default", 1, "openai/qwen", {}) == "default"


def test_a_small_window_that_the_settings_tell_gets_little_to_read():
    assert profile_name("default", 2, "openai/my-deployment", {"num_ctx": 8192}) == "small-window"


def test_a_system_prompt_of_ones_own_stands_alone_and_instructions_at_the_end():
    def system(**given):
        return prompts.session_messages(Trajectory(Task("q", TEXT, **given)), "")[0].content

    assert system(system_prompt="Only {this}.") == "Only {this}."
    assert system(system_prompt="Only this.", instructions="In French.") == "Only this.\n\nIn French.\n"
    assert system(instructions="In French.") == f"{system().rstrip()}\n\nIn French.\n"


@pytest.mark.parametrize(
    "given", [{"system_prompt": 5}, {"instructions": None}, {"prompt_version": 0}, {"prompt_version": 99}]
)
def test_words_that_are_none_are_refused(given):
    with pytest.raises(ConfigError, match=next(iter(given))):
        Settings(**given)


def test_a_run_goes_on_with_the_version_it_began_with():
    recorded = settings_to_dict(Settings(prompt_version=1))
    del recorded["prompt_version"]  # as 0.1 wrote it
    assert RunHistory("r", settings=recorded).keep_prompts(settings_from_dict(recorded)).prompt_version == 1
    now = Settings(profile="short", instructions="In French.")
    again = settings_from_dict(settings_to_dict(now))
    assert RunHistory("r", settings=settings_to_dict(now)).keep_prompts(again) == now
    assert RunHistory("r").keep_prompts(now) == now


def test_the_prompts_of_a_strong_model_stay_short():
    assert len(render("full")) < 13_000
    assert len(render("short")) < 6_000
