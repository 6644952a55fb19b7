"""The OpenAPI document, tried out: what a stranger to the code makes of it must not break the service."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.ray

EXAMPLES = os.environ.get("RLM_RAY_TEST_EXAMPLES", "2")
"""For each operation; 12 take a minute."""
CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance,ignored_auth"


@pytest.mark.timeout(300)
def test_whatever_is_sent_is_answered_as_the_document_says(site, tmp_path):
    ran = subprocess.run(
        [
            sys.executable, "-c", "from schemathesis.cli import schemathesis; schemathesis()", "run",
            f"{site.url}/openapi.json", "--header", "Authorization: Bearer sk-ann", "--checks", CHECKS,
            "--max-examples", EXAMPLES, "--seed", "7", "--request-timeout", "30", "--phases", "examples,coverage,fuzzing",
            "--exclude-path-regex", "/events$", "--no-color",
        ],
        capture_output=True, text=True, timeout=280, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout[-6000:] + ran.stderr[-2000:]
