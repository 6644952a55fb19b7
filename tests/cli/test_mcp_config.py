"""`--mcp-config`: the files that other programs have of MCP servers."""

from __future__ import annotations

import json

import pytest

from rlm_ray.cli.options import read_mcp_config
from rlm_ray.config import Settings, SettingValue, merge_settings
from rlm_ray.errors import ConfigError

SHOP = {"command": "uvx", "args": ["shop-server"], "env": {"SHOP": "open"}}


@pytest.mark.parametrize(
    "table",
    [
        {"mcpServers": {"shop": SHOP}},
        {"shop": SHOP},
        {"mcpServers": {"shop": SHOP | {"type": "stdio", "disabled": False, "alwaysAllow": ["price"]}}},
        {"mcpServers": {"shop": SHOP, "off": {"command": "x", "disabled": True}}},
    ],
)
def test_servers_are_read_without_what_other_programs_note(tmp_path, table):
    path = tmp_path / "mcp.json"
    path.write_text(json.dumps(table))
    servers = read_mcp_config(path)
    assert servers == {"shop": SHOP}
    assert merge_settings(Settings(), [SettingValue("mcp_servers", servers)]).mcp_servers == {"shop": SHOP}


@pytest.mark.parametrize("text", ["", "{", "[]", '"text"', '{"mcpServers": []}'])
def test_a_file_that_holds_no_servers_is_refused(tmp_path, text):
    path = tmp_path / "mcp.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match="--mcp-config"):
        read_mcp_config(path)


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        read_mcp_config(tmp_path / "none.json")
