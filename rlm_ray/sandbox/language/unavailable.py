"""What to use instead: one sentence for each thing that models reach for and that is not here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

_PARALLEL = "recursive_map(queries, contexts) runs sub-calls in parallel"
_NO_FILES = "there are no files here: the input is in `context`"
_NO_NETWORK = "there is no network here: the input is in `context`, and recursive_llm() asks a model"
_TABLES = "use csv, statistics and collections"

MODULES = {
    **dict.fromkeys(("asyncio", "threading", "concurrent", "multiprocessing", "queue", "joblib"), _PARALLEL),
    **dict.fromkeys(("pandas", "numpy", "scipy", "sklearn", "polars"), _TABLES),
    **dict.fromkeys(("os", "pathlib", "glob", "shutil", "tempfile", "pickle", "sqlite3"), _NO_FILES),
    **dict.fromkeys(("requests", "urllib", "http", "socket", "httpx", "aiohttp"), _NO_NETWORK),
    **dict.fromkeys(("openai", "anthropic", "litellm"), "ask a model with recursive_llm(query, context)"),
    "sys": "the interpreter is not in reach; len() tells sizes",
    "subprocess": "no programs can be run; Python and recursive_llm() are all there is",
    "logging": "use print()",
    "nltk": "use re and str methods",
    "tqdm": "just iterate; only what is printed is shown",
    "inspect": "SHOW_VARS() lists your variables",
}

_NAMES = {
    "open": _NO_FILES,
    "input": "nobody is there to answer: the input is in `context`",
    "eval": "use ast.literal_eval or json.loads to read data, and write code as code",
    "exec": "write the code itself",
    "compile": "write the code itself; re.compile is there",
    "globals": "SHOW_VARS() lists your variables",
    "locals": "SHOW_VARS() lists your variables",
    "breakpoint": "print() what you want to see",
    "help": "dir(x) lists attributes",
    "exit": "FINAL(answer) ends the session",
    "quit": "FINAL(answer) ends the session",
    "memoryview": "slice the str or bytes itself",
}


def module_unavailable(name: str) -> str:
    instead = MODULES.get(name.partition(".")[0], "write it in plain Python")
    return f"module {name!r} is not available here: {instead}"


def unavailable_builtins() -> dict[str, Callable[..., NoReturn]]:
    """Builtins that say what to use instead of them."""
    return {name: _stub(name, instead) for name, instead in _NAMES.items()}


def _stub(name: str, instead: str) -> Callable[..., NoReturn]:
    def refuse(*_: Any, **__: Any) -> NoReturn:
        raise NameError(f"{name}() is not available here: {instead}")

    refuse.__name__ = refuse.__qualname__ = name
    return refuse


def sleep(*_: Any) -> NoReturn:
    """`time.sleep`."""
    raise RuntimeError(
        "time.sleep() is not available here: there is nothing to wait for, sub-calls return when done"
    )
