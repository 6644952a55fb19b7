"""The programs of `examples/`, run in this process as they would run by themselves."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

EXAMPLES = Path(__file__).parents[1] / "examples"
SHARED = {"scripted"}
"""Modules that the programs import from beside them."""
NAMES = sorted(path.stem for path in EXAMPLES.glob("*.py") if path.stem not in SHARED)


def run_example(name, monkeypatch):
    """Run `main()` of an example."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)  # pydantic looks there for the names of annotations
    spec.loader.exec_module(module)
    module.main()
