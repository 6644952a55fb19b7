"""Tools and citations in whole runs: what the code of a session gets, what is recorded, and what a resume does not do again."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from waiting import wait_until

from rlm_ray import RLM, ConfigError, InputError, ToolLimits
from rlm_ray.events.records import ToolEnded
from rlm_ray.journal.run_store import find_run
from rlm_ray.testing import ModelServer
from rlm_ray.testing.responses import run_query

pytestmark = pytest.mark.ray

TOOLS = Path(__file__).parents[1] / "tools"
SHOP = {"command": sys.executable, "args": [str(TOOLS / "mcp_server.py")], "prefix": "shop_"}
DOCUMENTS = [
    {"id": "a.txt", "text": "The sky was grey.\nNobody had seen the sun for a week."},
    {"id": "b.txt", "text": "The harbour opened in 1907 and was closed in 1954."},
]


def add(a: int, b: int = 1) -> int:
    """Adds two numbers."""
    return a + b


def fail(why: str) -> None:
    raise RuntimeError(why)


def wait(seconds: float) -> str:
    import time

    time.sleep(seconds)
    return "late"


def big(size: int) -> str:
    return "x" * size


def note(path: str, line: str) -> int:
    """Adds a line to a file."""
    with Path(path).open("a") as file:
        file.write(f"{line}\n")
    return len(Path(path).read_text().splitlines())


def environment() -> dict:
    return dict(os.environ)


def tried(expression):
    return f"try:\n    print({expression})\nexcept ToolError as error:\n    print('ToolError', error)\n"


def test_tools_that_work_fail_hang_and_return_too_much(ask, server, tmp_path):
    program = "".join(
        map(tried, ["add(2)", "add(2, b='3')", "add('two')", "fail('no')", "wait(60)", "big(10_000_000)"])
    )
    rlm = ask(
        server, tools=[add, fail, wait, big], tool_limits=ToolLimits(timeout_s=4), run_dir=str(tmp_path)
    )
    result = rlm.run(run_query(program, "FINAL(add(40, 2))"), "some text")
    assert result.answer == "42"
    cell = result.tree.root.cells[1]
    assert cell.output.splitlines() == [
        "3",
        "5",
        "ToolError add: argument a: Input should be a valid integer, unable to parse string as an integer; got 'two'",
        "ToolError fail: it raised RuntimeError: no",
        "ToolError wait: it gave no result within 4 s and was given up (tool_limits.timeout_s)",
        (
            "ToolError big: its result has 10,000,000 bytes, more than the 1,000,000 that are taken "
            "(tool_limits.max_result_bytes); it was not taken: ask for less of it at a time"
        ),
    ]
    tools = result.tree.root.tools
    assert [(each.name, each.error_kind) for _, each in sorted(tools.items())] == [
        ("add", ""), ("add", ""), ("add", "ArgumentError"), ("fail", "RuntimeError"), ("wait", "TimeoutError"),
        ("big", "ResultError"), ("add", ""),
    ]  # fmt: skip


def test_tools_are_told_to_the_model_and_hold_no_key(ask, server):
    server_key = "sk-very-secret-key"
    rlm = ask(server, tools=[add, environment], api_key=server_key)
    seen = []
    with ModelServer(
        lambda request: seen.append(request.system) or "```python\nFINAL(environment())\n```"
    ) as model:
        answer = ask(model, tools=[add, environment], api_key=server_key).completion("q", "the whole text")
    assert "- `add(a: int, b: int = 1) -> int`: Adds two numbers." in seen[0]
    assert server_key not in answer
    assert "API_KEY" not in answer
    assert rlm.settings.tool_names == ("add", "environment")


def test_child_sessions_have_the_tools_unless_told_otherwise(ask, server):
    query = run_query(f"FINAL(recursive_llm({run_query('FINAL(add(1, 1))')!r}, 'y' * 300))")
    settings = {"max_depth": 2, "max_leaf_chars": 200, "tools": [add]}
    assert ask(server, **settings).completion(query, "x" * 1_000) == "2"
    without = ask(server, **settings, tool_limits=ToolLimits(children=False), max_iterations=1)
    assert without.run(query, "x" * 1_000).answer != "2"


def test_mcp_server_over_stdio_is_called_from_the_repl(ask, server):
    query = run_query("FINAL([shop_price('tea', amount=2), shop_list_articles()])")
    assert ask(server, mcp_servers={"shop": SHOP}).completion(query, "text") == '[5.0, ["tea", "cake"]]'


def test_names_of_the_repl_are_refused(ask, server):
    def search(text: str) -> str:
        return text

    with pytest.raises(ConfigError, match="'search' is a name of the REPL already"):
        ask(server, tools=[search])


DRIVER = """
import sys
from test_tools_and_citations import hold, note
from rlm_ray import RLM, Cluster
url, query, run_dir = sys.argv[1:]
cluster = Cluster(max_actors=2, cpus_per_actor=0)
rlm = RLM(
    model="openai/root", api_base=url, api_key="k", cluster=cluster, run_dir=run_dir, tools=[note, hold]
)
rlm.completion(query, "some text")
"""
"""Its Ray is its own and dies with it."""


def hold(path: str) -> str:
    """Waits for a pipe into which nobody writes."""
    return Path(path).read_text()


def lines_of(path):
    return path.read_text().split() if path.exists() else []


@pytest.mark.timeout(360)  # it starts a Ray of its own
def test_killed_and_resumed_run_does_not_call_a_tool_again(cluster, server, tmp_path):
    """The first cell is on record; the second was killed between its two calls: the first of them is not made again."""
    lines, pipe = tmp_path / "lines", tmp_path / "pipe"
    os.mkfifo(pipe)
    query = run_query(
        f"first = note({str(lines)!r}, 'one')\nprint(first)",
        f"second = note({str(lines)!r}, 'two')\nheld = hold({str(pipe)!r})",
        f"FINAL([first, second, held, note({str(lines)!r}, 'three')])",
    )
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER, server.url, query, str(tmp_path)],
        env=os.environ
        | {"RAY_ADDRESS": "", "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])},
        start_new_session=True,
    )
    try:
        wait_until(lambda: lines_of(lines) == ["one", "two"] and tools_on_record(tmp_path) == 2, 240)
    finally:
        driver.kill()
        driver.wait()
    killed = find_run("last", str(tmp_path))
    wait_until(lambda: killed.current_writer() is None, 60)  # its journal actor ends a moment after it
    calls = server.calls

    def released(path: str) -> str:
        return "go"

    # The process of the first one may live for a moment yet, and would read a pipe; the model is told the same of both.
    released.__name__, released.__doc__ = "hold", hold.__doc__
    run_id = killed.run_id
    given = {"run_dir": str(tmp_path), "api_key": "k", "cluster": cluster, "trust_record": True}
    with pytest.raises(
        ConfigError, match="the run had the tools hold, note, which no record holds: give them again"
    ):
        RLM.resume(run_id, **given)
    result = RLM.resume(run_id, tools=[note, released], **given)
    assert result.answer == '[1, 2, "go", 3]'
    assert lines_of(lines) == ["one", "two", "three"]
    assert server.calls == calls + 1  # the turn that was not asked for yet
    assert RLM.resume(run_id, **given).answer == result.answer  # it has its answer


def tools_on_record(run_dir):
    records = find_run("last", str(run_dir)).records()
    return sum(isinstance(record, ToolEnded) for record in records)


def test_citations_are_checked_by_the_engine_and_are_in_the_result(ask, server, tmp_path):
    program = """
