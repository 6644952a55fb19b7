"""`rlm-ray view` and `rlm-ray runs`: what they read, what they write and where, and how they fail."""

from __future__ import annotations

import json

import pytest
import typer
from typer.testing import CliRunner

from rlm_ray.cli.runs import runs
from rlm_ray.cli.view import view
from rlm_ray.events.records import RunFinished, RunStarted, to_line
from rlm_ray.journal.storage.local import JOURNAL
from rlm_ray.testing.sample_run import QUESTION, example_run

OLD, NEW = "20260101-101010-aaaa", "20260202-101010-bbbb"


@pytest.fixture
def run_dir(tmp_path):
    """Two runs: an old one that ended, and a new one that did not."""
    folder = tmp_path / "runs"
    keep(folder / OLD, example_run(20, run_id=OLD))
    keep(folder / NEW, example_run(20, run_id=NEW, ended=False))
    return folder


def keep(folder, records):
    folder.mkdir(parents=True)
    (folder / JOURNAL).write_bytes(b"".join(map(to_line, records)))


@pytest.fixture
def command(tmp_path, run_dir, monkeypatch):
    """Run a command line in an empty folder, with the run folder set."""
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    app = typer.Typer()
    app.command()(view)
    app.command()(runs)

    def invoke(*arguments, stdin=b""):
        line = [*map(str, arguments), "--set", f"run_dir={run_dir}"]
        return CliRunner().invoke(app, line, input=stdin)

    return invoke


@pytest.mark.parametrize("name", [OLD, "20260101", "{run_dir}/" + OLD, "{run_dir}/" + OLD + "/" + JOURNAL])
def test_a_run_becomes_a_page_named_after_it_however_it_is_named(command, run_dir, tmp_path, name):
    done = command("view", name.format(run_dir=run_dir))
    written = tmp_path / "here" / f"{OLD}.html"
    assert (done.exit_code, done.stdout) == (0, f"{OLD}.html\n")
    assert done.stderr == f"open it in a browser: {written.as_uri()}\n"
    page = written.read_text()
    assert page.startswith("<!doctype html>")
    assert QUESTION in page


@pytest.mark.parametrize(
    ("option", "opened"), [("", False), ("--open", True), ("--open", False), ("--no-open", False)]
)
def test_a_page_is_opened_or_its_address_is_said(command, tmp_path, monkeypatch, option, opened):
    asked = []
    monkeypatch.setattr("webbrowser.open", lambda uri: asked.append(uri) or opened)
    monkeypatch.setenv("DISPLAY", ":0")  # but stdout is no terminal here
    done = command("view", OLD, *option.split())
    uri = (tmp_path / "here" / f"{OLD}.html").as_uri()
    assert asked == ([uri] if option == "--open" else [])
    assert done.stderr == ("opened in the browser\n" if opened else f"open it in a browser: {uri}\n")


def test_last_is_the_newest_run(command):
    assert command("view", "last").stdout == f"{NEW}.html\n"


def test_a_journal_may_come_from_stdin(command, run_dir):
    done = command("view", "-", stdin=(run_dir / OLD / JOURNAL).read_bytes())
    assert (done.exit_code, done.stdout) == (0, f"{OLD}.html\n")


def test_out_names_the_file(command, tmp_path):
    done = command("view", OLD, "--out", tmp_path / "page.html")
    assert done.stdout == f"{tmp_path}/page.html\n"
    assert (tmp_path / "page.html").exists()


def test_compare_puts_another_run_into_the_page(command, tmp_path):
    command("view", OLD, "--compare", NEW)
    assert f'"run_id":"{NEW}"' in (tmp_path / "here" / f"{OLD}.html").read_text()


def test_a_run_id_cannot_lead_out_of_the_folder(command, tmp_path):
    records = [
        RunStarted(1.0, "../../evil", "q", {}, example_run(2)[0].input, "1"),
        RunFinished(2.0, "answered"),
    ]
    done = command("view", "-", stdin=b"".join(map(to_line, records)))
    assert done.stdout == "_.._evil.html\n"
    assert [path.name for path in (tmp_path / "here").iterdir()] == ["_.._evil.html"]


def test_a_torn_last_line_is_left_out_with_a_warning(command, run_dir):
    journal = run_dir / OLD / JOURNAL
    journal.write_bytes(journal.read_bytes() + b'{"kind": "ca')
    done = command("view", OLD)
    assert done.exit_code == 0
    assert done.stderr.startswith("warning: ")


