"""What code may say: as much of Python as does no harm, with advice for the rest."""

from __future__ import annotations

import contextlib
import io
import textwrap

import pytest
from sandbox_fakes import Cells

SAME_AS_PYTHON = {
    "augmented assignment of items and attributes": """
        d = {"a": 1}; d["a"] += 2
        class C: n = 1
        c = C(); c.n += 1; C.n *= 5
        print(d, c.n, C.n)
    """,
    "annotations are dropped": """
        from typing import Any
        x: "nonsense(" = 1
        y: int
        def f(a: "1/0", *b: "open", c: 7 = 2, **d: 3) -> "raise": return a
        print(x, f(4))
    """,
    "dataclasses": """
        from dataclasses import dataclass, field, asdict, replace
        from typing import ClassVar
        @dataclass(order=True, frozen=True)
        class P:
            x: int
            y: "str" = "why"
            tags: list[str] = field(default_factory=list)
            kind: ClassVar[int] = 3
            def __post_init__(self): object.__setattr__(self, "y", self.y + "!")
        p = P(1)
        print(p, asdict(p), replace(p, x=2), P.kind, P(1) < P(2))
        @dataclass(slots=True)
        class Q:
            a: int = 1
        q = Q(); q.a = 5; print(q)
    """,
    "named tuples and typed dicts": """
        from typing import NamedTuple, TypedDict, Optional
        class P(NamedTuple):
            x: int
            y: int = 2
        class R(TypedDict):
            a: Optional[int]
        print(P(1), P(1)._replace(y=3), R(a=1))
    """,
    "classes": """
        class Stack:
            def __init__(self, *items): self._items = list(items); self.__secret = 1
            def __len__(self): return len(self._items)
            def __iter__(self): return iter(self._items)
            def __getitem__(self, i): return self._items[i]
            def __contains__(self, x): return x in self._items
            def __enter__(self): return self
            def __exit__(self, *exc): self._items.clear()
            def __eq__(self, other): return self._items == other._items
            def __call__(self): return "called"
            def __add__(self, other): return Stack(*self._items, *other._items)
            def __repr__(self): return f"Stack({self._items})"
            __str__ = __repr__
            @property
            def top(self): return self._items[-1]
            @top.setter
            def top(self, value): self._items[-1] = value
            @classmethod
            def of(cls, *items): return cls(*items)
            @staticmethod
            def zero(): return 0
        class Loud(Stack):
            def __init__(self, *items): super().__init__(*items)
            def __repr__(self): return super().__repr__().upper()
        s = Loud.of(1, 2); s.top = 9
        print(s, len(s), list(s), 9 in s, s(), s + Stack(3), s == Stack(1, 9), Loud.__name__, type(s).__name__)
        with s as t: print(t[0])
        print(len(s), isinstance(s, Stack), issubclass(Loud, Stack), s.__class__.__name__, vars(s))
    """,
    "type": """
        print(type(1), type("a") is str, isinstance(int, type), type(int) is type, isinstance(3, (type, int)))
    """,
    "match": """
        from dataclasses import dataclass
        @dataclass
        class P:
            x: int
            y: int
        for v in (P(1, 2), {"k": 3, "z": 1}, [1, 2, 3], "s", 7):
            match v:
                case P(x=1, y=q): print("p", q)
                case {"k": k, **rest}: print(k, rest)
                case [first, *others]: print(first, others)
                case str() as s: print(s)
                case _ if v > 5: print("big")
    """,
    "generators, closures, walrus, star-args": """
        def gen(n):
            try:
                for i in range(n):
                    got = yield i
                    if got: print("got", got)
            finally: print("closed")
        g = gen(3); print(next(g), g.send("x")); g.close()
        def outer():
            n = 0
            def inner(*a, k=1, **kw):
                nonlocal n
                n += len(a) + k + len(kw)
                return n
            return inner
        f = outer(); print(f(*[1, 2], **{"z": 3}), f())
        def walk(t):
            for x in t:
                if isinstance(x, list): yield from walk(x)
                else: yield x
        print(list(walk([1, [2, [3]]])), [y := 5, y ** 2])
        count = 0
        def bump():
            global count
            count += 1
        bump(); print(count)
    """,
    "format": """
        class P: x = 3
        print("{} {0.x}".replace("{}", "{0.x:>4}").format(P()), "{a[0]!r:>5}".format(a=["z"]), "{:.2f}|{:,}".format(1.5, 1000))
        print("%s %d" % ("a", 1), str.format("{}", 1), "{k}".format_map({"k": 2}), format(3.14159, ".2f"))
        import string
        print(string.Formatter().format("{} {x}", 1, x=2), string.Template("$a").substitute(a=1))
    """,
    "operator and functools": """
        from operator import itemgetter, attrgetter, methodcaller
        from functools import wraps, partial, cmp_to_key, cached_property
        def loud(f):
            @wraps(f)
            def inner(*args): return f(*args).upper()
            return inner
        @loud
        def name(x): "doc"; return x
        class C:
            @cached_property
            def v(self): return 4
        c = C()
        print(name("a"), name.__name__, attrgetter("real")(3), methodcaller("split", ",")("a,b"), itemgetter(1)("ab"), c.v, c.v)
        print(sorted([3, 1], key=cmp_to_key(lambda a, b: a - b)), partial(max, 5)(3), getattr(c, "nope", 0), hasattr(c, "v"))
        name.calls = 1; name.calls += 1; print(name.calls)
        setattr(c, "w", 1); print(c.w); delattr(c, "w"); print(hasattr(c, "w")); del c.v
    """,
    "errors": """
        try: {}["x"]
        except KeyError as e: print(type(e).__name__, e.__class__.__name__, e, e.args)
        class Mine(ValueError):
            def __init__(self, n): super().__init__(f"n={n}"); self.n = n
        try:
            try: raise Mine(3)
            except Mine as e: raise RuntimeError("outer") from e
        except RuntimeError as e: print(e, e.__cause__, e.__cause__.n)
        finally: print("end")
        try: import a_module_of_nobody
        except ImportError: print("not there")
    """,
    "modules": """
        import collections.abc, datetime as dt, json as j
        from collections import Counter, defaultdict, deque, OrderedDict
        from enum import Enum, IntEnum, auto, Flag
        import ast, copy, statistics, hashlib, base64, unicodedata, bisect, heapq, contextlib, decimal
        class Color(Enum):
            RED = auto(); BLUE = auto()
            @classmethod
            def _missing_(cls, value): return cls.RED
        print(isinstance([], collections.abc.Sequence), dt.date(2024, 1, 2), j.dumps({"a": [1]}), Color(9), Color.BLUE.value)
        print(Counter("aab").most_common(1), statistics.mean([1, 2]), hashlib.sha256(b"x").hexdigest()[:6], copy.deepcopy([[1]]))
        print(ast.literal_eval("{'a': (1, 2)}"), dt.datetime.strptime("2024-05-06", "%Y-%m-%d").date(), base64.b64encode(b"a"))
        decimal.getcontext().prec = 5; print(decimal.Decimal(1) / 3)
        with contextlib.suppress(ZeroDivisionError): 1 / 0
        @contextlib.contextmanager
        def cm(): yield 3
        with cm() as v: print(v)
        import pprint; pprint.pprint({"b": 1, "a": 2})
    """,
    "future annotations": """
        from __future__ import annotations
        from abc import ABC, abstractmethod
        from typing import Generic, TypeVar, Protocol, cast, List
        T = TypeVar("T")
        class Base(ABC):
            @abstractmethod
            def run(self) -> list[Undefined]: ...
        class Box(Generic[T]):
            def __init__(self, v: T) -> None: self.v = v
        class Real(Base):
            def run(self): return cast("X", Box(3).v)
        print(Real().run())
        try: Base()
        except TypeError as e: print("abstract")
    """,
}


