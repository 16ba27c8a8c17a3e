# SPDX-License-Identifier: MIT
"""What the Python drivers share: one JSON line a step, a time limit each, the answers of the pretended user.

It knows no SDK: the drivers run in interpreters where only one SDK and anyio exist.  A step that raises is a
line with `error`, and the next step runs all the same, so that one run shows everything that is wrong.
"""

from __future__ import annotations

import http.client
import json
import sys
import time
import urllib.parse
from collections.abc import Awaitable, Callable
from typing import Any

import anyio

STEP_LIMIT = 20.0  # seconds; a resumed call waits for the server's retry hint, all else is immediate
BIG = 3_000_000  # characters; an SSE event of this size is refused by some clients, a JSON answer is not
WATCHED = "test://watched-resource"
UNWATCHED = "test://static-text"
ROOT = "file:///interop/root"
ACCEPT = "accept, please"
PERSON = {"username": "alice", "email": "alice@example.com"}
ECHO = 'h\u00e9llo \u2028 \U0001f600 \\u0000 "quoted"'
MISSING = "missing-by-design"


def emit(step: str, **fields: Any) -> None:
    print(json.dumps({"step": step, **fields}), flush=True)


def explain(error: BaseException) -> str:
    """The error and, for groups, what is inside it."""
    inner = "".join(f" [{explain(e)}]" for e in getattr(error, "exceptions", ()))
    return f"{type(error).__name__}: {error}{inner}"[:2000]


async def step(name: str, run: Callable[[], Awaitable[Any]]) -> Any:
    """Run one step and print what came of it."""
    started = time.monotonic()
    try:
        with anyio.fail_after(STEP_LIMIT):
            value = await run()
    except Exception as error:
        emit(name, error=explain(error), seconds=round(time.monotonic() - started, 3))
        return None
    emit(name, value=value, seconds=round(time.monotonic() - started, 3))
    return value


async def code_of(run: Callable[[], Awaitable[Any]], error_type: type[Exception]) -> Any:
    """The JSON-RPC error code that a call ends with, or what it answers instead."""
    try:
        answer = await run()
    except error_type as error:
        return getattr(error, "error").code  # noqa: B009 - both SDKs have it, under classes of different names
    return {"answered": repr(answer)[:200]}


def post_status(url: str, session: str, version: str) -> int:
    """The HTTP status of a bare POST into a session, by no SDK at all."""
    parts = urllib.parse.urlsplit(url)
    assert parts.hostname is not None
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=10)
    try:
        connection.request(
            "POST",
            parts.path,
            json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/list"}),
            {
                "Content-Type": "application/json",
                "Accept": "application/json, text/event-stream",
                "Mcp-Session-Id": session,
                "Mcp-Protocol-Version": version,
            },
        )
        return connection.getresponse().status
    finally:
        connection.close()


def finish(main: Callable[[list[str]], Awaitable[None]]) -> None:
    """Run a driver; whatever stopped it halfway is its last line."""
    try:
        anyio.run(main, sys.argv[1:])
    except Exception as error:
        emit("end", error=explain(error))
        sys.exit(1)
    emit("end", value="done")
