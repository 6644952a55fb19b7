"""What tests of model calls share."""

from __future__ import annotations

import pytest

from rlm_ray.admission.client import AdmissionClient


@pytest.fixture
async def closed_clients(monkeypatch):
    """Close the clients of the admission that a test makes: what they still send when it ends would be cut off with its event
    loop, and reported by a later test."""
    made, init = [], AdmissionClient.__init__

    def init_noted(client, *args, **options):
        init(client, *args, **options)
        made.append(client)

    monkeypatch.setattr(AdmissionClient, "__init__", init_noted)
    yield
    for client in made:
        await client.aclose()
