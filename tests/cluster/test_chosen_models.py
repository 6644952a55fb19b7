"""Sub-calls that choose a model, within what the user allows; and a provider that is down while another one is up."""

from __future__ import annotations

import pytest

from rlm_ray import Price
from rlm_ray.testing import Failure, ModelServer

pytestmark = pytest.mark.ray

TEXT = "word " * 2_000
MODELS = {"cheap": "openai/cheap", "strong": "openai/strong"}
PRICES = {
    "openai/root": Price(1, 1),
    "openai/cheap": Price(1, 1),
    "openai/strong": Price(100, 100),
    "openai/leaf": Price(1, 1),
}


def code(text):
    return f"```python\n{text}\n```"


def session_then_leaves(*lines):
    def script(request):
        if "REPL" in request.system:
            return code("\n".join(lines))
        return f"I am {request.model}"

    return script


def test_sub_calls_choose_a_model_and_each_is_counted_with_its_price(ask):
    program = (
        "parts = [context[:100], context[100:200]]",
        "one = recursive_llm('who?', parts[0], model='strong')",
        "many = recursive_map('who?', parts, model='cheap')",
        "FINAL([one, *many, recursive_llm('who?', parts[0])])",
    )
    with ModelServer(session_then_leaves(*program)) as server:
        result = ask(
            server, models=MODELS, recursive_model="openai/leaf", prices=PRICES, limits={"cost_usd": 5}
        ).run("q", TEXT)
        assert "'cheap', 'strong'" in server.requests[0].system
    assert result.answer == '["I am strong", "I am cheap", "I am cheap", "I am leaf"]'
    sums = result.usage.by_model
    assert {model: each.calls for model, each in sums.items()} == {
        "openai/root": 1,
        "openai/strong": 1,
        "openai/cheap": 2,
        "openai/leaf": 1,
    }
    assert sums["openai/strong"].cost_usd == pytest.approx(sums["openai/strong"].tokens * 100 / 1e6)


@pytest.mark.parametrize("name", ["openai/strong", "Strong", "gpt-5", "root"])
def test_unknown_model_is_told_with_those_that_are_allowed(ask, name):
    program = (
        f"try: recursive_llm('who?', context[:10], model={name!r})",
        "except SubCallError as error: FINAL(str(error))",
    )
    with ModelServer(session_then_leaves(*program)) as server:
        answer = ask(server, models=MODELS).completion("q", TEXT)
    assert (
        answer
        == f"InputError: model: {name!r} is not one of the models of this run; allowed are cheap, strong"
    )


def test_child_session_runs_on_the_chosen_model(ask):
    def script(request):
        if "CHILD" in request.messages[1]["content"]:
            return code(f"print(len(context)); FINAL({request.model!r})")
        return code("print(len(context)); FINAL(recursive_llm('CHILD', context, model='strong'))")

    with ModelServer(script) as server:
        result = ask(server, models=MODELS, max_depth=2, max_leaf_chars=100).run("q", TEXT)
    assert result.answer == "strong"
    assert [node.model for node in result.tree.root.walk()] == ["openai/root", "openai/strong"]


def test_fallback_answers_a_run_whose_provider_is_down(ask):
    def script(request):
        if request.model == "root":
            return Failure(500, "broken")
        return code("print(len(context)); FINAL('from the fallback')")

    with ModelServer(script) as server:
        result = ask(server, models=MODELS, fallbacks=["cheap"], max_attempts=2).run("q", TEXT)
    assert (result.answer, result.stop_reason) == ("from the fallback", "answered")
    assert result.usage.by_model["openai/cheap"].calls == 1
    assert "openai/root" not in result.usage.by_model or not result.usage.by_model["openai/root"].calls
    call = result.tree.root.calls[1]
    assert (call.model, call.fallback_from) == ("openai/cheap", "openai/root")
