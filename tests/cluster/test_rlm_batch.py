"""`RLM.batch` over a real cluster: a dataframe comes back whole, also after its process was killed."""

from __future__ import annotations

import os
import subprocess
import sys

import pandas as pd
import pytest
from waiting import wait_until

from rlm_ray import RLM, InputError
from rlm_ray.journal.run_store import find_run
from rlm_ray.testing import ModelServer, Reply
from rlm_ray.testing.responses import text_of

pytestmark = pytest.mark.ray

ROWS = 40
PROGRAM = """
import sys
import pandas as pd
from rlm_ray import RLM, Cluster
url, run_dir, rows = sys.argv[1:]
frame = pd.DataFrame({"id": [f"d{n}" for n in range(int(rows))], "text": ["some text"] * int(rows)})
rlm = RLM("openai/m", max_depth=0, api_base=url, api_key="k", run_dir=run_dir, cluster=Cluster(cpus_per_actor=0), rates={"in_flight": 2})
rlm.batch("What of {id}?", frame)
"""
"""Its Ray is its own and dies with it."""


def frame():
    rows = {"id": [f"d{n}" for n in range(ROWS)], "text": ["some text"] * ROWS}
    return pd.DataFrame(rows).assign(
        day=pd.Timestamp("2024-01-02"), kind=pd.Categorical(["x", "y"] * (ROWS // 2))
    )


def test_frame_comes_back_with_answers_and_counts(ask):
    with ModelServer(lambda request: "fine") as server:
        rlm = ask(server, max_depth=0)
        answered = rlm.batch("What of {id}, on {day}?", frame())
        assert server.calls == ROWS
        asked = {text_of(request.messages[-1]).split(" on ")[1][:10] for request in server.requests}
    pd.testing.assert_frame_equal(answered[frame().columns], frame())
    assert set(answered["answer"]) == {"fine"}
    assert answered["calls"].sum() == ROWS
    assert rlm.stats == {"llm_calls": ROWS, "iterations": 0, "depth": 0}
    assert asked == {"2024-01-02"}


@pytest.mark.timeout(400)
def test_killed_batch_goes_on_and_pays_again_for_what_was_under_way_only(ask, tmp_path):
    with ModelServer(lambda request: Reply("fine", latency_s=0.2)) as server:
        run_dir = str(tmp_path / "runs")
        command = [sys.executable, "-c", PROGRAM, server.url, run_dir, str(ROWS)]
        environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
        driver = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, start_new_session=True)
        try:
            wait_until(lambda: server.calls >= ROWS // 4, 240)
        finally:
            driver.kill()
            driver.wait()
        killed = find_run("last", run_dir)
        wait_until(lambda: killed.current_writer() is None, 60)  # its journal actor ends a moment after it
        assert server.calls < ROWS
        answered = ask(server, model="openai/m", max_depth=0, run_dir=run_dir).batch(
            "What of {id}?", frame(), run_id=killed.run_id
        )
        assert set(answered["answer"]) == {"fine"}
        assert (
            server.calls <= ROWS + 4
        )  # two were in flight, and two may have been answered and not yet written down


def test_failures_are_in_their_rows(ask):
    with ModelServer(lambda request: '{"year": 1815}' if "good" in request.last else "none") as server:
        schema = {"type": "object", "properties": {"year": {"type": "integer"}}, "required": ["year"]}
        rows = [{"text": "good"}, {"text": "bad"}, {"text": ""}]
        answered = ask(server, max_depth=0).batch("When?", rows, schema=schema)
    assert [row["year"] for row in answered] == [1815, None, None]
    assert [row["error"] is not None for row in answered] == [False, True, True]


def test_files_need_an_output():
    with pytest.raises(InputError, match="out: is missing"):
        RLM().batch("Q", __file__)
