"""An RLM outlives the Ray it was first used with."""

from __future__ import annotations

import pytest
import ray
from scripts import run_script

pytestmark = pytest.mark.ray


@pytest.mark.timeout(360)  # it starts Ray twice
def test_questions_go_on_after_ray_was_shut_down_and_started_again_by_us_or_by_the_user(cluster):
    found = run_script("two_connections.py", ray.get_runtime_context().gcs_address, timeout_s=300)
    assert found["answers"] == ["session done"] * 3
