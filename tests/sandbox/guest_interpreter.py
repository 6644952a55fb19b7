"""An interpreter of the guest in this process, with a host that answers at once."""

from __future__ import annotations

from rlm_ray.core.repl_types import SubCallAnswer
from rlm_ray.sandbox.guest.cell_language import CellLanguage
from rlm_ray.sandbox.guest.clock import CellTimer
from rlm_ray.sandbox.guest.context_parts import parts_of
from rlm_ray.sandbox.guest.interpreter import Interpreter, InterpreterConfig
from rlm_ray.sandbox.guest.output import Output


class Host:
    """Answers each query in capitals, or by a function; keeps what was asked and the final answers."""

    def __init__(self, answer=None):
        self.requests, self.finals = [], []
        self._answer = answer or (lambda query: SubCallAnswer(query.upper()))

    def call(self, calls):
        self.requests.append(calls)
        return [self._answer(query) for query in calls.queries]

    def final(self, answer):
        self.finals.append(answer)


class Guest:
    """Runs cells: `guest("print(1)")` is what they did, `guest.prints(...)` what they printed."""

    def __init__(
        self,
        context="the quick brown fox " * 50,
        answer=None,
        max_output_chars=10_000,
        filtered=True,
        **config,
    ):
        self.host = Host(answer)
        output = Output(max_output_chars, lambda _text, _chars: None)
        self.timer = CellTimer(60.0, 60.0, 1.0)
        self.interpreter = Interpreter(
            parts_of(context),
            InterpreterConfig("what jumps?", **config),
            self.host,
            output,
            self.timer,
            CellLanguage(filtered=filtered),
        )

    def __call__(self, *blocks, now=1_800_000_000.0, query="what jumps?"):
        return self.interpreter.run(blocks, now, query)

    def prints(self, *blocks):
        done = self(*blocks)
        assert done.error is None, done.error
        return done.output
