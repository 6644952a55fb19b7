"""Log lines as JSON: what each says, and which run it is about."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import sys

import pytest

from rlm_ray.util.batcher import Batcher
from rlm_ray.util.log_format import JsonFormatter, log_run, trace_id_of, use_log_format

TRACE = "0af7651916cd43dd8448eb211c80319c"


@pytest.fixture
def lines():
    """A logger of the package whose lines are JSON; gives what was written so far."""
    written, logger = io.StringIO(), logging.getLogger("rlm_ray.tests.json")
    handler = logging.StreamHandler(written)
    handler.setFormatter(JsonFormatter())
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    yield logger, lambda: [json.loads(line) for line in written.getvalue().splitlines()]
    logger.removeHandler(handler)


@pytest.mark.parametrize(
    "text",
    [
        "plain",
        "",
        "two\nlines",
        "\x1b[31mred",
        'quo"te',
        "ü🙂",
        "half \ud800",
        "\u2028",
        "%s %d",
        "x" * 10_000,
    ],
    ids=range(10),
)
def test_each_line_is_one_object_whatever_its_text(text):
    record = logging.makeLogRecord(
        {"msg": "%s", "args": (text,), "levelname": "WARNING", "name": "rlm_ray.x"}
    )
    written = JsonFormatter().format(record)  # not through a logger: pytest would show half a pair to xdist
    (line,) = map(json.loads, written.splitlines())
    assert written.isascii()
    assert (line["message"], line["level"], line["logger"]) == (text, "WARNING", "rlm_ray.x")
    assert line["time"].endswith("+00:00")
    assert line.keys() == {"time", "level", "logger", "message"}


def test_an_error_has_its_traceback_in_the_same_line(lines):
    logger, read = lines
    try:
        int("no\nnumber")
    except ValueError:
        logger.exception("failed")
    assert "ValueError: invalid literal" in read()[0]["error"]


async def test_lines_name_the_run_of_their_task_and_of_tasks_it_starts(lines):
    logger, read = lines

    async def work(name):
        with log_run(name, TRACE):
            await asyncio.create_task(asyncio.to_thread(logger.info, "inside of %s", name))
        logger.info("after %s", name)

    await asyncio.gather(work("run-1"), work("run-2"))
    told = {line["message"]: (line.get("run_id"), line.get("trace_id")) for line in read()}
    assert told == {
        "inside of run-1": ("run-1", TRACE), "inside of run-2": ("run-2", TRACE), "after run-1": (None, None), "after run-2": (None, None),
    }  # fmt: skip


def test_a_trace_is_named_as_soon_as_it_is_known(lines):
    logger, read = lines
    known = [""]
    with log_run("run-1", lambda: known[0]):
        logger.info("before")
        known[0] = TRACE
        logger.info("after")
    assert [line.get("trace_id") for line in read()] == [None, TRACE]


async def test_runs_inside_of_runs_end_where_they_began(lines):
    logger, read = lines
    with log_run("outer"):
        with pytest.raises(ValueError, match="x"), log_run("inner"):
            raise ValueError("x")
        logger.info("again")
    assert read()[0]["run_id"] == "outer"


async def test_what_is_sent_for_several_runs_at_once_names_none_of_them(lines):
    logger, read = lines

    async def send(items):
        logger.info("sent %d", len(items))
        return items

    async with Batcher(send, linger_s=0.0) as batcher:
        with log_run("run-1"):
            await batcher.submit("item")
    assert "run_id" not in read()[0]


@pytest.mark.parametrize(
    ("traceparent", "trace_id"),
    [
        (f"00-{TRACE}-b7ad6b7169203331-01", TRACE), (f" 00-{TRACE.upper()}-b7ad6b7169203331-01 ", TRACE), (f"01-{TRACE}-b7ad6b7169203331-01-more", TRACE),
        ("", ""), ("00-0-0-0", ""), (f"00-{'0' * 32}-b7ad6b7169203331-01", ""), (TRACE, ""), (f"00-{TRACE[1:]}-b7ad6b7169203331-01", ""),
    ],
)  # fmt: skip
def test_trace_of_a_traceparent(traceparent, trace_id):
    assert trace_id_of(traceparent) == trace_id


def test_a_process_of_ours_writes_what_its_settings_say(capsys, monkeypatch):
    logger = logging.getLogger("rlm_ray")
    before = list(logger.handlers), logger.propagate
    use_log_format("json")
    use_log_format("json")
    logger.warning("lost %s", "an actor")
    (line,) = capsys.readouterr().err.splitlines()
    assert json.loads(line)["message"] == "lost an actor"
    assert sys.stderr is not None
    use_log_format("text")
    assert (list(logger.handlers), logger.propagate) == before