@pytest.mark.parametrize("name", SAME_AS_PYTHON)
async def test_it_prints_what_python_prints(cells: Cells, name: str) -> None:
    code = textwrap.dedent(SAME_AS_PYTHON[name])
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, "cell", "exec", dont_inherit=True), {"__name__": "__main__"})
    assert await cells.prints(code) == printed.getvalue()


ADVICE = [
    ("open('x')", "the input is in `context`"),
    ("input('?')", "nobody is there"),
    ("eval('1')", "literal_eval"),
    ("exec('1')", "write the code itself"),
    ("globals()", "SHOW_VARS()"),
    ("locals()", "SHOW_VARS()"),
    ("dir()", "SHOW_VARS()"),
    ("vars()", "SHOW_VARS()"),
    ("exit()", "FINAL(answer)"),
    ("import os", "no files here"),
    ("import os.path as p", "no files here"),
    ("import numpy as np", "csv, statistics and collections"),
    ("from concurrent.futures import ThreadPoolExecutor", "recursive_map"),
    ("import threading", "recursive_map"),
    ("import requests", "no network here"),
    ("async def f(): pass", "recursive_map"),
    ("from re import *", "name what you need"),
    ("import time; time.sleep(1)", "nothing to wait for"),
    ("class M(type): pass", "metaclasses"),
    ("class M(metaclass=x): pass", "abc.ABC"),
    ("type('X', (), {})", "class statement"),
    ("try: pass\nexcept* ValueError: pass", "use except"),
    ("x.__globals__", "not available here"),
    ("import json; json.loads = 1", "cannot be changed here"),
    ("'{0.__class__.__mro__}'.format(1)", "'__mro__' is not available"),
    ("_getattr_ = 1", "underscores at both ends"),
    ("global __builtins__", "underscores at both ends"),
    ("def f(_write_): pass", "underscores at both ends"),
    ("import json as __builtins__", "underscores at both ends"),
    ("match 1:\n    case int(__class__=x): pass", "cannot stand in a pattern"),
    ("getattr(1, '__subclasses__')", "not available here"),
    (
        "class S(str):\n    def f(self): return super().format(self)\nS('{0.__globals__}').f()",
        "not available here",
    ),
    ("type(int)('X', (), {})", "class statement"),
    ("type(type(int))('X', (), {})", "class statement"),
    ("int.__class__('X', (), {})", "class statement"),
    ("'a' +* 2", "invalid syntax"),
    ("(" * 500, "too many nested parentheses"),
]


