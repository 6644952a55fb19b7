"""Fifty random trees that want ten times their limit: never more is spent, and the root still gets its last word."""

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from rlm_ray.admission.controller import AdmissionController
from rlm_ray.admission.protocol import AttemptOutcome, Granted, PermitRequest, RunPolicy, Settle
from rlm_ray.core.limits import NANO, Limits
from rlm_ray.core.llm import Usage

TIMES = 10
PRICE_USD = 2e-6


class Tree:
    """A root, 64 children and their calls, one after another in each child, settled in any order."""

    def __init__(self, draw, calls, limits):
        self.draw = draw
        self.calls = calls
        self.admission = AdmissionController()
        self.admission.open_run(RunPolicy("run", limits), 0.0)
        self.under_way = {}
        self.spent = Usage()
        self.refused = set()
        self.now = 0.0

    def run(self):
        self.ask("root", 0, (200, 100))
        self.play()
        for child in range(64):
            self.ask(f"{child}.0", 1, self.calls[child][0])
        self.play()
        self.ask("last", 0, (350, 100), is_final_call=True)
        self.play()

    def ask(self, ticket, depth, tokens, *, is_final_call=False):
        wish = PermitRequest(
            "run", "key", "model", *tokens, sum(tokens) * PRICE_USD,
            depth=depth, is_final_call=is_final_call, request_id=ticket, client_id="h",
        )  # fmt: skip
        self.admission.request(wish, self.now)

    def play(self):
        while True:
            for verdict in self.admission.decisions(self.now):
                if isinstance(verdict, Granted):
                    self.under_way[verdict.request_id] = self.admission._permits[verdict.request_id].ask
                else:
                    self.refused.add(verdict.request_id)
            if not self.under_way:
                return
            ticket = self.draw.choice(sorted(self.under_way))
            self.settle(self.under_way.pop(ticket))

    def settle(self, ask):
        self.now += 0.1
        share = self.draw.uniform(0.6, 1)
        usage = Usage(int(ask.input_tokens * share), int(ask.output_tokens * share))
        outcome = self.draw.choice(
            [
                AttemptOutcome.OK,
                AttemptOutcome.OK,
                AttemptOutcome.OK,
                AttemptOutcome.SERVER_ERROR,
                AttemptOutcome.UNKNOWN,
            ]
        )
        if outcome is not AttemptOutcome.SERVER_ERROR:
            self.spent = Usage(
                self.spent.input_tokens + usage.input_tokens, self.spent.output_tokens + usage.output_tokens
            )
        known = (usage, usage.tokens * PRICE_USD) if outcome is AttemptOutcome.OK else (None, None)
        self.admission.release(Settle(ask.request_id, outcome, *known), self.now)
        child, _, number = ask.request_id.partition(".")
        if number and int(number) + 1 < len(self.calls[int(child)]):
            self.ask(f"{child}.{int(number) + 1}", 1, self.calls[int(child)][int(number) + 1])


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from(["tokens", "cost_usd"]))
def test_a_tree_that_wants_ten_times_its_limit_never_spends_more(seed, limited):
    draw = random.Random(seed)
    calls = [
        [(draw.randint(20, 400), draw.randint(10, 100)) for _ in range(draw.randint(4, 12))]
        for _ in range(64)
    ]
    wanted = sum(sum(call) for child in calls for call in child)
    tokens = wanted // TIMES
    limits = Limits(tokens=tokens) if limited == "tokens" else Limits(cost_usd=tokens * PRICE_USD)
    tree = Tree(draw, calls, limits)
    tree.run()
    assert tree.spent.tokens <= tokens
    room = tree.admission.budget_share("run")
    assert (
        room.spent.tokens if limited == "tokens" else room.spent.nano_usd / NANO / PRICE_USD
    ) <= tokens + 1e-6
    assert "last" not in tree.refused
    assert tree.refused
    assert tree.spent.tokens >= 0.5 * tokens
