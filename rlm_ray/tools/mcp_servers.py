"""MCP servers, started and asked in the process of the tools. Works with version 1 and 2 of the `mcp` package.

A server's streams belong to the task that opened them, so each server has one; calls come from others.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Iterable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

from rlm_ray.core.tools import ToolSpec, check_name, parameter_order, signature_of_schema
from rlm_ray.errors import ConfigError, ToolError
from rlm_ray.tools.calling import ArgumentError, read_arguments

INSTALL = "needs the mcp package: pip install 'rlm-ray[mcp]'"


class McpToolError(Exception):
    """A server answered a call with an error."""


class McpServerLostError(Exception):
    """A server ended, or broke the protocol; it has to be started again."""


@dataclass(frozen=True, slots=True)
class _McpTool:
    """A tool of a server: its name there, and its JSON Schema."""

    server: str
    session: Any
    name: str
    schema: Mapping[str, Any]


class McpServers:
    """The servers of one process of tools."""

    def __init__(self) -> None:
        self._tools: dict[str, _McpTool] = {}
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self, servers: Mapping[str, Any], taken: Iterable[str]) -> list[ToolSpec]:
        """Start all servers, and return their tools in the order of their names. Raises `ToolError`."""
        names = set(taken)
        listed = await asyncio.gather(*(self._start(name, server) for name, server in servers.items()))
        specs = []
        for (server, config), tools in zip(servers.items(), listed, strict=True):
            for tool in _wanted(server, config, tools):
                specs.append(self._add(server, config, tool, names))
                names.add(specs[-1].name)
        return specs

    async def call(self, name: str, arguments: str) -> Any:
        """Call a tool. Raises `McpToolError`, `ArgumentError`, `McpServerLostError`."""
        tool = self._tools[name]
        given = _by_name(tool.schema, *read_arguments(arguments))
        try:
            reply = await tool.session.call_tool(tool.name, given)
        except Exception as error:  # an error of the tool itself is a reply
            said = str(error) or type(error).__name__
            raise McpServerLostError(
                f"its MCP server {tool.server!r} ended or broke off ({said}); the next call starts it again"
            ) from error
        return _value(reply.model_dump(mode="json", by_alias=True))

    async def _start(self, name: str, config: Mapping[str, Any]) -> list[tuple[Any, dict[str, Any]]]:
        started: asyncio.Future[list[tuple[Any, dict[str, Any]]]] = asyncio.get_running_loop().create_future()
        self._tasks.append(asyncio.create_task(_hold(name, config, started)))
        return await started

    def _add(
        self, server: str, config: Mapping[str, Any], found: tuple[Any, dict[str, Any]], taken: set[str]
    ) -> ToolSpec:
        session, tool = found
        name = (
            f"{config.get('prefix', '')}{tool['name']}".replace("-", "_").replace(".", "_").replace("/", "_")
        )
        try:
            check_name(name, taken, of=f"the MCP server {server!r}")
        except ConfigError as error:
            why = (
                f'{error.why}: set "prefix" of the server, as in "prefix": "{server}_", or "tools" without it'
            )
            raise ToolError(f"mcp_servers.{server}", why) from error
        schema = tool.get("inputSchema") or {}
        self._tools[name] = _McpTool(server, session, tool["name"], schema)
        return ToolSpec(name, signature_of_schema(schema), inspect.cleandoc(tool.get("description") or ""))


def _wanted(
    server: str, config: Mapping[str, Any], tools: list[tuple[Any, dict[str, Any]]]
) -> list[tuple[Any, dict[str, Any]]]:
    chosen = config.get("tools")
    if chosen is None:
        return sorted(tools, key=lambda found: found[1]["name"])
    known = {tool["name"]: (session, tool) for session, tool in tools}
    for name in chosen:
        if name not in known:
            raise ToolError(
                f"mcp_servers.{server}", f"has no tool {name!r}; it has {', '.join(sorted(known))}"
            )
    return [known[name] for name in chosen]


async def _hold(name: str, config: Mapping[str, Any], started: asyncio.Future[Any]) -> None:
    """Keep a server open for as long as this process lives."""
    try:
        async with AsyncExitStack() as stack:
            session = await _connect(stack, config)
            await session.initialize()
            tools = await _list_tools(session)
            started.set_result([(session, tool) for tool in tools])
            await asyncio.Event().wait()
    except asyncio.CancelledError:
        raise
    except BaseException as error:  # noqa: BLE001 - whatever it was, who waits for the start must hear of it
        if not started.done():
            started.set_exception(
                ToolError(f"mcp_servers.{name}", f"did not start: {_reason(error, config)}")
            )


async def _connect(stack: AsyncExitStack, config: Mapping[str, Any]) -> Any:
    try:
        from mcp import ClientSession
    except ImportError as error:
        raise ToolError("mcp_servers", INSTALL) from error
    if "command" in config:
        from mcp import StdioServerParameters
        from mcp.client.stdio import stdio_client

        parameters = StdioServerParameters(
            command=config["command"],
            args=[str(each) for each in config.get("args", ())],
            env={key: str(value) for key, value in config["env"].items()} if "env" in config else None,
            cwd=config.get("cwd"),
        )
        streams = await stack.enter_async_context(stdio_client(parameters))
    else:
        streams = await stack.enter_async_context(_http_client(config))
    return await stack.enter_async_context(ClientSession(streams[0], streams[1]))


def _http_client(config: Mapping[str, Any]) -> Any:
    from mcp.client import streamable_http

    headers = {key: str(value) for key, value in config.get("headers", {}).items()}
    old = getattr(streamable_http, "streamablehttp_client", None)
    if old is not None:
        return old(config["url"], headers=headers)
    from mcp.shared._httpx_utils import create_mcp_http_client

    return streamable_http.streamable_http_client(
        config["url"], http_client=create_mcp_http_client(headers=headers)
    )


async def _list_tools(session: Any) -> list[dict[str, Any]]:
    tools: list[dict[str, Any]] = []
    page = (await session.list_tools()).model_dump(mode="json", by_alias=True)
    tools += page["tools"]
    while page.get("nextCursor") and len(tools) < 1_000:
        page = (await session.list_tools(cursor=page["nextCursor"])).model_dump(mode="json", by_alias=True)
        tools += page["tools"]
    return tools


def _by_name(schema: Mapping[str, Any], args: list[Any], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Name the arguments: positional ones fill the parameters in the order in which the model reads them."""
    order = parameter_order(schema)
    if len(args) > len(order):
        raise ArgumentError(f"there are {len(args)} arguments for the {len(order)} that it takes")
    given = dict(zip(order, args, strict=False))
    for name, value in kwargs.items():
        if name in given:
            raise ArgumentError(f"the argument {name!r} is given twice")
        if name not in order and not schema.get("additionalProperties"):
            raise ArgumentError(f"there is no argument {name!r}; it takes {', '.join(order) or 'none'}")
        given[name] = value
    missing = [name for name in schema.get("required") or () if name not in given]
    if missing:
        raise ArgumentError(f"the argument {missing[0]!r} is missing")
    _check_types(schema, given)
    return given


