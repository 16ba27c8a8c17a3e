# SPDX-License-Identifier: MIT
"""The programs that `install` knows: where each one keeps its servers, and the form of an entry there.

It opens no file and asks the user nothing.  The places and forms are those of each program's own documentation:

    claude           code.claude.com/docs/en/mcp                        ~/.claude.json, .mcp.json
    claude-desktop   modelcontextprotocol.io/docs/develop/connect-local-servers
    cursor           cursor.com/docs/mcp                                ~/.cursor/mcp.json, .cursor/mcp.json
    vscode           code.visualstudio.com/docs/copilot/reference/mcp-configuration
    codex            developers.openai.com/codex/mcp                    ~/.codex/config.toml, .codex/config.toml
    gemini           geminicli.com/docs/tools/mcp-server                ~/.gemini/settings.json, .gemini/settings.json

Rule: a secret is referred to in the way of the program, and stands in an entry only where the user gave it as such.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..parser import ENVIRONMENT_PREFIX, PACKAGE, UsageError

_BEARER = f"{ENVIRONMENT_PREFIX}BEARER"  # where `proxy` looks for the token of its backend
LINUX, MACOS, WINDOWS = "linux", "darwin", "win32"


@dataclass(frozen=True)
class Machine:
    """The system and its folders: the places of files depend on them."""

    system: str  # as `sys.platform` has it
    home: Path
    environ: Mapping[str, str]

    def folder(self, variable: str, *default: str) -> Path:
        """The folder that a variable names, or this one in the home folder."""
        named = self.environ.get(variable)
        return Path(named) if named else self.home.joinpath(*default)

    def application(self, *parts: str) -> Path:
        """A place among the settings of applications."""
        if self.system == MACOS:
            folder = self.home / "Library" / "Application Support"
        elif self.system == WINDOWS:
            folder = self.folder("APPDATA", "AppData", "Roaming")
        else:
            folder = self.folder("XDG_CONFIG_HOME", ".config")
        return folder.joinpath(*parts)


@dataclass(frozen=True)
class Wanted:
    """The server as the user described it: a command with its arguments, or a URL.

    Attributes:
        env: variables of the command, with their values.
        passed: names of variables that the command gets from the environment of the client.
        token: a bearer token that is to stand in the file.
        token_variable: the name of the variable that has the bearer token.
    """

    command: tuple[str, ...] = ()
    url: str = ""
    env: Mapping[str, str] = field(default_factory=dict)
    passed: tuple[str, ...] = ()
    token: str = field(default="", repr=False)
    token_variable: str = ""


@dataclass(frozen=True)
class ServerLines:
    """The members of an entry, and the questions that VS Code asks for its secrets."""

    members: dict[str, Any]
    inputs: tuple[dict[str, Any], ...] = ()


Maker = Callable[["ClientProgram", str, Wanted], ServerLines]


@dataclass(frozen=True)
class ClientProgram:
    """One program.

    Attributes:
        word: its name on our command line.
        title: its name in texts.
        user: the file of the user, or None where the program does not run on that system.
        project: the file of a project, below its folder; "" for none.
        servers: the member that holds the servers.
        make: makes an entry for a server of this name.
        reference: how a text refers to a variable of the environment, or "" where it cannot.
        after: the next step of the user.
    """

    word: str
    title: str
    user: Callable[[Machine], Path]
    project: str
    servers: str
    make: Maker
    reference: str
    after: str
    toml: bool = False

    def refer(self, name: str) -> str:
        """A reference to a variable.  Raises UsageError where the program knows none."""
        if not self.reference:
            raise UsageError(
                f"{self.title} has no reference to a variable: give the value, which is then written into the file"
            )
        return self.reference.format(name)


def _bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def _stdio(program: ClientProgram, wanted: Wanted, kind: str = "") -> dict[str, Any]:
    members: dict[str, Any] = {"type": kind} if kind else {}
    members.update(command=wanted.command[0], args=list(wanted.command[1:]))
    env = {**wanted.env, **{name: program.refer(name) for name in wanted.passed}}
    return {**members, "env": env} if env else members


def _http(program: ClientProgram, wanted: Wanted, member: str, kind: str = "") -> dict[str, Any]:
    members: dict[str, Any] = {"type": kind} if kind else {}
    members[member] = wanted.url
    token = program.refer(wanted.token_variable) if wanted.token_variable else wanted.token
    return {**members, "headers": _bearer(token)} if token else members


def _claude(program: ClientProgram, name: str, wanted: Wanted) -> ServerLines:
    return ServerLines(_http(program, wanted, "url", "http") if wanted.url else _stdio(program, wanted, "stdio"))


def _claude_desktop(program: ClientProgram, name: str, wanted: Wanted) -> ServerLines:
    if not wanted.url:
        return ServerLines(_stdio(program, wanted))
    # The file is for commands alone, and a command of ours is a bridge to any URL.
    if wanted.token_variable:
        program.refer(wanted.token_variable)
    command = (sys.executable, "-m", PACKAGE, "proxy", "--url", wanted.url, "--stdio")
    env = {_BEARER: wanted.token} if wanted.token else {}
    return ServerLines(_stdio(program, Wanted(command, env=env)))


def _cursor(program: ClientProgram, name: str, wanted: Wanted) -> ServerLines:
    return ServerLines(_http(program, wanted, "url") if wanted.url else _stdio(program, wanted, "stdio"))


def _vscode(program: ClientProgram, name: str, wanted: Wanted) -> ServerLines:
    asked = [wanted.token_variable] if wanted.url and wanted.token_variable else list(wanted.passed)
    members = _http(program, wanted, "url", "http") if wanted.url else _stdio(program, wanted, "stdio")
    inputs = ({"type": "promptString", "id": one, "description": f"{one} for {name}", "password": True}
              for one in asked)  # fmt: skip
    return ServerLines(members, tuple(inputs))


def _codex(program: ClientProgram, name: str, wanted: Wanted) -> ServerLines:
    members: dict[str, Any] = {}
    if not wanted.url:
        members = _stdio(program, Wanted(wanted.command, env=wanted.env))
        return ServerLines({**members, "env_vars": list(wanted.passed)} if wanted.passed else members)
    members["url"] = wanted.url
    if wanted.token_variable:
        members["bearer_token_env_var"] = wanted.token_variable
    elif wanted.token:
        members["http_headers"] = _bearer(wanted.token)
    return ServerLines(members)


def _gemini(program: ClientProgram, name: str, wanted: Wanted) -> ServerLines:
    # `url` alone would be the older HTTP+SSE.
    return ServerLines(_http(program, wanted, "httpUrl") if wanted.url else _stdio(program, wanted))


CLIENTS = {
    one.word: one
    for one in (
        ClientProgram(
            "claude", "Claude Code",
            lambda machine: machine.folder("CLAUDE_CONFIG_DIR") / ".claude.json",
            ".mcp.json", "mcpServers", _claude, "${{{}}}",
            "A session that begins from now on has it: /mcp shows it.",
        ),
        ClientProgram(
            "claude-desktop", "Claude Desktop",
            lambda machine: machine.application("Claude", "claude_desktop_config.json"),
            "", "mcpServers", _claude_desktop, "",
            "Quit Claude Desktop and start it again.",
        ),
        ClientProgram(
            "cursor", "Cursor",
            lambda machine: machine.home / ".cursor" / "mcp.json",
            ".cursor/mcp.json", "mcpServers", _cursor, "${{env:{}}}",
            "Cursor lists it under its MCP settings; switch it on there.",
        ),
        ClientProgram(
            "vscode", "VS Code",
            lambda machine: machine.application("Code", "User", "mcp.json"),
            ".vscode/mcp.json", "servers", _vscode, "${{input:{}}}",
            "'MCP: List Servers' in the command palette starts it.",
        ),
        ClientProgram(
            "codex", "Codex",
            lambda machine: machine.folder("CODEX_HOME", ".codex") / "config.toml",
            ".codex/config.toml", "mcp_servers", _codex, "",
            "Start Codex again: /mcp shows it.  A project's file counts once Codex trusts the project.",
            toml=True,
        ),
        ClientProgram(
            "gemini", "Gemini CLI",
            lambda machine: machine.folder("GEMINI_CLI_HOME") / ".gemini" / "settings.json",
            ".gemini/settings.json", "mcpServers", _gemini, "${{{}}}",
            "Start Gemini CLI again: /mcp shows it.",
        ),
    )
}  # fmt: skip
