"""The same cells in another life of a REPL, on another host, do the same."""

from __future__ import annotations

import asyncio
import time

import pytest
from sandbox_fakes import QUICK, Cells, Served

from rlm_ray.core.context import make_context
from rlm_ray.sandbox.host import context_zygotes
from rlm_ray.sandbox.host.sandbox import SandboxManager

pytestmark = pytest.mark.slow

NOW = 1_767_323_045.25  # 2026-01-02 03:04:05.25 UTC
SMALL = "a small context"
LARGE = "x" * (context_zygotes.SMALL_BYTES + 1)


async def life(cells, *, context=SMALL, seed=7, now=NOW):
    """What the cells print in a fresh REPL of a fresh zygote, an hour between two of them."""
    async with SandboxManager(QUICK) as host:
        repl = await host.open(make_context(context), "what?", seed=seed)
        results = [await repl.run([cell], Served(), now=now + 3600 * n) for n, cell in enumerate(cells)]
    assert [(result.error, result.kill_reason) for result in results] == [(None, None)] * len(cells)
    return [result.output for result in results]


CHANCE = [
    "import random\nprint(random.random(), random.randint(0, 10**9), random.sample(range(1000), 5))",
    "print(random.Random().random(), random.Random().random(), random.Random(5).random())",
    "random.seed(); print(random.random()); random.seed(None); print(random.choice('abcdefgh'), random.gauss(0, 1))",
    "r = random.Random()\nr.seed()\nprint(r.getrandbits(64), random.randbytes(8), random.Random(None).random())",
    "class Mine(random.Random): pass\nprint(Mine().random())",
    "import statistics\nprint(statistics.NormalDist(0, 1).samples(3))",
]
ORDER = [
    "words = {f'word {n}' for n in range(200)}\nprint(list(words))",
    "print(hash('text'), hash(b'bytes'), hash(('a', 1.5)), hash(frozenset('abc')))",
    "import datetime\nprint(hash(datetime.date(2026, 1, 2)), list({datetime.date(2026, 1, n) for n in range(1, 20)}))",
    "print({w: len(w) for w in words} == dict.fromkeys(words, 0), words.pop(), set('context'))",
]
TIME = [
    "import time, datetime\nprint(time.time(), time.time_ns(), time.monotonic(), time.perf_counter_ns(), time.process_time())",
    "print(datetime.datetime.now(), datetime.datetime.utcnow(), datetime.datetime.today(), datetime.date.today())",
    "print(datetime.datetime.now(datetime.timezone.utc), datetime.datetime.now().astimezone())",
    "print(time.ctime(), time.asctime(), time.gmtime(), time.localtime(), time.strftime('%c'))",
]


@pytest.mark.parametrize("context", [SMALL, LARGE], ids=["child of the zygote", "child of a branch"])
async def test_the_same_cells_print_the_same_in_two_processes(context):
    cells = CHANCE + ORDER + TIME
    first, second = await asyncio.gather(life(cells, context=context), life(cells, context=context))
    assert first == second


async def test_another_seed_draws_other_numbers():
    first, second = await asyncio.gather(life(CHANCE), life(CHANCE, seed=8))
    assert all(a != b for a, b in zip(first, second, strict=True))


async def test_generators_without_a_seed_differ_from_one_another():
    [shown] = await life(
        ["import random\nprint(len({random.Random().random() for _ in range(50)} | {random.random()}))"]
    )
    assert shown == "51\n"


async def test_each_cell_is_told_the_time_it_is_given():
    shown = await life(
        ["import time, datetime\nprint(time.time())", "print(datetime.datetime.now())", "print(time.time())"]
    )
    assert shown == [f"{NOW}\n", "2026-01-02 04:04:05.250000\n", f"{NOW + 7200}\n"]