def _check_types(schema: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    from jsonschema import Draft202012Validator  # type: ignore[import-untyped]  # ships no types

    faults = sorted(
        Draft202012Validator(dict(schema)).iter_errors(given), key=lambda fault: list(map(str, fault.path))
    )
    if faults:
        where = ".".join(map(str, faults[0].absolute_path))
        raise ArgumentError(
            f"argument {where}: {faults[0].message[:300]}" if where else faults[0].message[:300]
        )


def _value(reply: Mapping[str, Any]) -> Any:
    """Return what the cell gets: structured content where there is some, else the texts."""
    texts = [part["text"] for part in reply.get("content") or () if part.get("type") == "text"]
    if reply.get("isError"):
        raise McpToolError("\n".join(texts) or "the server gives no reason")
    structured = reply.get("structuredContent")
    if structured is not None:
        return (
            structured["result"]
            if isinstance(structured, dict) and list(structured) == ["result"]
            else structured
        )
    others = [part for part in reply.get("content") or () if part.get("type") != "text"]
    if others:
        return [*texts, *others]
    return texts[0] if len(texts) == 1 else "\n".join(texts)


def _reason(error: BaseException, config: Mapping[str, Any]) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    what = config.get("command") or config.get("url")
    if isinstance(error, ToolError):
        return error.why
    if isinstance(error, FileNotFoundError):
        return f"there is no command {what!r}; install it, or give its whole path"
    said = str(error) or type(error).__name__
    return f"{what!r} answered with an error ({said}); run it by hand to see what it wants"
