"""`rlm-ray config`: each setting with its source, and a file that says the same again."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest

from rlm_ray.cli.config import to_toml
from rlm_ray.config import Settings, load_settings, setting_docs, setting_names
from rlm_ray.core.limits import Limits
from rlm_ray.core.llm import Price

DOCS_NOT_NEEDED = {"model", "limits", "rates"}


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch):
    for name in ("RLM_RAY_CONFIG", "RLM_RAY_MODEL", "RLM_RAY_RUN_DIR"):
        monkeypatch.delenv(name, raising=False)


def shown(invoke, *arguments):
    done = invoke("config", "--json", *arguments)
    assert done.exit_code == 0, done.stderr
    return {row["name"]: (row["value"], row["from"]) for row in json.loads(done.stdout)}


def test_each_value_says_where_it_comes_from(invoke, tmp_path, monkeypatch):
    (tmp_path / "rlm-ray.toml").write_text('model = "from/file"\nmax_depth = 3\n[limits]\ncalls = 7\n')
    monkeypatch.setenv("RLM_RAY_MAX_DEPTH", "4")
    monkeypatch.setenv("RLM_RAY_LIMITS_TOKENS", "99")
    found = shown(invoke, "--max-iterations", "5", "--price", "a/b=1,2", "--set", "limits.time_s=60")
    assert found["model"] == ("from/file", str(tmp_path / "rlm-ray.toml"))
    assert found["limits.calls"] == (7, str(tmp_path / "rlm-ray.toml"))
    assert found["max_depth"] == (4, "RLM_RAY_MAX_DEPTH")
    assert found["limits.tokens"] == (99, "RLM_RAY_LIMITS_TOKENS")
    assert found["max_iterations"] == (5, "--max-iterations")
    assert found["limits.time_s"] == (60, "--set limits.time_s")
    assert found["prices.a/b"][1] == "--price"
    assert found["recursive_model"] == ("", "default")


def test_every_setting_is_shown_and_only_what_is_not_the_default_on_wish(invoke):
    found = shown(invoke)
    assert set(setting_names()) - {"tools"} <= set(found)
    assert {place for _, place in found.values()} == {"default"}
    assert shown(invoke, "--changed", "--max-depth", "2") == {"max_depth": (2, "--max-depth")}


def test_keys_are_neither_shown_nor_written(invoke, tmp_path):
    done = invoke("config", "--api-key", "sk-secret", "--set", "params.extra_headers={'a': 'sk-secret'}")
    assert "***" in done.stdout
    assert "sk-secret" not in done.output
    invoke("config", "--write", "--api-key", "sk-secret")
    assert "sk-secret" not in (tmp_path / "rlm-ray.toml").read_text()


def test_a_table_for_people_names_the_file(invoke, tmp_path):
    done = invoke("config", "--changed", "--model", "a/b")
    assert done.stdout.splitlines() == ["NAME   VALUE  FROM", 'model  "a/b"  --model']
    assert done.stderr.startswith("file: none (")
    (tmp_path / "rlm-ray.toml").write_text("")
    assert invoke("config").stderr == f"file: {tmp_path / 'rlm-ray.toml'}\n"


def test_writing_replaces_nothing_without_saying_so(invoke, tmp_path):
    path = tmp_path / "rlm-ray.toml"
    assert invoke("config", "--write", "--max-depth", "2").stdout == "rlm-ray.toml\n"
    refused = invoke("config", "--write", "--max-depth", "3")
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "is there already; name another file, or replace it with --force" in refused.stderr
    assert "max_depth = 2" in path.read_text()
    assert "replaced rlm-ray.toml" in invoke("config", "--write", "--force", "--max-depth", "3").stderr
    assert "\nmax_depth = 3" in path.read_text()
    assert invoke("config", "mine.toml", "--write").exit_code == 0
    assert invoke("config", "no/such/folder.toml", "--write").exit_code == 2


def test_the_file_of_the_defaults_changes_nothing(tmp_path):
    (tmp_path / "rlm-ray.toml").write_text(to_toml(Settings()))
    assert load_settings([], {}, tmp_path) == Settings()
    text = to_toml(Settings())
    assert all(f"# {name.rpartition('.')[2]} =" in text for name in setting_names() if name.count(".") == 1)


def test_a_written_file_is_read_as_the_settings_it_was_made_of(tmp_path):
    settings = Settings(
        model='openai/ä"\\\x7f😀',
        instructions="two\nlines",
        max_depth=2,
        deduplicate_maps=True,
        fallbacks=("a/b", "c"),
        models={"cheap": {"model": "openai/x", "temperature": 0.5}},
        params={"temperature": 0.25, "stop": ["a", "b"], "logit_bias": {"50256": -100}},
        prices={"my/model.v1": Price(0.5, 1.5, cached_usd=0.1)},
        limits=Limits(cost_usd=2.5, calls=10),
    )
    (tmp_path / "rlm-ray.toml").write_text(to_toml(settings), "utf-8")
    assert load_settings([], {}, tmp_path) == settings


def test_where_keys_would_go_is_written_as_a_comment(tmp_path):
    settings = Settings(run_dir="/elsewhere", params={"api_base": "http://host:1/v1", "temperature": 0.5})
    (tmp_path / "rlm-ray.toml").write_text(to_toml(settings))
    assert '# api_base = "http://host:1/v1"' in to_toml(settings)
    assert '# run_dir = "/elsewhere"' in to_toml(settings)
    assert load_settings([], {}, tmp_path) == Settings(params={"temperature": 0.5})


def test_every_setting_has_a_doc_under_it():
    docs = setting_docs()
    missing = {name for name in setting_names() if not docs.get(name)} - DOCS_NOT_NEEDED
    assert {name for name in missing if "." not in name} <= {"sandbox", "cluster", "tracing", "tool_limits"}


def test_prices_are_taken_from_option_and_file_alike(invoke, tmp_path):
    (tmp_path / "rlm-ray.toml").write_text('[prices."my/model"]\ninput_usd = 0.5\noutput_usd = 1.5\n')
    by_file = shown(invoke)["prices.my/model"]
    by_option = shown(invoke, "--price", "other=0.5,1.5", "--price", "x/y=z=0,2")
    assert by_file[0] == by_option["prices.other"][0]
    assert by_option["prices.my/model"][1] == str(tmp_path / "rlm-ray.toml")
    assert by_option["prices.x/y=z"][0]["output_usd"] == 2.0
    assert tomllib.loads(Path("rlm-ray.toml").read_text())


@pytest.mark.parametrize(
    "price", ["m", "m=", "m=1", "m=1,2,3", "=1,2", "m=a,b", "m=-1,2", "m=nan,1", "m=1,inf"]
)
def test_a_price_that_is_none_is_refused_in_one_sentence(invoke, price):
    done = invoke("config", "--price", price)
    assert (done.exit_code, done.stdout) == (5, "")
    assert done.stderr.startswith("error: --price: wants MODEL=IN,OUT")
