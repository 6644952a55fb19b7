"""Every example, on the offline model and the shared cluster; one as a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from examples_here import EXAMPLES, NAMES, run_example, run_notebook

pytestmark = pytest.mark.ray

SAYS = {
    "azure_endpoint": ["invoice", "answered: "],
    "basic_usage": ["It opened on 8 December 1864", "'llm_calls': 2, 'iterations': 1, 'depth': 1"],
    "batch_on_a_cluster": ["answered=14, failed=0", "pep-0004: answered"],
    "batch_rows": ["kind      category", "PEP 274 (small): answered"],
    "citations": ["From 1907 until 1954.", "'The harbour opened in 1907.' (harbour.txt, characters 0-27)"],
    "conversation": ["Clerval"],
    "custom_config": [
        "512 GB RAM",
        "stopped by a limit",
        "max_iteration: is no setting; did you mean 'max_iterations'?",
    ],
    "data_extraction": ["Action items: Sarah approves the budget"],
    "llama_cpp": ["02:00 the pump ran at 97%"],
    "long_document": ["Justine", "model calls, 1 turns"],
    "map_reduce": ["{'Final': ", "from pep-"],
    "mcp_server": ["15.5", "called shop_price"],
    "multi_file": ["Students pay half of it", "read 4 files", "pep-0322"],
    "ollama_local": ["Room 102 is booked by the design team on Tuesday."],
    "resume": ["calls: ", "answered; ", "0 paid twice"],
    "seed_claims": [
        "| 2,000 | How many orders of the product lamp have a quantity of at least 7 | 4 | About 1,000. | no | ",
        "| 130,000 | How many orders of the region Corse have the status refunded | 361 | does not fit | - | - | - | - | 361 | yes | ",
        "| 3 ids | does not fit | - | - | - | - | A102007, A103615, A105142 | yes | ",
    ],
    "streaming": ["turn 1 has run its code", "answered after"],
    "tools": ["15.50 euros", "called price in turn 1"],
    "tracing_to_phoenix": ["invoke_workflow rlm", "\n         chat extractive  ", "total=0"],
    "two_models": ["depth 1 (read)"],
    "vllm_endpoint": ["24 days were read, all at once", "25 calls"],
    "typed_answers": ["Invoice(sender='Hill & Sons', amount=1240.5, due='1 June')", "to pay: 1240.50"],
}
NOTEBOOK_SAYS = ["Extractive answer", "answered ", "pep-0212 answered", "clerval"]
SET_BY_AN_EXAMPLE = [
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT",
]
OFFLINE = [
    "AZURE_DEPLOYMENT",
    "VLLM_URL",
    "PHOENIX_ENDPOINT",
    "RLM_RAY_MODEL",
    "RLM_RAY_RECURSIVE_MODEL",
    "OLLAMA_API_BASE",
    "LLAMA_URL",
]


def test_each_example_is_run():
    assert set(NAMES) == {*SAYS, "openai_client"}  # in serve/test_serve_example.py


@pytest.mark.parametrize("name", SAYS)
def test_example_says_what_it_promises(cluster, name, monkeypatch, capsys):
    for variable in OFFLINE:
        monkeypatch.delenv(variable, raising=False)
    for variable in SET_BY_AN_EXAMPLE:
        monkeypatch.setenv(variable, "")  # so that it is gone again after the test
        monkeypatch.delenv(variable)
    run_example(name, monkeypatch)
    said = capsys.readouterr().out
    assert [words for words in SAYS[name] if words not in said] == [], said


def test_notebook_runs_from_its_first_cell_to_its_last(cluster, monkeypatch, capsys):
    for variable in OFFLINE:
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.chdir(EXAMPLES)
    shown = run_notebook("quickstart")
    said = capsys.readouterr().out
    assert [words for words in NOTEBOOK_SAYS if words not in said] == [], said
    assert [type(value).__name__ for value in shown] == ["str", "Result"]
    assert "<" in shown[1]._repr_html_()


def test_example_runs_as_a_process_and_from_any_folder(tmp_path):
    left_out = ("RAY_ADDRESS", "OTEL_", "RLM_RAY_")
    here = {name: value for name, value in os.environ.items() if not name.startswith(left_out)}
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / "tools.py")],
        capture_output=True,
        text=True,
        timeout=110,
        cwd=tmp_path,
        env=here,
        check=False,
    )
    assert (done.returncode, done.stdout.splitlines()[1:]) == (
        0,
        ["15.50 euros", "called price in turn 1", "called price in turn 1"],
    ), done.stderr