print(cite("opened in 1907", "b.txt"))
hit = search("sun")[0]
print(cite(hit))
print(cite(["The sky was grey. Nobody"]))
for words in ("opened in 1908 and was closed", "the moon is made of cheese"):
    try:
        cite(words)
    except CitationError as error:
        print(error)
"""
    rlm = ask(server, citations="optional", run_dir=str(tmp_path))
    result = rlm.run(run_query(program, "FINAL('in 1907')"), DOCUMENTS)
    assert result.tree.root.cells[1].output.splitlines() == [
        "{'quote': 'opened in 1907', 'document': 'b.txt', 'start': 12, 'end': 26}",
        "{'quote': 'Nobody had seen the sun for a week.', 'document': 'a.txt', 'start': 18, 'end': 53}",
        "[{'quote': 'The sky was grey.\\nNobody', 'document': 'a.txt', 'start': 0, 'end': 24}]",
        (
            "'opened in 1908 and was closed' does not stand in the context; the nearest words that do are "
            "'opened in 1907 and was closed' (b.txt, characters 12-41)"
        ),
        (
            "'the moon is made of cheese' does not stand in the context, nor do words like it; look at the context and cite "
            "what stands there"
        ),
    ]
    cited = [(each.quote, each.document, each.start, each.end) for each in result.citations]
    assert cited == [
        ("opened in 1907", "b.txt", 12, 26),
        ("Nobody had seen the sun for a week.", "a.txt", 18, 53),
        ("The sky was grey.\nNobody", "a.txt", 0, 24),
    ]
    assert (
        RLM.resume(result.run_id, run_dir=str(tmp_path), cluster=rlm.settings.cluster).citations
        == result.citations
    )
    html = result.report(tmp_path / "report.html").read_text()
    assert "opened in 1907" in html


def test_citations_over_one_text_have_their_place_in_it(ask, server):
    text = "Grüße.\n" * 10 + "The harbour opened in 1907."
    rlm = ask(server, citations="optional")
    result = rlm.run(run_query("print(cite('harbour   opened'))", "FINAL(1)"), text)
    (cited,) = result.citations
    assert text[cited.start : cited.end] == "harbour opened"
    assert (cited.document, cited.number) == ("", None)


def test_a_cell_cannot_make_up_a_citation(ask, server):
    program = """
