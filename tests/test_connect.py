"""A cluster that is not there is said at once."""

from __future__ import annotations

import pytest

from rlm_ray.cluster.engine import check_address
from rlm_ray.errors import ClusterError


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1"])
def test_an_address_where_nothing_answers_is_named_with_what_to_do(address):
    with pytest.raises(ClusterError, match=rf"nothing answers at {address}; check RAY_ADDRESS"):
        check_address(address)


@pytest.mark.parametrize("address", ["", "auto", "local"])
def test_an_address_that_names_no_host_is_left_to_ray(address):
    check_address(address)
