"""What a run leaves behind is for its user's eyes only, whatever the umask."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from rlm_ray.core.context import make_context
from rlm_ray.journal.run_store import RunStore
from rlm_ray.llm.response_cache import ResponseCache
from rlm_ray.report.html import write_report
from rlm_ray.runs.context_loader import save_context
from rlm_ray.util.filesystem import make_private_folder, write_private


@pytest.fixture(params=[0o000, 0o022, 0o077, 0o277], ids=oct)
def umask(request):
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def modes_below(folder):
    return {mode(path) for path in folder.rglob("*") if path.is_file()}


def test_the_folder_of_a_run_and_all_its_files(umask, tmp_path):
    folder = RunStore(str(tmp_path / "new" / "runs"), "20260101-000000-a")
    writer = folder.writer("me")
    writer.append(b'{"kind": "x"}\n')
    save_context(folder, make_context("text"), None)
    writer.close()
    place = tmp_path / "new" / "runs" / "20260101-000000-a"
    assert {path.name for path in place.iterdir()} == {"journal.jsonl", "lock", "context.bin", "context.json"}
    assert modes_below(tmp_path) == {0o600}
    assert {mode(place), mode(place.parent), mode(place.parent.parent)} == {0o700}


def test_a_journal_that_others_could_read_is_closed_to_them_when_it_goes_on(tmp_path):
    place = tmp_path / "20260101-000000-a"
    place.mkdir()
    (place / "journal.jsonl").touch(mode=0o644)
    RunStore(str(tmp_path), place.name).writer("me").close()
    assert mode(place / "journal.jsonl") == 0o600


def test_the_cache_and_what_its_database_makes_beside_it(umask, tmp_path):
    cache = ResponseCache(str(tmp_path / "cache"))
    assert mode(tmp_path / "cache") == 0o700
    assert modes_below(tmp_path) == {0o600}
    cache.close() if hasattr(cache, "close") else cache._database.close()


def test_report_is_private_to_its_user(umask, tmp_path):
    (tmp_path / "old.html").touch()
    for name in ("report.html", "old.html"):
        write_report([], tmp_path / name)
        assert mode(tmp_path / name) == 0o600


def test_a_folder_that_is_there_is_left_as_it_is(tmp_path):
    tmp_path.chmod(0o755)
    make_private_folder(tmp_path)
    assert mode(tmp_path) == 0o755


def test_a_device_is_written_to_and_keeps_its_mode():
    device = Path(os.devnull)
    before = mode(device)
    write_private(device, b"x")
    assert mode(device) == before
