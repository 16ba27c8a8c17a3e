# SPDX-License-Identifier: MIT
"""Mistakes that a type checker has to find, and nothing else.

A line with a mistake ends with `# wrong: CODES RULES`: the error codes of mypy and the rules of pyright.  Checkers read
this file; nothing runs it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mcp_h11 import Client, Context, MCPServer, ServerHandler, Settings, listening, run, serve, start_in_thread


@dataclass
class State:
    name: str


@dataclass
class Order:
    copies: int


server = MCPServer("mistaken", pagesize=5)  # wrong: call-arg reportCallIssue


@server.tool
def add(a: int, b: int) -> int:
    return a + b


@server.tool(titel="Order")  # wrong: call-overload,untyped-decorator reportCallIssue
def titled() -> None: ...


@server.tool
async def order(ctx: Context[State]) -> int:
    print(ctx.lifespan.nmae)  # wrong: attr-defined reportAttributeAccessIssue
    print(ctx.principal.subject)  # wrong: union-attr reportOptionalMemberAccess
    ctx.repot_progress(1)  # wrong: attr-defined reportAttributeAccessIssue
    answer = await ctx.elicit("How many?", Order)
    print(answer.data.copies)  # wrong: union-attr reportOptionalMemberAccess
    if answer.action == "accepted":  # wrong: comparison-overlap reportUnnecessaryComparison
        return 0
    if answer.action == "accept":
        print(answer.data.copys)  # wrong: attr-defined reportAttributeAccessIssue
    await ctx.elicit("How many?", "Order")  # wrong: call-overload reportCallIssue,reportArgumentType
    return answer.data  # wrong: return-value reportReturnType


async def other_state(ctx: Context[Order]) -> None:
    await order(ctx)  # wrong: arg-type reportArgumentType
    add("1", 2)  # wrong: arg-type reportArgumentType
    add(1, 2, 3)  # wrong: call-arg reportCallIssue


@server.completion
def complete(ref: dict[str, Any], argument: dict[str, Any], context: dict[str, Any] | None) -> list[str]:
    return []


def serves(handler: ServerHandler) -> None:
    complete("ref")  # wrong: call-arg,arg-type reportCallIssue
    server.run(prot=80)  # wrong: call-arg reportCallIssue
    server.run(transport="studio")  # wrong: arg-type reportArgumentType
    server.run(max_running="5")  # wrong: arg-type reportArgumentType
    run(handler, loop="uvlop")  # wrong: arg-type reportArgumentType
    run(handler, max_runing=5)  # wrong: call-arg reportCallIssue
    run(handler, quiet="yes")  # wrong: arg-type reportArgumentType
    run(add)  # wrong: arg-type reportArgumentType
    start_in_thread(handler, callin=print)  # wrong: call-arg reportCallIssue
    Settings(max_runing=5)  # wrong: call-arg reportCallIssue


async def serves_on(handler: ServerHandler) -> None:
    await serve(handler, signal=False)  # wrong: call-arg reportCallIssue
    await serve(handler, quite=True)  # wrong: call-arg reportCallIssue
    await serve(handler, response="jsn")  # wrong: arg-type reportArgumentType
    async with listening(handler, port="0"):  # wrong: arg-type reportArgumentType
        pass
    async with listening(handler, quiet=True):  # wrong: call-arg reportCallIssue
        pass
    async with listening(handler, on_start=print):  # wrong: call-arg reportCallIssue
        pass


async def asks(client: Client) -> str:
    tools = await client.list_tools()
    print(tools[0]["nmae"])  # wrong: typeddict-item reportGeneralTypeIssues
    await client.call_tool("add", [1, 2])  # wrong: call-overload reportArgumentType
    await client.call_tool(name="add", argument={})  # wrong: call-overload reportCallIssue
    result = await client.call_tool("add", {"a": 1})
    print(result["contents"])  # wrong: typeddict-item reportGeneralTypeIssues
    print(result.get("structuredContent"), result["content"][0]["type"])
    return result["content"][0]["text"]  # wrong: typeddict-item reportGeneralTypeIssues
