"""Several nodes: work spreads over them, and a lost one costs a second run of what it held."""

from __future__ import annotations


def test_a_run_spreads_over_two_nodes_and_outlives_the_loss_of_one(over_two_nodes):
    found = over_two_nodes["node"]
    assert found["nodes"] == 2
    assert found["answer"] == "session done"
