# SPDX-License-Identifier: MIT
"""The fixture for the client scenarios of the official conformance suite.

`everything_client.py URL`, with MCP_CONFORMANCE_SCENARIO, MCP_CONFORMANCE_PROTOCOL_VERSION and, for some scenarios,
MCP_CONFORMANCE_CONTEXT (JSON) in the environment.  Ends with 0 where the scenario was played to its end, with 1 where
the client refused to go on, which some scenarios want, and with 3 for a scenario that is not played here.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import anyio

from mcp_h11.client import probe
from mcp_h11.client.client import Client
from mcp_h11.client.http.httpclient import HTTPCall, HTTPClient
from mcp_h11.client.oauth.grants import ClientCredentials, EnterpriseIdentity, JWTBearer
from mcp_h11.client.oauth.oauth import OAuth
from mcp_h11.client.oauth.redirect import AuthorizationResponse
from mcp_h11.client.skills import list_skills, read_skill, read_skill_file
from mcp_h11.protocol.errors import MCPError

LIMIT = 280  # seconds for one scenario: the suite starts all of a revision at once
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


async def look_at_skills(client: Client) -> None:
    await list_skills(client)


async def load_a_skill(client: Client) -> None:
    (entry,) = await list_skills(client)
    await read_skill(client, entry)  # raises: the server sends another file than the entry describes
    for file in entry["resources"]:
        await read_skill_file(client, entry, file["uri"])


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
    "sep-2640-client-no-prefetch": look_at_skills,
    "sep-2640-client-verify-digest": load_a_skill,
    "sep-2640-client-verify-size": load_a_skill,
    "sep-2640-client-verify-frontmatter": load_a_skill,
}


# --- logins -----------------------------------------------------------------------------------------------------------

# A document that the suite knows; nothing fetches it.
DOCUMENT = "https://conformance-test.local/client-metadata.json"


class Browser:
    """A person who agrees to everything: follows the redirect of the authorization server, and listens nowhere."""

    async def start(self, known: Sequence[str] = ()) -> str:
        return "http://localhost:3999/callback"

    async def authorize(self, url: str) -> AuthorizationResponse:
        async with HTTPClient() as http, await http.send(HTTPCall("GET", url)) as answer:
            return AuthorizationResponse.from_url(answer.get("location") or "")

    async def aclose(self) -> None:
        pass


def login_for(scenario: str) -> OAuth:
    """The options that the scenario gives to a client in its context, or those of any client."""
    context = json.loads(os.environ.get("MCP_CONFORMANCE_CONTEXT", "{}"))
    client_id, secret = context.get("client_id"), context.get("client_secret")
    if scenario == "auth/client-credentials-jwt":
        key, algorithm = context["private_key_pem"], context["signing_algorithm"]
        return OAuth(client_id=client_id, private_key=key, signing_algorithm=algorithm, grant=ClientCredentials())
    if scenario == "auth/client-credentials-basic":
        return OAuth(client_id=client_id, client_secret=secret, grant=ClientCredentials())
    if scenario == "auth/enterprise-managed-authorization":
        identity = EnterpriseIdentity(
            lambda: str(context["idp_id_token"]),
            token_endpoint=context["idp_token_endpoint"],
            client_id=context["idp_client_id"],
        )
        return OAuth(client_id=client_id, client_secret=secret, grant=identity)
    if scenario == "auth/wif-jwt-bearer":
        return OAuth(client_id=client_id, grant=JWTBearer(lambda audience: str(context["valid_jwt"])))
    document = DOCUMENT if client_id is None else None
    proofs = scenario.startswith("auth/dpop")
    return OAuth(
        client_id=client_id, client_secret=secret, client_metadata_url=document, redirect=Browser(), proofs=proofs
    )


async def use_with_login(client: Client) -> None:
    await client.list_tools()
    await client.call_tool("test-tool", {})


async def play(name: str, url: str, revision: str) -> None:
    login = login_for(name) if name.startswith("auth/") else None
    with anyio.fail_after(LIMIT):
        async with Client(
            url,
            name="everything-client",
            version="1.0",
            revision=revision,
            on_elicitation=accept,
            auth=login,
            timeout=LIMIT,
        ) as client:
            await (SCENARIOS.get(name) or use_with_login)(client)


def main() -> int:
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    probe.PROBE_TIMEOUT = LIMIT
    scenario = os.environ.get("MCP_CONFORMANCE_SCENARIO", "")
    if scenario not in SCENARIOS and not scenario.startswith("auth/"):
        return NOT_PLAYED
    try:
        anyio.run(play, scenario, sys.argv[-1], os.environ.get("MCP_CONFORMANCE_PROTOCOL_VERSION", "2026-07-28"))
    except MCPError as error:
        print(f"{type(error).__name__} {error.code}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
