"""How settings, results and trees show themselves: short, without secrets, and nothing of a model's text is obeyed."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from rlm_ray import RLM, Limits, Price, Result, RunUsage, Settings
from rlm_ray.core.context import make_context
from rlm_ray.core.display import HTML_CHARS, html_box, one_line, shorten, show_call
from rlm_ray.core.repl_types import Citation
from rlm_ray.events.usage import CallStats
from rlm_ray.runs.conversation import Conversation
from rlm_ray.runs.run import Run

USAGE = RunUsage({("m", 0): CallStats(calls=2, input_tokens=1_000, output_tokens=234, cost_usd=0.5)})
HOSTILE = [
    "<script>alert(1)</script>",
    "</pre><img src=x onerror=alert(1)>",
    "\x1b]0;title\x07",
    "[red]x[/red]",
    "\u202egnp",
    "a & b",
    '"><b>',
    "\ud800",
]


@pytest.mark.parametrize(
    ("rlm", "shown"),
    [
        (RLM(), "RLM(model='offline/extractive')"),
        (RLM("openai/m", max_depth=2), "RLM(model='openai/m', max_depth=2)"),
        (RLM("m/n", limits=Limits(cost_usd=5)), "RLM(model='m/n', limits=Limits(cost_usd=5))"),
        (
            RLM("m/n", prices={"m/n": Price(1, 2)}),
            "RLM(model='m/n', prices={'m/n': Price(input_usd=1, output_usd=2)})",
        ),
        (RLM("m/n", temperature=0.1), "RLM(model='m/n', params={'temperature': 0.1})"),
        (RLM("m/n", tools=[one_line]), "RLM(model='m/n', tools=[Tool('one_line')])"),
        (RLM("m/n", run_dir=False), "RLM(model='m/n', run_dir='')"),
    ],
)
def test_rlm_shows_its_model_and_what_is_not_the_default(rlm, shown):
    assert repr(rlm) == shown
    assert repr(rlm.settings) == shown.replace("RLM(", "Settings(").replace(
        "Settings(model='offline/extractive')", "Settings()"
    )


@pytest.mark.parametrize(
    "options",
    [
        {"api_key": "sk-very-secret"},
        {"params": {"aws_secret_access_key": "sk-very-secret"}},
        {"extra_headers": {"x-any": "sk-very-secret"}},
        {"models": {"cheap": {"model": "a/b", "api_key": "sk-very-secret"}}},
        {"mcp_servers": {"shop": {"url": "http://h", "headers": {"x": "sk-very-secret"}}}},
        {"mcp_servers": {"shop": {"command": "c", "env": {"SHOP_TOKEN": "sk-very-secret"}}}},
        {"api_base": "https://user:sk-very-secret@host/v1"},
    ],
)
def test_secrets_are_not_shown(options):
    rlm = RLM("openai/m", **options)
    for shown in (repr(rlm), repr(rlm.settings), str(rlm.settings.models), f"{rlm.settings}"):
        assert "sk-very-secret" not in shown
    assert "***" in repr(rlm)


def result(answer="the answer", **changes):
    facts = {
        "stop_reason": "answered",
        "why": "",
        "run_id": "run-1",
        "turns": 2,
        "seconds": 1.234,
        "usage": USAGE,
    }
    return Result(answer, **{**facts, **changes})


def test_result_shows_its_answer_and_what_it_took():
    assert repr(result()) == (
        "Result(answer='the answer', stop_reason='answered', turns=2, calls=2, tokens=1234, cost_usd=0.5, seconds=1.23, run_id='run-1')"
    )
    stopped = repr(result(None, stop_reason="calls", why="the limit of 2 calls is reached"))
    assert stopped.startswith("Result(stop_reason='calls', why='the limit of 2 calls is reached', turns=2")
    assert repr(RunUsage()) == "RunUsage(calls=0, tokens=0, cost_usd=0.0)"


def test_long_answer_is_shown_by_its_head():
    shown = repr(result("x" * 5_000))
    assert len(shown) < 500
    assert "… (5,000 characters)" in shown
    page = result("x" * (HTML_CHARS + 1))._repr_html_()
    assert f"… ({HTML_CHARS + 1:,} characters in all)" in page


def test_notebook_shows_quotes_and_where_they_stand():
    page = result(citations=(Citation("so it was", "a.txt", 0, 3, 12),))._repr_html_()
    assert "<summary>citations</summary><ul><li>&#x27;so it was&#x27; (a.txt, characters 3-12)</li>" in page


@pytest.mark.parametrize("text", HOSTILE)
def test_nothing_of_a_text_is_obeyed(text):
    hostile = result(text, why=text, stop_reason=text, citations=(Citation(text, text, 0),))
    page = hostile._repr_html_()
    assert "<script" not in page
    assert "<img" not in page
    assert page.count("<b>") == 1
    screen = io.StringIO()
    Console(file=screen, width=200, color_system=None).print(hostile)
    assert not set(screen.getvalue()) & set("\x1b\x07\u202e\ud800")
    assert not set(repr(hostile)) & set("\x1b\x07\u202e\ud800")


def test_rich_shows_brackets_as_they_are():
    screen = io.StringIO()
    Console(file=screen, width=200).print(result("[red]x[/red]"))
    assert "[red]x[/red]" in screen.getvalue()


def test_context_conversation_and_run_do_not_show_what_they_hold(tmp_path):
    secret = "word " * 1_000
    context = make_context(secret)
    assert repr(context) == "Context(5,000 characters)"
    assert repr(make_context(["a", "bc"])) == "Context(2 documents, 3 characters)"
    settings = Settings(run_dir=str(tmp_path))
    assert repr(Conversation(settings, context, run_id="")).endswith(
        "asked=0, context=Context(5,000 characters))"
    )
    assert repr(Run(settings, "q", context)).endswith(", not started)")


@pytest.mark.parametrize(
    ("text", "shown"), [("a\n  b", "'a b'"), ("x" * 20, "'xxxxxxxxx…'"), ("", "''"), ("\x1b", r"'\x1b'")]
)
def test_one_line_is_one_line(text, shown):
    assert one_line(text, 10) == shown


def test_shorten_bounds_every_value():
    assert len(shorten("x" * 10**6)) < 300
    assert len(shorten(list(range(10**5)))) < 500
    assert shorten({"a": 1}) == "{'a': 1}"


def test_box_without_text_and_lists_is_one_line():
    assert html_box("a < b", None, {"none": []}) == "<div><p><b>a &lt; b</b></p></div>"


@pytest.mark.parametrize(
    ("text", "max_chars", "shown"),
    [
        ("ab", 2, "'ab'"), ("abc", 2, "'a…'"), ("a   ", 2, "'a'"), ("a    ", 2, "'a…'"), ("a\n b", 3, "'a b'"), ("a\n b", 2, "'a…'"), ("", 2, "''"),
    ],
)  # fmt: skip
def test_head_of_a_text_is_shown_on_one_line(text, max_chars, shown):
    assert one_line(text, max_chars) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("x" * 200, f"'{'x' * 200}'"), ("x" * 201, f"'{'x' * 200}'… (201 characters)"), (["x" * 396], f"['{'x' * 396}']"),
        (["x" * 397], f"['{'x' * 397}'… (401 characters)"),
    ],
)  # fmt: skip
def test_long_values_are_shown_by_their_head_and_length(value, shown):
    assert shorten(value) == shown


def test_facts_that_say_nothing_are_not_shown():
    facts = {"a": None, "b": "", "c": (), "d": [], "e": 0, "f": False, "g": "x"}
    assert show_call("Name", facts) == "Name(e=0, f=False, g='x')"
    assert show_call("Name", {}) == "Name()"


def test_box_says_how_long_a_text_is_that_it_does_not_show_whole():
    whole, cut = (html_box("head", "x" * (20_000 + more), {}) for more in (0, 1))
    assert "characters in all" not in whole
    assert "… (20,001 characters in all)" in cut
