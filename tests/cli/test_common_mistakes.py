"""The commonest mistakes at the command line and in Python: each is one sentence that says what to do, before anything is started."""

from __future__ import annotations

from pathlib import Path

import pytest

from rlm_ray import RLM, Files, Limits
from rlm_ray.errors import ConfigError, InputError, RLMError

KEY = ["--api-key", "k"]
ASK, BATCH, MAP = ["ask", "Q?"], ["batch", "Q?"], ["map-reduce", "Q?"]
OUT = ["--out", "o"]
MISSING_KEY = "its key is missing: set OPENAI_API_KEY, or give --api-key"
NO_RUN = "begins with '2027'; the latest is 20260101-101010-aaaa"


@pytest.fixture(autouse=True)
def here(invoke, tmp_path, monkeypatch):
    """Files to be wrong about; a run that begins is a failure of the test."""
    for name in (
        "OPENAI_API_KEY",
        "RAY_ADDRESS",
        "RLM_RAY_CONFIG",
        "http_proxy",
        "HTTP_PROXY",
        "https_proxy",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    monkeypatch.setenv("RLM_RAY_RUN_DIR", str(tmp_path / "runs"))
    for begin in (
        "rlm_ray.rlm.Run",
        "rlm_ray.cli.batch.open_batch_run",
        "rlm_ray.mapreduce.execute.open_batch_run",
    ):
        monkeypatch.setattr(begin, None)
    (tmp_path / "a.txt").write_text("alpha")
    (tmp_path / "empty.txt").write_text("")
    (tmp_path / "rows.jsonl").write_text('{"text": "a"}\n')
    (tmp_path / "broken.pdf").write_bytes(b"%PDF-1.4\n")
    (tmp_path / "report.odt.doc").write_bytes(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600))
    (tmp_path / "typo.json").write_text('{"type": "object", "properties": {"a": {"type": "strng"}}}')
    (tmp_path / "void").mkdir()
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "x.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(20))
    folder = tmp_path / "runs" / "20260101-101010-aaaa"
    folder.mkdir(parents=True)
    (folder / "journal.jsonl").write_text("")


