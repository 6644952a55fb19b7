"""Give the model's code the tools of an MCP server; this program is the server, too.

    pip install 'rlm-ray[mcp]'
    RLM_RAY_MODEL=openai/gpt-5-mini python examples/mcp_server.py

A server is started by its command in a process without your keys, or reached by its `url`.
"""

import sys
from pathlib import Path

from scripted import model_or_script

from rlm_ray import RLM

ORDERS = "\n".join(
    f"order {number}: {item} x {count}" for number, item, count in [(1, "tea", 3), (2, "cake", 2)]
)
SCRIPT = [
    """```python
import re
found = re.findall(r"order \\d+: (\\w+) x (\\d+)", context)
FINAL(sum(shop_price(article=item) * int(count) for item, count in found))
```"""
]


def serve() -> None:
    """Be the server: it speaks over stdin and stdout."""
    from mcp.server.fastmcp import FastMCP

    def price(article: str) -> float:
        """The price of an article in euros."""
        return {"tea": 2.5, "cake": 4.0}[article]

    server = FastMCP("shop")
    server.add_tool(price)
    server.run()


def main() -> None:
    servers = {
        "shop": {
            "command": sys.executable,
            "args": [str(Path(__file__).resolve()), "serve"],
            "prefix": "shop_",  # in the REPL its tools are shop_price ...
            "tools": ["price"],  # and no others
        }
    }
    with model_or_script(SCRIPT) as model:
        result = RLM(model, mcp_servers=servers).run("What do all orders cost together?", ORDERS)
    print(result.answer)
    for called in result.tree.root.tools.values():
        print(f"called {called.name} with {called.arguments}: {called.result}")


if __name__ == "__main__":
    serve() if sys.argv[1:] == ["serve"] else main()
