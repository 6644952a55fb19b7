"""`rlm-ray runs prune`, `runs delete`, `runs --limit` and `cache prune`: what is old or named goes, what is under way stays."""

from __future__ import annotations

import asyncio

import pytest
from typer.testing import CliRunner

from rlm_ray.cli.app import app
from rlm_ray.cli.runs import seconds_of
from rlm_ray.core.llm import ModelReply
from rlm_ray.errors import InputError
from rlm_ray.events.records import to_line
from rlm_ray.journal.run_store import RunStore
from rlm_ray.journal.storage.local import JOURNAL
from rlm_ray.llm.response_cache import ResponseCache
from rlm_ray.testing.sample_run import example_run

NAMES = [f"2026010{day}-101010-aaaa" for day in range(1, 6)]


@pytest.fixture
def run_dir(tmp_path):
    for name in NAMES:
        (tmp_path / name).mkdir()
        records = example_run(5, run_id=name)
        (tmp_path / name / JOURNAL).write_bytes(b"".join(map(to_line, records)))
    (tmp_path / "serve").mkdir()
    return tmp_path


def prune(run_dir, *arguments):
    return CliRunner().invoke(app, ["runs", "prune", *arguments, "--set", f"run_dir={run_dir}"])


def left(run_dir):
    return sorted(path.name for path in run_dir.iterdir())


@pytest.mark.parametrize("keep", range(7))
def test_the_newest_are_kept(run_dir, keep):
    done = prune(run_dir, "--keep", str(keep))
    gone = NAMES[: max(0, 5 - keep)]
    assert (done.exit_code, sorted(done.stdout.split())) == (0, gone)
    assert left(run_dir) == sorted({*NAMES, "serve"} - set(gone))


def test_a_dry_run_deletes_nothing(run_dir):
    done = prune(run_dir, "--older-than", "0s", "--dry-run")
    assert (done.exit_code, len(done.stdout.split())) == (0, 5)
    assert done.stderr == f"would delete 5 of 5 old runs in {run_dir}\n"
    assert left(run_dir) == [*NAMES, "serve"]


def test_what_is_younger_stays(run_dir):
    assert prune(run_dir, "--older-than", "5200w").stderr == f"deleted 0 of 0 old runs in {run_dir}\n"
    assert left(run_dir) == [*NAMES, "serve"]


def test_a_run_under_way_stays_and_is_said(run_dir):
    writer = RunStore(str(run_dir), NAMES[2]).writer("a driver")
    done = prune(run_dir, "--older-than", "0s")
    writer.close()
    assert done.exit_code == 1
    assert f"{NAMES[2]}: not deleted: " in done.stderr
    assert left(run_dir) == [NAMES[2], "serve"]


def test_a_run_whose_record_cannot_be_read_goes_by_its_name(run_dir):
    (run_dir / NAMES[0] / JOURNAL).write_bytes(b"nonsense\n")
    prune(run_dir, "--older-than", "1s")
    assert left(run_dir) == ["serve"]


def test_without_a_measure_nothing_is_deleted(run_dir):
    done = prune(run_dir)
    assert done.exit_code == 2
    assert "wants --older-than AGE, --keep N or both" in done.stderr
    assert left(run_dir) == [*NAMES, "serve"]


@pytest.mark.parametrize(
    ("age", "seconds"),
    [("30d", 2_592_000), ("12h", 43_200), ("1.5m", 90), ("2W", 1_209_600), (" 7s ", 7), ("0s", 0)],
)
def test_ages_are_read(age, seconds):
    assert seconds_of(age, "--older-than") == seconds


@pytest.mark.parametrize("age", ["", "30", "d", "-1d", "1y", "1d2h", "nan", "infd", "1e9d", "9" * 400 + "d"])
def test_what_is_no_age_is_refused(age):
    with pytest.raises(InputError, match="--older-than: must be a number with s, m, h, d or w"):
        seconds_of(age, "--older-than")


def test_a_cache_is_pruned(tmp_path):
    cache = ResponseCache(str(tmp_path))
    asyncio.run(cache.put("k", "t", ModelReply("hello")))

    def run(*arguments):
        return CliRunner().invoke(app, ["cache", "prune", *arguments])

    assert run(str(tmp_path), "--older-than", "1d").stderr == f"dropped 0 replies of {tmp_path}\n"
    assert (
        run(str(tmp_path), "--older-than", "0s", "--dry-run").stderr
        == f"would drop 1 replies of {tmp_path}\n"
    )
    assert run(str(tmp_path), "--older-than", "0s").stderr == f"dropped 1 replies of {tmp_path}\n"
    assert run(str(tmp_path / "no"), "--older-than", "0s").exit_code == 2
    assert run(str(tmp_path)).exit_code == 2


def invoke(run_dir, *arguments, stdin=""):
    return CliRunner().invoke(app, ["runs", *arguments, "--set", f"run_dir={run_dir}"], input=stdin)


@pytest.mark.parametrize("named", [NAMES[:1], ["20260101", NAMES[2]], ["last", NAMES[4]]], ids=str)
def test_named_runs_are_deleted_once_each_and_others_stay(run_dir, named):
    gone = {
        name
        for each in named
        for name in NAMES
        if name.startswith(each) or (each, name) == ("last", NAMES[4])
    }
    done = invoke(run_dir, "delete", *named, "--yes")
    assert (done.exit_code, set(done.stdout.split())) == (0, gone)
    assert left(run_dir) == sorted({*NAMES, "serve"} - gone)
    assert all(f"{name}: Which of the parties" in done.stderr for name in gone)


@pytest.mark.parametrize(("answer", "code"), [("y\n", 0), ("n\n", 130), ("\n", 130)])
def test_without_yes_it_asks_first_and_no_is_the_default(run_dir, answer, code):
    done = invoke(run_dir, "delete", NAMES[0], stdin=answer)
    assert done.exit_code == code
    assert "Delete 1 run(s)? [y/N]" in done.stderr
    assert (NAMES[0] in left(run_dir)) == (code != 0)


def test_nothing_is_deleted_where_one_name_is_wrong_or_nobody_can_be_asked(run_dir):
    assert invoke(run_dir, "delete", NAMES[0], "2027", "--yes").exit_code == 2
    unasked = invoke(run_dir, "delete", NAMES[0])
    assert unasked.exit_code == 130
    assert unasked.stderr.splitlines()[-1] == "nothing is deleted; --yes deletes without asking"
    assert invoke(run_dir, "delete").exit_code == 2
    assert left(run_dir) == sorted([*NAMES, "serve"])


def test_a_run_under_way_is_not_deleted_and_the_others_are(run_dir):
    writer = RunStore(str(run_dir), NAMES[1]).writer("somebody")
    try:
        done = invoke(run_dir, "delete", NAMES[0], NAMES[1], "--yes")
    finally:
        writer.close()
    assert (done.exit_code, done.stdout.split()) == (1, [NAMES[0]])
    assert f"{NAMES[1]}: not deleted: " in done.stderr


@pytest.mark.parametrize("limit", [1, 3, 99])
def test_the_newest_are_listed_and_what_is_left_out_is_said(run_dir, limit):
    done = invoke(run_dir, "--limit", str(limit))
    shown = [line.split()[0] for line in done.stdout.splitlines()[1:]]
    assert shown == NAMES[::-1][:limit]
    assert done.stderr == ("" if limit >= 5 else f"{limit} of 5 runs; --limit N shows more\n")
