# SPDX-License-Identifier: MIT
"""Each scenario of the benchmark on a server of ours that has its tools, in both eras where it has both."""

from __future__ import annotations

from collections.abc import Iterator

import anyio
import pytest

from mcp_h11 import Context, MCPServer, start_in_thread
from mcp_h11.bench.measuring import measure
from mcp_h11.bench.scenarios import ANY_TOOL, SCENARIOS, LoadPlan


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    server = MCPServer("bench")

    @server.tool(structured_output=False)
    async def add(a: int, b: int) -> int:
        return a + b

    @server.tool(structured_output=False)
    async def echo(text: str) -> str:
        return text

    @server.tool(structured_output=False)
    async def sleep(seconds: float) -> str:
        await anyio.sleep(seconds)
        return "slept"

    @server.tool(structured_output=False)
    async def ticks(n: int, ctx: Context) -> str:
        for number in range(1, n + 1):
            await ctx.report_progress(number, n)
        return "done"

    with start_in_thread(server) as running:
        yield running.port


CASES = [(name, era) for name, scenario in SCENARIOS.items() for era in scenario.eras if name != "echo-1m"]


@pytest.mark.parametrize(("name", "era"), CASES)
def test_a_scenario_is_answered_right_to_its_end(name: str, era: str, port: int) -> None:
    load = LoadPlan(
        SCENARIOS[name], port, era=era, concurrency=2, duration=20.0, warmup=0.0, most=4, listed=4, prepared=10
    )
    found = measure(load, None)
    assert found.operations >= 4 and found.errors == {} and found.ended == "operations"
    assert load.sessions == {}  # those that were left open are deleted


def test_a_tool_by_its_name_with_a_text_that_is_expected(port: int) -> None:
    load = LoadPlan(ANY_TOOL, port, expect="3", duration=20.0, warmup=0.0, most=4)
    assert measure(load, None).operations >= 4
    load = LoadPlan(ANY_TOOL, port, any_answer=True, new_head=True, duration=20.0, warmup=0.0, most=4)
    assert measure(load, None).operations >= 4
    load = LoadPlan(ANY_TOOL, port, ports=(port, port), concurrency=2, duration=20.0, warmup=0.0, most=4)
    assert measure(load, None).operations >= 4
