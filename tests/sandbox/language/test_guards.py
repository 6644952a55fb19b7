"""What cells do with the guarded builtins and modules, in this process: the same as in Python, or refused."""

from __future__ import annotations

import ast
import contextlib
import enum
import io
import textwrap

import pytest
from guest_interpreter import Guest

from rlm_ray.sandbox.language import guards, modules, name_rules, policy
from rlm_ray.sandbox.language.module_proxy import module, names_of

SAME_AS_PYTHON = {
    "a copy of a container shares its items and nothing else": """
        import copy, collections
        inner = [1]
        made = {
            "list": [inner], "dict": {"a": inner}, "deque": collections.deque([inner], 3), "user dict": collections.UserDict(a=inner),
            "user list": collections.UserList([inner]), "default dict": collections.defaultdict(list, a=inner),
            "ordered": collections.OrderedDict(b=inner, a=inner), "chain": collections.ChainMap({"a": inner}, {"b": inner}),
            "bytes": bytearray(b"ab"), "set": {1, 2}, "tuple": (inner,), "frozen": frozenset({1}), "counter": collections.Counter("aab"),
        }
        for name, value in made.items():
            for copied in (copy.copy(value), copy.deepcopy(value)):
                print(name, type(copied).__name__, copied == value, copied is value, getattr(copied, "maxlen", None))
                if name in ("dict", "user dict", "default dict", "ordered", "chain"):
                    print(copied["a"] is inner)
                    copied["new"] = 1
                    print("new" in value, list(copied))
                elif name in ("list", "deque", "user list"):
                    print(copied[0] is inner)
                    copied.append(2)
                    print(len(value), len(copied))
                elif name == "tuple":
                    print(copied[0] is inner)
                elif name == "bytes":
                    copied.append(99)
                    print(value, copied)
        chain = made["chain"]
        print(copy.copy(chain).maps[1] is chain.maps[1], copy.copy(chain).maps[0] is chain.maps[0], copy.deepcopy(chain).maps[1] is chain.maps[1])
        print(copy.copy(made["default dict"])["missing"], copy.deepcopy(made["default dict"]).default_factory is list)
    """,
    "a copy of an object of a class has its attributes and slots": """
        import copy
        class Plain:
            def __init__(self): self.items = [1]
        class Slots:
            __slots__ = ("a", "__hidden", "unset")
            def __init__(self): self.a, self.__hidden = [1], [2]
            def hidden(self): return self.__hidden
        class One:
            __slots__ = "only"
        class Below(Slots):
            __slots__ = ("b", "__dict__", "__weakref__")
        class _Private:
            __slots__ = ("__x",)
            def __init__(self): self.__x = [3]
            def x(self): return self.__x
        class Words(dict):
            pass
        class Pair(tuple):
            pass
        class Failed(Exception):
            def __init__(self, items): super().__init__(items)
        one = One(); one.only = [4]
        below = Below(); below.b, below.c = [5], [6]
        words = Words(a=[7]); words.more = [8]
        for make in (copy.copy, copy.deepcopy):
            p, s, o, b, w, x = make(Plain()), make(Slots()), make(one), make(below), make(words), make(_Private())
            print(p.items, s.a, s.hidden(), hasattr(s, "unset"), o.only, o.only is one.only, b.a, b.b, b.c, b.c is below.c)
            print(w, w.more, w.more is words.more, type(w).__name__, x.x())
            pair = Pair(([1], 2)); made = make(pair)
            print(made, type(made).__name__, made is pair, made[0] is pair[0])
            failed = Failed([9]); failed.note = [10]; again = make(failed)
            print(again.args, again.note, again.args[0] is failed.args[0], type(again).__name__)
    """,
    "what cannot change is not copied": """
        import copy, re, enum, datetime
        class Color(enum.Enum):
            RED = [1]
        def f(): pass
        class C:
            def m(self): pass
        c = C()
        for value in (1, 1.5, 1j, "a", b"a", None, True, f, len, C, int, re.compile("a"), range(3), frozenset(), (), (1, 2), ...):
            print(copy.copy(value) is value, copy.deepcopy(value) is value)
        print(copy.deepcopy(Color.RED) is Color.RED, copy.deepcopy({"f": f})["f"] is f)
    """,
    "copies ask __copy__ and __deepcopy__ of one's own classes": """
        import copy
        class Own:
            def __init__(self, n): self.n = n
            def __copy__(self): return Own(self.n + 1)
            def __deepcopy__(self, memo): return Own(self.n + 10)
        class Below(Own): pass
        print(copy.copy(Own(1)).n, copy.deepcopy(Own(1)).n, copy.copy(Below(1)).n, copy.deepcopy([Below(1)])[0].n)
        memo = {}
        a = [1]
        twice = copy.deepcopy([a, a, {"k": a}], memo)
        print(twice[0] is twice[1], twice[0] is twice[2]["k"], twice[0] is a, memo[id(a)] is twice[0], memo[id(memo)][:1])
        print(copy.deepcopy(a, {id(a): "known"}), copy.deepcopy([None], {}), copy.deepcopy(1, {}))
        loop = {}; loop["self"] = loop
        made = copy.deepcopy(loop); print(made["self"] is made, made is loop)
        class Node:
            def __init__(self): self.next = self
        node = Node(); made = copy.deepcopy(node); print(made.next is made, made is node)
    """,
    "type and its kin": """
        class A: pass
        class B(A): pass
        print(issubclass(int, type), issubclass(type, type), issubclass(B, type), issubclass(B, A), issubclass(bool, int))
        print(isinstance(int, type), isinstance(A, type), isinstance(3, type), isinstance(A(), type), isinstance(type, type))
        print(type(A()) is A, type(3) is int, type(type(3)) is type, type(None).__name__, type(type).__name__)
        print(isinstance(3, type | int), isinstance("a", type | int), repr(type), A().__class__ is A, A.__class__ is type)
        print(3 .__class__.__name__, "a".__class__("b"), [].__class__ is list)
    """,
    "getattr and its kin": """
        class C:
            a = 1
            def __init__(self): self.b = 2
        c = C()
        print(getattr(c, "a"), getattr(c, "c", None), getattr(c, "c", 5), hasattr(c, "b"), hasattr(c, "c"), hasattr("a", "upper"))
        setattr(c, "d", 4); print(c.d, vars(c)); delattr(c, "d"); print(hasattr(c, "d"), c.__dict__)
        try: getattr(c, "nope")
        except AttributeError as e: print(e)
        try: delattr(c, "nope")
        except AttributeError as e: print("none")
        import types
        print(vars(types.SimpleNamespace(q=1)), [n for n in dir(c) if n[0] != "_"])
        class S:
            __slots__ = ("a",)
        for value in (c, S(), types.SimpleNamespace(q=1), "a", 3, None, [1], object()):
            print(hasattr(value, "__dict__"), getattr(value, "__dict__", "none"))
        print(getattr("{}-{}", "format")(1, 2), getattr("{a}", "format_map")({"a": 3}))
    """,
    "attributes that are set by name": """
        class C:
            def __setattr__(self, name, value): super().__setattr__(name, value * 2)
            def __delattr__(self, name): print("del", name); super().__delattr__(name)
        c = C(); c.a = 2; print(c.a); object.__setattr__(c, "b", 1); print(c.b); del c.b; print(vars(c))
        c.__setattr__("e", 4); print(c.e); c.__delattr__("e"); print(hasattr(c, "e"))
        def f(): pass
        f.calls = 1; f.calls += 1; print(f.calls)
        class D: pass
        D.x = 5; print(D().x); del D.x; print(hasattr(D, "x"))
        class E(Exception): pass
        e = ValueError("a"); e.code = 5; print(e.code)
        import types, decimal, textwrap, csv, io
        n = types.SimpleNamespace(); n.a = 1; print(n)
        w = textwrap.TextWrapper(); w.width = 5; print(w.fill("aaa bbb"))
        r = csv.DictReader(io.StringIO("1,2")); r.fieldnames = ["x", "y"]; print(list(r))
    """,
    "super with and without arguments": """
        class A:
            def f(self): return "A"
            @classmethod
            def g(cls): return cls.__name__
            p = 3
        class B(A):
            def f(self): return "B" + super().f() + super(B, self).f() + str(super().p)
            @classmethod
            def g(cls): return super().g() + super(B, cls).g()
        class U(str):
            def shout(self): return super().format("x").upper() + super().upper()
        print(B().f(), B.g(), super(B, B()).f(), U("{}a").shout())
    """,
    "templates": """
        class P:
            x = [1, {"k": 2}]
            y = 3
        print("{0.x[0]} {0.x[1][k]} {0.y:>{w}} {1!r} {{}} {n:.2f}".format(P(), "s", w=4, n=1.234), "{:{}{}}".format("a", "<", 3) + "|")
        print(str.format("{} {}", 1, 2), "{a.y}".format_map({"a": P}), "{0.y}{0.y}".format(P))
        from collections import UserString
        print(UserString("{} {a}").format(1, a=2), type(UserString("a").upper()).__name__)
        for bad in ("{", "}", "{0", "{0!x}", "{0:{1}", "{}{1}"):
            try: print(bad.format(1, 2))
            except (ValueError, IndexError) as e: print(type(e).__name__, e)
    """,
    "formatters": """
        import string
        class P:
            x = {"k": [5]}
        f = string.Formatter()
        print(f.format("{} {0}" if False else "{0} {1}", 1, 2), f.format("{0.x[k][0]:>3}|{a!s:<3}|", P(), a="z"), f.vformat("{a}", (), {"a": 1}))
        print(f.get_field("0.x[k]", (P(),), {}), f.get_value("a", (), {"a": 1}), f.get_value(1, (1, 2), {}), list(f.parse("a{b!r:>3}c")))
        print(f.format_field(3.14159, ".2f"), f.convert_field(3, "r"), f.convert_field("a", "s"), f.check_unused_args([], (), {}))
        class Used(string.Formatter):
            def check_unused_args(self, used, args, kwargs): print("used", sorted(map(str, used)), args, kwargs)
        print(Used().format("{0} {a}", 1, 2, a=3))
        class Marked(string.Formatter):
            def parse(self, template): return super().parse(template.replace("<", "{").replace(">", "}"))
            def get_field(self, name, args, kwargs): return (name.upper(), name)
        print(Marked().format("a <b> c"))
    """,
    "operators by name": """
        from operator import attrgetter, methodcaller
        class N:
            def __init__(self, v, n=None): self.v, self.n = v, n
            def add(self, a, b=0): return self.v + a + b
        t = N(1, N(2, N(3)))
        print(attrgetter("v")(t), attrgetter("n.v")(t), attrgetter("v", "n.v", "n.n.v")(t), sorted([N(3), N(1)], key=attrgetter("v"))[0].v)
        print(methodcaller("add", 2)(t), methodcaller("add", 2, b=5)(t), methodcaller("upper")("a"))
        for wrong in (lambda: attrgetter(), lambda: attrgetter(3), lambda: attrgetter("v.w")(t), lambda: methodcaller("nope")(t)):
            try: wrong()
            except (TypeError, AttributeError) as e: print(type(e).__name__)
    """,
    "wraps": """
        from functools import wraps, partial
        def named(a):
            "said"
            return a
        def loud(f):
            @wraps(f)
            def inner(*args): return str(f(*args)).upper()
            return inner
        print(loud(named)("x"), loud(named).__name__, loud(named).__doc__, loud(partial(named, "y"))(), loud(named).__qualname__)
        class C:
            @wraps(named)
            def m(self): pass
        print(C.m.__name__, wraps(named)(len) if False else "")
    """,
    "cached properties": """
        from functools import cached_property
        class C:
            n = 0
            @cached_property
            def once(self):
                C.n += 1
                return [C.n]
        a, b = C(), C()
        print(a.once, a.once, b.once, a.once is a.once, a.__dict__, C.once.attrname, C.n)
        del a.once; print(a.once)
        def two(self): return 1
        p = cached_property(two)
        try:
            class D:
                x = p
                y = p
        except (TypeError, RuntimeError) as e: print("two names")
        class E: pass
        E.late = cached_property(two)
        try: E().late
        except TypeError as e: print("no name")
    """,
    "enums from strings": """
        import enum
        A = enum.Enum("A", "X, Y Z"); B = enum.IntEnum("B", [("P", 3), ["Q", 5]]); C = enum.Enum("C", {"R": 1, "S": "s"})
        D = enum.Enum("D", ("T", "U"), start=7); E = enum.Enum("E", names="V W")
        print(list(A), list(B), list(C), list(D), list(E), A(2), C("s"), A["Z"].value, B(5) is B.Q, E.V.name)
        class Made(enum.Enum):
            ONE = 1
        print(Made(1), Made.ONE is Made(1), len(Made))
        for wrong in (lambda: Made(2), lambda: A("none"), lambda: A["none"]):
            try: wrong()
            except (ValueError, KeyError) as e: print(type(e).__name__)
    """,
    "named tuples and dataclasses": """
        from collections import namedtuple
        from dataclasses import dataclass, field
        T = namedtuple("T", "a b", defaults=[2]); R = namedtuple("R", ["a", "class"], rename=True)
        print(T(1), R(1, 2), T._fields, R._fields, T(1)._asdict(), T.__module__)
        @dataclass
        class A:
            x: int = 1
        @dataclass(order=True, frozen=True)
        class B:
            x: int
            y: list = field(default_factory=list, compare=False)
        print(A(), A(2) == A(2), B(1) < B(2), hash(B(1)) == hash(B(1)))
        match B(3, [4]):
            case B(x, y): print(x, y)
        match T(5):
            case T(a, b): print(a, b)
    """,
    "orderings and abstract classes": """
        from functools import total_ordering
        import abc
        @total_ordering
        class N:
            def __init__(self, v): self.v = v
            def __eq__(self, o): return self.v == o.v
            def __lt__(self, o): return self.v < o.v
        print(N(1) <= N(1), N(2) > N(1), N(1) >= N(2))
        class Shape(abc.ABC):
            @abc.abstractmethod
            def area(self): ...
        class Mine: pass
        print(Shape.register(Mine) is Mine, isinstance(Mine(), Shape), issubclass(Mine, Shape))
    """,
    "hints of types": """
        from typing import Any, Optional, Union, List, Dict, Counter, NewType, TypeVar, cast, NamedTuple, overload, final, TYPE_CHECKING
        T = TypeVar("T")
        Id = NewType("Id", int)
        print(Id(3), cast(int, "a"), TYPE_CHECKING, isinstance([], List), isinstance({}, Dict), isinstance(3, List), Counter("aab")["a"])
        def f(x: Optional[int] | None, y: Union[int, "str"] = 3) -> List[Any]: return [x, y]
        print(f(1))
        class Mine(Dict): pass
        print(Mine(a=1), final(f) is f, overload(f) is not None)
        X = Optional[int] | str | None; Y = None | Optional[int] | List[int]; Z = List | None; W = Dict[str, List[int]] | str
    """,
    "chance": """
        import random
        random.seed(5); a = [random.random(), random.randint(1, 9), random.choice("abc")]
        random.seed(5); print(a == [random.random(), random.randint(1, 9), random.choice("abc")], random.Random(7).random())
        r = random.Random("text"); print(r.random(), random.Random("text").random()); r.seed(3); print(r.random(), isinstance(r, random.Random))
        r.seed("a", version=1); print(r.random())
    """,
    "prints to files and pretty prints": """
        import io, pprint
        f = io.StringIO()
        print("a", 1, sep="-", end="!", file=f); print(repr(f.getvalue()))
        pprint.pprint({"b": [1, 2], "a": "x" * 70, "c": "y" * 30}); pprint.pp([1])
        pprint.pprint([1, 2], f, width=1); print(repr(f.getvalue()), pprint.pformat({1: 2}))
    """,
}  # fmt: skip


