"""What is checked, said and asked before a question goes out: nothing of Ray is started for what cannot work."""

from __future__ import annotations

import json
import socket
import sys

import pytest

from rlm_ray import RLM
from rlm_ray.cli import before_run
from rlm_ray.cli.before_run import estimate_run
from rlm_ray.config import Cluster, Settings
from rlm_ray.core.context import make_context
from rlm_ray.core.limits import Limits
from rlm_ray.core.llm import Price
from rlm_ray.errors import AuthenticationError, ConfigError, ModelUnavailableError, RLMError
from rlm_ray.llm.litellm_client import import_litellm, missing_keys
from rlm_ray.llm.model_check import _WITHOUT_KEY, check_before_start, check_models, known_model, price_of

HERE = {"RAY_TMPDIR": "/nowhere"}
"""An environment without keys in which no cluster of this machine is found."""


@pytest.fixture
def listener():
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}/v1"


@pytest.mark.parametrize(
    ("settings", "error", "words"),
    [
        ({"model": "gpt-4oo"}, ConfigError, "openai/gpt-4oo; did you mean gpt-4o?"),
        ({"model": "nonsense"}, ConfigError, "provider/name"),
        ({"model": "gpt-4o"}, AuthenticationError, "set OPENAI_API_KEY"),
        ({"model": "openai/a-new-model"}, AuthenticationError, "set OPENAI_API_KEY"),
        ({"model": "anthropic/claude-sonnet-4-5"}, AuthenticationError, "set ANTHROPIC_API_KEY"),
        ({"model": "gemini/gemini-2.5-flash"}, AuthenticationError, "GEMINI_API_KEY"),
        ({"recursive_model": "gpt-4o"}, AuthenticationError, "set OPENAI_API_KEY"),
        ({"model": "openai/x", "params": {"api_key": "k", "api_base": "http://127.0.0.1:9/v1"}}, ModelUnavailableError, "nothing answers at http://127.0.0.1:9/v1"),
        ({"model": "openai/x", "params": {"api_key": "k", "api_base": "127.0.0.1:9"}}, ConfigError, "is no address"),
        ({"model": "openai/x", "params": {"api_key": "k", "api_base": "localhost"}}, ConfigError, "is no address"),
        ({"model": "openai/x", "params": {"api_key": "k", "api_base": "http://h:99999/v1"}}, ConfigError, "is no address"),
        ({"model": "openai/x", "params": {"api_key": "k"}, "limits": Limits(cost_usd=1.0)}, ConfigError, "price of 'openai/x' is not known"),
    ],
)  # fmt: skip
def test_model_that_cannot_be_asked_is_one_sentence(settings, error, words):
    with pytest.raises(error) as caught:
        check_models(Settings(**settings), HERE)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "environ"),
    [
        ({}, {}),
        ({"model": "gpt-4o"}, {"OPENAI_API_KEY": "k"}),
        ({"model": "openai/a-new-model", "params": {"api_key": "k"}}, {}),
        ({"model": "gpt-4o", "cluster": Cluster(address="10.0.0.1:6379")}, {}),
        ({"model": "gpt-4o"}, {"RAY_ADDRESS": "auto"}),
        ({"model": "bedrock/anthropic.claude-3-sonnet-20240229-v1:0"}, {}),
        ({"model": "vertex_ai/gemini-2.5-pro"}, {}),
        ({"model": "gpt-4o", "params": {"api_key": "k"}, "limits": Limits(cost_usd=1.0)}, {}),
        ({"model": "openai/x", "params": {"api_key": "k"}, "limits": Limits(cost_usd=1.0), "prices": {"openai/x": Price(1, 1)}}, {}),
        ({"model": "openai/x", "params": {"api_key": "k", "api_base": "http://127.0.0.1:9"}}, {"HTTPS_PROXY": "http://p"}),
        ({"recursive_model": "gpt-4o", "max_depth": 0}, {}),
        ({"limits": Limits(cost_usd=1.0)}, {}),
    ],
)  # fmt: skip
def test_what_may_work_is_not_refused(monkeypatch, settings, environ):
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    check_models(Settings(**settings), HERE | environ)


