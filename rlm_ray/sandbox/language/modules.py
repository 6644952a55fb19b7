"""The modules that code may import: for each, the names that were looked at one by one.

Left out on purpose: what reads attributes by name (`operator.attrgetter`, replaced), evaluates
strings (`functools.singledispatch`, `typing.get_type_hints`), writes into other modules
(`enum.global_enum`, `functools.update_wrapper`), opens files (`hashlib.file_digest`), or waits.
"""

from __future__ import annotations

import abc
import ast
import base64
import bisect
import cmath
import codecs
import collections
import collections.abc
import contextlib
import copy
import csv
import dataclasses
import datetime  # noqa: ICN001 - a table of modules by their own names
import decimal
import difflib
import enum
import fractions
import functools
import hashlib
import heapq
import html
import importlib
import io
import itertools
import json
import math
import operator
import pprint
import random
import re
import statistics
import string
import struct
import textwrap
import time
import types
import unicodedata
from collections.abc import Callable
from typing import Any

from rlm_ray.sandbox.guest.clock import Clock, datetime_names, time_names
from rlm_ray.sandbox.language import copies, guards
from rlm_ray.sandbox.language.builtins_table import module_unavailable, sleep
from rlm_ray.sandbox.language.module_proxy import ModuleProxy, module, names_of, typing_namespace

C_INTERNAL = frozenset(
    {"_strptime", "_io", "_collections_abc", "_decimal", "_pydecimal", "encodings", "copyreg"}
)

_CODECS = (
    "ascii",
    "latin-1",
    "cp1252",
    "utf-8-sig",
    "utf-16",
    "utf-32",
    "unicode_escape",
    "cp437",
    "rot13",
    "hex",
)

