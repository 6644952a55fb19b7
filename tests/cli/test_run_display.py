"""What a command shows on stderr while its run goes on."""

import io

import pytest
from rich.console import Console

from rlm_ray.cli import console as exits
from rlm_ray.cli.run_display import run_with_display
from rlm_ray.core.context import InputSummary
from rlm_ray.core.limits import Limits
from rlm_ray.core.llm import Usage
from rlm_ray.core.repl_types import Citation
from rlm_ray.events.records import CallEnded, RunStarted
from rlm_ray.runs.run import Result


@pytest.fixture
def stderr(monkeypatch):
    """What the command writes there, as if on a terminal of 60 columns."""
    file = io.StringIO()
    console = Console(
        file=file, width=60, height=20, force_terminal=True, force_interactive=True, color_system=None
    )
    monkeypatch.setattr(exits, "stderr", console)
    return file


def tell(observer):
    observer.add(RunStarted(1.0, "run", "Who is to blame?", {}, InputSummary(), "1"))
    observer.add(CallEnded(2.0, (), 1, "turn", "m", "k", 1.5, usage=Usage(900, 100), cost_usd=0.5))


class ShortRun:
    """Tells of itself while it runs, and is over at once."""

    def __init__(self, observer):
        self._observer = observer

    async def result(self):
        tell(self._observer)
        self._observer.draw()
        return "the result"


async def test_a_run_is_shown_with_its_limits_and_nothing_of_it_stays(stderr):
    async def start(progress):
        return ShortRun(progress)

    assert await run_with_display(start, Limits(cost_usd=2.0)) == "the result"
    written = stderr.getvalue()
    assert "Who is to blame?" in written
    assert "$0.50 of $2.00" in written
    assert written.endswith("\x1b[1A\x1b[2K")
    assert written.count("\x1b[?25l") == written.count("\x1b[?25h") == 1


CITED = (
    Citation("The seal\nhas the number 7", "book.pdf", 0, 10, 33, page=217),
    Citation("x " * 500, start=5, end=1005),
)


def test_what_an_answer_cites_is_said_beside_it_with_its_page(invoke, fake_run):
    fake_run.outcome = Result("yes", "answered", "", "run-1", 2, 0.5, citations=CITED)
    done = invoke("ask", "what?", stdin=b"text")
    assert done.stdout == "yes\n"
    first, second = [line for line in done.stderr.splitlines() if line.startswith("cited: ")]
    assert first == "cited: 'The seal has the number 7' (book.pdf, page 217, characters 10-33)"
    assert second.endswith("x …' (characters 5-1,005)")
    assert len(second) < 250
    fake_run.outcome = Result("yes", "answered", "", "run-1", 2, 0.5, citations=CITED * 20)
    assert invoke("ask", "what?", stdin=b"text").stderr.splitlines()[-1] == "cited: 30 more (--json has all)"
    assert "cited" not in invoke("ask", "what?", "--quiet", stdin=b"text").stderr
