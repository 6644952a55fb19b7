"""Let the code of the model call functions of yours: they run outside the sandbox, and their arguments are checked.

RLM_RAY_MODEL=openai/gpt-5-mini python examples/tools.py
"""

from scripted import model_or_script

from rlm_ray import RLM, ToolLimits

ORDERS = "\n".join(
    f"order {number}: {item} x {count}" for number, item, count in [(1, "tea", 3), (2, "cake", 2)]
)


def price(item: str) -> float:
    """The price of an item in euros."""
    return {"tea": 2.5, "cake": 4.0}[item]


# Offline the model is a script: what it would write is this.
SCRIPT = [
    """```python
import re
found = re.findall(r"order \\d+: (\\w+) x (\\d+)", context)
FINAL(f"{sum(price(item) * int(count) for item, count in found):.2f} euros")
```"""
]


def main() -> None:
    with model_or_script(SCRIPT) as model:
        rlm = RLM(model, tools=[price], tool_limits=ToolLimits(timeout_s=10))
        result = rlm.run("What do all orders cost together?", ORDERS)
    print(result.answer)
    for called in result.tree.root.tools.values():  # every call is on record
        print(f"called {called.name} in turn {called.turn}")


if __name__ == "__main__":
    main()
