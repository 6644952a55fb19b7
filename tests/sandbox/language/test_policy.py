"""What the language refuses: ways to attributes, writes and names that go around the words it refuses.

Each cell prints LEAK where it got what it wanted.
"""

from __future__ import annotations

import contextlib
import io
import textwrap

import pytest
from sandbox_fakes import Cells, Served

from rlm_ray.core.context import make_context
from rlm_ray.sandbox.host.sandbox import SandboxManager

WAYS = {
    # super() with arguments begins among the bases of anything
    "super of the formatter": """
        f = string.Formatter()
        print("LEAK", super(string.Formatter, f).get_field("0.__globals__", (recursive_llm,), {}))
    """,
    "super of datetime": """
        t = datetime.datetime(2020, 1, 1)
        print("LEAK", super(datetime.datetime, t).now())
    """,
    "super by another name": """
        s = super
        print("LEAK", s(datetime.datetime, datetime.datetime.min).now())
    """,
    "super by its type": """
        class A:
            def f(self): return type(super())
        print("LEAK", A().f()(datetime.datetime, datetime.datetime.min).now())
    """,
    "super by its class": """
        class A:
            def f(self): return super().__class__
        print("LEAK", A().f()(datetime.datetime, datetime.datetime.min).now())
    """,
    "super through map": """
        print("LEAK", list(map(super, [datetime.date], [datetime.date.min]))[0].today())
    """,
    "super of random": """
        r = random.Random(1)
        print("LEAK", super(random.Random, r).seed(None))
    """,
    "a class that inherits from super": """
        class S(super): pass
        print("LEAK", S(datetime.datetime, datetime.datetime.min).now())
    """,
    "super of the module": "print('LEAK', super(type(json), json).__setattr__('loads', 1))",
    "the bases by mro": "print('LEAK', datetime.datetime.mro()[1].now())",
    "the bases by name of mro": "print('LEAK', getattr(datetime.date, 'mro')()[1].today())",
    "the bases of the formatter": "print('LEAK', string.Formatter.__base__.__subclasses__())",
    # copies ask an object how it is rebuilt
    "copy with __reduce_ex__ of an instance": """
        from types import SimpleNamespace
        import copy
        def target(): pass
        x = SimpleNamespace(**{"__reduce_ex__": lambda p: (SimpleNamespace, (), (None, {"__class__": 1}))})
        x = SimpleNamespace(**{"__reduce_ex__": lambda p: (lambda: json, (), (None, {"loads": 1}))})
        if copy.copy(x) is json: print("LEAK", json.loads)
    """,
    "copy with __reduce__ of an instance": """
        from types import SimpleNamespace
        import copy
        x = SimpleNamespace(**{"__reduce_ex__": None, "__reduce__": lambda: (print, ("LEAK",))})
        copy.copy(x)
    """,
    "deepcopy with __deepcopy__ of an instance": """
        from types import SimpleNamespace
        import copy
        copy.deepcopy(SimpleNamespace(**{"__deepcopy__": lambda memo: print("LEAK")}))
    """,
    "deepcopy of nested instances": """
        from types import SimpleNamespace
        import copy
        copy.deepcopy([{"a": SimpleNamespace(**{"__reduce_ex__": lambda p: (print, ("LEAK",))})}])
    """,
    "deepcopy of a sub-call": """
        import copy
        memo = {}
        try: copy.deepcopy(recursive_llm, memo)
        except Exception: pass
        if memo: print("LEAK", memo)
    """,
    "deepcopy of FINAL and its kin": """
        import copy
        memo = {}
        for name in (FINAL, SHOW_VARS, recursive_map, map_reduce, print):
            try: copy.deepcopy([name], memo)
            except Exception: pass
        if any("rlm_ray" in str(type(value)) for value in memo.values()): print("LEAK", memo)
    """,
    "asdict copies what fields hold": """
        from dataclasses import dataclass, asdict
        from types import SimpleNamespace
        @dataclass
        class D:
            x: object
        asdict(D(SimpleNamespace(**{"__reduce_ex__": lambda p: (print, ("LEAK",))})))
    """,
    "UserDict copies by the standard library": """
        from collections import UserDict
        import copy
        class U(UserDict): pass
        u = U(); u.data = SimpleNamespace = None
        copy.copy(u)
        from types import SimpleNamespace
        class W(SimpleNamespace): pass
        copy.copy(W(**{"__getstate__": lambda: print("LEAK"), "__reduce_ex__": lambda p: print("LEAK")}))
    """,
    # class statements and classes from strings
    "a metaclass by double star": """
        def make(name, bases, names):
            print("LEAK", sorted(names))
        class X(**{"metaclass": make}): pass
    """,
    "a metaclass by double star of a call": """
        class X(object, **dict(metaclass=lambda *a: print("LEAK"))): pass
    """,
    "an enum with a special method": """
        import enum, copy
        X = enum.Enum("X", {"__reduce_ex__": lambda self, p: (print, ("LEAK",)), "A": 1})
        print("LEAK")
    """,
    "an enum of pairs with a special method": """
        import enum
        print("LEAK", enum.Enum("X", [("__getattribute__", lambda self, n: n), ("A", 1)]))
    """,
    "an enum of names that change": """
        import enum
        class N(list):
            n = 0
            def __iter__(self):
                N.n += 1
                return iter([("A", 1)] if N.n == 1 else [("__getattribute__", lambda s, n: n), ("A", 1)])
        X = enum.Enum("X", N())
        if X.A.anything: print("LEAK")
    """,
    "an enum by keyword": """
        import enum
        print("LEAK", enum.IntEnum("X", names={"__match_args__": 1}))
    """,
    "an enum by its own maker": """
        import enum
        print("LEAK", enum.Enum._create_("X", {"__reduce_ex__": 1}))
    """,
    "an enum that writes into a module": """
        import enum
        print("LEAK", enum.Enum._convert_("X", "builtins", lambda n: True, source=None))
    """,
    "a named tuple with a special field": """
        from collections import namedtuple
        print("LEAK", namedtuple("T", ["__class__"]))
    """,
    # constructors called again, and descriptors
    "the constructor of a module": """
        type(json).__init__(json, "json", {"loads": lambda text: "LEAK"})
        print(json.loads("1"))
    """,
    "a module's dict": "print('LEAK', vars(json))",
    "a module's slots": "type(json).loads = lambda text: 'LEAK'\nprint(json.loads('1'))",
    "a module's names by delattr": "type(json).__delattr__(json, 'loads')\nprint('LEAK')",
    "a cached property with another name": """
        from functools import cached_property
        p = cached_property(lambda self: 1)
        p.__set_name__(None, "loads")
        p.__get__(json)
        print("LEAK", json.loads)
    """,
    "a cached property on what is not the cell's": """
        from functools import cached_property
        p = cached_property(lambda self: "LEAK")
        class C: attribute = p
        def f(): pass
        print(p.__get__(json), p.__get__(re.compile))
    """,
    "a cached property renamed by attribute": """
        from functools import cached_property
        p = cached_property(lambda self: "LEAK")
        p.attrname = "__globals__"
        print("LEAK")
    """,
    "a slot of a fraction": """
        from fractions import Fraction
        half = Fraction(1, 2)
        Fraction._numerator.__set__(half, 9)
        print("LEAK", half)
    """,
    "a slot by its class": """
        from fractions import Fraction
        half = Fraction(1, 2)
        type(Fraction._numerator).__set__(Fraction._numerator, half, 9)
        print("LEAK", half)
    """,
    "a slot by methodcaller": """
        from fractions import Fraction
        from operator import methodcaller
        half = Fraction(1, 2)
        methodcaller("__set__", half, 9)(Fraction._numerator)
        print("LEAK", half)
    """,
    "a slot of a distribution": """
        from statistics import NormalDist
        d = NormalDist(0, 1)
        NormalDist._mu.__set__(d, 5)
        print("LEAK", d.mean)
    """,
    "a property of others": """
        from statistics import NormalDist
        NormalDist.mean.__set_name__(NormalDist, "x")
        print("LEAK")
    """,
    "dataclass on a class of others": """
        from dataclasses import dataclass
        dataclass(type(json), repr=True)
        print("LEAK")
    """,
    "total_ordering on a class of others": """
        from functools import total_ordering
        print("LEAK", total_ordering(string.Formatter))
    """,
    # patterns read attributes by name
    "match args of a function": """
        import abc
        class M(abc.ABC):
            __match_args__ = ("__globals__",)
        M.register(type(lambda: 0))
        match recursive_llm:
            case M(found): print("LEAK", found)
    """,
    "match args put together": """
        class M(str):
            __match_args__ = ("for" + "mat",)
        match M("{0.__class__}"):
            case M(found): print("LEAK", found(1))
    """,
    "match args by a field": """
        from dataclasses import dataclass
        @dataclass(init=False)
        class M(str):
            format: object
        match M("{0.__globals__}"):
            case M(found): print("LEAK", found(M))
    """,
    "match args by a field of a base": """
        from dataclasses import dataclass
        @dataclass(init=False)
        class A:
            format: object
        class M(A, str): pass
        match M("{0.__class__.__mro__}"):
            case M(found): print("LEAK", found(1))
    """,
    "match args of a named tuple and a frame": """
        import abc
        from collections import namedtuple
        class M(namedtuple("T", "gi_frame"), abc.ABC): pass
        M.register(type(x for x in ()))
        match (x for x in ()):
            case M(frame): print("LEAK", frame)
    """,
    "match args of a typed named tuple": """
        import abc
        from typing import NamedTuple
        class T(NamedTuple):
            gi_code: object
        class M(T, abc.ABC): pass
        M.register(type(x for x in ()))
        match (x for x in ()):
            case M(code): print("LEAK", code)
    """,
    "match args of a registered class": """
        import abc
        class M(abc.ABC):
            __match_args__ = ("loads",)
        type(M)
        M.register(type(json))
        print("LEAK")
    """,
    "match args by setattr": """
        class M(str): pass
        setattr(M, "__match_args__", ("__class__",))
        print("LEAK")
    """,
    "match args by augmentation": """
        class M(str):
            __match_args__ = ()
            __match_args__ += ("__class__",)
        print("LEAK")
    """,
    "match args by a loop": """
        class M(str):
            for __match_args__ in [("__class__",)]: pass
        print("LEAK")
    """,
    "match args by an enum": """
        import enum
        print("LEAK", enum.Enum("X", {"__match_args__": ("__class__",)}, type=str))
    """,
    "a keyword pattern": """
        match recursive_llm:
            case object(__self__=found): print("LEAK", found)
    """,
    "a keyword pattern on a formatter": """
        from collections import UserString
        match UserString("{0.__class__}"):
            case UserString(format=found): print("LEAK", found(1))
    """,
    # format strings
    "format of a UserString": """
        from collections import UserString
        print("LEAK", UserString("{0.__globals__}").format(recursive_llm))
    """,
    "format of a subclass of UserString": """
        from collections import UserString
        class U(UserString):
            def f(self): return super().format(recursive_llm)
        print("LEAK", U("{0.__globals__}").f())
    """,
    "format by the class of a UserString": """
        from collections import UserString
        print("LEAK", UserString.format(UserString("{0.__self__}"), recursive_llm))
    """,
    "format by methodcaller": """
        from operator import methodcaller
        print("LEAK", methodcaller("format", recursive_llm)("{0.__globals__}"))
    """,
    "format by reduce": """
        from functools import reduce
        print("LEAK", reduce(getattr, ["__class__", "__base__", "__subclasses__"], 1)())
    """,
    "format by a partial": """
        from functools import partial
        print("LEAK", partial(str.format, "{0.__globals__}")(recursive_llm))
    """,
    "format by map": "print('LEAK', list(map(str.format, ['{0.__self__}'], [recursive_llm])))",
    "format with a formatter of its own": """
        class F(string.Formatter):
            def get_value(self, key, args, kwargs): return recursive_llm
        print("LEAK", F().format("{0.__self__}"))
    """,
    "format with a template that changes": """
        class S(str):
            def __str__(self): return "harmless"
        print("LEAK", S("{0.__self__}").format(recursive_llm))
    """,
    "format_map of a text": "print('LEAK', '{x.__globals__}'.format_map({'x': recursive_llm}))",
    # attributes of attributes
    "attrgetter": "import operator\nprint('LEAK', operator.attrgetter('a.__globals__'.removeprefix('a.'))(recursive_map))",
    "a generator's frame": "g = (x for x in ())\nprint('LEAK', g.gi_frame)",
    "a generator's frame by getattr": "g = (x for x in ())\nprint('LEAK', getattr(g, 'gi_' + 'frame'))",
    "a traceback": "try: 1 / 0\nexcept ZeroDivisionError as e: print('LEAK', e.__traceback__)",
    "a traceback of a cause": """
        try:
            try: 1 / 0
            except ZeroDivisionError as e: raise ValueError from e
        except ValueError as e: print("LEAK", getattr(e.__cause__, "__trace" + "back__"))
    """,
    "a context manager's generator": """
        from contextlib import contextmanager
        @contextmanager
        def cm(): yield
        print("LEAK", cm().gen.gi_code)
    """,
    "a wrapped function": """
        from functools import lru_cache
        print("LEAK", lru_cache(recursive_llm).__wrapped__)
    """,
    "a partial's function": "from functools import partial\nprint('LEAK', partial(recursive_llm).func.__self__)",
    "a partialmethod": """
        from functools import partialmethod
        class C: m = partialmethod(recursive_llm, "q")
        print("LEAK", C().m.__self__)
    """,
    "a property's getter": "class C:\n    p = property(recursive_llm)\nprint('LEAK', C.p.fget.__func__)",
    "a decorator of a name": "class C:\n    @property\n    def __globals__(self): pass\nprint('LEAK')",
    "a nonlocal class cell": """
        class C:
            def f(self):
                nonlocal __class__
                __class__ = datetime.datetime
                return super().now()
        print("LEAK", C().f())
    """,
    "a base that is no class": """
        from types import SimpleNamespace
        class X(SimpleNamespace(**{"__mro_entries__": lambda bases: (type(json),)})): pass
        X.loads = 1
        if json.loads == 1: print("LEAK")
    """,
    "a subclass hook": "import abc\nclass C(abc.ABC):\n    @classmethod\n    def __subclasshook__(cls, other): return True\nprint('LEAK')",
    "a new type": "from typing import NewType\nprint('LEAK', NewType('X', int).__supertype__)",
    "a class's items": "class C:\n    def __class_getitem__(cls, x): return cls\nprint('LEAK', C[1].__subclasses__())",
    "init_subclass with a field": """
        from dataclasses import dataclass, field
        class B:
            def __init_subclass__(cls, **names):
                for name, value in names.items(): setattr(cls, name, value)
        class C(B, __reduce_ex__=1): pass
        print("LEAK")
    """,
    "the type of a function": "print('LEAK', type(recursive_llm).__func__)",
    "the internals of an exit stack": "from contextlib import ExitStack\nprint('LEAK', ExitStack().push.__globals__)",
}


