# SPDX-License-Identifier: MIT
"""A look at a server before it is measured: its name, its revision, its tools, and one operation that has to work.

It asks the same way as the load does, one question after the other.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ...bench.anyserver import CALL, FIRST_ID, Judging, params_of
from ...bench.lines import Line, shake_hands
from ...bench.scenarios import SCENARIOS, LoadPlan, opened
from ...bench.talk import LEGACY_VERSION, MODERN_VERSION, AnswerReader, Dialect, Wrong, result_of
from .aims import Aim

MAX_TOOL_PAGES = 20  # of a list of tools


@dataclass
class Seen:
    """What a server said of itself.

    Attributes:
        schemas: the inputSchema of each tool by its name; None where it refuses the list.
    """

    name: str = ""
    version: str = ""
    revision: str = LEGACY_VERSION
    era: str = "legacy"
    has_sessions: bool = False
    kind: str = "without sessions"
    schemas: dict[str, Any] | None = field(default_factory=dict)

    def take_name(self, info: Any) -> None:
        """Its name and version of a `serverInfo`, which may be anything."""
        if isinstance(info, dict):
            self.name, self.version = str(info.get("name", "")), str(info.get("version", ""))


def plan_for(aim: Aim, seen: Seen, timeout: float) -> LoadPlan:
    """A plan for this server, of which the caller sets the scenario and the sizes."""
    return LoadPlan(
        SCENARIOS["call"], aim.port, aim.host, aim.path, era=seen.era, headers=aim.headers, authority=aim.authority,
        tls=aim.tls, revision=seen.revision, timeout=timeout,
    )  # fmt: skip


def looked_at(aim: Aim, revision: str | None, timeout: float) -> Seen:
    """Open a session, or, where the server has the modern revision alone, ask by that.

    Raises:
        Wrong: the server refused, or is none of MCP.
        OSError: no connection.
    """
    if revision == MODERN_VERSION:
        return _look(aim, Seen(revision=MODERN_VERSION, era="modern"), timeout)
    try:
        return _look(aim, Seen(revision=revision or LEGACY_VERSION), timeout)
    except Wrong as exc:
        # What a server of 2026-07-28 alone says to `initialize`: an error of JSON-RPC, or a status of HTTP.
        if revision is not None or not exc.kind.startswith(("JSON-RPC", "HTTP 4")) or exc.kind in _REFUSED:
            raise
        with contextlib.suppress(Wrong):
            return _look(aim, Seen(revision=MODERN_VERSION, era="modern"), timeout)
        raise


_REFUSED = ("HTTP 401", "HTTP 403", "HTTP 407", "HTTP 429")


def _look(aim: Aim, seen: Seen, timeout: float) -> Seen:
    load = plan_for(aim, seen, timeout)
    line = Line(load, AnswerReader())
    dialect = load.dialect()
    try:
        if seen.era == "legacy":
            info = _initialized(load, dialect, line)
            seen.revision, seen.has_sessions = dialect.version, dialect.session is not None
        else:
            info = result_of(line.ask(dialect.request(1, "server/discover", {})), 1)[0].get("serverInfo")
        seen.take_name(info)
        seen.kind = "with sessions" if seen.has_sessions else "without sessions"

        def ask(number: int, params: dict[str, Any]) -> dict[str, Any]:
            return result_of(line.ask(dialect.request(number, "tools/list", params)), number)[0]

        seen.schemas = tools_of(ask)
        if dialect.session is not None:
            line.ask(dialect.delete())
        return seen
    finally:
        line.close()


def _initialized(load: LoadPlan, dialect: Dialect, line: Line) -> Any:
    answer = line.ask(dialect.initialize())
    result, _ = result_of(answer, 0)
    dialect.version = str(result.get("protocolVersion", dialect.version))
    dialect.session = answer.framing.session
    status = line.ask(dialect.initialized()).framing.status
    if status not in (200, 202, 204):
        raise Wrong(f"initialized was answered with {status}", f"HTTP {status}")
    return result.get("serverInfo")


def tools_of(ask: Callable[[int, dict[str, Any]], dict[str, Any]]) -> dict[str, Any] | None:
    """The inputSchema of each tool by its name; None where the server refuses the list.

    Args:
        ask: gives the result of `tools/list` for an id and params.  It raises Wrong.
    """
    found: dict[str, Any] = {}
    cursor: Any = None
    for page in range(MAX_TOOL_PAGES):
        try:
            result = ask(2 + page, {} if cursor is None else {"cursor": cursor})
        except Wrong as exc:
            if exc.kind.startswith("JSON-RPC"):
                return None
            raise
        tools = result.get("tools")
        for tool in tools if isinstance(tools, list) else ():
            if isinstance(tool, dict) and isinstance(tool.get("name"), str):
                found[tool["name"]] = tool.get("inputSchema")
        cursor = result.get("nextCursor")
        if not isinstance(cursor, str):
            break
    return found


def try_once(load: LoadPlan) -> None:
    """One operation that has to work, so that a mistake is said before the load.  Raises Wrong, OSError."""
    line = Line(load, AnswerReader())
    dialect = load.dialect()
    try:
        shake_hands(opened(load, dialect), line)
        Judging(load).judge(line.ask(dialect.request(FIRST_ID, load.method, params_of(load))), FIRST_ID)
        if dialect.session is not None:
            load.sessions.pop(dialect.session, None)
            line.ask(dialect.delete())
    finally:
        line.close()


def operation_in_words(load: LoadPlan, words: Sequence[str]) -> str:
    """The operation as a person writes it: "add a=1 b=2", or the name of a method."""
    if load.method != CALL:
        return load.method
    return " ".join([load.tool, *(words or ([json.dumps(load.arguments)] if load.arguments else []))])