_NAMES: dict[Any, str] = {
    abc: "ABC abstractmethod",
    ast: "literal_eval",
    base64: "b64encode b64decode standard_b64encode standard_b64decode urlsafe_b64encode urlsafe_b64decode "
    "b32encode b32decode b16encode b16decode a85encode a85decode b85encode b85decode encodebytes decodebytes",
    bisect: "bisect bisect_left bisect_right insort insort_left insort_right",
    cmath: "acos acosh asin asinh atan atanh cos cosh e exp inf infj isclose isfinite isinf isnan log log10 nan nanj "
    "phase pi polar rect sin sinh sqrt tan tanh tau",
    collections: "ChainMap Counter OrderedDict UserDict UserList UserString defaultdict deque namedtuple",
    collections.abc: "Awaitable Callable Collection Container Coroutine Generator Hashable ItemsView Iterable "
    "Iterator KeysView Mapping MappingView MutableMapping MutableSequence MutableSet Reversible Sequence Set Sized "
    "ValuesView",
    contextlib: "AbstractContextManager ContextDecorator ExitStack closing contextmanager nullcontext suppress",
    copy: "Error copy deepcopy",
    csv: "DictReader DictWriter Dialect Error QUOTE_ALL QUOTE_MINIMAL QUOTE_NONE QUOTE_NONNUMERIC Sniffer excel "
    "excel_tab field_size_limit get_dialect list_dialects reader register_dialect unix_dialect writer",
    dataclasses: "FrozenInstanceError InitVar KW_ONLY MISSING asdict astuple dataclass field fields is_dataclass "
    "replace",
    datetime: "MAXYEAR MINYEAR UTC date datetime time timedelta timezone tzinfo",
    decimal: "BasicContext Clamped Context Decimal DecimalException DivisionByZero ExtendedContext Inexact "
    "InvalidOperation Overflow ROUND_05UP ROUND_CEILING ROUND_DOWN ROUND_FLOOR ROUND_HALF_DOWN ROUND_HALF_EVEN "
    "ROUND_HALF_UP ROUND_UP Rounded Subnormal Underflow getcontext localcontext setcontext",
    difflib: "Differ HtmlDiff SequenceMatcher context_diff get_close_matches ndiff restore unified_diff",
    enum: "Enum Flag IntEnum IntFlag StrEnum auto member nonmember unique verify",
    fractions: "Fraction",
    functools: "cache cached_property cmp_to_key lru_cache partial partialmethod reduce total_ordering",
    hashlib: "blake2b blake2s md5 new sha1 sha224 sha256 sha384 sha3_256 sha3_512 sha512",
    heapq: "heapify heappop heappush heappushpop heapreplace merge nlargest nsmallest",
    html: "escape unescape",
    io: "BytesIO StringIO",
    itertools: "accumulate batched chain combinations combinations_with_replacement compress count cycle dropwhile "
    "filterfalse groupby islice pairwise permutations product repeat starmap takewhile tee zip_longest",
    json: "JSONDecodeError JSONDecoder JSONEncoder dumps loads",
    math: "acos acosh asin asinh atan atan2 atanh cbrt ceil comb copysign cos cosh degrees dist e erf erfc exp exp2 "
    "expm1 fabs factorial floor fmod frexp fsum gamma gcd hypot inf isclose isfinite isinf isnan isqrt lcm ldexp "
    "lgamma log log10 log1p log2 modf nan nextafter perm pi pow prod radians remainder sin sinh sqrt sumprod tan "
    "tanh tau trunc ulp",
    operator: "abs add and_ concat contains countOf eq floordiv ge getitem gt index indexOf invert is_ is_not "
    "itemgetter le lshift lt matmul mod mul ne neg not_ or_ pos pow rshift setitem delitem sub truediv truth xor iadd "
    "iand iconcat ior isub imul",
    pprint: "isreadable pformat saferepr",
    random: "Random",
    re: "A ASCII DEBUG DOTALL I IGNORECASE L LOCALE M MULTILINE Match NOFLAG Pattern RegexFlag S U UNICODE VERBOSE X "
    "compile error escape findall finditer fullmatch match purge search split sub subn",
    statistics: "NormalDist StatisticsError correlation covariance fmean geometric_mean harmonic_mean "
    "linear_regression mean median median_grouped median_high median_low mode multimode pstdev pvariance quantiles "
    "stdev variance",
    string: "Template ascii_letters ascii_lowercase ascii_uppercase capwords digits hexdigits octdigits printable "
    "punctuation whitespace",
    struct: "calcsize error iter_unpack pack unpack unpack_from",
    textwrap: "TextWrapper dedent fill indent shorten wrap",
    time: "asctime ctime gmtime localtime mktime monotonic monotonic_ns perf_counter perf_counter_ns process_time "
    "strftime strptime struct_time time time_ns",
    types: "SimpleNamespace",
    unicodedata: "bidirectional category combining decimal digit east_asian_width is_normalized lookup mirrored name "
    "normalize numeric unidata_version",
}

_RANDOM = (
    "betavariate choice choices expovariate gauss getrandbits lognormvariate normalvariate paretovariate randbytes "
    "randint random randrange sample seed shuffle triangular uniform vonmisesvariate weibullvariate getstate setstate"
)

PRELOADED = ("re", "json", "math", "collections", "itertools", "datetime", "functools", "statistics", "string",
            "textwrap", "random", "csv", "io")  # fmt: skip
"""In reach without an import, which models forget."""
PRELOADED_NAMES = {"Counter": "collections", "defaultdict": "collections"}
"""Names of modules, likewise."""


def _proxies() -> dict[str, ModuleProxy]:
    found = {module.__name__: _allowed_names(module, names) for module, names in _NAMES.items()}
    found["collections"] = module(
        "collections", names_of(found["collections"]) | {"abc": found["collections.abc"]}
    )
    found["typing"] = module("typing", typing_namespace())
    found["warnings"] = module(
        "warnings", dict.fromkeys(("filterwarnings", "simplefilter", "warn"), _nothing)
    )
    return found


def _allowed_names(source: Any, names: str) -> ModuleProxy:
    """Return the names this version of Python has."""
    picked = {name: getattr(source, name) for name in names.split() if hasattr(source, name)}
    return module(source.__name__, picked | _REPLACED.get(source.__name__, {}))


def _nothing(*_: Any, **__: Any) -> None:
    """Show no warning."""


