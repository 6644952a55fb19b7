"""Several nodes: work spreads over them, and a lost one costs a second run of what it held."""

from __future__ import annotations

import pytest
from scripts import run_script

pytestmark = pytest.mark.ray


def test_a_run_spreads_over_two_nodes_and_outlives_the_loss_of_one(over_two_nodes):
    found = over_two_nodes["node"]
    assert found["nodes"] == 2
    assert found["answer"] == "session done"


def test_children_spread_over_nodes_with_free_cpus_and_a_few_stay_where_they_are():
    found = run_script("spread_nodes.py")
    assert found["few"]["answer"] == found["many"]["answer"] == "session done"
    assert len(found["few"]["by_node"]) == 1
    assert len(found["many"]["by_node"]) == found["nodes"] - 1
    assert found["held"] not in found["many"]["by_node"]
    assert min(found["many"]["by_node"].values()) >= 8
