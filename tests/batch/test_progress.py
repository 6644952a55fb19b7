"""What a batch shows of itself while it goes on, and the parts it is made of."""

from __future__ import annotations

import asyncio
import io
import threading

import pytest
from rich.console import Console

from rlm_ray.batch.formats import Jsonl
from rlm_ray.batch.progress import BatchProgress, Speed, format_status
from rlm_ray.batch.results import BatchStats, RowResult
from rlm_ray.batch.runner import prefetch
from rlm_ray.batch.writer import PART_ROWS, BatchOutput, PartWriter
from rlm_ray.events.records import RunFinished

HALF = BatchStats(
    previously_completed=100, answered=380, failed=20, under_way=64, input_tokens=1_500_000, output_tokens=0, cost_usd=1.5,
    read=564, share=0.5,
)  # fmt: skip


def test_one_line_says_all_there_is_to_know():
    assert format_status(HALF, 8.0, 21_000.0, 65) == (
        "500 of about 1,128 rows · 20 failed · 64 under way · 8.0 rows/s · 21.0k tokens/s · $1.50 · 1:05 · about 1:18 left"
    )


def test_what_is_not_known_is_not_said():
    figures = BatchStats(answered=3, cost_usd=0.5, unpriced=1, read=3, read_all=True)
    assert format_status(figures, 0, 0, 2) == "3 of 3 rows · $0.50 and more · 2s"


@pytest.mark.parametrize(
    ("share", "limit", "read_all", "expected", "said"),
    [
        (None, None, False, None, "3 rows done, 10 read so far, in all not known yet"),
        (1, None, False, None, "3 rows done, 10 read so far, in all not known yet"),
        (0, None, False, None, "3 rows done, 10 read so far, in all not known yet"),
        (0.5, None, False, 20, "3 of about 20 rows"),
        (0.5, 15, False, 15, "3 of at most 15 rows"),
        (0.5, 50, False, 20, "3 of about 20 rows"),
        (None, 15, False, 15, "3 of at most 15 rows"),
        (1, 50, False, 50, "3 of at most 50 rows"),
        (1, 50, True, 10, "3 of 10 rows"),
        (0.5, 50, True, 10, "3 of 10 rows"),
        (None, None, True, 10, "3 of 10 rows"),
    ],
)
def test_what_was_read_so_far_is_never_shown_as_all(share, limit, read_all, expected, said):
    figures = BatchStats(answered=3, read=10, share=share, limit=limit, read_all=read_all)
    assert figures.expected == expected
    assert format_status(figures, 0, 0, 2) == f"{said} · 2s"


def test_speed_is_that_of_the_last_seconds():
    speed, figures = Speed(), BatchStats()
    assert speed.look(figures, 0.0) == (0.0, 0.0)
    for second in range(1, 101):
        figures.answered += 1 if second <= 60 else 10
        figures.output_tokens += 5
        now = speed.look(figures, float(second))
    assert now == (10.0, 5.0)


def console_of(**options):
    return Console(file=io.StringIO(), width=200, color_system=None, **options)


def test_a_log_gets_a_line_now_and_then_and_only_news():
    now = [0.0]
    console = console_of()
    figures = BatchStats(answered=1)
    progress = BatchProgress(console, clock=lambda: now[0])
    progress.stats = figures
    progress.waits_for("")
    for second in (1, 2, 3, 4, 8, 9):
        now[0] = float(second)
        figures.answered += 1
        progress.draw()
    lines = console.file.getvalue().splitlines()
    assert [text.split()[1:3] for text in lines] == [["3", "rows"], ["6", "rows"]]
    assert all("· waiting for the session" in text for text in lines)


def test_a_log_that_is_over_before_its_first_line_has_none():
    console = console_of()
    with BatchProgress(console) as progress:
        progress.stats = HALF
    assert console.file.getvalue() == ""


def test_progress_goes_to_the_errors_of_the_program(capsys):
    progress = BatchProgress(clock=iter([0.0, 2.0]).__next__)
    progress.draw()
    shown = capsys.readouterr()
    assert (shown.out, "waiting for" in shown.err) == ("", True)


def test_before_there_are_rows_it_says_what_is_waited_for():
    now, console = [0.0], console_of()
    progress = BatchProgress(console, clock=lambda: now[0])
    progress.waits_for("Ray: it starts on this machine, which takes some seconds")
    now[0] = 2.0
    progress.draw()
    (line,) = console.file.getvalue().splitlines()
    assert line.partition(" ")[2] == "waiting for Ray: it starts on this machine, which takes some seconds"


def test_a_terminal_has_one_line_that_is_gone_in_the_end():
    console = console_of(force_terminal=True, force_interactive=True)
    before = set(threading.enumerate())
    with BatchProgress(console) as progress:
        assert [thread.name for thread in {*threading.enumerate()} - before] == ["rlm_ray batch progress"]
        progress.stats = HALF
        progress.draw()
        assert "500 of about 1,128 rows" in console.file.getvalue()
    written = console.file.getvalue()
    assert "500 of about 1,128 rows" in written
    assert written.endswith("\x1b[2K")


