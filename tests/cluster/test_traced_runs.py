"""The spans of whole runs, as a collector receives them, over two nodes and with killed parts."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.ray


@pytest.mark.parametrize("strike", ["nothing", "sandbox", "actor"])
def test_every_span_of_a_deep_run_over_two_nodes_arrives_below_its_parent(over_two_nodes, strike):
    found = over_two_nodes[strike]
    assert found["answer"] == found["expected"]
    assert found["nodes"] == 2
    assert found["traces"] == found["roots"] == 1
    assert found["orphans"] == found["misplaced"] == []
    assert found["spans"] == found["journal"]


def test_what_was_killed_is_there_as_an_error(over_two_nodes):
    assert over_two_nodes["nothing"]["errors"] == []
    assert "execute_tool python" in over_two_nodes["sandbox"]["errors"]
    assert "invoke_agent rlm" in over_two_nodes["actor"]["errors"]
