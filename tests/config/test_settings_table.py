"""The defaults and the ranges of all settings, as `docs` and users know them."""

from __future__ import annotations

from pathlib import Path

import pytest

from rlm_ray.config import Settings, settings_to_dict, values_from_table
from rlm_ray.config.coercion import did_you_mean
from rlm_ray.config.settings import setting_docs, setting_names
from rlm_ray.config.sources import merge_settings
from rlm_ray.core.context import make_context
from rlm_ray.errors import ConfigError

DEFAULTS = {
    "model": "offline/extractive", "recursive_model": "", "models": {}, "fallbacks": [], "max_depth": 1, "max_iterations": 20, "max_leaf_chars": 100_000,
    "direct_call_below_chars": 0, "deduplicate_maps": False, "oversize": "split", "window_tokens": None, "profile": "default", "system_prompt": "",
    "instructions": "", "prompt_version": 2, "compact_above_tokens": None, "max_tokens": None, "call_timeout_s": 600.0, "max_attempts": 6,
    "transport": "auto", "params": {}, "cache": "", "prices": {}, "record_content": True, "on_journal_error": "stop", "tenant": None, "weight": 1.0,
    "limits": {"cost_usd": None, "tokens": None, "calls": None, "sessions": None, "time_s": None},
    "rates": {"rpm": None, "tpm": None, "input_tpm": None, "output_tpm": None, "in_flight": None},
    "cluster": {"address": None, "sessions_per_actor": 64, "min_actors": 1, "max_actors": None, "cpus_per_actor": 1.0, "idle_timeout_s": 300.0},
    "sandbox": {"cell_timeout_s": 60.0, "cell_cpu_s": 30.0, "memory_mb": 256, "output_chars": 20_000, "allow_degraded": False},
    "tracing": {"max_spans_per_map": 500, "max_sessions_per_trace": 2_000, "flush_timeout_s": 2.0},
    "log_format": "text", "citations": "off", "tools": [], "mcp_servers": {},
    "tool_limits": {
        "timeout_s": 60.0, "max_concurrent": 8, "max_argument_bytes": 1_000_000, "max_result_bytes": 1_000_000, "max_calls": 10_000,
        "start_timeout_s": 60.0, "children": True,
    },
}  # fmt: skip
RANGES = {
    "max_depth": (0, 100), "max_iterations": (1, 10_000), "max_leaf_chars": (0, 10**12), "direct_call_below_chars": (0, 10**12), "window_tokens": (1_000, 10**9),
    "prompt_version": (1, 2), "compact_above_tokens": (0, 10**9), "max_tokens": (1, 10**9), "call_timeout_s": (0.001, 1e6), "max_attempts": (1, 1_000),
    "weight": (0.001, 1000.0), "cluster.sessions_per_actor": (1, 100_000), "cluster.min_actors": (1, 100_000), "cluster.cpus_per_actor": (0, 1024),
    "cluster.idle_timeout_s": (1, 1e7), "tracing.max_spans_per_map": (0, 10**9), "tracing.max_sessions_per_trace": (1, 10**9), "tracing.flush_timeout_s": (0, 3600),
    "limits.cost_usd": (0, 1e9), "limits.tokens": (1, 10**15), "limits.calls": (1, 10**12), "limits.sessions": (1, 10**12), "rates.in_flight": (1, 10**6),
}  # fmt: skip


def settings_with(**values):
    return merge_settings(
        Settings(), values_from_table({name.replace("__", "."): value for name, value in values.items()})
    )


def test_settings_have_the_defaults_that_are_documented():
    table = settings_to_dict(Settings())
    assert Path(table.pop("run_dir")).parts[-2:] == (".rlm_ray", "runs")
    assert table == DEFAULTS


@pytest.mark.parametrize("name", RANGES)
def test_numbers_are_taken_from_the_least_to_the_most(name):
    least, most = RANGES[name]
    step = 1 if isinstance(least, int) and isinstance(most, int) else 1e-4 * max(1.0, most)
    below = least - (1 if isinstance(least, int) else least / 2)
    for value, fits in [(least, True), (most, True), (below, False), (most + step, False)]:
        given = {name.replace(".", "__"): value}
        if name == "cluster.min_actors" and fits:
            given["cluster__max_actors"] = most
        if fits:
            assert settings_with(**given)
        else:
            with pytest.raises(ConfigError, match=rf"^{name}: must be"):
                settings_with(**given)


