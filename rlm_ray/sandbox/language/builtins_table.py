"""The builtins of a cell: all that are harmless, the guarded ones, and for what is not here stubs with advice.

The advice is one sentence for each thing that models reach for: what to use instead.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

from rlm_ray.sandbox.language import guards, policy

if TYPE_CHECKING:
    from rlm_ray.sandbox.language.modules import Modules

_PARALLEL = "recursive_map(queries, contexts) runs sub-calls in parallel"
_NO_FILES = "there are no files here: the input is in `context`"
_NO_NETWORK = "there is no network here: the input is in `context`, and recursive_llm() asks a model"
_TABLES = "use csv, statistics and collections"

_UNAVAILABLE_MODULES = {
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

_UNAVAILABLE = {
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
    instead = _UNAVAILABLE_MODULES.get(name.partition(".")[0], "write it in plain Python")
    return f"module {name!r} is not available here: {instead}"


def _stub(name: str, instead: str) -> Callable[..., NoReturn]:
    def refuse(*_: Any, **__: Any) -> NoReturn:
        raise NameError(f"{name}() is not available here: {instead}")

    refuse.__name__ = refuse.__qualname__ = name
    return refuse


def sleep(*_: Any) -> NoReturn:
    """Sleep, as `time.sleep` does."""
    raise RuntimeError(
        "time.sleep() is not available here: there is nothing to wait for, sub-calls return when done"
    )


_NAMES = (
    "abs all any ascii bin bool bytearray bytes callable chr classmethod complex dict divmod enumerate filter float "
    "format frozenset hash hex id int isinstance issubclass iter len list map max min next object oct ord pow "
    "property range repr reversed round set slice sorted staticmethod str sum super tuple zip "
    "Ellipsis NotImplemented __build_class__"
)


def make_builtins(modules: Modules, print_: Callable[..., None]) -> dict[str, Any]:
    """Make a fresh `__builtins__` for one session."""
    return {
        **{name: _stub(name, instead) for name, instead in _UNAVAILABLE.items()},
        **{name: getattr(builtins, name) for name in _NAMES.split()},
        **{name: value for name, value in vars(builtins).items() if _is_exception(value)},
        "__import__": modules.guarded_import,
        "__debug__": True,
        "True": True,
        "False": False,
        "None": None,
        "print": print_,
        "type": guards.SafeType,
        "getattr": guards.safe_getattr,
        "hasattr": guards.safe_hasattr,
        "setattr": guards.safe_setattr,
        "delattr": guards.safe_delattr,
        "vars": guards.safe_vars,
        "dir": guards.safe_dir,
        policy.GETATTR: guards.guard_getattr,
        policy.WRITE: guards.guard_write,
        policy.SUPER: guards.super_,
        **modules.preloaded(),
    }


def _is_exception(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, BaseException)
