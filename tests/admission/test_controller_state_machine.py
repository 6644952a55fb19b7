"""Any order of asks, answers, deaths and time: what `Admission` promises holds after each step."""

from collections import defaultdict

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from rlm_ray.admission.controller import AdmissionController
from rlm_ray.admission.protocol import AttemptOutcome, Granted, PermitRequest, RunPolicy, Settle
from rlm_ray.core.limits import Limits, Rates
from rlm_ray.core.llm import Usage
from rlm_ray.core.retry_after import RateLimitHeaders

pytestmark = pytest.mark.slow

RPM, IN_FLIGHT, TOKENS, CALLS = 30, 8, 4000, 60
RUNS = ["tight", "wide", "batch"]
HOLDERS = ["one", "two"]


class AdmissionMachine(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.now = 0.0
        self.count = 0
        self.admission = AdmissionController()
        rates = Rates(rpm=RPM, in_flight=IN_FLIGHT)
        self.admission.open_run(RunPolicy("tight", Limits(tokens=TOKENS, calls=CALLS), rates), 0.0)
        self.admission.open_run(RunPolicy("wide", rates=rates, weight=2.0), 0.0)
        self.admission.open_run(RunPolicy("batch", rates=rates, interactive=False), 0.0)
        self.asked: dict[str, PermitRequest] = {}
        self.out: dict[str, PermitRequest] = {}
        self.sent: dict[str, float] = {}
        self.spent = defaultdict(int)
        self.answered = defaultdict(int)

    def poll(self):
        for verdict in self.admission.decisions(self.now):
            ask = self.asked.pop(verdict.request_id)
            if isinstance(verdict, Granted):
                assert verdict.request_id not in self.out
                self.out[verdict.request_id] = ask
                self.sent[verdict.request_id] = self.now
            else:
                assert ask.run_id == "tight"
                assert verdict.reason in {"tokens", "calls"}

    @rule(
        run=st.sampled_from(RUNS), client_id=st.sampled_from(HOLDERS), depth=st.integers(0, 3),
        tokens=st.integers(1, 900), root=st.integers(0, 2), last=st.booleans(),
    )  # fmt: skip
    def ask(self, run, client_id, depth, tokens, root, last):  # noqa: PLR0917 - drawn by name
        self.count += 1
        ask = PermitRequest(
            run, "key", "model", tokens, 50, None, float(root), depth,
            is_final_call=last, request_id=f"t{self.count}", client_id=client_id,
        )  # fmt: skip
        self.asked[ask.request_id] = ask
        self.admission.request(ask, self.now)
        self.poll()

    def pick(self, number):
        return sorted(self.out)[number % len(self.out)]

    @precondition(lambda self: self.out)
    @rule(number=st.integers(0, 100), share=st.floats(0, 1), twice=st.booleans())
    def answer(self, number, share, twice):
        ask = self.out.pop(self.pick(number))
        usage = Usage(int(ask.input_tokens * share), int(ask.output_tokens * share))
        for _ in range(1 + twice):
            self.admission.release(Settle(ask.request_id, AttemptOutcome.OK, usage), self.now)
        self.spent[ask.run_id] += usage.tokens
        self.answered[ask.run_id] += 1
        self.poll()

    @precondition(lambda self: self.out)
    @rule(number=st.integers(0, 100), wait_s=st.none() | st.floats(0, 20))
    def refuse(self, number, wait_s):
        ticket = self.pick(number)
        del self.out[ticket], self.sent[ticket]
        facts = None if wait_s is None else RateLimitHeaders({}, None, wait_s)
        self.admission.release(Settle(ticket, AttemptOutcome.RATE_LIMITED, rate_headers=facts), self.now)
        self.poll()

    @precondition(lambda self: self.out)
    @rule(
        number=st.integers(0, 100),
        outcome=st.sampled_from([AttemptOutcome.TIMEOUT, AttemptOutcome.CANCELLED]),
    )
    def break_off(self, number, outcome):
        ask = self.out.pop(self.pick(number))
        self.admission.release(Settle(ask.request_id, outcome), self.now)
        self.spent[ask.run_id] += ask.input_tokens + ask.output_tokens
        self.poll()

    @precondition(lambda self: self.asked)
    @rule(number=st.integers(0, 100))
    def withdraw(self, number):
        ticket = sorted(self.asked)[number % len(self.asked)]
        del self.asked[ticket]
        self.admission.cancel(ticket, self.now)
        self.poll()

    @rule(client_id=st.sampled_from(HOLDERS))
    def die(self, client_id):
        self.admission.drop_client(client_id, self.now)
        for ask in [ask for ask in self.out.values() if ask.client_id == client_id]:
            del self.out[ask.request_id]
            self.spent[ask.run_id] += ask.input_tokens + ask.output_tokens
            self.answered[ask.run_id] += 1
        self.asked = {ticket: ask for ticket, ask in self.asked.items() if ask.client_id != client_id}
        self.poll()

    @rule(pass_s=st.floats(0.01, 30))
    def wait(self, pass_s):
        until = self.now + pass_s
        while (wakeup := self.admission.next_wakeup(self.now)) is not None and wakeup < until:
            self.now = max(wakeup, self.now + 0.001)
            self.poll()
        self.now = max(until, self.now)
        self.poll()

    @invariant()
    def no_minute_sees_more_requests_than_allowed(self):
        """Refused ones did not count there."""
        assert sum(1 for moment in self.sent.values() if moment > self.now - 60) <= RPM

    @invariant()
    def no_more_is_under_way_than_allowed(self):
        assert len(self.out) <= IN_FLIGHT

    @invariant()
    def the_budget_holds_and_is_told_as_it_is(self):
        room = self.admission.budget_share("tight")
        assert room.spent.tokens == self.spent["tight"] <= TOKENS
        assert room.spent.calls == self.answered["tight"] <= CALLS
        reserved = sum(
            ask.input_tokens + ask.output_tokens for ask in self.out.values() if ask.run_id == "tight"
        )
        assert room.spent.tokens + reserved <= TOKENS

    def teardown(self):
        """Whoever still waits is served in the end, or refused for a reason."""
        for _ in range(20 * (len(self.asked) + len(self.out) + 1)):
            for ticket in list(self.out):
                del self.out[ticket]
                self.admission.release(Settle(ticket, AttemptOutcome.OK, Usage()), self.now)
            self.poll()
            if not self.asked and not self.out:
                return
            wakeup = self.admission.next_wakeup(self.now)
            assert wakeup is not None or self.out, f"{self.asked} wait for nothing"
            self.now = max(wakeup or 0.0, self.now + 0.001)
        raise AssertionError(f"never served: {self.asked}")


AdmissionMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=50, deadline=None)
test_admission_keeps_its_promises = AdmissionMachine.TestCase
