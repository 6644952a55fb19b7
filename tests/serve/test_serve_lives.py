"""What is left of a run that could not say how it ended."""

from __future__ import annotations

from rlm_ray.errors import ClusterError
from rlm_ray.journal.run_store import RunStore
from rlm_ray.serve.run_launcher import record_failure
from rlm_ray.serve.run_registry import KeySpending
from rlm_ray.serve.run_store import StoredRequest, end_from_error, end_of, load_request

NOTED = StoredRequest("20260101-000000-abcdef", "ann", "chat", "rlm/m", 1.0, "q")


def test_a_run_that_ended_before_it_began_is_found_with_its_end(tmp_path):
    folder, end = RunStore(str(tmp_path), NOTED.run_id), end_from_error(ClusterError("lost"))
    assert record_failure(folder, NOTED, end) == KeySpending(1)
    assert load_request(folder) == NOTED
    assert end_of(folder) == end


def test_a_storage_that_fails_still_lets_a_run_be_accounted_for(tmp_path):
    (tmp_path / "file").write_text("no folder")
    folder = RunStore(str(tmp_path / "file"), NOTED.run_id)
    assert record_failure(folder, NOTED, end_from_error(ClusterError("lost"))) == KeySpending(1)