@pytest.mark.parametrize(("code", "advice"), ADVICE, ids=[code[:40] for code, _ in ADVICE])
async def test_what_is_not_there_says_what_to_use(cells: Cells, code: str, advice: str) -> None:
    result = await cells(code)
    assert advice in (result.error or "")


async def test_errors_show_the_models_own_lines_only(cells: Cells) -> None:
    result = await cells("def f(x):\n    return json.loads(x)\n\nf('{bad')")
    assert result.error == (
        "cell 1, line 4: f('{bad')\n"
        "cell 1, line 2, in f: return json.loads(x)\n"
        "JSONDecodeError: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"
    )


async def test_a_syntax_error_has_its_line_and_a_caret(cells: Cells) -> None:
    result = await cells("x = 1\nif x = 2:\n    pass")
    line, caret, message = (result.error or "").splitlines()
    assert line.endswith("if x = 2:")
    assert line[len(caret) - 1] == "x"
    assert message.startswith("SyntaxError: invalid syntax")


@pytest.mark.parametrize(
    "raised", ["SystemExit(3)", "KeyboardInterrupt()", "GeneratorExit()", "BaseException('x')"]
)
async def test_exceptions_that_end_programs_are_errors_of_the_cell(cells: Cells, raised: str) -> None:
    result = await cells(f"kept = 1\nraise {raised}")
    assert raised.split("(", maxsplit=1)[0] in (result.error or "")
    assert await cells.prints("print(kept)") == "1\n"


async def test_a_message_that_fails_to_show_itself_does_not_matter(cells: Cells) -> None:
    result = await cells("class E(Exception):\n    def __str__(self): raise SystemExit\nraise E")
    assert (result.error or "").endswith("E: (its message cannot be shown: __str__ failed)")


async def test_an_endless_message_is_cut(cells: Cells) -> None:
    result = await cells("raise ValueError('x' * 50_000_000)")
    assert "49,998,000 characters left out" in (result.error or "")
    assert len(result.error or "") < 3_000


async def test_indented_blocks_run(cells: Cells) -> None:
    assert await cells.prints("    x = 1\n    print(x)") == "1\n"


async def test_one_namespace_serves_functions_and_comprehensions(cells: Cells) -> None:
    assert (
        await cells.prints("n = 3\ndef f(): return [n * len(context) for _ in range(2)]", "print(f())")
        == "[3000, 3000]\n"
    )


async def test_the_last_line_runs_once(cells: Cells) -> None:
    assert await cells.prints("recursive_llm('q')") == "'Q'\n"
    assert len(cells.on_success.calls) == 1


async def test_random_is_reproducible_by_seed(cells: Cells) -> None:
    assert (
        await cells.prints(
            "import random; random.seed(4); a = random.random(); random.seed(4); print(a == random.random())"
        )
        == "True\n"
    )
