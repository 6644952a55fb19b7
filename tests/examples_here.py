"""The programs of `examples/`, run in this process as they would run by themselves."""

from __future__ import annotations

import ast
import importlib.util
import json
import sys
from pathlib import Path

EXAMPLES = Path(__file__).parents[1] / "examples"
ARGUMENTS = {"seed_claims": ["2000", "130000"]}
SHARED = {"scripted"}
"""Modules that the programs import from beside them."""
NAMES = sorted(path.stem for path in EXAMPLES.glob("*.py") if path.stem not in SHARED)


def run_example(name, monkeypatch):
    """Run `main()` of an example, with arguments of its own."""
    monkeypatch.setattr(sys, "argv", [name, *ARGUMENTS.get(name, [])])
    monkeypatch.syspath_prepend(str(EXAMPLES))
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)  # pydantic looks there for the names of annotations
    spec.loader.exec_module(module)
    module.main()


def cells_of(name):
    """The code of each code cell of a notebook."""
    notebook = json.loads((EXAMPLES / f"{name}.ipynb").read_text())
    return ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]


def run_notebook(name):
    """Run the cells of a notebook in one namespace, as Jupyter does; gives what they would show below themselves."""
    space, shown = {"__name__": "__main__"}, []
    for at, code in enumerate(cells_of(name), 1):
        tree = ast.parse(code, f"cell {at}")
        last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, f"cell {at}", "exec"), space)
        if last is not None:
            value = eval(compile(ast.Expression(last.value), f"cell {at}", "eval"), space)
            shown += [] if value is None else [value]
    return shown
