"""A cluster that is not there is said at once."""

from __future__ import annotations

import pytest

from rlm_ray import RLM, Cluster
from rlm_ray.errors import ClusterError


def test_an_address_where_nothing_answers_is_named_with_what_to_do():
    with pytest.raises(ClusterError, match=r"nothing answers at 127.0.0.1:1; check RAY_ADDRESS"):
        RLM(cluster=Cluster(address="127.0.0.1:1")).warm()