def plain(code):
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, "cell 1", "exec", dont_inherit=True), {"__name__": "__main__"})
    return printed.getvalue()


@pytest.mark.parametrize("name", SAME_AS_PYTHON)
def test_cell_prints_what_python_prints(name):
    code = textwrap.dedent(SAME_AS_PYTHON[name])
    assert Guest().prints(code) == plain(code)


REFUSED = [
    ("setattr(json, 'loads', 1)", "AttributeError: attributes of json objects cannot be changed here"),
    ("json.loads = 1", "AttributeError: attributes of json objects cannot be changed here"),
    ("del json.loads", "cannot be changed here"),
    ("(1).x = 2", "AttributeError: attributes of int objects cannot be changed here"),
    ("len.x = 2", "cannot be changed here"),
    ("int.x = 2", "AttributeError: attributes of type objects cannot be changed here"),
    ("recursive_llm.x = 1", "cannot be changed here"),
    ("getattr(3, 4)", "TypeError: attribute name must be a string"),
    ("class S(str): pass\ngetattr(3, S('real'))", "TypeError: attribute name must be a string"),
    ("setattr(ValueError(), S := '__class__', 1)", "the attribute '__class__' is not available here"),
    ("class C: pass\nsetattr(C(), '__class__', C)", "the attribute '__class__' is not available here"),
    ("class C: pass\ndelattr(C(), '__dict__')", "the attribute '__dict__' is not available here"),
    ("class C: pass\nobject.__setattr__(C(), '__class__', C)", "the attribute '__class__' is not available here"),
    ("class C: pass\nC().__setattr__('__class__', C)", "the attribute '__class__' is not available here"),
    ("object.__setattr__(json, 'loads', 1)", "cannot be changed here"),
    ("object.__delattr__(json, 'loads')", "cannot be changed here"),
    ("json.__setattr__('loads', 1)", "cannot be changed here"),
    ("json.__delattr__('loads')", "cannot be changed here"),
    ("vars(3)", "TypeError: vars() of int objects is not available here"),
    ("vars(json)", "TypeError: vars() of json objects is not available here"),
    ("json.__dict__", "AttributeError: the attribute '__dict__' of json objects is not available here"),
    ("class S:\n    __slots__ = ()\nvars(S())", "TypeError: vars() of S objects is not available here"),
    ("vars()", "NameError: vars() without an object is not available here: SHOW_VARS() lists your variables"),
    ("dir()", "NameError: dir() without an object is not available here: SHOW_VARS() lists your variables"),
    ("type('X', (), {})", "TypeError: type() takes one argument here: write a class statement to make a class"),
    ("type()", "TypeError: type() takes one argument here"),
    ("class M(type): pass", "TypeError: metaclasses are not available here"),
    ("super(int, 3)", "TypeError: super(C, x) takes a class of your own here; in a method write super()"),
    ("x = super\nx()", "TypeError: super(C, x) takes a class of your own here"),
    ("super('a', 3)", "TypeError: super(C, x) takes a class of your own here"),
    ("'{0.__class__.__mro__}'.format(1)", "AttributeError: the attribute '__mro__' is not available here"),
    ("'{0:{1.__globals__}}'.format(1, 2)", "the attribute '__globals__' is not available here"),
    ("'{0:{1:{2.__globals__}}}'.format(1, 2, 3)", "the attribute '__globals__' is not available here"),
    ("str.format('{0.__globals__}', 1)", "the attribute '__globals__' is not available here"),
    ("'{a.__globals__}'.format_map({'a': 1})", "the attribute '__globals__' is not available here"),
    ("string.Formatter().format('{0.__globals__}', 1)", "the attribute '__globals__' is not available here"),
    ("import operator\noperator.attrgetter('real.__globals__')(1)", "the attribute '__globals__' is not available here"),
    ("import operator\noperator.methodcaller('__reduce__')", "the attribute '__reduce__' is not available here"),
    ("import dataclasses\ndataclasses.dataclass(int)", "TypeError: dataclass() takes a class of your own here"),
    ("import dataclasses\ndataclasses.dataclass(order=True)(3)", "TypeError: dataclass() takes a class of your own here"),
    ("functools.total_ordering(int)", "TypeError: total_ordering() takes a class of your own here"),
    ("functools.total_ordering(3)", "TypeError: total_ordering() takes a class of your own here"),
    ("import abc\nclass A(abc.ABC): pass\nA.register(int)", "TypeError: register() takes a class of your own here"),
    ("functools.cached_property(len).__get__(3)", "TypeError: a cached_property must be assigned in a class statement"),
    ("time.sleep(1)", "NameError"),
    ("import time\ntime.sleep(1)", "RuntimeError: time.sleep() is not available here"),
    ("import json.tool", "ModuleNotFoundError: module 'json.tool' is not available here: write it in plain Python"),
    ("import os.path", "module 'os.path' is not available here: there are no files here"),
    ("from json import nothing", "ImportError"),
    ("json.nothing", "AttributeError: module 'json' has no attribute 'nothing' here"),
    ("import typing\ntyping.Any()", "TypeError: typing.Any is only a hint"),
    ("open('x')", "NameError: open() is not available here: there are no files here"),
]  # fmt: skip


