"""News of answers in a session actor, until their drivers ask for them."""

from __future__ import annotations

import asyncio

import pytest

pytest.importorskip("ray")

from rlm_ray.cluster.answer_feed import AnswerOutbox
from rlm_ray.core.answer_preview import AnswerDelta, AnswerRestarted


async def test_a_driver_gets_the_news_of_its_runs_together_and_once():
    outbox = AnswerOutbox()
    for news in (AnswerDelta("a"), AnswerDelta("b"), AnswerRestarted(), AnswerDelta("c")):
        outbox.add("driver", "run", news)
    outbox.add("driver", "other", AnswerDelta("d"))
    outbox.add("another", "run", AnswerDelta("e"))
    assert await outbox.take("driver") == {
        "run": [AnswerDelta("ab"), AnswerRestarted(), AnswerDelta("c")],
        "other": [AnswerDelta("d")],
    }
    assert await outbox.take("driver", 0.0) == {}
    assert await outbox.take("another") == {"run": [AnswerDelta("e")]}


async def test_a_driver_waits_for_news_of_its_own():
    outbox = AnswerOutbox()
    waiting = asyncio.create_task(outbox.take("driver", 60.0))
    await asyncio.sleep(0)
    outbox.add("another", "run", AnswerDelta("e"))
    await asyncio.sleep(0)
    outbox.add("driver", "run", AnswerDelta("a"))
    assert await waiting == {"run": [AnswerDelta("a")]}


async def test_nothing_is_kept_of_a_run_that_is_over():
    outbox = AnswerOutbox()
    outbox.add("driver", "run", AnswerDelta("a"))
    outbox.add("driver", "other", AnswerDelta("b"))
    for run in ("run", "unknown"):
        outbox.drop("driver", run)
    outbox.drop("nobody", "run")
    assert await outbox.take("driver") == {"other": [AnswerDelta("b")]}
    outbox.add("driver", "run", AnswerDelta("a"))
    outbox.drop("driver", "run")
    assert await outbox.take("driver", 0.0) == {}