_REPLACED: dict[str, dict[str, Any]] = {
    "collections": {"namedtuple": guards.namedtuple},
    "copy": {"copy": copies.copy_, "deepcopy": copies.deepcopy_},
    "dataclasses": {"dataclass": guards.dataclass},
    "functools": {
        "cached_property": guards.cached_property,
        "total_ordering": guards.total_ordering,
        "wraps": guards.wraps,
    },
    "operator": {"attrgetter": guards.attrgetter, "methodcaller": guards.methodcaller},
    "string": {"Formatter": guards.Formatter},
    "time": {"sleep": sleep},
}

_SHARED_PROXIES = _proxies()

for _codec in _CODECS:
    codecs.lookup(_codec)
# C code imports this by itself on first use, when files are out of reach.
importlib.import_module("_strptime")


def module_names() -> frozenset[str]:
    """Return every module that can be imported."""
    return frozenset(_SHARED_PROXIES)


def module_of(name: str) -> str:
    """Return the module that has this name, where only one has; or nothing."""
    found = [module for module, proxy in _SHARED_PROXIES.items() if name in names_of(proxy)]
    return found[0] if len(found) == 1 and name not in _TOO_COMMON else ""


_TOO_COMMON = frozenset(
    {"e", "error", "new", "field", "copy", "name", "search", "match", "unique", "names", "category"}
)
"""More likely a variable of that name."""


class Modules:
    """One process's modules: the shared ones, with chance and time of its own, which are the same when the cell is run again."""

    def __init__(self, clock: Clock, print_: Callable[..., None]) -> None:
        self._modules = dict(_SHARED_PROXIES)
        self._chance = _Chance()
        self._add("random", self._chance.names())
        self._add("time", time_names(clock))
        self._add("datetime", datetime_names(clock))
        self._add("pprint", {"pprint": _pprinter(print_), "pp": _pprinter(print_)})

    def seed(self, seed: int) -> None:
        """Have chance begin anew, at this number."""
        self._chance.seed(seed)

    def _add(self, name: str, names: dict[str, Any]) -> None:
        self._modules[name] = module(name, names_of(self._modules[name]) | names)

    def preloaded(self) -> dict[str, Any]:
        """Return what cells have without an import."""
        names = {name: getattr(self._modules[module], name) for name, module in PRELOADED_NAMES.items()}
        return {name: self._modules[name] for name in PRELOADED} | names

    def guarded_import(
        self,
        name: str,
        globals_: object = None,
        locals_: object = None,
        names: tuple[str, ...] | None = (),
        level: int = 0,
    ) -> ModuleProxy:
        """Import a module as `__import__` does in a cell."""
        del globals_, locals_
        if name in C_INTERNAL:
            return module(name, {})
        if level or name not in self._modules:
            raise ModuleNotFoundError(module_unavailable(name), name=name)
        return self._modules[name if names else name.partition(".")[0]]


class _Chance:
    """What `random` has that is by chance, from one number on."""

    def __init__(self) -> None:
        self._seeds = seeds = random.Random()  # noqa: S311 - reproducible, not secret

        class Random(random.Random):
            def seed(self, a: Any = None, version: int = 2) -> None:
                super().seed(seeds.getrandbits(64) if a is None else a, version)

        Random.__module__, Random.__qualname__ = "random", "Random"
        self._class, self._generator = Random, Random(0)

    def names(self) -> dict[str, Any]:
        """Return the functions of the module, and its class."""
        generator = self._generator
        names = {name: getattr(generator, name) for name in _RANDOM.split() if hasattr(generator, name)}
        return {"Random": self._class, **names}

    def seed(self, seed: int) -> None:
        """Begin anew at this number; generators that are made without one begin at numbers that follow from it."""
        random.seed(seed)  # what `statistics` draws from
        self._seeds.seed(seed + (1 << 64))
        self._generator.seed(seed)


def _pprinter(print_: Callable[..., None]) -> Callable[..., None]:
    def pprint_(value: Any, stream: Any = None, *args: Any, **kwargs: Any) -> None:
        print_(pprint.pformat(value, *args, **kwargs), file=stream)

    return pprint_