def test_server_that_listens_is_asked(listener):
    check_models(Settings(model="openai/x", params={"api_key": "k", "api_base": listener}), HERE)


def test_map_of_models_is_there():
    assert known_model("gpt-4o")["litellm_provider"] == "openai"
    assert known_model("openai/gpt-4o") == known_model("gpt-4o")
    assert known_model("anthropic/gpt-4o") is None
    assert price_of("gpt-4o", Settings()).input_usd > 0


def estimate(chars, **settings):
    return estimate_run(Settings(**settings), "q?", make_context("x" * chars))


def test_estimate_goes_from_a_few_turns_to_all_of_it_read_once():
    prices = {"m": Price(1.0, 2.0), "s": Price(0.1, 0.2)}
    small, large = (
        estimate(chars, model="m", recursive_model="s", prices=prices) for chars in (30_000, 30_000_000)
    )
    assert small.least_tokens == large.least_tokens < small.most_tokens < 100_000
    assert 10_000_000 < large.most_tokens < 12_000_000
    assert large.most_usd < 1.5, "pieces are read by the cheaper model"
    assert estimate(30_000_000, model="m", prices=prices).most_usd > 10


def test_estimate_of_one_plain_call_is_all_of_it():
    found = estimate(30_000, model="m", prices={"m": Price(1.0, 2.0)}, max_depth=0)
    assert found.least_tokens == found.most_tokens > 10_000
    assert found.least_usd == found.most_usd


@pytest.mark.parametrize(
    ("chars", "settings", "dear"),
    [
        (30_000_000, {"model": "gpt-4o"}, True),
        (30_000, {"model": "gpt-4o"}, False),
        (30_000_000, {"model": "gpt-4o", "limits": Limits(cost_usd=0.5)}, False),
        (30_000_000, {"model": "gpt-4o", "limits": Limits(cost_usd=5.0)}, True),
        (30_000_000, {"model": "hosted_vllm/x"}, True),
        (3_000_000, {"model": "hosted_vllm/x"}, False),
        (30_000_000, {}, False),
    ],
)
def test_what_may_cost_much_is_asked_about(chars, settings, dear):
    assert before_run.is_dear(estimate(chars, **settings)) is dear


def test_dry_run_says_what_it_would_cost_and_asks_nobody(invoke, fake_run, tmp_path):
    (tmp_path / "a.txt").write_text("x" * 3_000_000)
    done = invoke("ask", "q?", "a.txt", "--model", "gpt-4o", "--cost-usd", "5", "--dry-run")
    assert done.exit_code == 0
    assert done.stdout.startswith("1.0M tokens of context; gpt-4o: $0.0")
    assert "limit: $5" in done.stdout
    assert "read 1 file (text), 3,000,000 characters" in done.stderr
    plain = json.loads(invoke("ask", "q?", "a.txt", "--model", "gpt-4o", "--dry-run", "--json").stdout)
    assert plain["chars"] == 3_000_000
    assert plain["most_usd"] > plain["least_usd"]
    assert fake_run.asked == []


def test_cost_line_goes_before_the_run_and_nothing_is_said_of_what_is_free(
    invoke, fake_run, tmp_path, listener
):
    (tmp_path / "a.txt").write_text("text")
    done = invoke("ask", "q?", "a.txt", "--model", "openai/x", "--api-key", "k", "--api-base", listener)
    assert "the price of openai/x is not known; limit: none" in done.stderr
    assert "limit" not in invoke("ask", "q?", "a.txt").stderr
    assert len(fake_run.asked) == 2


@pytest.mark.parametrize("command", [["ask", "q?", "a.txt"], ["map-reduce", "q?", "a.txt"], ["batch", "q?", "a.txt", "--out", "o"]])  # fmt: skip
def test_commands_start_nothing_for_a_model_that_cannot_be_asked(invoke, monkeypatch, tmp_path, command):
    (tmp_path / "a.txt").write_text("text")
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    monkeypatch.setattr("rlm_ray.cluster.driver.ClusterDriver.connect", None)
    done = invoke(*command, "--model", "gpt-4o")
    assert done.exit_code == 5
    assert done.stderr.splitlines()[-1].startswith("error: gpt-4o: its key is missing")


