"""Names of before: settings, methods and values are still taken under them, and Python code is told the new ones."""

from __future__ import annotations

import json
import warnings
from dataclasses import fields, replace
from pathlib import Path

import pytest

from rlm_ray import RLM, Cluster, Settings, Tracing
from rlm_ray.config import (
    load_settings,
    setting_names,
    settings_from,
    settings_from_dict,
    settings_to_dict,
    values_from_table,
)
from rlm_ray.config.deprecated_names import RENAMED_SETTINGS, SILENT_NAMES, current_table
from rlm_ray.errors import ConfigError, InputError
from rlm_ray.runs.run_history import RunHistory

RECORDED = Path(__file__).parents[1] / "recorded_runs"
SAMPLES = {
    "leaf_chars": 77, "direct_below_chars": 78, "attempts": 3, "timeout": 60.0, "cluster.idle_s": 5.0,
    "tracing.leaves_per_map": 6, "tracing.sessions_per_trace": 7, "tracing.flush_s": 8.0,
}  # fmt: skip
ALL_OLD = sorted(RENAMED_SETTINGS)
WARNING_OLD = sorted(set(RENAMED_SETTINGS) - SILENT_NAMES)


def value_at(settings, name):
    for part in name.split("."):
        settings = getattr(settings, part)
    return settings


def keywords(name, value):
    """`RLM(...)` keywords of a dotted name, groups as tables."""
    group, dot, key = name.partition(".")
    return {group: {key: value}} if dot else {name: value}


def nested(table):
    found = {}
    for name, value in table.items():
        group, dot, key = name.partition(".")
        if dot:
            found.setdefault(group, {})[key] = value
        else:
            found[name] = value
    return found


def test_samples_cover_every_renamed_setting():
    assert SAMPLES.keys() == RENAMED_SETTINGS.keys()
    assert set(RENAMED_SETTINGS.values()) <= set(setting_names())
    assert not set(RENAMED_SETTINGS) & set(setting_names())


@pytest.mark.parametrize("old", WARNING_OLD)
def test_old_keyword_of_rlm_holds_and_warns_with_the_new_name(old):
    with pytest.warns(DeprecationWarning, match=f"{old} is deprecated; use {RENAMED_SETTINGS[old]}") as told:
        settings = RLM(**keywords(old, SAMPLES[old])).settings
    assert value_at(settings, RENAMED_SETTINGS[old]) == SAMPLES[old]
    assert [Path(each.filename) for each in told] == [Path(__file__)]


def test_timeout_stays_a_keyword_without_a_warning():
    assert RLM(timeout=60).settings.call_timeout_s == 60
    assert Settings(timeout=60.0).timeout == 60.0


@pytest.mark.parametrize("old", WARNING_OLD)
def test_old_field_of_a_settings_class_is_made_and_read_with_a_warning(old):
    group, _, name = old.rpartition(".")
    cls = {"": Settings, "cluster": Cluster, "tracing": Tracing}[group]
    warns = pytest.warns(DeprecationWarning, match=f"{old} is deprecated; use {RENAMED_SETTINGS[old]}")
    with warns as told:
        made = cls(**{name: SAMPLES[old]})
    assert Path(told[0].filename) == Path(__file__)
    with warns as told:
        assert getattr(made, name) == SAMPLES[old]
    assert Path(told[0].filename) == Path(__file__)
    with warns as told:
        changed = replace(cls(), **{name: SAMPLES[old]})
    assert Path(told[0].filename) == Path(__file__)
    assert made == changed == cls(**{RENAMED_SETTINGS[old].rpartition(".")[2]: SAMPLES[old]})


def test_old_names_are_no_fields():
    assert {item.name for item in fields(Settings)}.isdisjoint(RENAMED_SETTINGS)


@pytest.mark.parametrize("old", ALL_OLD)
def test_old_name_in_a_file_a_variable_or_an_option_is_taken_without_a_warning(old, tmp_path):
    new, value = RENAMED_SETTINGS[old], SAMPLES[old]
    group, _, key = old.rpartition(".")
    folder = tmp_path / "with file"
    folder.mkdir()
    header = f"[{group}]\n" if group else ""
    (folder / "rlm-ray.toml").write_text(f"{header}{key} = {value}\n")
    variable = "RLM_RAY_" + old.replace(".", "_").upper()
    found = [
        load_settings([], {}, folder),
        load_settings([], {variable: str(value)}, tmp_path),
        load_settings(values_from_table({old: str(value)}, "--set"), {}, tmp_path),
    ]
    assert [value_at(settings, new) for settings in found] == [value] * 3


