"""The provider is down in the middle of a run: the run waits, or it ends with what to do, and goes on later for free."""

from __future__ import annotations

import time

import pytest
from deep_tree import ANSWER, CALLS, TEXT, TREE

from rlm_ray import RLM
from rlm_ray.errors import ModelUnavailableError
from rlm_ray.testing import ModelServer
from rlm_ray.testing.responses import Failure, recursion

pytestmark = pytest.mark.ray


class Provider:
    """Answers, or refuses as one that is down; counts both."""

    def __init__(self):
        self.answered = self.refused = 0
        self.down_after, self.down_s = CALLS, 0.0
        self.status = 503
        self._since = None

    def __call__(self, request):
        if self.answered >= self.down_after and self._since is None:
            self._since = time.monotonic()
        if self._since is not None and time.monotonic() - self._since < self.down_s:
            self.refused += 1
            return Failure(self.status, "the service is not available")
        self.answered += 1
        return recursion(request)


@pytest.fixture
def provider():
    return Provider()


@pytest.fixture
def server(provider):
    with ModelServer(provider, latency_s=0.02) as running:
        yield running


@pytest.mark.parametrize("calls", [0, 1, 4, 30, CALLS - 1])
async def test_a_run_that_gave_up_on_its_provider_goes_on_when_it_is_back(ask, server, provider, calls):
    provider.down_after, provider.down_s, provider.status = calls, 3600.0, 500
    run = await ask(server, max_depth=2, max_leaf_chars=200, max_attempts=1).astart(TREE, TEXT)
    with pytest.raises(ModelUnavailableError, match=r"the service is not available.*gave up after 1 attempt"):
        await run.result()
    provider.down_s = 0.0
    result = await RLM.aresume(run.run_id, api_key="k", trust_record=True)
    assert result.answer == ANSWER
    assert provider.answered <= CALLS + result.usage.repaid_calls  # in flight when a sibling gave up


async def test_a_run_waits_for_a_provider_that_comes_back(ask, server, provider):
    provider.down_after, provider.down_s = 20, 1.5
    result = await ask(server, max_depth=2, max_leaf_chars=200).arun(TREE, TEXT)
    assert (result.answer, provider.answered) == (ANSWER, CALLS)
    assert 0 < provider.refused < 5 * CALLS
