"""Runs that version 0.1 recorded open, are viewed and go on; `tests/recorded_runs` holds one of each kind, as it left them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rlm_ray import RLM
from rlm_ray.cli.app import app
from rlm_ray.testing import ModelServer
from rlm_ray.testing.responses import is_session

pytestmark = pytest.mark.ray

RECORDED = Path(__file__).parents[1] / "recorded_runs"
RUN_IDS = json.loads((RECORDED / "ids.json").read_text())
ANSWERED = {"tree": "540 words", "documents": "140 words"}


@pytest.fixture
def runs(tmp_path):
    for kind in RUN_IDS.values():
        shutil.copytree(RECORDED / kind, tmp_path / kind)
    return tmp_path


def code(text):
    return f"```python\n{text}\n```"


def script(request):
    """The model that these runs were recorded with."""
    if not is_session(request):
        return "about ten words"
    turns = (
        "n = len(context)\nprint(n)\nparts = [context[:n//2], context[n//2:]]",
        """notes = recursive_map('How many words are here?', parts)
print(notes)
import re
words = len(re.findall(r'\\w+', str(context)))""",
        "FINAL(f'{words} words')",
    )
    return code(turns[min(max(request.turn, 1), 3) - 1])


@pytest.fixture
def model():
    with ModelServer(script) as server:
        yield server


@pytest.mark.parametrize("kind", RUN_IDS)
def test_recorded_run_is_viewed_and_exported(runs, kind):
    html, trace = runs / "run.html", runs / "trace.json"
    for arguments in (["--out", str(html)], ["--export", "chrome", "--out", str(trace)]):
        viewed = CliRunner().invoke(app, ["view", RUN_IDS[kind], "--set", f"run_dir={runs}", *arguments])
        assert viewed.exit_code == 0, viewed.output
    assert RUN_IDS[kind] in html.read_text()
    assert json.loads(trace.read_text())["traceEvents"]


@pytest.mark.parametrize(("kind", "answer"), ANSWERED.items())
def test_finished_recorded_run_gives_its_answer_without_a_call(runs, kind, answer):
    assert RLM.resume(RUN_IDS[kind], run_dir=str(runs)).answer == answer


def test_stopped_recorded_run_goes_on_to_its_answer(cluster, runs, model):
    result = RLM.resume(
        RUN_IDS["stopped"],
        run_dir=str(runs),
        cluster=cluster,
        api_base=model.url,
        api_key="k",
        trust_record=True,
        limits={"calls": None},
    )
    assert (result.answer, result.stop_reason) == ("540 words", "answered")
    assert result.usage.total.calls > model.calls  # what was on record was not asked again


def test_recorded_conversation_goes_on(cluster, runs, model):
    text = "The quick brown fox jumps over the lazy dog. " * 60
    options = {"model": "openai/trial", "max_depth": 1, "api_base": model.url, "api_key": "k"}
    rlm = RLM(**options, cluster=cluster, run_dir=str(runs))
    with rlm.conversation(text, run_id=RUN_IDS["conversation"]) as conversation:
        assert conversation.ask("How many once more?") == "540 words"


def test_run_recorded_without_content_says_that_it_cannot_go_on(runs):
    with pytest.raises(Exception, match="recorded without content"):
        RLM.resume(RUN_IDS["no_content"], run_dir=str(runs), api_key="k", trust_record=True)
