# SPDX-License-Identifier: MIT
"""The fixture for the client scenarios of the official conformance suite.

`everything_client.py URL`, with MCP_CONFORMANCE_SCENARIO, MCP_CONFORMANCE_PROTOCOL_VERSION and, for some scenarios,
MCP_CONFORMANCE_CONTEXT (JSON) in the environment.  Ends with 0 where the scenario was played to its end.  Scenarios
that need OAuth are not played: they end with 3.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import anyio

from mcp_h11.client.client import Client
from mcp_h11.protocol.errors import MCPError

LIMIT = 60  # seconds for one scenario
NOT_PLAYED = 3

Scenario = Callable[[Client], Awaitable[None]]


async def accept(params: dict[str, Any]) -> dict[str, Any]:
    """Every elicitation is accepted, with what its schema has as defaults."""
    schema = params.get("requestedSchema", {})
    content: dict[str, Any] = {}
    for name, part in schema.get("properties", {}).items():
        if "default" in part:
            content[name] = part["default"]
        elif name in schema.get("required", ()):
            content[name] = {"boolean": True, "integer": 1, "number": 1}.get(part.get("type"), "yes")
    return {"action": "accept", "content": content}


def arguments_for(tool: dict[str, Any]) -> dict[str, Any]:
    """Something valid for each property."""
    examples = {"integer": 1, "number": 1, "boolean": True, "object": {}, "array": [], "null": None}
    properties = tool.get("inputSchema", {}).get("properties", {})
    return {name: examples.get(part.get("type"), "text") for name, part in properties.items()}


async def list_only(client: Client) -> None:
    await client.list_tools()


async def call_add(client: Client) -> None:
    await client.list_tools()
    await client.call_tool("add_numbers", {"a": 5, "b": 3})


async def elicitation_defaults(client: Client) -> None:
    await client.list_tools()
    await client.call_tool("test_client_elicitation_defaults")


async def reconnect(client: Client) -> None:
    await client.list_tools()
    await client.call_tool("test_reconnection")


async def request_state(client: Client) -> None:
    for tool in ("test_mrtr_echo_state", "test_mrtr_no_state", "test_mrtr_unrelated", "test_mrtr_no_result_type"):
        await client.call_tool(tool)


async def standard_headers(client: Client) -> None:
    for tool in await client.list_tools():
        await client.call_tool(tool["name"], arguments_for(tool))
    for resource in await client.list_resources():
        await client.read_resource(resource["uri"])
    for prompt in await client.list_prompts():
        names = [argument["name"] for argument in prompt.get("arguments", ())]
        await client.get_prompt(prompt["name"], dict.fromkeys(names, "text"))


async def custom_headers(client: Client) -> None:
    await client.list_tools()
    for call in json.loads(os.environ.get("MCP_CONFORMANCE_CONTEXT", "{}")).get("toolCalls", ()):
        await client.call_tool(call["name"], call.get("arguments"))


async def call_all(client: Client) -> None:
    for tool in await client.list_tools():
        await client.call_tool(tool["name"], arguments_for(tool))


async def echo_schema(client: Client) -> None:
    tools = {tool["name"]: tool for tool in await client.list_tools()}
    schema = tools["json_schema_2020_12_tool"]["inputSchema"]
    echo = next(tool for name, tool in tools.items() if name != "json_schema_2020_12_tool")
    (argument,) = list(echo["inputSchema"]["properties"])[:1]
    await client.call_tool(echo["name"], {argument: schema})


SCENARIOS: dict[str, Scenario] = {
    "initialize": list_only,
    "tools_call": call_add,
    "elicitation-sep1034-client-defaults": elicitation_defaults,
    "sse-retry": reconnect,
    "request-metadata": list_only,
    "sep-2322-client-request-state": request_state,
    "http-standard-headers": standard_headers,
    "http-custom-headers": custom_headers,
    "http-invalid-tool-headers": call_all,
    "json-schema-ref-no-deref": list_only,
    "json-schema-2020-12-preservation": echo_schema,
}


async def play(scenario: Scenario, url: str, revision: str) -> None:
    with anyio.fail_after(LIMIT):
        async with Client(url, name="everything-client", version="1.0", revision=revision, on_elicitation=accept) as c:
            await scenario(c)


def main() -> int:
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    scenario = SCENARIOS.get(os.environ.get("MCP_CONFORMANCE_SCENARIO", ""))
    if scenario is None:
        return NOT_PLAYED
    try:
        anyio.run(play, scenario, sys.argv[-1], os.environ.get("MCP_CONFORMANCE_PROTOCOL_VERSION", "2026-07-28"))
    except MCPError as error:
        print(f"{type(error).__name__} {error.code}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
