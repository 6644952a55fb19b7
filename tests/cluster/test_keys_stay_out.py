"""Keys never get into what a run leaves behind."""

from __future__ import annotations

import pytest

from rlm_ray.journal.folder import RunFolder
from rlm_ray.testing import Failure, ModelServer
from rlm_ray.testing.otlp import OtlpReceiver
from rlm_ray.testing.scripts import recursion, run_query
from rlm_ray.tracing.flush import flush

PARAM_KEY = "sk-canary-parameter-0123456789"
HEADER_KEY = "Bearer canary-header-0123456789"
ENVIRONMENT_KEY = "sk-canary-environment-0123456789"
KEYS = (PARAM_KEY, HEADER_KEY, "canary-header-0123456789", ENVIRONMENT_KEY)


def leaky(request):
    """A provider that says the key back, in answers and in errors."""
    if request.last.startswith("Question:\nfail"):
        return Failure(400, f"Incorrect API key provided: {PARAM_KEY} {HEADER_KEY}")
    if "REPL" not in request.system:
        return f"your key is {PARAM_KEY} and {ENVIRONMENT_KEY}"
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
        rlm = ask(server, api_key=PARAM_KEY, extra_headers={"X-Authorization": HEADER_KEY})
        result = rlm.run(query, "some text " * 100)
    assert result.answered
    assert flush(20.0)
    report = result.report(tmp_path / "report.html").read_text()
    journal = RunFolder(result.run_dir, result.run_id).read().decode()
    left = {"journal": journal, "report": report, "spans": repr(traced.spans), "logs": caplog.text}
    assert "your key is ***" in journal
    assert traced.spans
    assert [(where, key) for where, text in left.items() for key in KEYS if key in text] == []
