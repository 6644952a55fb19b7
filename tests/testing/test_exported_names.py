"""The public names of `rlm_ray.testing`."""

import rlm_ray.testing


def test_names_are_sorted_and_there():
    """Every exported name exists, and the list is easy to read."""
    names = rlm_ray.testing.__all__
    assert names == sorted(names)
    assert all(hasattr(rlm_ray.testing, name) for name in names)