@pytest.mark.parametrize(("code", "error"), REFUSED)
def test_what_would_lead_out_is_refused_in_a_sentence(code, error):
    assert error in Guest()(code).error


@pytest.mark.parametrize("value", ["recursive_llm", "lambda: 1", "(x for x in ())", "int", "json", "'a'"])
def test_dir_names_only_what_code_may_say(value):
    code = f"value = {value}\nfor name in dir(value): hasattr(value, name)\nprint(len(dir(value)) > 3)"
    assert Guest().prints(code) == "True\n"


def test_vars_is_a_copy_of_the_attributes():
    code = "class C: pass\nc = C(); vars(c)['x'] = c.__dict__['y'] = 1\nprint(vars(c))"
    assert Guest().prints(code) == "{}\n"


@pytest.mark.parametrize("names", ["'_a_ b'", "['_a_']", "[('_a_', 1)]", "{'_a_': 1}", "[1]", "[(2, 1)]"])
def test_enum_has_no_member_that_python_or_the_sandbox_would_read(names):
    assert guards.enum.EnumType.__call__ is not guards._called_enum  # of this process, nothing is changed
    kind = {"names": ast.literal_eval(names)}
    with pytest.raises((TypeError, ValueError), match=r"member must be a string|not available here"):
        guards._called_enum(enum.Enum, "X", **kind)
    with pytest.raises((TypeError, ValueError), match=r"member must be a string|not available here"):
        guards._called_enum(enum.Enum, "X", kind["names"])