@pytest.mark.parametrize("name", WAYS)
async def test_ways_around_the_words_are_refused(cells: Cells, name: str) -> None:
    result = await cells(textwrap.dedent(WAYS[name]))
    assert "LEAK" not in result.output, result.output
    assert result.kill_reason is None
    assert "json.loads is whole" in await cells.prints("print('json.loads is whole', json.loads('[1]'))")


HONEST = {
    "copies": """
        import copy, collections, dataclasses, enum
        from types import SimpleNamespace
        @dataclasses.dataclass
        class P:
            x: list
            y: dict = dataclasses.field(default_factory=dict)
        @dataclasses.dataclass(slots=True, frozen=True)
        class S:
            x: list
        class L(list):
            tag = None
        class E(Exception):
            def __init__(self, a, b): super().__init__(a, b); self.c = [a]
        class Own:
            def __init__(self): self.seen = []
            def __copy__(self): new = Own(); new.seen = ["copied"]; return new
            def __deepcopy__(self, memo): new = Own(); new.seen = copy.deepcopy(["deep"], memo); return new
        class Color(enum.Enum):
            RED = [1]
        T = collections.namedtuple("T", "a b")
        own = L([1, [2]]); own.tag = [3]
        loop = []; loop.append(loop)
        values = [
            [1, [2]], {"a": [1]}, {1, 2}, (1, [2]), frozenset({1}), "text", b"bytes", bytearray(b"x"), None, 1.5,
            collections.deque([1, [2]], 5), collections.defaultdict(list, a=[1]), collections.Counter("aab"),
            collections.OrderedDict(b=[1], a=[2]), collections.UserDict(a=[1]), collections.UserList([1, [2]]),
            collections.ChainMap({"a": [1]}, {"b": 2}), SimpleNamespace(a=[1]), P([1], {"k": [2]}), S([1]), own,
            T([1], 2), Color.RED, range(3), len, int, P,
        ]
        for value in values:
            for made in (copy.copy(value), copy.deepcopy(value)):
                print(type(made).__name__, made == value, made is value, getattr(made, "tag", None))
        p = P([1], {"k": [2]})
        print(copy.copy(p).x is p.x, copy.deepcopy(p).x is p.x, copy.deepcopy(p))
        twice = copy.deepcopy([own, own]); print(twice[0] is twice[1], twice[0].tag, twice[0].tag is own.tag)
        again = copy.deepcopy(loop); print(again[0] is again, again is loop)
        print(copy.copy(Own()).seen, copy.deepcopy([Own()])[0].seen)
        e = copy.copy(E(1, 2)); print(e.args, e.c)
        d = copy.copy(collections.UserDict(a=1)); d["b"] = 2; print(d)
        print(dataclasses.asdict(p), dataclasses.astuple(p), dataclasses.replace(p, x=[7]))
        a, b = [1], {}; memo = {}
        copied = copy.deepcopy((a, a), memo); print(copied[0] is copied[1])
    """,
    "super with arguments": """
        class A:
            def f(self): return "A"
        class B(A):
            def f(self): return "B" + super(B, self).f()
            @classmethod
            def make(cls): return super(B, cls).__name__ if False else super().__new__(cls)
            @property
            def p(self): return super().f()
        class D(dict):
            def __init__(self, *a): super(D, self).__init__(*a); self.n = 1
            def __setitem__(self, k, v): super().__setitem__(k, v * 2)
        b = B(); d = D({"a": 1}); d["b"] = 2
        print(b.f(), B.make().f(), b.p, d, super(B, b).f())
    """,
    "classes with keywords": """
        class Base:
            kinds = {}
            def __init_subclass__(cls, kind=None, **kwargs):
                super().__init_subclass__(**kwargs)
                Base.kinds[kind] = cls.__name__
        class X(Base, kind="x"): pass
        bases = (Base,)
        class Y(*bases, kind="y"): pass
        print(Base.kinds)
    """,
    "enums": """
        import enum
        from enum import Enum, IntEnum, Flag, IntFlag, StrEnum, auto, unique
        A = Enum("A", "X Y"); B = IntEnum("B", {"X": 1, "Y": 4}); C = Enum("C", [("X", "x"), ("Y", "y")]); D = Enum("D", ["P", "Q"], start=5)
        F = Flag("F", "R W X"); S = StrEnum("S", {"A": "a"}); G = Enum("G", names=("U", "V"), type=str)
        print(list(A), list(B), list(C), list(D), F.R | F.W, S.A, list(G), A["X"], B(4), C("y") is C.Y)
        @unique
        class Color(Enum):
            RED = 1; BLUE = auto()
            @property
            def low(self): return self.name.lower()
            @classmethod
            def _missing_(cls, value): return cls.RED
        print(Color(7), Color.BLUE.low, Color.RED._value_, Color.RED._name_, Color["BLUE"], isinstance(B.X, Enum), len(Color))
        class P(IntFlag):
            R = 4; W = 2
        print(P.R | P.W, P(6) & P.R, re.compile("a", re.I | re.M).flags)
    """,
    "match": """
        from dataclasses import dataclass
        from collections import namedtuple
        class P:
            __match_args__ = ("x", "y")
            def __init__(self, x, y): self.x = x; self.y = y
        class Q:
            __match_args__ = "x",
            x = 3
        T = namedtuple("T", "a b")
        @dataclass
        class R:
            name: str
            kind: str = "k"
        for value in (P(1, 2), Q(), T(1, 2), R("n"), 5, "s"):
            match value:
                case P(x, 2): print("P", x)
                case Q(x): print("Q", x)
                case T(a, b=b): print("T", a, b)
                case R(name, kind): print("R", name, kind)
                case int(n): print("int", n)
                case str(s): print("str", s)
    """,
    "abstract classes": """
        import abc
        class Shape(abc.ABC):
            @property
            @abc.abstractmethod
            def area(self): ...
        class Square(Shape):
            def __init__(self, n): self.n = n
            @property
            def area(self): return self.n ** 2
        class Duck: pass
        Shape.register(Duck)
        class Registry:
            def __init__(self): self.names = []
            def register(self, name): self.names.append(name); return name
        class Plugins:
            names = []
            @classmethod
            def register(cls, f): cls.names.append(f.__name__); return f
        @Plugins.register
        def one(): pass
        r = Registry(); r.register("a"); r.register(int)
        print(Square(3).area, isinstance(Duck(), Shape), r.names, Plugins.names)
    """,
    "descriptors": """
        from functools import cached_property, partialmethod, total_ordering
        class Positive:
            def __set_name__(self, owner, name): self.name = "_" + name
            def __get__(self, obj, owner=None): return self if obj is None else getattr(obj, self.name, 0)
            def __set__(self, obj, value):
                if value < 0: raise ValueError(self.name)
                setattr(obj, self.name, value)
        @total_ordering
        class C:
            n = Positive()
            def __init__(self, n): self.n = n
            def __eq__(self, o): return self.n == o.n
            def __lt__(self, o): return self.n < o.n
            @cached_property
            def big(self): print("once"); return self.n * 10
            def add(self, k): return self.n + k
            add5 = partialmethod(add, 5)
        c = C(3); print(c.big, c.big, c.add5(), C(1) <= C(2), C.big.attrname)
        c.n = 4; C.n.__set__(c, 7); print(c.n); del c.big; print(c.big)
        try: c.n = -1
        except ValueError as e: print(e)
    """,
    "formatters": """
        class F(string.Formatter):
            def get_value(self, key, args, kwargs):
                return kwargs.get(key, "?") if isinstance(key, str) else super().get_value(key, args, kwargs)
            def format_field(self, value, spec): return "<" + super().format_field(value, spec) + ">"
            def convert_field(self, value, conversion):
                return str(value).upper() if conversion == "u" else super().convert_field(value, conversion)
        class P: x = 3
        print(F().format("{a} {0:>3} {b!u} {1.x} {2[0]!r}", 1, P(), ["z"], b="low"))
        print(string.Formatter().vformat("{0} {a} {0:{w}}", (1,), {"a": 2, "w": 4}), list(string.Formatter().parse("a{b}")))
        from collections import UserString
        print(UserString("{} {a}").format(1, a=2), UserString("x").upper())
        try: string.Formatter().format("{} {}", 1)
        except IndexError as e: print("index")
    """,
    "modules": """
        import json, math, re
        print(type(json).__name__ == "json" or True, json.dumps({"a": [1]}), math.sqrt(4), hasattr(json, "loads"), callable(re.sub))
        loads = json.loads; print(loads("[1]"), [*map(math.floor, [1.5])])
        from collections import Counter as C; print(C("aa"))
    """,
}


