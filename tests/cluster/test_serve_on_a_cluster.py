"""`rlm-ray serve` on a Ray that was started elsewhere: its keys reach every replica, and lie nowhere in clear."""

from __future__ import annotations

import pytest
from scripts import run_script

pytestmark = [
    pytest.mark.ray,
    pytest.mark.timeout(320),  # the whole story is told once, before the first test
]
KNOWN = "not-a-secret-0123456789"
OF_THE_COMMAND = {
    "answer": "fine",
    "key": "sk-of-the-commands-environment",
    "header": "header-of-the-settings-0123456789",
}


@pytest.fixture(scope="module")
def found():
    return run_script("serve_on_a_cluster.py", timeout_s=300)


@pytest.mark.parametrize("what", ["session", "direct"])
def test_providers_are_asked_with_the_keys_of_whoever_called_the_command(found, what):
    assert found[what] == OF_THE_COMMAND


def test_replica_in_place_of_a_killed_one_asks_with_the_same_keys(found):
    assert found["is_another_replica"]
    assert found["after_a_replica_was_killed"] == OF_THE_COMMAND


def test_no_key_of_the_service_lies_in_the_gcs(found):
    assert found["in_the_gcs"] == [KNOWN]
    assert found["exit"] in (0, 130)


def test_a_deployment_without_the_command_uses_the_environment_of_the_cluster(found):
    assert found["deployed"] == {"answer": "fine", "key": "sk-of-the-raylets-environment", "header": None}
