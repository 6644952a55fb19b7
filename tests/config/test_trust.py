"""Settings of a record by their dotted names."""

from __future__ import annotations

import pytest

from rlm_ray.config.trust import destinations, value_at, without
from rlm_ray.core.secrets import REDACTED, is_secret

TABLE = {"a": 1, "group": {"b": 2, "c": 3}, "params": {"api_key": "k"}}


@pytest.mark.parametrize(
    ("name", "value"),
    [("a", 1), ("group.b", 2), ("group.x", None), ("x.b", None), ("x", None), ("a.b", None)],
)
def test_value_is_found_by_its_dotted_name(name, value):
    assert value_at(TABLE, name) == value


@pytest.mark.parametrize(
    ("names", "rest"),
    [
        ((), TABLE), (("a",), {"group": TABLE["group"], "params": TABLE["params"]}), (("group.b",), TABLE | {"group": {"c": 3}}),
        (("group",), {"a": 1, "params": TABLE["params"]}), (("b", "x.c"), TABLE),
    ],
)  # fmt: skip
def test_names_are_left_out_however_deep(names, rest):
    assert without(TABLE, dict.fromkeys(names, 1)) == rest


@pytest.mark.parametrize(
    ("table", "found"),
    [
        ({}, {}), ({"model": "gpt-5", "params": {"temperature": 0, "seed": 1}}, {}), ({"model": "http://x/m"}, {"model": "http://x/m"}),
        ({"params": {"api_base": "http://x"}}, {"params.api_base": "http://x"}), ({"params": {"api_base": None}}, {}),
        ({"params": {"api_key": REDACTED}}, {}), ({"params": {"api_key": "k"}}, {"params.api_key": "k"}),
        ({"params": {"headers": REDACTED}}, {"params.headers": REDACTED} if not is_secret("headers") else {}), ({"params": {"region": "eu"}}, {"params.region": "eu"}),
        ({"params": {"stop": "://"}}, {"params.stop": "://"}), ({"cluster": {"address": "ray://x"}}, {"cluster.address": "ray://x"}),
        ({"cluster": {"address": ""}, "sandbox": {"allow_degraded": False}}, {}), ({"sandbox": {"allow_degraded": True}}, {"sandbox.allow_degraded": True}),
        ({"cache": "c", "run_dir": ""}, {"cache": "c"}), ({"cache": True, "run_dir": None}, {}),
    ],
    ids=str,
)  # fmt: skip
def test_what_leads_away_is_found(table, found):
    assert destinations(table) == found


@pytest.mark.parametrize(
    ("table", "names"),
    [
        ({"cluster": {"address": "h:6379"}}, ["cluster.address"]), ({"cluster": {"address": None}}, []),
        ({"sandbox": {"allow_degraded": True}}, ["sandbox.allow_degraded"]), ({"sandbox": {"allow_degraded": "yes"}}, ["sandbox.allow_degraded"]),
        ({"sandbox": {"allow_degraded": 1}}, ["sandbox.allow_degraded"]), ({"sandbox": {"allow_degraded": False}}, []),
        ({"cache": True, "run_dir": True}, []), ({"cache": "", "run_dir": False}, []), ({"cache": "~/c", "run_dir": "s3://b"}, ["cache", "run_dir"]),
        ({"model": "a/b", "recursive_model": "x/https://h"}, ["recursive_model"]), ({"fallbacks": ["a", "x/http://h"]}, ["fallbacks"]),
        ({"models": {"m": "x/http://h"}}, ["models.m"]), ({"models": {"m": {"model": "a", "api_base": "h"}}}, ["models.m"]),
        ({"models": {"m": {"model": "a", "params": {"api_base": "h"}}, "n": {"model": "a", "seed": 1}}}, ["models.m"]),
        ({"params": {"seed": 1, "stop": "http://h", "api_base": None, "proxies": {}}}, ["params.proxies", "params.stop"]),
        ({"mcp_servers": {"shop": {}}}, ["mcp_servers.shop"]), ({"cluster": 5, "params": "x", "models": None}, []),
    ],
)  # fmt: skip
def test_settings_that_need_trust_are_found_by_their_dotted_names(table, names):
    found = destinations(table)
    assert sorted(found) == names
    assert all(value_at(table, name) == value for name, value in found.items())
