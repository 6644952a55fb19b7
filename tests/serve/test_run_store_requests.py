"""What is noted of a request, and how its run stands."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rlm_ray.errors import InputError
from rlm_ray.events.records import RunFinished
from rlm_ray.journal.run_store import RunStore
from rlm_ray.serve.run_store import (
    StoredRequest,
    end_from_error,
    end_of,
    is_run_id,
    load_request,
    request_run_id,
    save_failure,
    save_request,
    state_of,
)

NOTED = StoredRequest("20260101-000000-abcdef", "ann", "chat", "deep", 1.0, "Who?\udcff", {"max_depth": 1})


def test_a_request_is_noted_with_its_run_and_its_end_found_again(tmp_path):
    folder = RunStore(str(tmp_path), NOTED.run_id)
    assert load_request(folder) is None
    save_request(folder, NOTED)
    assert load_request(folder) == NOTED
    assert end_of(folder) is None
    save_failure(folder, replace(end_from_error(InputError("file", "is no text")), at=1.0))
    assert end_of(folder).error_kind == "InputError"
    assert "is no text" in end_of(folder).why


def test_run_ids_are_told_from_paths():
    assert is_run_id(request_run_id())
    assert not any(map(is_run_id, ["", "..", "serve", "20260101-000000-abcdef/..", "20260101-000000-ABCDEF"]))
    assert len({request_run_id() for _ in range(1000)}) == 1000


@pytest.mark.parametrize(
    ("end", "is_open", "state"),
    [
        (None, True, "running"),
        (None, False, "failed"),
        (RunFinished(1.0, "answered", answer="x"), False, "answered"),
        (RunFinished(1.0, "calls", answer="x"), False, "stopped"),
        (RunFinished(1.0, "calls"), False, "failed"),
        (RunFinished(1.0, "error", error_kind="ModelError"), False, "failed"),
        (RunFinished(1.0, "error", error_kind="cancelled"), False, "cancelled"),
    ],
)
def test_how_a_run_stands_is_read_from_its_end(end, is_open, state):
    assert state_of(end, is_open=is_open) == state