def test_enum_is_made_of_the_names_that_were_checked():
    made = guards._called_enum(enum.Enum, "X", [["A", 1], ("B", 2)], module="m")
    assert ([each.name for each in made], made.__module__) == (["A", "B"], "m")
    named = guards._called_enum(enum.Enum, "Y", names="A,B C", start=4)
    assert [(each.name, each.value) for each in named] == [("A", 4), ("B", 5), ("C", 6)]
    assert guards._called_enum(named, 5) is named.B


@pytest.mark.parametrize(
    ("name", "is_forbidden", "is_read", "is_written"),
    [
        ("x", False, True, True), ("_x", False, True, True), ("x_", False, True, True), ("_", False, True, True), ("__", False, True, True),
        ("____", False, True, True), ("_x_", True, False, False), ("_missing_", False, True, True), ("_value_", True, True, True),
        ("__init__", False, True, False), ("__class__", True, True, False), ("__name__", False, True, True), ("__doc__", False, True, True),
        ("__globals__", True, False, False), ("__cause__", True, True, True), ("__slots__", False, False, False), ("__x", False, True, True),
        ("x__", False, True, True), ("mro", False, False, False), ("gi_frame", False, False, False), ("f_globals", False, False, False),
        ("tb_frame", False, False, False), ("format", False, True, True), ("__reduce_ex__", True, False, False), ("__debug__", False, False, False),
    ],
)  # fmt: skip
def test_names_and_attributes_that_code_may_say(name, is_forbidden, is_read, is_written):
    assert name_rules.is_forbidden_name(name) is is_forbidden
    assert name_rules.is_forbidden_attribute(name) is not is_read
    assert name_rules.is_forbidden_attribute(name, written=True) is not is_written
    assert name_rules.refuses_pattern(name) is (not is_read or name in ("__class__", "format"))


