"""A scripted, OpenAI-compatible model server on loopback, for your tests and our benchmarks.

with ModelServer(["first answer", Failure(429, headers={"retry-after": "1"}), "second"]) as server:
    rlm = RLM(model="openai/any", api_base=server.url, api_key="x")
"""

from rlm_ray.testing.mock_server import ModelServer, Stats
from rlm_ray.testing.process import ServerProcess
from rlm_ray.testing.rate_limits import Burst, Faults, Ledger, Quota, StrictProvider
from rlm_ray.testing.responses import Drop, Failure, Hang, Outcome, Raw, Reply, Request, Script, Slow

__all__ = [
    "Burst",
    "Drop",
    "Failure",
    "Faults",
    "Hang",
    "Ledger",
    "ModelServer",
    "Outcome",
    "Quota",
    "Raw",
    "Reply",
    "Request",
    "Script",
    "ServerProcess",
    "Slow",
    "Stats",
    "StrictProvider",
]
