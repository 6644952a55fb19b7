"""Names, signatures and descriptions of tools, and what cannot be a tool."""

from __future__ import annotations

import pytest

from rlm_ray.core.tools import (
    MAX_CODE_BYTES,
    MAX_TOOLS,
    Tool,
    ToolLimits,
    ToolSpec,
    check_name,
    check_tools,
    missing_tools,
    parameter_order,
    signature_of_schema,
    specs_from_json,
    specs_to_json,
    tool_block,
)
from rlm_ray.errors import ConfigError

CITY = {"type": "string"}


@pytest.mark.parametrize(
    ("schema", "signature"),
    [
        ({}, "()"), ({"properties": None, "required": None}, "()"), ({"properties": {"city": CITY}}, "(city: str = None)"),
        ({"properties": {"city": CITY}, "required": ["city"]}, "(city: str)"),
        ({"properties": {"days": {"type": "integer", "default": 3}, "city": CITY}, "required": ["city"]}, "(city: str, days: int = 3)"),
        ({"properties": {"x": {"type": "number"}, "y": {"type": "boolean"}}, "required": ["x", "y"]}, "(x: float, y: bool)"),
        ({"properties": {"x": {"type": "object"}, "y": {"type": "null"}}, "required": ["x", "y"]}, "(x: dict, y: None)"),
        ({"properties": {"x": {"type": "array"}, "y": {"type": "array", "items": CITY}}, "required": ["x", "y"]}, "(x: list, y: list[str])"),
        ({"properties": {"x": {"enum": ["a", 1]}, "y": {"type": ["string", "null"]}}, "required": ["x", "y"]}, "(x: Literal['a', 1], y: str | None)"),
        ({"properties": {"x": {"anyOf": [CITY, {"type": "null"}, CITY]}}, "required": ["x"]}, "(x: str | None)"),
        ({"properties": {"x": {"oneOf": [{"type": "integer"}, {}]}}, "required": ["x"]}, "(x: int | object)"),
        ({"properties": {"x": {"type": ["string", "odd"]}, "y": {"type": "odd"}}, "required": ["x", "y"]}, "(x: str | object, y: object)"),
        ({"properties": {"x": True, "y": {}}}, "(x: object, y: object = None)"),
        ({"properties": {"x": {"type": "array", "items": True}}, "required": ["x"]}, "(x: list[object])"),
    ],
)  # fmt: skip
def test_json_schema_reads_as_a_signature(schema, signature):
    assert signature_of_schema(schema) == signature


def test_required_parameters_come_first_in_their_order():
    schema = {"properties": {"a": {}, "b": {}, "c": {}, "d": {}}, "required": ["d", "b"]}
    assert parameter_order(schema) == ["b", "d", "a", "c"]


@pytest.mark.parametrize(
    ("doc", "line"),
    [
        ("", "- `f(a)`"), ("Adds.", "- `f(a)`: Adds."), ("  Adds.\n\n    Twice.\n", "- `f(a)`: Adds.\n  \n  Twice."),
        pytest.param("x" * 1_500, f"- `f(a)`: {'x' * 1_500}", id="longest"),
        pytest.param("x" * 1_501, f"- `f(a)`: {'x' * 1_500} …", id="cut"),
    ],
)  # fmt: skip
def test_prompt_shows_signature_and_the_beginning_of_the_docstring(doc, line):
    block = tool_block([ToolSpec("f", "(a)", doc), ToolSpec("g", "()", "")])
    assert block.endswith(f"\n{line}\n- `g()`\n")
    assert "raises ToolError" in block
    assert tool_block([]) == ""


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("weather", None), ("w2", None), ("2w", "is no name that code can call"), ("a-b", "is no name that code can call"),
        ("class", "is no name that code can call"), ("_a", "begins with an underscore"), ("search", "is a name of the REPL already"),
        ("len", "is a name of Python's own"), ("json", "is a name of Python's own"), ("taken", "there are two tools named 'taken'"),
    ],
)  # fmt: skip
def test_name_is_one_that_a_cell_can_call(name, why):
    if why is None:
        check_name(name, ["taken"])
        return
    with pytest.raises(ConfigError, match=f"^tools: .*{why}"):
        check_name(name, ["taken"])


def tool(name, size=1):
    return Tool(name, "()", "", b"x" * size)


@pytest.mark.parametrize(
    ("tools", "why"),
    [
        ((), None), ((tool("a"), tool("b")), None), (tuple(tool(f"t{n}") for n in range(MAX_TOOLS)), None),
        (tuple(tool(f"t{n}") for n in range(MAX_TOOLS + 1)), "are 129, more than 128"), ([tool("a")], "are Python functions"),
        ((tool("a"), "b"), "are Python functions"), ((tool("a"), tool("a")), "two tools named 'a'"),
        ((tool("a", MAX_CODE_BYTES - 1), tool("b")), None), ((tool("a", MAX_CODE_BYTES), tool("b")), "hold 4,000,001 bytes"),
    ],
)  # fmt: skip
def test_tools_are_few_small_and_differ_in_name(tools, why):
    if why is None:
        check_tools(tools)
        return
    with pytest.raises(ConfigError, match=why):
        check_tools(tools)


@pytest.mark.parametrize(
    ("recorded", "given", "named"),
    [((), ("a",), ""), (("a",), ("a", "b"), ""), (("b", "a", "c"), ("c",), "a, b"), (("a",), (), "a")],
)
def test_tools_of_a_record_that_are_not_given_are_named(recorded, given, named):
    why = missing_tools(recorded, given)
    assert why == (
        f"the run had the tools {named}, which no record holds: give them again (tools=[...])"
        if named
        else ""
    )


def test_specs_travel_as_json():
    specs = (ToolSpec("f", "(a: str) -> str", "Grüßt."), ToolSpec("g", "()", ""))
    assert specs_from_json(specs_to_json(specs)) == specs
    assert "ü" in specs_to_json(specs)


@pytest.mark.parametrize(
    "wrong",
    [
        {"timeout_s": 0.009}, {"timeout_s": 86_401}, {"max_concurrent": 0}, {"max_concurrent": 1_001}, {"max_argument_bytes": 99},
        {"max_argument_bytes": 50_000_001}, {"max_result_bytes": 99}, {"max_result_bytes": 50_000_001}, {"max_calls": 0},
        {"max_calls": 10**9 + 1}, {"start_timeout_s": 0.09}, {"start_timeout_s": 3_601}, {"children": 1},
    ],
)  # fmt: skip
def test_limits_of_tools_are_named_where_they_make_no_sense(wrong):
    with pytest.raises(ConfigError, match=f"tool_limits.{next(iter(wrong))}: must be"):
        ToolLimits(**wrong)
    assert ToolLimits() == ToolLimits(60.0, 8, 1_000_000, 1_000_000, 10_000, 60.0, children=True)
    assert ToolLimits(0.01, 1, 100, 100, 1, 0.1).max_calls == 1
    assert ToolLimits(86_400, 1_000, 50_000_000, 50_000_000, 10**9, 3_600).max_calls == 10**9
