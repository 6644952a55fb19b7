"""The whole of it: threads and a `with` block."""

import io
import threading

import pytest
from rich.console import Console

from rlm_ray.admission.protocol import RunStatus
from rlm_ray.core.limits import Limits
from rlm_ray.core.llm import Usage
from rlm_ray.events.records import CallEnded
from rlm_ray.progress import Progress
from rlm_ray.progress.waiting import NEXT_STEP


class Album:
    """A display that keeps what it is shown."""

    every_s = 0.001
    rows = 5

    def __init__(self, error=None):
        self.views, self.steps, self.error = [], [], error
        self.seen = threading.Event()

    def start(self):
        self.steps.append("start")

    def show(self, view, now):
        self.views.append(view)
        self.seen.set()
        if self.error:
            raise self.error

    def stop(self):
        self.steps.append("stop")


def call(number):
    return CallEnded(1.0, (number,), 1, "leaf", "m", "k", 0.0, usage=Usage(1, 1), id=str(number))


def test_it_draws_by_itself_while_the_block_lasts_and_once_more_at_its_end():
    album = Album()
    with Progress(target=album, clock=lambda: 2.0) as progress:
        assert album.seen.wait(5)
        progress.add(call(1))
        progress.status(RunStatus(3, {"rate": 1}))
    assert album.steps == ["start", "stop"]
    assert (album.views[-1].calls, album.views[-1].in_flight, album.views[-1].waiting) == (1, 3, {"rate": 1})
    assert not [thread for thread in threading.enumerate() if thread.name == "rlm_ray progress"]


def test_records_may_come_from_many_threads():
    album = Album()
    with Progress(Limits(calls=10_000), target=album) as progress:
        threads = [
            threading.Thread(
                target=lambda first: [progress.add(call(first + n)) for n in range(500)], args=(first,)
            )
            for first in range(0, 4_000, 500)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert album.views[-1].calls == 4_000
    assert album.views[-1].gauge.used == 4_000


def test_a_display_that_breaks_is_given_up_and_put_away_and_the_run_goes_on():
    album = Album(OSError("the terminal is gone"))
    with Progress(target=album) as progress:
        assert album.seen.wait(5)
        progress._refresh._thread.join(5)
        assert not progress._refresh._thread.is_alive()
        progress.add(call(1))
    assert album.steps == ["start", "stop"]
    assert len(album.views) == 2


def test_an_error_of_the_run_comes_out_and_the_display_is_put_away():
    album = Album()
    with pytest.raises(LookupError), Progress(target=album):
        raise LookupError
    assert album.steps == ["start", "stop"]


def test_in_a_log_it_writes_plain_lines():
    file, now = io.StringIO(), [0.0]
    with Progress(console=Console(file=file, width=30), clock=lambda: now[0]) as progress:
        progress.draw()
        progress.add(call(1))
        now[0] = 20.0
        progress.draw()
    (line,) = file.getvalue().splitlines()
    assert line.partition(" ")[2] == f"1 call · 2 tokens · waiting for {NEXT_STEP}"
