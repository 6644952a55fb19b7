"""Which cluster a run uses; one that is not there is said at once."""

from __future__ import annotations

import socket

import pytest

from rlm_ray.cluster.connect import LOCAL, find_address
from rlm_ray.errors import ClusterError


@pytest.fixture
def listening():
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1"])
def test_an_address_where_nothing_answers_is_named_with_what_to_do(address):
    with pytest.raises(ClusterError, match=rf"nothing answers at {address}; check RAY_ADDRESS"):
        find_address(address)


def test_a_wanted_cluster_is_used(listening):
    assert find_address(listening) == listening
    assert find_address("auto") == "auto"


def test_a_cluster_that_runs_on_this_machine_is_used(listening, tmp_path):
    (tmp_path / "ray_current_cluster").write_text(listening + "\n")
    assert find_address("", tmp_path) == listening


def test_what_a_dead_cluster_left_behind_is_passed_over(tmp_path):
    (tmp_path / "ray_current_cluster").write_text("127.0.0.1:1")
    assert find_address("", tmp_path) == LOCAL


def test_without_any_cluster_one_is_started_here(tmp_path):
    assert find_address("", tmp_path) == LOCAL