def test_module_shows_its_names_and_takes_none():
    made = module("tools", {"b": 1, "a": len})
    assert (repr(made), [name for name in dir(made) if name[0] != "_"]) == ("<module 'tools'>", ["a", "b"])
    assert (made.a([1]), made.b, names_of(made)) == (1, 1, {"b": 1, "a": len})
    with pytest.raises(AttributeError, match="module 'tools' has no attribute 'c' here"):
        made.c  # noqa: B018
    for change in (lambda: setattr(made, "a", 1), lambda: setattr(made, "c", 1), lambda: delattr(made, "a")):
        with pytest.raises(AttributeError, match="module 'tools' cannot be changed"):
            change()


@pytest.mark.parametrize(
    ("name", "module_"),
    [("timedelta", "datetime"), ("namedtuple", "collections"), ("sqrt", ""), ("floor", "math"), ("search", ""), ("nothing", "")],
)  # fmt: skip
def test_module_of_a_name_is_known_where_only_one_has_it(name, module_):
    assert modules.module_of(name) == module_
    assert module_ == "" or module_ in modules.module_names()


@pytest.mark.parametrize("name", sorted(modules.C_INTERNAL))
def test_module_that_c_code_imports_by_itself_is_empty(name):
    assert "ImportError" in Guest()(f"from {name} import anything").error