@pytest.mark.parametrize(
    ("command", "code", "said"),
    [
        # a wrong model name
        ([*ASK, "a.txt", "--model", "opnai/gpt-5"], 5, "litellm knows no provider for 'opnai/gpt-5'; write it as provider/name; did you mean openai/gpt-5?"),
        ([*BATCH, "rows.jsonl", *OUT, "--model", "no model"], 5, "litellm knows no provider for 'no model'"),
        ([*MAP, "a.txt", "--model", ""], 5, "model: is empty; give a litellm model name"),
        # no key
        ([*ASK, "a.txt", "--model", "openai/gpt-5"], 5, MISSING_KEY),
        ([*BATCH, "rows.jsonl", *OUT, "--model", "openai/gpt-5"], 5, MISSING_KEY),
        ([*MAP, "a.txt", "--model", "openai/gpt-5"], 5, MISSING_KEY),
        # a key that cannot be one
        ([*ASK, "a.txt", "--model", "openai/gpt-5", "--api-key", "sk 1\n"], 5, "api_key"),
        # no file
        ([*ASK, "missing.txt"], 2, "missing.txt: does not exist; check the path"),
        ([*ASK, "*.nothing"], 2, "*.nothing: matches no file; check the pattern"),
        ([*BATCH, "missing.jsonl", *OUT], 2, "missing.jsonl: does not exist, or holds no file; check the path"),
        ([*MAP, "missing.txt"], 2, "missing.txt: does not exist, or holds no file; check the path"),
        # an empty file, nothing piped in
        ([*ASK, "empty.txt"], 2, "empty.txt: is empty; there is nothing to ask about"),
        ([*MAP, "empty.txt"], 2, "is empty; there is nothing to ask about"),
        ([*ASK], 2, "stdin: is empty; pipe text in, or name files"),
        # a folder without text
        ([*ASK, "void"], 2, "void: holds no text file; give files or a folder with texts"),
        ([*ASK, "pictures"], 2, "pictures: holds no text file: passed over: 1 binary; give files"),
        ([*BATCH, "void", *OUT], 2, "void: does not exist, or holds no file; check the path"),
        # a document that cannot be read
        ([*ASK, "broken.pdf"], 2, "broken.pdf: is a broken PDF file; open it and save it anew"),
        # an address where nothing is, or that is none
        ([*ASK, "a.txt", "--model", "openai/m", *KEY, "--api-base", "http://127.0.0.1:9/v1"], 1, "nothing answers at http://127.0.0.1:9/v1"),
        ([*ASK, "a.txt", "--model", "openai/m", *KEY, "--api-base", "127.0.0.1:9"], 5, "is no address; write it as http://host:port/v1"),
        # an unknown setting, a value that is none
        ([*ASK, "a.txt", "--set", "limits.cost=5"], 5, "limits.cost: is no setting; did you mean 'cost_usd'?"),
        ([*ASK, "a.txt", "--set", "max_dept=2"], 5, "max_dept: is no setting; did you mean 'max_depth'?"),
        ([*ASK, "a.txt", "--set", "nonsense"], 5, "--set: wants NAME=VALUE, such as --set limits.calls=500"),
        ([*ASK, "a.txt", "--max-depth", "-1"], 5, "max_depth: must be a whole number from 0 to 100; got -1 (from --max-depth)"),
        ([*ASK, "a.txt", "--profile", "tiny"], 5, "profile: must be "),
        # the question forgotten, or empty
        (["ask", "a.txt"], 2, "question: is missing: 'a.txt' is a file; ask first, then name files: 'QUESTION' a.txt"),
        (["ask", "void", "a.txt"], 2, "question: is missing: 'void' is a file"),
        (["map-reduce", "a.txt"], 2, "question: is missing: 'a.txt' is a file"),
        (["batch", "rows.jsonl", *OUT], 2, "question: is missing: 'rows.jsonl' is a file"),
        (["batch", *OUT], 2, "question: is missing; give it first, before the files"),
        (["ask", " ", "a.txt"], 2, "question: is empty; ask a question"),
        ([*BATCH, *OUT], 2, "source: is missing; name files, folders or globs after the question"),
        ([*BATCH, "rows.jsonl"], 2, "--out: is missing; name a folder, or FILE.jsonl or FILE.parquet"),
        # quotation marks forgotten
        (["ask", "Who", "wrote", "this?", "a.txt"], 2, "question: is only 'Who', and 'wrote' is no file; put the whole question in quotation marks: 'Who wrote this?'"),
        (["ask", "What's", "new?"], 2, "in quotation marks: 'What'\"'\"'s new?'"),
        (["map-reduce", "Count", "all", "a.txt"], 2, "in quotation marks: 'Count all'"),
        (["batch", "Who", "is", "it.", "rows.jsonl", *OUT], 2, "in quotation marks: 'Who is it.'"),
        (["ask", "Who?", "missing.txt", "a.txt"], 2, "missing.txt: does not exist; check the path"),
        (["ask", "Who", "./no/such"], 2, "no/such: does not exist; check the path"),
        (["ask", "Who is it?", "nobody"], 2, "nobody: does not exist; check the path"),
        # a schema that is none
        ([*ASK, "a.txt", "--schema", "missing.json"], 2, "missing.json: does not exist; give the path of a JSON Schema"),
        ([*ASK, "a.txt", "--schema", "void"], 2, "void: cannot be read as a JSON Schema: Is a directory"),
        ([*ASK, "a.txt", "--schema", "a.txt"], 2, "a.txt: cannot be read as a JSON Schema: "),
        ([*BATCH, "rows.jsonl", *OUT, "--schema", "typo.json"], 2, "is no valid JSON Schema at properties.a.type: 'strng'"),
        # an output among the files that are read
        ([*BATCH, ".", "--out", "o"], 2, "o: lies among the files that are read"),
        # a run that is not there
        (["resume", "2027"], 2, NO_RUN),
        (["view", "2027"], 2, NO_RUN),
        (["runs", "delete", "2027", "--yes"], 2, NO_RUN),
        # a run folder that cannot be written
        ([*ASK, "a.txt", "--set", "run_dir=a.txt"], 5, "run_dir: runs cannot be recorded in "),
        ([*BATCH, "rows.jsonl", *OUT, "--set", "run_dir=a.txt/x"], 5, "choose another with --set run_dir=FOLDER"),
        ([*MAP, "a.txt", "--set", "run_dir=/proc/no"], 5, "run_dir: runs cannot be recorded in /proc/no"),
        # a budget of nothing
        ([*ASK, "a.txt", "--model", "gpt-4o", *KEY, "--cost-usd", "0"], 5, "limits.cost_usd: is 0, which lets only models run that cost nothing"),
        ([*ASK, "a.txt", "--cost-usd", "-1"], 5, "limits.cost_usd: must be a number of US dollars from 0"),
        ([*ASK, "a.txt", "--time-s", "0"], 5, "limits.time_s: must be a number of seconds above 0"),
        ([*ASK, "a.txt", "--set", "limits.tokens=0"], 5, "limits.tokens: must be a whole number from 1"),
    ],
    ids=lambda value: " ".join(value)[:60] if isinstance(value, list) else "",
)  # fmt: skip
def test_a_mistake_at_the_command_line_is_one_sentence_that_says_what_to_do(invoke, command, code, said):
    done = invoke(*command)
    assert (done.exit_code, done.stdout) == (code, ""), done.output
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert said in line
    assert done.stderr.splitlines()[-1] == line


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["ask"], "Missing argument 'QUESTION'"),
        (["ask", "Q?", "--modle", "m"], "No such option: --modle"),
        (["aks", "Q?"], "No such command 'aks'"),
        (["ask", "Q?", "--max-depth", "two"], "Invalid value for '--max-depth'"),
        (["view"], "Missing argument 'RUN|PATH|-'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_command_line_that_cannot_be_parsed_says_how_to_see_its_options(invoke, command, said):
    done = invoke(*command)
    assert (done.exit_code, done.stdout) == (2, "")
    assert "Try 'rlm-ray" in done.stderr or "Try 'root" in done.stderr
    assert said in done.stderr


def test_a_pdf_without_its_parser_says_what_to_install(invoke, monkeypatch):
    missing = {"missing": "No module named 'pypdfium2'"}
    monkeypatch.setattr("rlm_ray.documents.converter.DocumentConverter._exchange", lambda *_: (missing, ""))
    done = invoke(*ASK, "broken.pdf")
    assert (done.exit_code, done.stdout) == (2, "")
    assert (
        "error: broken.pdf: needs the parsers of documents: pip install 'rlm_ray[documents]'" in done.stderr
    )


@pytest.mark.parametrize("count", [0, 1])
def test_a_full_disk_is_said_before_anything_begins(invoke, monkeypatch, count):
    usage = type("Usage", (), {"free": count})
    monkeypatch.setattr("rlm_ray.cli.before_run.shutil.disk_usage", lambda _: usage)
    done = invoke(*ASK, "a.txt")
    assert (done.exit_code, done.stdout) == (5, "")
    assert "is full; make room, or choose another with --set run_dir=FOLDER" in done.stderr


QUIET = {"run_dir": ""}


@pytest.mark.parametrize(
    ("mistake", "kind", "said"),
    [
        (lambda: RLM(modle="m"), ConfigError, "modle: is no setting; did you mean 'model'?"),
        (lambda: RLM(cost_usd=1), ConfigError, "cost_usd: is no setting; did you mean limits=Limits(cost_usd=...)?"),
        (lambda: RLM(model=5), ConfigError, "model: must be "),
        (lambda: RLM(model=""), ConfigError, "model: is empty; give a litellm model name"),
        (lambda: RLM(limits=5), ConfigError, "limits: must be Limits(...) or a table; got 5"),
        (lambda: RLM(limits={"cost": 5}), ConfigError, "limits.cost: is no setting; did you mean 'cost_usd'?"),
        (lambda: RLM(api_key="sk 1\n"), ConfigError, "api_key"),
        (lambda: Limits(cost_usd=-1), ConfigError, "limits.cost_usd: must be a number of US dollars from 0"),
        (lambda: Limits(time_s=0), ConfigError, "limits.time_s: must be a number of seconds above 0"),
        (lambda: Limits(calls=0), ConfigError, "limits.calls: must be a whole number from 1"),
        (lambda: RLM(**QUIET).completion("", "x"), InputError, "query: is empty; ask a question"),
        (lambda: RLM(**QUIET).completion(Path("a.txt"), "x"), InputError, "query: must be a str; got PosixPath"),
        (lambda: RLM(**QUIET).completion("q", 42), InputError, "context: a context is a str"),
        (lambda: RLM(**QUIET).completion("q", {"a": 1}), InputError, "context: a context is a str"),
        (lambda: RLM(**QUIET).completion("q", [1]), InputError, "context: document 0 is neither a str nor"),
        (lambda: RLM(**QUIET).completion("q", b"\xff"), InputError, "the bytes are not UTF-8 (byte 0xff at offset 0)"),
        (lambda: RLM(**QUIET).completion("q", Path("missing.txt")), InputError, "missing.txt: does not exist"),
        (lambda: RLM(**QUIET).completion("q", Path("empty.txt")), InputError, "empty.txt: is empty; there is nothing"),
        (lambda: RLM(**QUIET).completion("q", Path("void")), InputError, "void: holds no text file; give files"),
        (lambda: RLM(**QUIET).completion("q", Path("broken.pdf")), InputError, "is a broken PDF file; open it"),
        (lambda: RLM(**QUIET).completion("q", "x", schema=5), InputError, "schema: must be a pydantic model"),
        (lambda: RLM(**QUIET).completion("q", Files("empty.txt", "empty.txt")), InputError, "holds 2 files, all of them empty; there is nothing to ask about"),
        (lambda: RLM(**QUIET).map("q", "a text"), InputError, "contexts: is one context (str), and map asks about each of several"),
        (lambda: RLM(**QUIET).map("q", ["a"], schma={}), ConfigError, "schma: is no keyword of a question; did you mean 'schema'?"),
        (lambda: RLM(**QUIET).map("q", ["a"], max_dept=1), ConfigError, "max_dept: is no setting; did you mean 'max_depth'?"),
        (lambda: RLM(**QUIET).map(["q", "r"], ["a"]), InputError, "2 questions for 1 contexts"),
        (lambda: RLM(**QUIET).map("q", ["a"], run_id="2027"), InputError, "run: no run has left a journal"),
        (lambda: RLM(**QUIET).batch("q", ["a"], schma={}), InputError, "schma: is no keyword of batch; did you mean 'schema'?"),
        (lambda: RLM(**QUIET).batch("q", ["a"], max_depth=0), InputError, "max_depth: is a keyword of RLM, and not of batch; give it there: RLM(max_depth=...)"),
        (lambda: RLM(**QUIET).batch("q", "a text"), InputError, "source: there is no file 'a text'; check the path, or give texts as a list: [text, ...]"),
        (lambda: RLM(**QUIET).batch("q", "text " * 2000), InputError, "source: there is no file 'text text"),
        (lambda: RLM(**QUIET).batch("q", "a.txt"), InputError, "out: is missing; name a folder"),
        (lambda: RLM(**QUIET).batch("q", {"text": "x"}), InputError, "mappings or texts one after the other; got dict"),
        (lambda: RLM(**QUIET).batch("q {titel}", [{"title": "x", "text": "y"}]), InputError, "titel"),
        (lambda: RLM(**QUIET).map_reduce("q", "a", rduce="count:x"), InputError, "rduce: is no keyword of map_reduce; did you mean 'reduce'?"),
        (lambda: RLM(**QUIET).map_reduce("q", "a", model="m"), InputError, "model: is a keyword of RLM, and not of map_reduce"),
        (lambda: RLM.resume("./nothing"), InputError, "run: there is no journal at ./nothing"),
        (lambda: RLM.resume("2027"), InputError, "; name the run by its folder, or set run_dir"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_a_mistake_in_python_is_one_sentence_that_says_what_to_do(mistake, kind, said):
    with pytest.raises(RLMError) as caught:
        mistake()
    assert type(caught.value) is kind
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
