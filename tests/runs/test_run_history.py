"""What earlier lives of a run leave to the next one."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from rlm_ray.admission.client import AdmissionClient
from rlm_ray.admission.controller import AdmissionController
from rlm_ray.admission.protocol import RunPolicy
from rlm_ray.admission.server import AdmissionServer
from rlm_ray.config import Settings, settings_to_dict
from rlm_ray.core.context import InputSummary, make_context
from rlm_ray.core.limits import Limits
from rlm_ray.core.llm import Message, ModelReply, ModelRequest, Usage
from rlm_ray.core.output_limit import OutputLimit
from rlm_ray.errors import AuthenticationError, JournalError, TransientModelError
from rlm_ray.events.records import (
    CallEnded,
    CallSent,
    RunFinished,
    RunStarted,
    SessionOpened,
    from_line,
    to_line,
    without_content,
)
from rlm_ray.events.usage import CallStats, RunUsage, usage_from_records
from rlm_ray.journal.call_recorder import CallSite
from rlm_ray.journal.recorder import JournalRecorder
from rlm_ray.journal.run_store import RunStore
from rlm_ray.journal.server import JournalRef
from rlm_ray.llm.gateway import Gateway
from rlm_ray.llm.run_context import RunContext
from rlm_ray.runs.run_history import (
    COMMAND_FILE,
    CommandRecord,
    RunHistory,
    load_command,
    load_run_history,
)
from rlm_ray.testing.scripted_model import ScriptedModel

RUN = "20260102-030405-abcdef"
SETTINGS = Settings(model="m", params={"api_key": "sk-0123456789", "temperature": 0.5})
TABLE = settings_to_dict(SETTINGS)
OPENED = RunStarted(1, RUN, "Who?", TABLE, InputSummary(), "0.1")
ANSWERED = RunFinished(2, "answered", answer="Nobody", turns=3, seconds=1.5)


def lives(tmp_path, *records):
    folder = RunStore(str(tmp_path), RUN)
    writer = folder.writer("test")
    for number, record in enumerate(records):
        writer.append(to_line(record, f"t:{number}"))
    writer.close()
    return load_run_history(folder)


def test_a_run_without_a_beginning_cannot_go_on(tmp_path):
    with pytest.raises(JournalError, match="has no beginning on record"):
        lives(tmp_path, SessionOpened(1, (), "q", InputSummary(), "m", "a"))


def test_a_run_without_content_cannot_go_on_and_says_why(tmp_path):
    with pytest.raises(
        JournalError, match=r"recorded without content \(record_content=False\); ask the question"
    ):
        lives(tmp_path, without_content(OPENED), without_content(ANSWERED))


def test_a_killed_attempt_leaves_its_question_and_its_settings_and_no_end(tmp_path):
    earlier = lives(tmp_path, OPENED, ANSWERED, replace(OPENED, query="Who now?", life=2))
    assert (earlier.run_id, earlier.previous_attempts, earlier.query, earlier.end) == (
        RUN,
        2,
        "Who now?",
        None,
    )
    assert not earlier.answered(TABLE)


def test_news_that_came_after_the_end_do_not_hide_it(tmp_path):
    late = CallEnded(3, (0,), 1, "leaf", "m", "k", 1, error_kind="cancelled")
    earlier = lives(tmp_path, OPENED, ANSWERED, late)
    assert earlier.end == replace(ANSWERED, id="t:1")
    assert earlier.answered(TABLE)


@pytest.mark.parametrize(
    ("changes", "is_answered"),
    [
        ({}, True),
        ({"params": {"temperature": 0.5}}, True),  # the key is not needed for what is known
        ({"params": {"api_key": "another", "temperature": 0.5}}, True),
        (
            {
                "limits": Limits(calls=1),
                "call_timeout_s": 5.0,
                "max_attempts": 1,
                "weight": 2.0,
                "run_dir": "/elsewhere",
            },
            True,
        ),
        ({"model": "other"}, False),
        ({"recursive_model": "other"}, False),
        ({"max_iterations": 3}, False),
        ({"params": {"temperature": 0.7}}, False),
        ({"params": {}}, False),
    ],
)
def test_an_answer_holds_as_long_as_nothing_that_shapes_it_differs(tmp_path, changes, is_answered):
    earlier = lives(tmp_path, OPENED, ANSWERED)
    assert earlier.answered(settings_to_dict(replace(SETTINGS, **changes))) is is_answered


@pytest.mark.parametrize("given", [{}, {"Authorization": "Bearer another"}])
def test_hidden_headers_do_not_make_another_question(tmp_path, given):
    with_header = replace(
        SETTINGS, params={"extra_headers": {"Authorization": "Bearer 12345678", "X-Team": "a"}}
    )
    earlier = lives(tmp_path, replace(OPENED, settings=settings_to_dict(with_header)), ANSWERED)
    now = replace(SETTINGS, params={"extra_headers": {"X-Team": "a", **given}})
    assert earlier.answered(settings_to_dict(now))


@pytest.mark.parametrize("reason", ["interrupted", "cost_usd", "error", "max_iterations"])
def test_a_run_that_was_stopped_has_something_left_to_do(tmp_path, reason):
    assert not lives(tmp_path, OPENED, replace(ANSWERED, stop_reason=reason)).answered(TABLE)


def test_a_context_is_named_only_where_it_is_another_one():
    context, other = make_context("text"), make_context("other")
    assert RunHistory(RUN).changed_context_key(context) == ""
    assert (
        RunHistory(RUN, 1, fingerprint=context.fingerprint()).changed_context_key(make_context(b"text")) == ""
    )
    assert (
        RunHistory(RUN, 1, fingerprint=context.fingerprint()).changed_context_key(other)
        == other.fingerprint()
    )


def test_the_usage_of_a_record_adds_up():
    calls = [
        CallSent(1, (), 1, "turn", "m", "k"),
        CallEnded(2, (), 1, "turn", "m", "k", 1, usage=Usage(10, 5, 3, 2), cost_usd=0.5, queue_wait_s=1.0),
        CallSent(1, (), 2, "turn", "m", "k"),
        CallEnded(4, (), 2, "turn", "m", "k", 3, usage=Usage(1, 2), rate_wait_s=2.0, repaid=True),
        CallEnded(5, (0,), 1, "leaf", "m", "k", 3, cache_hit=True, usage=Usage(99, 99)),
        CallEnded(5, (1,), 1, "leaf", "n", "k", 3, error_kind="cancelled"),
        CallSent(5, (2,), 1, "leaf", "n", "k"),
        CallEnded(6, (2,), 1, "leaf", "n", "k", 3, error_kind="cancelled"),
    ]
    opened = [
        SessionOpened(at, path, "q", InputSummary(), "m", "a", at)
        for at, path in ((1, ()), (2, ()), (1, (0,)))
    ]
    assert usage_from_records([*opened, *calls]) == RunUsage(
        {
            ("m", 0): CallStats(
                calls=2, attempts=2, unpriced=1, input_tokens=11, output_tokens=7, cached_tokens=3,
                reasoning_tokens=2, cost_usd=0.5, queue_wait_s=1.0, rate_wait_s=2.0, repaid_calls=1,
            ),
            ("n", 1): CallStats(attempts=1, unknown=1),
        },
        sessions=2, cache_hits=1,
    )  # fmt: skip


class Provider(ScriptedModel):
    """Hangs where its script says so."""

    def __init__(self, script):
        super().__init__(script)
        self.hanging = asyncio.Event()

    async def complete(self, request):
        reply = await super().complete(request)
        if reply.text == "hang":
            self.hanging.set()
            await asyncio.Event().wait()
        return reply

    def cost_usd(self, model, usage):
        return None if model == "unpriced" else usage.tokens / 1000

    def output_limit(self, model):
        return OutputLimit()

    def provider_name(self, model):
        return "scripted"


class Journal:
    """A transport that keeps what it is sent."""

    data = b""

    async def append(self, ref, data):
        self.data += data
        return len(self.data)

    async def read(self, ref, offset, wait_s):
        return self.data[offset:]


def fails(kind):
    return TransientModelError("m", "not now", None, kind, 0.0 if kind == "rate_limited" else None)


YES = ModelReply("yes", usage=Usage(10, 5, 3, 2))
CALLS = [
    ("m", [fails("connection"), fails("connection"), fails("timeout")]),  # gives up
    ("m", [AuthenticationError("m", "refused")]),
    ("m", [fails("server_error"), AuthenticationError("m", "refused")]),
    ("other", [ModelReply("hang")]),  # cancelled while it is under way
    ("other", [fails("timeout"), ModelReply("hang")]),
    ("m", [YES]),
    ("unpriced", [YES]),
    ("m", [fails("timeout"), fails("server_error"), YES]),
    ("m", [fails("rate_limited"), YES]),
    ("m", []),  # over the limit of the run: never sent
]
CHARGED = 6
"""Calls that were answered, and lost connections, whose answers may have been on their way."""


async def test_the_record_of_any_calls_has_the_sums_of_the_admission():
    shell, journal = AdmissionServer(AdmissionController(), "epoch"), Journal()
    client = AdmissionClient("holder", shell, coalesce_s=0.0)
    provider = Provider([reply for _, script in CALLS for reply in script])
    limits = Limits(calls=CHARGED + 1)  # one is kept for the last call of the run
    await shell.open_run(RunPolicy("run", limits))
    recorder = JournalRecorder(JournalRef("", "run", "o", ""), journal, "w")
    run = RunContext("run", Settings(max_attempts=3, limits=limits))

    async def no_sleep(_):
        pass

    gateway = Gateway(provider, client, sleep=no_sleep)
    for number, (model, _) in enumerate(CALLS):
        place = CallSite((number,) if number % 2 else (), number + 1, "leaf" if number % 2 else "turn")
        call = asyncio.create_task(
            gateway.complete(ModelRequest(model, (Message("user", "hi"),)), run, place, recorder)
        )
        hanging = asyncio.create_task(provider.hanging.wait())
        await asyncio.wait([call, hanging], return_when=asyncio.FIRST_COMPLETED)
        provider.hanging.clear()
        for task in (call, hanging):
            task.cancel()
        await asyncio.gather(call, hanging, return_exceptions=True)
        await client.flush()
    await recorder.flush()
    assert provider.remaining == 0
    recorded = usage_from_records(from_line(line) for line in journal.data.splitlines())
    counted = await shell.usage("run")
    waits = {"queue_wait_s": pytest.approx(0, abs=10), "rate_wait_s": pytest.approx(0, abs=10)}
    assert {row: replace(tally, **waits) for row, tally in recorded.rows.items()} == counted.rows


@pytest.mark.parametrize(
    "noted",
    [
        b"",
        b"{",
        b"7",
        b"\xff",
        b"[" * 100_000,
        b'{"command": "batch"}',
        b'{"command": "batch", "arguments": {}, "folder": "/", "other": 1}',
        b'{"command": 7, "arguments": {}, "folder": "/"}',
        b'{"command": "batch", "arguments": 7, "folder": "/"}',
        b'{"command": "batch", "arguments": ["rows"], "folder": "/"}',
        b'{"command": "batch", "arguments": {}, "folder": ["/"]}',
    ],
)
def test_a_command_that_cannot_be_read_is_said_so(tmp_path, noted):
    folder = RunStore(str(tmp_path), RUN)
    folder.save(COMMAND_FILE, noted)
    with pytest.raises(JournalError, match=r"its command\.json cannot be read; give the command again"):
        load_command(folder)
    folder.save(COMMAND_FILE, b'{"command": "batch", "arguments": {"out": "rows"}, "folder": "/"}')
    assert load_command(folder) == CommandRecord("batch", {"out": "rows"}, "/")