@pytest.mark.parametrize(
    "name", ["rates.rpm", "rates.tpm", "rates.input_tpm", "rates.output_tpm", "limits.time_s"]
)
def test_rates_and_time_are_more_than_nothing(name):
    assert settings_with(**{name.replace(".", "__"): 1e-6})
    with pytest.raises(ConfigError, match=rf"^{name}: must be a number of .* above 0, at most"):
        settings_with(**{name.replace(".", "__"): 0})


def test_every_model_that_a_run_may_call_is_known_once():
    settings = settings_with(
        model="a",
        recursive_model="strong",
        models={"strong": "b", "other": {"model": "c", "seed": 1}},
        fallbacks="c, d ,,a",
    )
    assert settings.all_models() == ["a", "b", "c", "d"]
    assert settings_with(model="a").all_models() == ["a"]
    assert settings.model_named("other") == ("c", {"timeout": 600.0, "seed": 1})
    assert settings.model_at(1)[0] == "b"
    assert settings.fallbacks == ("c", "d", "a")


@pytest.mark.parametrize(
    ("window_tokens", "params", "told"),
    [(None, {}, None), (5_000, {"num_ctx": 9_000}, 5_000), (None, {"num_ctx": 9_000}, 9_000)],
)
def test_window_is_what_the_settings_say(window_tokens, params, told):
    assert settings_with(window_tokens=window_tokens, params=params).told_window_tokens == told


@pytest.mark.parametrize(
    ("below", "chars", "direct"), [(10, 9, True), (10, 10, False), (0, 0, False), (None, 0, True)]
)
def test_short_context_is_answered_directly(below, chars, direct):
    assert Settings(direct_call_below_chars=below).answers_directly(make_context("x" * chars).info) is direct


@pytest.mark.parametrize(
    ("value", "path"),
    [(True, "/.rlm_ray/cache"), (False, ""), ("", ""), ("s3://b/c", "s3://b/c"), ("/x/y", "/x/y"), (Path("/x"), "/x"), ("~/x", "/x")],
)  # fmt: skip
def test_folder_is_made_absolute_and_true_is_the_usual_one(value, path):
    cache = Settings(cache=value).cache
    assert cache.endswith(path) and bool(cache) is bool(path)  # noqa: PT018 - of one value
    assert "~" not in cache


def test_every_setting_has_its_words():
    docs = setting_docs()
    assert set(docs) >= set(setting_names()) - {"params"}
    assert docs["max_iterations"] == "Turns of one session."
    assert docs["cluster.max_actors"] == "None: one for each CPU of the cluster."
    assert docs["recursive_model"].startswith("Children and plain sub-calls; empty")


@pytest.mark.parametrize(
    ("name", "said"), [("max_dept", "; did you mean 'max_depth'?"), ("zzz", "; known are max_depth, model")]
)
def test_unknown_name_is_refused_with_those_there_are(name, said):
    assert did_you_mean(name, ["model", "max_depth"]) == said


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ({"params": {"api_key": "sk\n1"}}, "api_key"),
        ({"params": {"extra_headers": {"x": "a\nb"}}}, "extra_headers.x"),
        ({"params": {"default_headers": {"x": {"y": "a\nb"}}}}, "default_headers.x.y"),
        ({"params": {"headers": {"x": "\ud800"}}}, "headers.x"),
        ({"models": {"m": {"model": "a", "api_key": "sk\n1"}}}, "models.m.api_key"),
        ({"models": {"m": {"model": "a", "params": {"extra_headers": {"x": "\x00"}}}}}, "models.m.extra_headers.x"),
    ],
)  # fmt: skip
def test_key_and_headers_that_no_request_can_carry_are_refused_by_their_names(given, name):
    with pytest.raises(ConfigError) as refused:
        Settings(**given)
    assert refused.value.what == name
    assert Settings(params={"api_key": "sk-1", "extra_headers": {"x": "a b"}, "seed": "a\nb"})