def test_a_log_of_the_official_library_is_recognised(command, tmp_path, monkeypatch):
    monkeypatch.setattr("rlm_ray.report.rlm_log.is_rlm_log", lambda line: line == "official\n")
    monkeypatch.setattr("rlm_ray.report.rlm_log.read", lambda path: example_run(5, run_id=path.stem))
    (tmp_path / "log.txt").write_text("official\n")
    assert command("view", tmp_path / "log.txt").stdout == "log.html\n"


def test_an_export_goes_to_stdout_or_to_the_file_that_is_named(command, run_dir, tmp_path):
    done = command("view", OLD, "--export", "jsonl")
    assert done.stdout_bytes == (run_dir / OLD / JOURNAL).read_bytes()
    assert (
        command("view", OLD, "--export", "chrome", "--out", tmp_path / "c.json").stdout
        == f"{tmp_path}/c.json\n"
    )
    assert json.loads((tmp_path / "c.json").read_bytes())


def test_an_endpoint_is_sent_the_spans(command, monkeypatch):
    sent = []
    monkeypatch.setattr(
        "rlm_ray.report.export.send_otlp", lambda records, url: sent.append(url) or len(records)
    )
    done = command("view", OLD, "--export", "otlp", "--endpoint", "http://here:4318")
    assert (done.exit_code, done.stdout, sent) == (0, "", ["http://here:4318"])
    assert "spans sent to http://here:4318" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["2027"], "begins with '2027'"),
        (["./none.jsonl"], "no journal at ./none.jsonl"),
        (["-"], "stdin: is empty"),
        ([OLD, "--export", "pdf"], "--export: must be one of otlp, chrome"),
        ([OLD, "--endpoint", "http://x"], "--endpoint: goes with --export otlp"),
        ([OLD, "--export", "jsonl", "--open"], "--export: stands without"),
        ([OLD, "--out", "/nowhere/at/all.html"], "cannot be written: no such file or directory"),
        ([OLD, "--compare", "2027"], "begins with '2027'"),
    ],
)
def test_what_cannot_be_done_is_one_sentence_on_stderr(command, arguments, said):
    done = command("view", *arguments)
    assert (done.exit_code, done.stdout) == (2, "")
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


def test_stdin_that_is_no_journal_is_refused(command):
    done = command("view", "-", stdin=b"some text\nand more\n")
    assert done.exit_code == 2
    assert done.stderr.startswith("error: stdin: line 1 of the journal is broken")


def test_open_shows_the_page_in_the_browser(command, monkeypatch, tmp_path):
    shown = []
    monkeypatch.setattr("webbrowser.open", shown.append)
    command("view", OLD, "--open")
    assert shown == [(tmp_path / "here" / f"{OLD}.html").as_uri()]


def test_runs_are_listed_newest_first(command):
    done = command("runs")
    head, newest, oldest = done.stdout.splitlines()
    assert (done.exit_code, head.split()[0], done.stderr) == (0, "RUN", "")
    assert newest.startswith(NEW)
    assert "unfinished" in newest
    assert oldest.startswith(OLD)
    assert "answered" in oldest
    assert oldest.endswith(QUESTION)


def test_runs_as_json_have_the_figures(command):
    newest, oldest = json.loads(command("runs", "--json").stdout)
    assert (newest["run_id"], newest["state"], newest["seconds"]) == (NEW, "unfinished", None)
    assert (oldest["state"], oldest["question"]) == ("answered", QUESTION)
    assert oldest["seconds"] > 0


def test_the_question_is_cut_to_the_width_of_a_terminal_and_cannot_steer_it(command, run_dir, monkeypatch):
    records = [RunStarted(1.0, OLD, f"a\x1b[2J\n{'long ' * 100}", {}, example_run(2)[0].input, "1")]
    (run_dir / OLD / JOURNAL).write_bytes(b"".join(map(to_line, records)))
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setattr("rlm_ray.cli.runs._at_a_terminal", lambda: True)
    lines = command("runs").stdout.splitlines()
    assert [len(line) for line in lines[1:]] == [100, 100]
    assert "\x1b" not in "".join(lines)


def test_a_broken_journal_does_not_hide_the_other_runs(command, run_dir):
    (run_dir / NEW / JOURNAL).write_bytes(b"nonsense\n")
    assert [run["state"] for run in json.loads(command("runs", "--json").stdout)] == [
        "unreadable",
        "answered",
    ]


def test_no_runs_is_said_on_stderr(command, run_dir, tmp_path):
    run_dir.rename(tmp_path / "elsewhere")
    done = command("runs")
    assert (done.exit_code, done.stdout) == (0, "")
    assert done.stderr == f"no runs in {run_dir}\n"
