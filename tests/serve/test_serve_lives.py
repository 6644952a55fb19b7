"""What is left of a run that could not say how it ended."""

from __future__ import annotations

from rlm_ray.errors import ClusterError
from rlm_ray.journal.run_store import RunFolder
from rlm_ray.serve.run_launcher import put_on_record
from rlm_ray.serve.run_registry import Spent
from rlm_ray.serve.run_store import Noted, end_of, failed, noted_in

NOTED = Noted("20260101-000000-abcdef", "ann", "chat", "rlm/m", 1.0, "q")


def test_a_run_that_ended_before_it_began_is_found_with_its_end(tmp_path):
    folder, end = RunFolder(str(tmp_path), NOTED.run_id), failed(ClusterError("lost"))
    assert put_on_record(folder, NOTED, end) == Spent(1)
    assert noted_in(folder) == NOTED
    assert end_of(folder) == end


def test_a_storage_that_fails_still_lets_a_run_be_accounted_for(tmp_path):
    (tmp_path / "file").write_text("no folder")
    folder = RunFolder(str(tmp_path / "file"), NOTED.run_id)
    assert put_on_record(folder, NOTED, failed(ClusterError("lost"))) == Spent(1)
