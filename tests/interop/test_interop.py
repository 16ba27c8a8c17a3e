# SPDX-License-Identifier: MIT
"""Official clients, each in a process of its own, against our server in another: what they see is what we promise.

Every client runs the same battery (`tests/interop/steps.*`) and has to see the same values; `DIFFERENT` names where
an era or a client differs, and why.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from provision import (
    EVERYTHING,
    Running,
    Unavailable,
    everything_required,
    everything_server,
    npm_folder,
    python_with,
    server_environment,
    trouble_in,
)

pytestmark = pytest.mark.interop

DRIVERS = Path(__file__).resolve().parent
RUN_LIMIT = 120  # seconds for one driver; it takes about five
LEGACY = "2025-11-25"
MODERN = "2026-07-28"

TOOLS = re.findall(r"^@server\.tool.*?^(?:async )?def (\w+)\(", EVERYTHING.read_text(), re.M | re.S)
PERSON = '{"email": "alice@example.com", "username": "alice"}'


class Fails:
    """Equal to what a step reports that raised."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, str) and other.startswith("ERROR")

    def __repr__(self) -> str:
        return "an error"


FAILS = Fails()

EXPECTED: dict[str, Any] = {
    "connect": {
        "protocol": LEGACY,
        "server": "everything",
        "capabilities": ["completions", "logging", "prompts", "resources", "tools"],
    },
    "tools": TOOLS,
    # The skills come first, since the fixture gets them when it is made.
    "resources": [
        "skill://release/SKILL.md",
        "skill://report-writing/SKILL.md",
        "test://static-text",
        "test://static-binary",
        "test://watched-resource",
    ],
    "templates": ["skill://{+path}", "test://template/{id}/data"],
    "prompts": [
        "test_simple_prompt",
        "test_prompt_with_arguments",
        "test_prompt_with_embedded_resource",
        "test_prompt_with_image",
        "test_input_required_result_prompt",
    ],
    "call_text": "This is a simple text response for testing.",
    "call_echo": True,
    "call_image": ["image", "image/png"],
    "call_structured": {"city": "Paris", "celsius": 21.5},
    "call_big": 3_000_000,
    "call_failing": [True, True],
    "call_parallel": 10,
    "progress": [[done, 100, f"Completed step {done} of 100"] for done in (0, 50, 100)],
    "logs_all": ["Tool execution started", "Tool processing data", "Tool execution completed"],
    "logs_filtered": [],
    "sampling": "LLM response: the answer to hello",
    "elicit_accept": f"User response: action=accept, content={PERSON}",
    "elicit_decline": "User response: action=decline, content={}",
    "roots": "file:///interop/root",
    "changes": ["test://watched-resource", "ToolsListChanged"],
    "complete": ["testValue1", "testValue2"],
    "prompt": "Prompt with arguments: arg1='one', arg2='two'",
    "read_text": "This is the content of the static text resource.",
    "read_blob": ["image/png", 96],
    "read_template": True,
    "cancel": 1,
    "resume": ["Reconnection test completed", True],
    "unknown_tool": -32602,
    "unknown_prompt": -32602,
    "unknown_resource": -32002,
    "bad_cursor": -32602,
    "ping": "pong",
    "after_delete": 404,
    "end": "done",
}

# HTTP+SSE and stdio have nothing to resume and no session to name.
NO_SESSION = {"resume": ["Reconnection test completed", False], "after_delete": "no session"}
DIFFERENT: dict[str, dict[str, Any]] = {
    "legacy": {},
    "modern": {
        **NO_SESSION,
        "connect": {**EXPECTED["connect"], "protocol": MODERN},
        "unknown_resource": -32602,
        "ping": "not in this revision",
    },
}
# This client shows its caller the newer code for a missing resource, whichever it was sent.
NEWER_CODE = {"unknown_resource": -32602}
# What the older revisions do not have.  A stream without a first event that has an id is not cut by the server.
UNCUT = {"resume": ["Reconnection test completed", False]}
OLDER: dict[str, dict[str, Any]] = {
    "2025-06-18": UNCUT,
    "2025-03-26": {**UNCUT, "call_structured": None, "elicit_accept": FAILS, "elicit_decline": FAILS},
}
OLDER["2024-11-05"] = {
    **OLDER["2025-03-26"],
    "connect": {**EXPECTED["connect"], "capabilities": ["logging", "prompts", "resources", "tools"]},
    "progress": [[done, 100, None] for done in (0, 50, 100)],
}
# Pinned to a revision, this client asks for nothing before its first call, so it knows nobody's name.
UNASKED = {"connect": {"protocol": MODERN, "server": None, "capabilities": []}}


@dataclass(frozen=True)
class Case:
    """One client, one transport, one mode."""

    name: str
    driver: str
    transport: str  # "http", "sse" or "stdio"
    era: str = "legacy"
    mode: str | None = None
    response: str = "auto"  # how the server answers
    different: dict[str, Any] = field(default_factory=dict)

    def expected(self) -> dict[str, Any]:
        expected = {**EXPECTED, **DIFFERENT[self.era], **self.different}
        if self.mode in OLDER:
            expected.update(OLDER[self.mode])
            expected["connect"] = {**expected["connect"], "protocol": self.mode}
        if self.transport != "http":
            expected.update(NO_SESSION)
        return expected

    def command(self, server: Running) -> list[str]:
        mode = [self.mode] if self.mode else []
        if self.transport == "stdio":
            target = [*mode, sys.executable, "-X", "dev", str(EVERYTHING), "--stdio"]
        else:
            target = [server.url if self.transport == "http" else server.sse_url, *mode]
        return [*RUNTIMES[self.driver](), str(DRIVERS / self.driver), self.transport, *target]