def test_a_line_of_a_log_is_one_line_of_plain_text_however_long_it_is():
    console = Console(file=io.StringIO(), width=20)
    progress = BatchProgress(console, clock=iter([0.0, 2.0]).__next__)
    progress.waits_for("[bold]Ray[/bold]: " + "it starts on this machine " * 3)
    progress.draw()
    (line,) = console.file.getvalue().splitlines()
    assert line.partition(" ")[2].rstrip() == f"waiting for [bold]Ray[/bold]: {'it starts on this machine ' * 3}".rstrip()  # fmt: skip


def test_a_terminal_shows_what_fits_of_its_two_lines():
    console = Console(
        file=io.StringIO(), width=30, color_system=None, force_terminal=True, force_interactive=True
    )
    with BatchProgress(console) as progress:
        progress.stats = HALF
        progress.waits_for("Ray: it starts on this machine")
        progress.draw()
    written = console.file.getvalue()
    assert "500 of about 1,128 rows · 20 …\nwaiting for Ray: it starts on…" in written.replace("\r", "")


def test_a_batch_that_is_over_waits_for_nothing():
    console = console_of()
    progress = BatchProgress(console, clock=iter([0.0, 2.0, 7.0]).__next__)
    progress.stats = BatchStats(answered=1, read=1, read_all=True)
    progress.draw()
    progress.add(RunFinished(at=2.0, stop_reason="answered"))
    progress.draw()
    first, second = [line.partition(" ")[2] for line in console.file.getvalue().splitlines()]
    assert first.startswith("1 of 1 rows · 2s · waiting for ")
    assert second.startswith("1 of 1 rows · 7s")
    assert "waiting" not in second


def test_speed_without_time_between_two_looks_is_finite():
    speed, stats = Speed(), BatchStats()
    speed.look(stats, 1.0)
    assert speed.look(stats, 1.0) == (0.0, 0.0)
    stats.answered = 1
    assert speed.look(stats, 1.0)[0] == pytest.approx(1e9)


def test_a_display_that_cannot_be_written_to_disturbs_nobody():
    console = console_of()
    console.file.close()
    with (
        pytest.raises(KeyError, match="of the batch"),
        BatchProgress(console, clock=iter(range(0, 10**6, 10)).__next__),
    ):
        raise KeyError("of the batch")


async def test_items_come_in_order_and_no_more_than_two_chunks_ahead():
    read = []

    def items():
        for number in range(1000):
            read.append(number)
            yield number

    got = []
    async for item in prefetch(items(), lambda _: 1, rows=10):
        got.append(item)
        assert len(read) <= len(got) + 20
    assert got == list(range(1000))


async def test_large_items_are_read_one_by_one():
    read = []

    def items():
        for number in range(10):
            read.append(number)
            yield number

    async for item in prefetch(items(), lambda _: 100, rows=10, max_size=100):
        assert len(read) <= item + 2


async def test_what_the_source_raises_arrives_after_what_it_gave():
    def items():
        yield 1
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        async for _ in prefetch(items(), lambda _: 1):
            pass


@pytest.fixture
def saver(tmp_path):
    """A saver with a clock to turn, and its output."""

    def make(now=(0.0,)):
        output = BatchOutput(str(tmp_path / "out"), Jsonl())
        times = list(now)
        return PartWriter(output, lambda: times[0]), output, times

    return make


async def test_a_full_part_is_written_at_once(saver, monkeypatch):
    keeper, output, _ = saver()
    written, loop = asyncio.get_running_loop().create_future(), asyncio.get_running_loop()
    monkeypatch.setattr(output, "write", lambda rows: loop.call_soon_threadsafe(written.set_result, rows))
    saving = asyncio.create_task(keeper.keep_saving())
    for row in range(PART_ROWS):
        keeper.put(RowResult(row, str(row), "a"))
    async with asyncio.timeout(10):
        assert [row["row"] for row in await written] == list(range(PART_ROWS))
    saving.cancel()
    await asyncio.wait([saving])


@pytest.mark.parametrize(
    ("waited", "elapsed", "late"), [(4, 10, False), (5, 10, True), (50, 10_000, False), (101, 10_000, True)]
)
def test_the_longer_a_job_runs_the_longer_its_rows_may_wait(saver, waited, elapsed, late):
    keeper, _, times = saver()
    times[0] = float(elapsed - waited)
    keeper.put(RowResult(0, "0"))
    times[0] = float(elapsed)
    assert keeper._late() == late


async def test_rows_wait_while_the_storage_is_behind(saver):
    keeper, _, _ = saver()
    for row in range(4 * PART_ROWS):
        keeper.put(RowResult(row, str(row)))
    waiting = asyncio.create_task(keeper.wait_for_capacity())
    await asyncio.sleep(0)
    assert not waiting.done()
    await keeper.save()
    await waiting


async def test_a_part_under_way_is_finished_before_the_saving_ends(saver):
    keeper, output, _ = saver()
    keeper.put(RowResult(0, "0"))
    saving = asyncio.create_task(keeper.save())
    await asyncio.sleep(0)
    saving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await saving
    assert output.load_completed()[0].count == 1
