"""Keys never get into what a run leaves behind."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import ray
from gcs_memory import canaries_in_the_gcs

from rlm_ray.journal.run_store import RunStore
from rlm_ray.testing import Failure, ModelServer
from rlm_ray.testing.otlp_receiver import OtlpReceiver
from rlm_ray.testing.responses import recursion, run_query
from rlm_ray.tracing.exporters import flush

pytestmark = pytest.mark.ray

PARAM_KEY = "sk-canary-parameter-0123456789"
HEADER_KEY = "Bearer canary-header-0123456789"
ENVIRONMENT_KEY = "sk-canary-environment-0123456789"
ANY_HEADER = "canary-of-any-header-0123456789"
KEYS = (ANY_HEADER, PARAM_KEY, HEADER_KEY, "canary-header-0123456789", ENVIRONMENT_KEY)


def leaky(request):
    """A provider that says the key back, in answers and in errors."""
    if request.last.startswith("Question:\nfail"):
        return Failure(400, f"Unknown parameter beside {PARAM_KEY} {HEADER_KEY}")
    if "REPL" not in request.system:
        return f"your key is {PARAM_KEY} and {ENVIRONMENT_KEY}, your header {ANY_HEADER}"
    return recursion(request)


@pytest.fixture
def traced(monkeypatch):
    with OtlpReceiver() as receiver:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)
        monkeypatch.setenv("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "true")
        yield receiver


def test_no_key_is_in_the_journal_the_spans_the_report_or_the_logs(
    ask, traced, monkeypatch, tmp_path, caplog
):
    monkeypatch.setenv("MISTRAL_API_KEY", ENVIRONMENT_KEY)
    query = run_query(
        "a = recursive_map('say it', [context[:50]] * 3); print(a)\n"
        "b = recursive_map('fail', [context[:50]] * 2, on_error='return'); print(b)"
    )
    with ModelServer(leaky) as server:
        rlm = ask(
            server, api_key=PARAM_KEY, extra_headers={"X-Authorization": HEADER_KEY, "X-Auth": ANY_HEADER}
        )
        result = rlm.run(query, "some text " * 100)
    assert result.answered
    assert flush(20.0)
    report = result.report(tmp_path / "report.html").read_text()
    journal = RunStore(result.run_dir, result.run_id).read().decode()
    left = {"journal": journal, "report": report, "spans": repr(traced.spans), "logs": caplog.text}
    assert "your key is ***" in journal
    assert traced.spans
    assert [(where, key) for where, text in left.items() for key in KEYS if key in text] == []


def test_no_key_lies_in_the_gcs(cluster, tmp_path):
    """The pool, its actors and the job of a driver that has keys, made while Ray was running already."""
    known, environment, storage, option, header = (
        "not-a-secret-0123456789",
        "sk-gcs-environment",
        "aws-gcs-0123456789",
        "sk-gcs-option",
        "gcs-header-0123456789",
    )
    ray.experimental.internal_kv._internal_kv_put("known", known, namespace="test")
    script = f"""
from rlm_ray import RLM, Cluster
rlm = RLM(cluster=Cluster(cpus_per_actor=0), run_dir=False, api_key={option!r}, extra_headers={{"X-Auth": {header!r}}})
print(rlm.completion("what?", "some text"))
"""
    address = ray.get_runtime_context().gcs_address
    env = os.environ | {
        "RAY_ADDRESS": address,
        "MISTRAL_API_KEY": environment,
        "AWS_SECRET_ACCESS_KEY": storage,
    }
    done = subprocess.run(
        [sys.executable, "-"], input=script, env=env, cwd=tmp_path, capture_output=True, text=True,
        timeout=110, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert canaries_in_the_gcs(known, environment, storage, option, header) == {known}