def test_import_of_a_package_gives_its_head_and_of_its_names_its_tail():
    code = "import collections.abc\nfrom collections.abc import Sequence\nimport collections.abc as c\n"
    assert (
        Guest().prints(f"{code}print(collections.Counter('a'), Sequence is c.Sequence)")
        == "Counter({'a': 1}) True\n"
    )
    assert "is not available here" in Guest()("from . import json").error


PLACES_OF_NAMES = [
    "{0} = 1", "print({0})", "del {0}", "for {0} in []: pass", "[1 for {0} in []]", "({0} := 1)", "with x as {0}: pass", "def {0}(): pass",
    "def f({0}): pass", "def f(*{0}): pass", "def f(**{0}): pass", "def f(*, {0}=1): pass", "def f({0}, /): pass", "lambda {0}: 1", "lambda *{0}: 1",
    "class {0}: pass", "class C:\n    {0} = 1", "class C:\n    def {0}(self): pass", "import {0}", "import json as {0}", "import json.{0}", "from json import {0}",
    "from json import loads as {0}", "global {0}", "def f():\n    x = 1\n    def g():\n        nonlocal {0}", "try: pass\nexcept ValueError as {0}: pass",
    "match 1:\n    case {0}: pass", "match 1:\n    case [*{0}]: pass", "match 1:\n    case {{**{0}}}: pass", "match 1:\n    case int() as {0}: pass",
    "match 1:\n    case int(real={0}): pass", "match 1:\n    case [1, {0}] | {{'a': {0}}}: pass", "match 1:\n    case int(_write_=1): pass",
    "x: {0} = {0}", "x.{0}", "x.{0} = 1", "del x.{0}", "x.{0} += 1", "{0} += 1", "f(x={0})", "f'{{{0}}}'", "@{0}\ndef f(): pass", "x[{0}]", "async def {0}(): pass",
]  # fmt: skip