def python_1() -> list[str]:
    return [os.environ.get("MCP_H11_PY130") or python_with("py-mcp-1.30.0", "mcp==1.30.0")]


def node() -> list[str]:
    if not os.environ.get("MCP_H11_NPM"):
        npm_packages()
    return [shutil.which("node") or "node"]


def npm_packages() -> str:
    wanted = ["@modelcontextprotocol/sdk@1.32.2", "@modelcontextprotocol/client@2.4.0"]
    return os.environ.get("MCP_H11_NPM") or str(npm_folder("npm", *wanted))


RUNTIMES: dict[str, Callable[[], list[str]]] = {
    "py23.py": lambda: [sys.executable],
    "py130.py": python_1,
    "ts_sdk.mjs": node,
    "ts_client.mjs": node,
}

CASES = [
    Case("python-2.3-http-auto", "py23.py", "http", "modern", "auto"),
    Case("python-2.3-http-modern", "py23.py", "http", "modern", MODERN, different=UNASKED),
    Case("python-2.3-http-legacy", "py23.py", "http", "legacy", "legacy"),
    Case("python-2.3-stdio-auto", "py23.py", "stdio", "modern", "auto"),
    Case("python-2.3-stdio-modern", "py23.py", "stdio", "modern", MODERN, different=UNASKED),
    Case("python-2.3-stdio-legacy", "py23.py", "stdio", "legacy", "legacy"),
    Case("python-1.30-http", "py130.py", "http"),
    Case("python-1.30-http-always-sse", "py130.py", "http", response="sse"),
    Case("python-1.30-sse", "py130.py", "sse"),
    Case("python-1.30-stdio", "py130.py", "stdio"),
    *(Case(f"python-1.30-http-{revision}", "py130.py", "http", mode=revision) for revision in OLDER),
    Case("python-1.30-sse-2024-11-05", "py130.py", "sse", mode="2024-11-05"),
    Case("typescript-1-http", "ts_sdk.mjs", "http"),
    Case("typescript-1-http-always-sse", "ts_sdk.mjs", "http", response="sse"),
    Case("typescript-1-sse", "ts_sdk.mjs", "sse"),
    Case("typescript-1-stdio", "ts_sdk.mjs", "stdio"),
    Case("typescript-2-http-auto", "ts_client.mjs", "http", "modern", "auto"),
    Case("typescript-2-http-modern", "ts_client.mjs", "http", "modern", MODERN),
    Case("typescript-2-http-legacy", "ts_client.mjs", "http", "legacy", "legacy", different=NEWER_CODE),
    Case("typescript-2-stdio-modern", "ts_client.mjs", "stdio", "modern", MODERN),
    Case("typescript-2-stdio-legacy", "ts_client.mjs", "stdio", "legacy", "legacy", different=NEWER_CODE),
]


@pytest.fixture(scope="module")
def server_for() -> Iterator[Callable[[str], Running]]:
    """One server for each way of answering, started when it is first wanted, shared by all clients."""
    started: dict[str, Running] = {}
    with ExitStack() as stack:

        def get(response: str) -> Running:
            if response not in started:
                started[response] = stack.enter_context(everything_server("--response", response))
            return started[response]

        yield get


def drive(case: Case, server: Running) -> dict[str, Any]:
    """Run the driver; what each step saw, `ERROR …` where it raised."""
    environment = server_environment()
    if case.driver.endswith(".mjs"):
        environment["MCP_H11_NPM"] = npm_packages()
    done = subprocess.run(case.command(server), env=environment, timeout=RUN_LIMIT, capture_output=True, text=True)
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    seen = {line["step"]: line["value"] if "value" in line else f"ERROR {line['error']}" for line in lines}
    if case.transport == "stdio":
        # The clients pass the server's stderr on, and they end it with a signal where it does not end by itself.
        assert not trouble_in(done.stderr), trouble_in(done.stderr)
    assert "end" in seen, f"the driver broke off:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return seen


@pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in CASES])
def test_an_official_client_sees_every_feature(server_for: Callable[[str], Running], case: Case) -> None:
    check(case, lambda: server_for(case.response))


def check(case: Case, server: Callable[[], Running], *, may_repeat: Sequence[str] = ()) -> None:
    """Drive the client; it sees what is expected of it.  The values of some steps may come twice."""
    try:
        seen = drive(case, server())
    except Unavailable as reason:
        if everything_required():
            raise
        pytest.skip(str(reason))
    seen.update((step, list(dict.fromkeys(seen[step]))) for step in may_repeat if isinstance(seen.get(step), list))
    expected = case.expected()
    wrong = {step: (seen.get(step, "(no such step)"), expected[step]) for step in expected}
    wrong = {step: pair for step, pair in wrong.items() if pair[0] != pair[1]}
    report = [f"{step}:\n  saw      {saw}\n  expected {wanted}" for step, (saw, wanted) in wrong.items()]
    assert not wrong, "\n".join([case.name, *report])
    assert not seen.keys() - expected.keys(), f"steps that nothing is expected of: {seen.keys() - expected.keys()}"