def test_a_later_source_overrides_an_earlier_one_across_both_spellings(tmp_path):
    (tmp_path / "rlm-ray.toml").write_text("leaf_chars = 1\nmax_attempts = 2\n")
    environment = {"RLM_RAY_MAX_LEAF_CHARS": "3", "RLM_RAY_ATTEMPTS": "4"}
    settings = load_settings(values_from_table({"leaf_chars": "5"}, "--set"), environment, tmp_path)
    assert (settings.max_leaf_chars, settings.max_attempts) == (5, 4)


@pytest.mark.parametrize(("old", "new"), [("leaf_chars", "max_leaf_chars"), ("timeout", "call_timeout_s")])
def test_both_names_at_once_are_refused(old, new):
    with (
        warnings.catch_warnings(action="ignore"),
        pytest.raises(ConfigError, match=f"{old}: is the old name of {new}; give one of them"),
    ):
        settings_from({old: 5, new: 6})


def test_go_on_is_the_old_name_of_continue():
    with pytest.warns(DeprecationWarning, match="use on_journal_error='continue'"):
        assert settings_from({"on_journal_error": "go_on"}).on_journal_error == "continue"
    with pytest.warns(DeprecationWarning, match="continue"):
        assert Settings(on_journal_error="go_on").on_journal_error == "continue"
    assert settings_from_dict({"on_journal_error": "go_on"}).on_journal_error == "continue"


def old_record():
    """Settings as version 0.1 wrote them down, with a value of its own under each old name."""
    first = (RECORDED / "20261128-120534-21e82ac68639" / "journal.jsonl").read_text().splitlines()[0]
    table = json.loads(first)["settings"]
    return nested({**{name: value for name, value in table.items() if name not in SAMPLES}, **SAMPLES}) | {
        "on_journal_error": "go_on"
    }


def test_settings_of_old_records_load_without_a_warning():
    settings = settings_from_dict(old_record())
    assert {old: value_at(settings, new) for old, new in RENAMED_SETTINGS.items()} == SAMPLES
    assert settings.on_journal_error == "continue"


@pytest.mark.parametrize("path", sorted(RECORDED.glob("*/journal.jsonl")), ids=lambda path: path.parent.name)
def test_settings_of_every_recorded_run_load(path):
    for line in path.read_text().splitlines():
        record = json.loads(line)
        if record["kind"] == "run":
            assert settings_from_dict(record["settings"]).model == record["settings"]["model"]


def test_new_records_use_the_new_names():
    table = settings_to_dict(Settings())
    assert current_table(table) == table
    assert "max_leaf_chars" in table
    assert "idle_timeout_s" in table["cluster"]


@pytest.mark.parametrize(("change", "is_same"), [({}, True), ({"max_leaf_chars": 5}, False)])
def test_settings_of_old_and_new_spelling_compare_as_equal(change, is_same):
    history = RunHistory("run", settings=old_record(), end=type("End", (), {"stop_reason": "answered"})())
    now = settings_to_dict(replace(settings_from_dict(old_record()), **change))
    assert history.answered(now) is is_same


@pytest.mark.parametrize("old", ["session", "warm"])
def test_old_method_warns_and_does_the_same(old, monkeypatch):
    calls = []
    new = {"session": "conversation", "warm": "prewarm"}[old]
    monkeypatch.setattr(RLM, new, lambda self, *args, **options: calls.append((args, options)))
    with pytest.warns(DeprecationWarning, match=f"RLM.{old} is deprecated; use RLM.{new}"):
        getattr(RLM(), old)("3")
    assert calls[0][0] == ("3",)


async def test_old_async_method_warns_and_does_the_same(monkeypatch):
    calls = []

    async def aprewarm(self, actors=None):
        calls.append(actors)

    monkeypatch.setattr(RLM, "aprewarm", aprewarm)
    with pytest.warns(DeprecationWarning, match="use RLM.aprewarm"):
        await RLM().awarm(2)
    assert calls == [2]


def test_run_is_still_a_keyword_of_resume_and_conversation(tmp_path):
    with (
        pytest.warns(DeprecationWarning, match="run= is deprecated; use run_id="),
        pytest.raises(InputError, match="no run has left a journal"),
    ):
        RLM.resume(run="20200101", run_dir=str(tmp_path))
    with (
        pytest.warns(DeprecationWarning, match="use run_id="),
        pytest.raises(InputError, match="no run has left a journal"),
    ):
        RLM(run_dir=str(tmp_path)).conversation("text", run="20200101")