@pytest.mark.parametrize("place", PLACES_OF_NAMES)
def test_names_of_the_sandbox_cannot_be_said_anywhere(place):
    with pytest.raises(
        SyntaxError, match=r"is not available here|cannot stand in a pattern|does not run here"
    ):
        policy.compile_cell(place.format("_write_"), "cell")
    if "_write_" not in place and not place.startswith("async"):
        policy.compile_cell(place.format("name" if "nonlocal" not in place else "x"), "cell")


@pytest.mark.parametrize(
    ("code", "line", "column", "why"),
    [
        ("x = 1\ny = x.__globals__", 2, 5, "the attribute '__globals__' is not available here"),
        ("if x:\n    _getattr_ = 1", 2, 5, "the name '_getattr_' is not available here; choose one without"),
        ("class M(metaclass=x): pass", 1, 1, "for an abstract class inherit from abc.ABC"),
        ("class M(**x): pass", 1, 1, "** is not available in a class statement here"),
        ("class M:\n    __match_args__ = x", 2, 22, "__match_args__ must be a tuple of names as literal strings here"),
        ("class M:\n    __match_args__ = ('a', 1)", 2, 22, "__match_args__ must be a tuple of names"),
        ("class M:\n    __match_args__ = ('a', 'format')", 2, 28, "the attribute 'format' cannot stand in a pattern here"),
        ("match x:\n    case C(format=y): pass", 2, 10, "the attribute 'format' cannot stand in a pattern here"),
        ("from re import *", 1, 1, "import * is not available here: name what you need"),
        ("from abc import __loader__", 1, 1, "is not available here"),
        ("await x", 1, 1, "async code does not run here: sub-calls run in parallel with recursive_map"),
        ("try: pass\nexcept* ValueError: pass", 1, 1, "except* is not available here: use except"),
    ],
)  # fmt: skip
def test_refusal_names_its_line_and_column(code, line, column, why):
    with pytest.raises(SyntaxError) as refused:
        policy.compile_cell(code, "cell 7")
    error = refused.value
    assert why in error.msg
    assert (error.filename, error.lineno, error.offset) == ("cell 7", line, column)