context = "words that are not there"
try:
    cite("words that are not there")
except CitationError as error:
    print(error)
"""
    rlm = ask(server, citations="optional")
    result = rlm.run(run_query(program, "FINAL(1)"), "the true text")
    assert "does not stand in the context" in result.tree.root.cells[1].output
    assert not result.citations


def test_required_citations_send_an_answer_back_and_fail_in_the_end(ask, server):
    never = ask(server, citations="required").run(
        run_query("print(len(context))", *["FINAL('in 1907')"] * 5), DOCUMENTS
    )
    assert (never.stop_reason, never.answer) == ("no_citations", "in 1907")
    assert never.turns == 4
    late = run_query("FINAL(f'in {len(context)}')", "cite('opened in 1907')\nFINAL('in 1907')")
    result = ask(server, citations="required").run(late, DOCUMENTS)
    assert (result.stop_reason, result.answer, len(result.citations)) == ("answered", "in 1907", 1)
    assert result.turns == 2


def test_citations_cannot_be_required_of_what_has_none(ask, server):
    with pytest.raises(InputError, match="is empty, but citations are required"):
        ask(server, citations="required").run("q")
    with pytest.raises(ConfigError, match="only code can cite"):
        ask(server, citations="required", max_depth=0)


def test_rows_of_a_map_have_tools_and_citations(ask, server):
    query = run_query("cite(context[:4])", "FINAL(add(1, 1))")
    results = ask(server, citations="required", tools=[add]).map(query, ["The first row.", "Another row."])
    assert [(result.answer, result.citations[0].quote) for result in results] == [("2", "The"), ("2", "Anot")]


def test_a_conversation_has_tools_and_the_citations_of_each_answer(ask, server):
    programs = ("cite('Some text')", "n = add(1)\nFINAL(n)", "cite('talk about')", "FINAL(add(n))")
    rlm = ask(server, citations="optional", tools=[add])
    with rlm.conversation("Some text to talk about.") as talk:
        first = talk.run(run_query(*programs))
        second = talk.run("And one more?")
    assert [first.answer, second.answer] == ["2", "3"]
    assert [[cited.quote for cited in result.citations] for result in (first, second)] == [
        ["Some text"],
        ["talk about"],
    ]
