"""Tools in their process: what a call gets, whatever the function does."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import pytest
import pytest_asyncio
import ray.cloudpickle
import tool_functions

from rlm_ray.core.repl_types import Failed, ToolRequest
from rlm_ray.core.tools import ToolLimits, tool_block
from rlm_ray.errors import ConfigError, ToolError
from rlm_ray.tools.host import ToolHosts
from rlm_ray.tools.packing import pack_tools

FUNCTIONS = [value for value in vars(tool_functions).values() if getattr(value, "__module__", "") == "tool_functions"
             and not isinstance(value, type)]  # fmt: skip
pytestmark = pytest.mark.slow  # each starts a process that imports Ray's cloudpickle
SERVER = {"command": sys.executable, "args": [str(Path(__file__).with_name("mcp_server.py"))]}


def packed(*functions):
    return pack_tools(functions, ray.cloudpickle)


@pytest.fixture
async def hosts():
    hosts = ToolHosts()
    yield hosts
    await hosts.aclose()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def module_hosts():
    """For tests that only call: their process takes long to start."""
    hosts = ToolHosts()
    yield hosts
    await hosts.aclose()


@pytest_asyncio.fixture(loop_scope="module")
async def call(module_hosts):
    """Calls a tool of `tool_functions`; its value, or its failure."""
    box = await module_hosts.open(
        packed(*FUNCTIONS), {}, ToolLimits(timeout_s=30, max_result_bytes=1_000_000)
    )
    return caller(box)


def caller(box):
    async def call(name, /, *args, **kwargs):
        outcome = await box.call(ToolRequest(name, json.dumps([args, kwargs])))
        return outcome if isinstance(outcome, Failed) else json.loads(outcome.text)

    return call


async def test_function_is_called_with_checked_arguments(call):
    rome = {"degrees": 63.0, "city": {"name": "Rome", "zip": 0}}
    assert await call("weather", {"name": "Rome"}, days="2") == rome
    assert await call("weather", city={"name": "Rome"}, days=2, unit="F") == rome
    assert await call("add_async", 1, b=2) == 3


@pytest.mark.parametrize(
    ("name", "args", "kwargs", "why"),
    [
        ("weather", [], {}, "the argument 'city' is missing"),
        ("weather", [{"nam": "Rome"}], {}, "argument city.name: Field required"),
        ("weather", [{"name": "Rome"}], {"days": "many"}, "argument days: Input should be a valid integer"),
        ("weather", [{"name": "Rome"}], {"days": 1.5}, "argument days: Input should be a valid integer"),
        ("weather", [{"name": "Rome"}], {"unit": "K"}, "argument unit: Input should be 'C' or 'F'"),
        ("weather", [{"name": "Rome"}], {"when": 1}, "there is no argument 'when'"),
        ("weather", [{"name": "Rome"}, 1, "C", 4], {}, "too many arguments: nothing takes number 4"),
        ("weather", [{"name": "Rome"}], {"city": {"name": "Rome"}}, "the argument 'city' is given twice"),
        ("weather", [None], {}, "argument city: Input should be a valid dictionary"),
        ("divide", ["a", "b"], {}, "argument a: Input should be a valid number"),
    ],
)
async def test_arguments_that_do_not_fit_are_refused_with_what_is_wrong(call, name, args, kwargs, why):
    failed = await call(name, *args, **kwargs)
    assert failed.kind == "ArgumentError"
    assert why in failed.why


async def test_error_of_a_function_is_its_outcome_and_others_go_on(call):
    failed = await call("divide", 1, 0)
    assert (failed.kind, failed.why) == (
        "ZeroDivisionError",
        "it raised ZeroDivisionError: float division by zero",
    )
    assert await call("divide", 1, 2) == 0.5


async def test_result_of_ten_megabytes_is_refused(call):
    failed = await call("big", 10_000_000)
    assert failed.kind == "ResultError"
    assert failed.why.startswith("its result has 10,000,000 bytes, more than the 1,000,000 that are taken")
    assert len(await call("big", 999_000)) == 999_000


async def test_process_that_dies_fails_its_call_and_another_one_starts(call):
    assert "its process ended while it ran (exit code 7)" in (await call("die")).why
    assert await call("divide", 1, 2) == 0.5


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("date", "2026-01-02"), ("decimal", "1.50"), ("set", [1]), ("bytes", "ab"), ("binary", "_w=="), ("none", None),
        ("tuple", [1, "a"]), ("big int", 2**70), ("keys", {"1": "a"}), ("model", {"name": "Rome", "zip": 0}),
        ("object", "<class 'object'>"), ("surrogate", "a?"),
    ],
)  # fmt: skip
async def test_results_are_plain_values(call, kind, value):
    assert await call("odd", kind) == value


@pytest.mark.parametrize("name", ["hang", "hang_async"])
async def test_call_that_hangs_is_given_up_and_its_process_ended(hosts, name):
    box = await hosts.open(packed(*FUNCTIONS), {}, ToolLimits(timeout_s=0.2))
    await box.list_tools()
    process = (await box._running())._process
    failed = await caller(box)(name)
    assert failed.kind == "TimeoutError"
    assert failed.why == "it gave no result within 0.2 s and was given up (tool_limits.timeout_s)"
    assert process.poll() is not None


async def test_process_holds_no_key_whatever_its_name(monkeypatch, hosts):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    monkeypatch.setenv("SOME_OTHER_THING", "secret")
    box = await hosts.open(packed(tool_functions.environment), {}, ToolLimits(timeout_s=30))
    held = await caller(box)("environment")
    assert "PATH" in held
    assert "secret" not in json.dumps(held)


async def test_more_calls_than_may_run_at_once_wait(hosts):
    box = await hosts.open(packed(*FUNCTIONS), {}, ToolLimits(max_concurrent=1))
    call = caller(box)
    assert await asyncio.gather(*(call("add_async", number, 1) for number in range(5))) == [1, 2, 3, 4, 5]


async def test_so_many_sets_of_tools_keep_their_process(monkeypatch, hosts):
    monkeypatch.setattr("rlm_ray.tools.host.MAX_SETS", 2)
    tools = packed(tool_functions.add_async)
    boxes = [await hosts.open(tools, {}, ToolLimits(timeout_s=30, max_calls=number)) for number in (1, 2)]
    assert await hosts.open(tools, {}, ToolLimits(timeout_s=30, max_calls=1)) is boxes[0]
    assert [await caller(box)("add_async", 1, 1) for box in boxes] == [2, 2]
    await hosts.open(tools, {}, ToolLimits(timeout_s=30, max_calls=3))
    assert [box._process is None for box in boxes] == [False, True]
    assert await caller(boxes[1])("add_async", 1, 1) == 2
    await boxes[1].aclose()


def test_signatures_and_docstrings_are_shown():
    shown = tool_block(packed(tool_functions.weather, tool_functions.divide))
    assert (
        "- `weather(city: City, days: int = 1, unit: Literal['C', 'F'] = 'C') -> Weather`: Says the weather"
        in shown
    )
    assert "- `divide(a: float, b: float) -> float`: Divides." in shown


def named(name):
    def function() -> None: ...

    function.__name__ = name
    return function


class Gone:
    def __call__(self, x: int) -> int:
        return x


async def stream(n: int):
    yield n


def unresolved(x: Missing) -> int:  # noqa: F821
    return 1


def handle(file: type(sys.stdout)) -> int:  # a type no JSON can hold
    return 1


LOCK = __import__("threading").Lock()


def holds_lock() -> bool:
    return LOCK.locked()


@pytest.mark.parametrize(
    ("functions", "why"),
    [
        ([named("context")], "'context' is a name of the REPL already"),
        ([named("recursive_llm")], "is a name of the REPL already"),
        ([named("FINAL")], "is a name of the REPL already"),
        ([named("cite")], "is a name of the REPL already"),
        ([named("print")], "is a name of Python's own"),
        ([named("len")], "is a name of Python's own"),
        ([named("for")], "is no name that code can call"),
        ([named("get-weather")], "is no name that code can call"),
        ([named("_hidden")], "begins with an underscore"),
        ([named("a"), named("a")], "there are two tools named 'a'"),
        ([lambda x: x], "has no name to call it by"),
        ([Gone()], "has no name to call it by"),
        ([tool_functions.City], "takes functions"),
        (["weather"], "takes functions"),
        ([3], "takes functions"),
        ("weather", "are a list of functions"),
        (tool_functions.weather, "are a list of functions"),
        ([stream], "is an async generator"),
        ([unresolved], "has an annotation that cannot be found"),
        ([handle], "takes what no JSON can hold"),
        ([holds_lock], "cannot be sent to another process"),
    ],
)
def test_what_cannot_be_a_tool_is_refused_at_the_door(functions, why):
    with pytest.raises(ConfigError) as refused:
        pack_tools(functions, ray.cloudpickle)
    assert why in str(refused.value)


def test_callable_without_a_name_is_given_one():
    assert [tool.name for tool in pack_tools({"double": Gone()}, ray.cloudpickle)] == ["double"]


@pytest.fixture
async def shop(hosts):
    config = SERVER | {"prefix": "shop_", "env": {"SHOP": "open"}}
    return await hosts.open((), {"shop": config}, ToolLimits(timeout_s=30, max_result_bytes=100_000))


async def test_mcp_server_is_called_by_the_names_of_its_tools(monkeypatch, shop):
    shown = tool_block(shop.specs)
    assert "- `shop_price(article: str, amount: int = 1)`: The price of an article." in shown
    call = caller(shop)
    assert await call("shop_price", "tea", amount=2) == 5.0
    assert await call("shop_list_articles") == ["tea", "cake"]
    for args, kwargs, why in (
        ([], {}, "the argument 'article' is missing"),
        (["tea"], {"color": 1}, "there is no argument 'color'; it takes article, amount"),
        (["tea", "two"], {}, "argument amount: 'two' is not of type 'integer'"),
        (["tea", 1, 2], {}, "there are 3 arguments for the 2 that it takes"),
        (["tea"], {"article": "tea"}, "is given twice"),
        (["soup"], {}, "Error executing tool price"),
    ):
        assert why in (await call("shop_price", *args, **kwargs)).why
    assert (await call("shop_big", 10_000_000)).kind == "ResultError"
    assert (await call("shop_environment"))["SHOP"] == "open"


async def test_mcp_server_that_hangs_or_dies_costs_its_call_only(hosts):
    box = await hosts.open(
        (), {"shop": SERVER | {"tools": ["hang", "die", "price"]}}, ToolLimits(timeout_s=2)
    )
    call = caller(box)
    assert [spec.name for spec in box.specs] == ["hang", "die", "price"]
    assert (await call("hang")).kind == "TimeoutError"
    assert "its MCP server 'shop' ended or broke off" in (await call("die")).why
    assert await call("price", "tea") == 2.5


@pytest.mark.parametrize(
    ("config", "why"),
    [
        (SERVER, "'search' is a name of the REPL already"),
        (SERVER | {"tools": ["nothing"]}, "has no tool 'nothing'"),
        ({"command": "no-such-command"}, "there is no command 'no-such-command'"),
        ({"command": sys.executable, "args": ["-c", "raise SystemExit(1)"]}, "did not start"),
        (
            {"command": sys.executable, "args": ["-c", "import time; time.sleep(60)"]},
            "did not start within 3 s",
        ),
    ],
)
async def test_mcp_server_that_cannot_be_used_is_refused_with_a_sentence(hosts, config, why):
    with pytest.raises(ToolError) as refused:
        await hosts.open((), {"shop": config}, ToolLimits(start_timeout_s=3 if "60" in str(config) else 30))
    assert why in str(refused.value)