def plain(code: str) -> str:
    printed = io.StringIO()
    import collections
    import datetime as dt
    import json
    import re
    import string

    names = {"__name__": "__main__", "re": re, "string": string, "json": json, "datetime": dt}
    with contextlib.redirect_stdout(printed):
        exec(compile(code, "cell", "exec", dont_inherit=True), names | {"collections": collections})
    return printed.getvalue()


@pytest.mark.parametrize("name", HONEST)
async def test_honest_code_of_the_same_kinds_prints_what_python_prints(cells: Cells, name: str) -> None:
    code = textwrap.dedent(HONEST[name])
    assert await cells.prints(code) == plain(code)


async def test_no_value_of_datetime_leads_to_the_real_clock(host: SandboxManager) -> None:
    """Whatever the stand-ins make is one of theirs, or has no clock."""
    repl = await host.open(make_context("x"), "q")
    code = textwrap.dedent("""
        from datetime import *
        d, t = date(2024, 1, 2), datetime(2024, 1, 2, 3, tzinfo=timezone.utc)
    """).replace(
        "from datetime import *",
        "date, datetime, timedelta, timezone = "
        "datetime.date, datetime.datetime, datetime.timedelta, datetime.timezone",
    )
    code += textwrap.dedent("""
        made = [d + timedelta(1), t + timedelta(1), t - timedelta(1), t.astimezone(timezone.utc), t.replace(year=2025),
                t.date(), datetime.combine(d, t.time()), datetime.strptime("2024", "%Y"), datetime.min, datetime.max, date.min,
                datetime.fromisoformat("2024-01-01"), date.fromordinal(9), datetime.fromtimestamp(0), datetime.utcfromtimestamp(0),
                timezone.utc.fromutc(t), date.fromisocalendar(2024, 1, 1), d.replace(day=5), datetime.now(), date.today()]
        print([n for n, value in enumerate(made) if type(value) not in (date, datetime)])
    """)
    result = await Cells(repl, Served())(code)
    assert (result.error, result.output) == (None, "[]\n")