ASKED = {
    "completion": lambda rlm: rlm.completion("q", "x"),
    "stream": lambda rlm: list(rlm.stream("q", "x")),
    "conversation": lambda rlm: rlm.conversation("x").ask("q"),
    "map": lambda rlm: rlm.map("q", ["x"]),
    "batch": lambda rlm: rlm.batch("q", ["x"]),
    "map_reduce": lambda rlm: rlm.map_reduce("q", "x"),
}


@pytest.mark.parametrize("method", ASKED)
@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"model": "gpt-4o"}, "gpt-4o: its key is missing: set OPENAI_API_KEY, or give --api-key (api_key=)"),
        ({"model": "opnai/gpt-4o"}, "model: litellm knows no provider for 'opnai/gpt-4o'; write it as provider/name"),
        ({"model": "gpt-4o", "api_key": "k", "limits": Limits(cost_usd=0)}, "limits.cost_usd: is 0, which lets only models run that cost"),
        ({"model": "openai/x", "api_key": "k", "api_base": "http://127.0.0.1:9"}, "nothing answers at http://127.0.0.1:9"),
    ],
    ids=["key", "name", "budget", "address"],
)  # fmt: skip
def test_python_starts_nothing_for_a_model_that_cannot_be_asked(monkeypatch, tmp_path, method, settings, why):
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    for name in ("RAY_ADDRESS", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setattr("rlm_ray.cluster.driver.ClusterDriver.connect", None)
    with pytest.raises(RLMError) as caught:
        ASKED[method](RLM(run_dir=str(tmp_path / "runs"), **settings))
    assert why in str(caught.value)
    assert not (tmp_path / "runs").exists()


def test_model_is_not_judged_once_ray_runs(monkeypatch):
    ray = type("Ray", (), {"is_initialized": lambda: True})
    monkeypatch.setitem(sys.modules, "ray", ray)
    check_before_start(Settings(model="gpt-4o"), HERE)


@pytest.mark.parametrize(
    ("model", "params"),
    [
        *((f"{provider}/own", {}) for provider in ("ollama", "ollama_chat", "hosted_vllm", "lm_studio", "llamafile")),
        *((f"{provider}/own", {"api_key": "k"}) for provider in ("openai", "anthropic", "azure", "mistral", "deepseek")),
    ],
)  # fmt: skip
def test_model_of_a_known_provider_is_judged_without_the_import_of_litellm(monkeypatch, model, params):
    monkeypatch.setattr("rlm_ray.llm.litellm_client.import_litellm", None)
    check_models(Settings(model=model, params=params), HERE)


def test_names_of_providers_without_a_key_are_those_of_litellm():
    litellm = import_litellm()
    assert {litellm.get_llm_provider(f"{provider}/own")[1] for provider in _WITHOUT_KEY} == _WITHOUT_KEY
    missing = {name for provider in _WITHOUT_KEY for name in missing_keys(f"{provider}/own")}
    assert not [name for name in missing if name.endswith("_API_KEY")]


def test_answer_no_at_the_terminal_begins_nothing(monkeypatch):
    monkeypatch.setattr("sys.stdin", type("Terminal", (), {"isatty": lambda self: True})())
    asked = []
    monkeypatch.setattr("typer.confirm", lambda text, **_: asked.append(text) or len(asked) == 1)
    dear = estimate(30_000_000, model="gpt-4o")
    before_run.confirm(dear, yes=False)
    before_run.confirm(dear, yes=True)
    before_run.confirm(estimate(10, model="gpt-4o"), yes=False)
    with pytest.raises(before_run.typer.Exit):
        before_run.confirm(dear, yes=False)
    assert asked == ["Begin?", "Begin?"]
    assert issubclass(AuthenticationError, RLMError)