@pytest.mark.parametrize(
    ("code", "shown"),
    [
        ("datetime.datetime.now()", "2026-01-02 03:04:05.250000"),
        ("datetime.datetime.today()", "2026-01-02 03:04:05.250000"),
        ("datetime.datetime.utcnow()", "2026-01-02 03:04:05.250000"),
        (
            "datetime.datetime.now(datetime.timezone(datetime.timedelta(hours=2)))",
            "2026-01-02 05:04:05.250000+02:00",
        ),
        ("datetime.datetime.now().astimezone()", "2026-01-02 03:04:05.250000+00:00"),
        ("datetime.date.today()", "2026-01-02"),
        ("datetime.datetime.now().date()", "2026-01-02"),
        ("type(datetime.datetime.now().date()).today()", "2026-01-02"),
        ("type(datetime.datetime.max).now()", "2026-01-02 03:04:05.250000"),
        ("time.ctime()", "Fri Jan  2 03:04:05 2026"),
        ("time.asctime()", "Fri Jan  2 03:04:05 2026"),
        ("time.strftime('%Y-%m-%d %H:%M:%S')", "2026-01-02 03:04:05"),
        ("time.strftime('%H', time.localtime())", "03"),
        ("time.gmtime().tm_yday", "2"),
        ("time.time_ns() // 10**6", "1767323045250"),
        ("time.monotonic() == time.time()", "False"),
        ("time.process_time()", "0.0"),
        ("time.gmtime(0).tm_year", "1970"),
        ("time.ctime(0)", "Thu Jan  1 00:00:00 1970"),
    ],
)
async def test_all_that_tells_the_time_tells_that_of_the_cell(host: SandboxManager, code, shown):
    repl = await host.open(make_context(SMALL), "what?")
    result = await repl.run([f"import time, datetime\nprint({code})"], Served(), now=NOW)
    assert (result.output, result.error) == (f"{shown}\n", None)
    await repl.aclose()


DATES = """
import copy, datetime, json, time
from datetime import date, datetime as D, timedelta
now, day = D.now(), date.today()
print(repr(now), repr(day))
print(type(now), D.__name__, date)
print(isinstance(now, D), isinstance(now, date), isinstance(day, D), isinstance(now.date(), date), isinstance(3, date))
print(issubclass(D, date), issubclass(date, D), issubclass(int, date))
print(now - timedelta(days=1) < now, (now + timedelta(days=1)).date() - day, now.replace(hour=0), day == now.date())
print(D.strptime("2024-05-06", "%Y-%m-%d"), D.fromisoformat("2024-05-06"), D.combine(day, datetime.time(1)), D.max, date.min)
print(copy.deepcopy(now) == now, copy.copy(day) == day, {day: 1}[date(2026, 1, 2)], f"{now:%d.%m.%Y}", now.isocalendar()[1])
match day:
    case D(): print("a moment")
    case date(year=year): print("a day of", year)
class Mine(D):
    pass
print(isinstance(Mine.now(), Mine), isinstance(now, Mine), Mine(2024, 1, 1).year, repr(Mine(2024, 1, 1)), issubclass(Mine, D))
print(sorted([date(2024, 2, 1), date.fromordinal(700_000)])[0], min(D.fromtimestamp(0), now))
"""


async def test_dates_are_what_they_are_elsewhere(host: SandboxManager):
    repl = await host.open(make_context(SMALL), "what?")
    result = await repl.run([DATES], Served(), now=NOW)
    assert result.error is None
    assert result.output.splitlines() == [
        "datetime.datetime(2026, 1, 2, 3, 4, 5, 250000) datetime.date(2026, 1, 2)",
        "<class 'datetime.datetime'> datetime <class 'datetime.date'>",
        "True True False True False",
        "True False False",
        "True 1 day, 0:00:00 2026-01-02 00:04:05.250000 True",
        "2024-05-06 00:00:00 2024-05-06 00:00:00 2026-01-02 01:00:00 9999-12-31 23:59:59.999999 0001-01-01",
        "True True 1 02.01.2026 1",
        "a day of 2026",
        "True False 2024 Mine(2024, 1, 1, 0, 0) True",
        "1917-07-15 1970-01-01 00:00:00",
    ]
    await repl.aclose()


async def test_a_loop_that_waits_for_time_to_pass_ends(cells: Cells):
    assert (
        await cells.prints(
            "import time\nend = time.time() + 0.5\nwhile time.time() < end: pass\nprint('over')"
        )
        == "over\n"
    )


async def test_without_a_given_time_it_is_the_real_one(cells: Cells):
    before = time.time()
    shown = float(await cells.prints("import time\nprint(time.time())"))
    assert before <= shown <= time.time()


@pytest.mark.parametrize(
    "code",
    [
        "datetime.datetime.now = None",
        "datetime.date.today = lambda: None",
        "setattr(datetime.datetime, 'min', 0)",
        "del datetime.datetime.now",
        "random.Random.seed = None",
        "time.time = None",
        "datetime.datetime.now.__func__",
        "time.time.__self__",
        "time.ctime.__closure__",
        "time.strftime.__globals__",
        "random.Random.seed.__closure__",
        "datetime.datetime.__mro__",
        "datetime.datetime.__bases__",
        "datetime.date.__subclasses__()",
        "type(datetime.datetime)('X', (), {})",
        "datetime.datetime.__class__('X', (), {})",
        "getattr(datetime.datetime, '__instancecheck__')",
    ],
)
async def test_neither_clock_nor_chance_is_a_way_out(cells: Cells, code):
    result = await cells(f"import time, datetime, random\n{code}\nprint('out')")
    assert result.error is not None
    assert result.output == ""
