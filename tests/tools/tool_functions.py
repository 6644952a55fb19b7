"""Functions that the tests hand over as tools, in a module that no worker can import."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime as dt
import os
import time
from decimal import Decimal
from typing import Literal

from pydantic import BaseModel

TEMPERATURES = {"Rome": 31.5}


class City(BaseModel):
    name: str
    zip: int = 0


@dataclasses.dataclass
class Weather:
    degrees: float
    city: City


def weather(city: City, days: int = 1, unit: Literal["C", "F"] = "C") -> Weather:
    """Says the weather of a city."""
    return Weather(TEMPERATURES.get(city.name, 0.0) * days, city)


def divide(a: float, b: float) -> float:
    """Divides."""
    return a / b


def hang(seconds: float = 60) -> str:
    time.sleep(seconds)  # a thread of the tools' process; the test ends it long before
    return "late"


async def hang_async() -> str:
    await asyncio.Event().wait()
    return "never"


async def add_async(a: int, b: int) -> int:
    return a + b


def big(size: int) -> str:
    return "x" * size


def environment() -> dict[str, str]:
    return dict(os.environ)


def die() -> None:
    os._exit(7)


def append(path: str, line: str) -> int:
    """Adds a line to a file; how many there are."""
    with open(path, "a") as file:  # noqa: PTH123
        file.write(line + "\n")
    with open(path) as file:  # noqa: PTH123
        return len(file.readlines())


def odd(kind: str) -> object:
    values = {
        "date": dt.date(2026, 1, 2), "decimal": Decimal("1.50"), "set": {1}, "bytes": b"ab", "binary": b"\xff",
        "none": None, "nan": float("nan"), "tuple": (1, "a"), "object": object, "surrogate": "a\ud800",
        "big int": 2**70, "keys": {1: "a"}, "model": City(name="Rome"), "range": range(3),
    }  # fmt: skip
    return values[kind]
