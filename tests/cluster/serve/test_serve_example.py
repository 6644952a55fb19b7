"""The example of OpenAI's client, against the service of these tests."""

from __future__ import annotations

import pytest
from examples_here import run_example

pytestmark = pytest.mark.ray


def test_openai_client_asks_about_a_file(site, monkeypatch, capsys):
    monkeypatch.setenv("SERVICE_URL", f"{site.url}/v1")
    monkeypatch.setenv("SERVICE_KEY", "sk-ann")
    run_example("openai_client", monkeypatch)
    assert capsys.readouterr().out.strip() == "deep: session done"  # the first of its models