@pytest.mark.parametrize(
    ("code", "shown"),
    [
        ("class C:\n    __match_args__ = ('a',)\nprint(C.__name__)", "C\n"), ("class C:\n    __match_args__ = ()\nprint(C.__name__)", "C\n"),
        (("from dataclasses import dataclass, KW_ONLY, InitVar, field\nfrom typing import ClassVar\nimport dataclasses, typing\n@dataclass\nclass A:\n    x: int\n"
         "    _: KW_ONLY\n    y: InitVar[int] = 2\n    z: ClassVar[int] = 3\n    w: typing.ClassVar = 4\n    v: dataclasses.InitVar = 5\n    def __post_init__(self, y, v): print(y, v)\n"
         "print(A(1, y=7), A.z, A.w, A.__name__)"), "7 5\nA(x=1) 3 4 A\n"),
        ("x: int = 3\ny: int\nprint(x, SHOW_VARS())", "x: int\n3 {'x': 'int'}\n"),
        ("def f():\n    x: int = 3\n    y: str\n    return x\nprint(f())", "3\n"),
        ("class C:\n    def f(self):\n        x: int = 1\n        y: int\n        return x\n    x: int\nprint(C().f())", "1\n"),
        ("f = lambda: 1\nclass C:\n    g = lambda self: 2\n    x: int = 3\nprint(C().g(), C.x)", "2 3\n"),
        ("from __future__ import annotations\nprint(1)", "1\n"), ("print(super)", None),
    ],
)  # fmt: skip
def test_annotations_and_class_bodies_mean_what_they_do_in_python(code, shown):
    done = Guest()(code)
    assert done.error is None
    assert shown is None or done.output == shown
