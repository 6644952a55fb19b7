"""Quotas used and refusals taken, against providers in virtual time. `benchmarks/admission.py` has the whole table."""

import math
import random

import pytest

from rlm_ray.admission.controller import AdmissionController
from rlm_ray.admission.protocol import Resume, RunSnapshot
from rlm_ray.core.limits import Rates
from rlm_ray.testing.simulation import (
    CrowdedProvider,
    RefillingProvider,
    Simulation,
    SlidingProvider,
    Workload,
    simulate,
)

pytestmark = pytest.mark.slow


def test_a_known_quota_is_used_and_never_passed_from_the_first_minute_on():
    record = simulate(SlidingProvider(rpm=600), Workload(), seconds=180, rates=Rates(rpm=600))
    assert record.refused == []
    assert record.requests_per_minute(0, 60) >= 0.97 * 600
    assert record.requests_per_minute(60, 180) >= 0.97 * 600


@pytest.mark.parametrize("estimate", [0.7, 1.0, 1.5])
def test_a_token_quota_is_used_although_the_estimates_are_wrong(estimate):
    workload = Workload(
        max_tokens=1000, estimate=estimate, input_tokens=lambda draw: int(draw.lognormvariate(5.5, 1))
    )
    rates = Rates(rpm=6000, tpm=100_000)
    record = simulate(SlidingProvider(6000, 100_000), workload, seconds=180, rates=rates)
    assert record.tokens_per_minute(60, 180) >= 0.95 * 100_000
    assert record.refused_share() <= 0.005


@pytest.mark.parametrize("latency_s", [0.2, 1.0, 5.0])
def test_a_hidden_quota_of_a_minute_is_found_in_that_minute(latency_s):
    record = simulate(SlidingProvider(rpm=300), Workload(latency_s, backlog=300), seconds=180)
    assert record.requests_per_minute(0, 60) >= 0.95 * 300
    assert record.requests_per_minute(60, 180) >= 0.9 * 300
    assert record.refused_share(since=60) <= 0.02


class SilentProvider(SlidingProvider):
    """Refuses without a word."""

    def arrive(self, tokens, now):
        return None if super().arrive(tokens, now) is None else math.inf


@pytest.mark.parametrize("latency_s", [0.4, 1.0, 5.0])
def test_a_hidden_quota_is_found_although_the_provider_says_nothing(latency_s):
    workload = Workload(latency_s, way_s=(0.002, 0.02))
    record = simulate(SilentProvider(rpm=1200), workload, seconds=180)
    assert record.requests_per_minute(0, 60) >= 0.95 * 1200
    assert record.requests_per_minute(60, 180) >= 0.85 * 1200
    assert record.refused_share() <= 0.1
    assert record.refused_share(since=60) <= 0.005


def test_a_hidden_rate_that_refills_is_found():
    record = simulate(RefillingProvider(rpm=600), Workload(backlog=300), seconds=180)
    assert record.requests_per_minute(60, 180) >= 0.85 * 600
    assert record.refused_share(since=60) <= 0.02


@pytest.mark.parametrize(("places", "latency_s"), [(10, 1.0), (10, 5.0), (50, 1.0), (50, 5.0)])
def test_a_hidden_limit_in_flight_is_found_and_hardly_more_is_tried(places, latency_s):
    record = simulate(CrowdedProvider(places), Workload(latency_s, backlog=300), seconds=180)
    most = 60 * places / (latency_s + 0.105)
    assert record.requests_per_minute(60, 180) >= 0.85 * most
    assert record.refused_share(since=60) <= 0.02


class Restarting(Simulation):
    """The admission dies at t=90 and another one starts, empty; the holder tells it what is under way."""

    def restart(self):
        old, self.admission = self.admission, AdmissionController()
        asks = [permit.ask for permit in old._permits._held.values()]
        record = RunSnapshot(old.run_policy("run", self.now))
        self.admission.restore("holder", Resume((record,), tuple(asks)), self.now)
        for waiting in old._waiting.values():
            self.admission.request(waiting.ask, self.now)


def test_a_restart_passes_the_quota_by_no_more_than_its_burst():
    simulation = Restarting(SlidingProvider(), Workload(), Rates(rpm=600), random.Random(1))
    simulation._later(90, simulation.restart)
    sent = simulation.run(200).sent
    most = max(sum(1 for moment in sent if start <= moment < start + 60) for start in range(140))
    assert 600 <= most <= 1.1 * 600
