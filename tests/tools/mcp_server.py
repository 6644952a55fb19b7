"""A small MCP server over stdio, for the tests."""

from __future__ import annotations

import os
import time

from mcp.server.fastmcp import FastMCP

server = FastMCP("shop")


@server.tool()
def price(article: str, amount: int = 1) -> float:
    """The price of an article."""
    return {"tea": 2.5, "cake": 4.0}[article] * amount


@server.tool(name="list-articles")
def articles() -> list[str]:
    """All articles."""
    return ["tea", "cake"]


@server.tool()
def search(text: str) -> str:
    """Finds articles."""
    return f"found {text}"


@server.tool()
def hang() -> str:
    time.sleep(60)
    return "late"


@server.tool()
def big(size: int) -> str:
    return "x" * size


@server.tool()
def environment() -> dict[str, str]:
    return dict(os.environ)


@server.tool()
def die() -> str:
    os._exit(3)


if __name__ == "__main__":
    server.run()
