# SPDX-License-Identifier: MIT
"""The client on the command line: `python -m mcp_h11 list|call|read|prompt|detect|ping TARGET ...`.

One command makes one connection, sends its request, and closes.  Results go to stdout, for a person or (`--json`) for
a program; everything else goes to stderr.  The protocol is `Client`'s business.

All text of a server goes through `_line`, or `_text` where it is content, or `_json`.  They escape characters that
would steer a terminal, turn the order of letters around, or begin a line that looks like one of this program.

Rule: the exit code names the party at fault: 1 the tool said no, 2 the command line is wrong, 3 the server answered
with an error or broke the protocol, 4 there is no connection.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import re
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TextIO

from ..client.client import Client
from ..client.detection import DETECT_LIMIT, detect
from ..client.http.urls import is_url
from ..client.transports.errors import ConnectionLost, HTTPStatusError, RequestTimeout
from ..protocol.errors import MCPError
from ..protocol.revisions import REVISIONS
from ..protocol.shown import escaped
from .arguments import arguments_of, target_of
from .parser import ENVIRONMENT_PREFIX, PROG, CommandParser, UsageError
from .parser import OK as OK

TOOL_ERROR, PROTOCOL_ERROR, NO_CONNECTION = 1, 3, 4  # 2 is `cli.FAILED`, 130 `cli.INTERRUPTED`
NO_READER = 141  # 128 + SIGPIPE: the reader of the output is gone
DEFAULT_TIMEOUT = 60.0  # seconds for an answer
KINDS = ("tools", "resources", "templates", "prompts")
TOKEN = ENVIRONMENT_PREFIX + "CLIENT_TOKEN"  # not TOKEN: that is the token of a server started here

_CLEAR = "\r\x1b[K"  # go to the beginning of the line, and clear it

Verb = Callable[[Client, argparse.Namespace], Awaitable[int]]


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise argparse.ArgumentTypeError(f"has to be 'Name: value', not {text!r}")
    return name.strip(), value.strip()


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1e9:
        raise argparse.ArgumentTypeError(f"has to be a number of seconds greater than 0, not {text!r}")
    return value


# ---------------------------------------------------------------------------------------------------------------------
# Output for a person
# ---------------------------------------------------------------------------------------------------------------------


# Characters of JSON text other than printable ASCII and the line ends of its layout.
_NOT_ASCII = re.compile(r"[^\n -~]")


def _line(text: Any) -> str:
    """A name, a description, a message: always one line, for programs too."""
    return escaped(str(text))


def _text(text: str) -> str:
    """Content: as it is for a program; for a person at a terminal its line ends and tabs stay, and no other control."""
    return escaped(text, keep="\n\t") if sys.stdout.isatty() else text


def _json(value: Any, indent: int | None = None) -> str:
    """JSON that is readable for a person.  A character that `escaped` would escape becomes an escape of JSON."""
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    return _NOT_ASCII.sub(lambda found: found[0] if escaped(found[0]) == found[0] else json.dumps(found[0])[1:-1], text)


def _write(stream: TextIO, text: str) -> None:
    # A letter that the terminal cannot show becomes an escape; it would end the command with a traceback.
    encoding = stream.encoding or "utf-8"
    stream.write(text.encode(encoding, "backslashreplace").decode(encoding))


def _out(text: str) -> None:
    _write(sys.stdout, text + "\n")


def _err(text: str) -> None:
    _write(sys.stderr, text)
    sys.stderr.flush()


def _say(text: str) -> None:
    """Write one line to stderr, over a line of progress if one is shown."""
    _err(f"{_CLEAR if sys.stderr.isatty() else ''}{_line(text)}\n")


def _progress(done: float, total: float | None, message: str | None) -> None:
    share = f"{done:g}/{total:g}" if total else f"{done:g}"
    _err(f"{_CLEAR}{share} {_line(message or '')}")


def _clear_progress() -> None:
    if sys.stderr.isatty():
        _err(_CLEAR)


def _dump(value: Any) -> None:
    _out(_json(value, 2))


def _first_line(text: Any) -> str:
    lines = text.strip().splitlines() if isinstance(text, str) else []
    # Blanks in a row become one: enough of them would push the rest to the next line of a terminal.
    return " ".join(lines[0].split()) if lines else ""


def _rows(rows: Sequence[tuple[str, str]]) -> None:
    width = min(max((len(name) for name, _ in rows), default=0), 40)
    for name, about in rows:
        _out(f"{name:<{width}}  {about}".rstrip())


def _content(items: Any) -> None:
    for item in items if isinstance(items, list) else ():
        _out(_as_text(item) if isinstance(item, dict) else _text(str(item)))


def _as_text(item: Mapping[str, Any]) -> str:
    if isinstance(item.get("text"), str):
        return _text(item["text"])
    inner = item.get("resource")
    if isinstance(inner, dict):
        # One step: a resource holds no other one, and a server that nests them has no end.
        return _text(inner["text"]) if isinstance(inner.get("text"), str) else _label({"type": "resource", **inner})
    return _label(item)


def _label(item: Mapping[str, Any]) -> str:
    data = item.get("data") or item.get("blob")
    size = f", {len(data)} characters of base64" if isinstance(data, str) else ""
    kind, name = item.get("type") or "resource", item.get("uri") or item.get("mimeType") or ""
    return f"[{_line(kind)} {_line(name)}{size}]"


def _objects(items: Any) -> list[dict[str, Any]]:
    return [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []


# ---------------------------------------------------------------------------------------------------------------------
# The commands
# ---------------------------------------------------------------------------------------------------------------------


async def _list(client: Client, options: argparse.Namespace) -> int:
    kinds = options.kinds or [kind for kind in KINDS if _offers(client, kind)]
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown:
        raise UsageError(f"{unknown[0]!r} is none of {', '.join(KINDS)}")
    found = {kind: await _listed(client, kind) for kind in kinds}
    if options.json:
        _dump(found)
        return OK
    for kind, listed in found.items():
        items = _objects(listed)
        _out(f"{kind} ({len(items)})")
        key = {"resources": "uri", "templates": "uriTemplate"}.get(kind, "name")
        about = [_line(_first_line(item.get("description") or item.get("title"))) for item in items]
        _rows([(f"  {_line(item.get(key))}", text) for item, text in zip(items, about, strict=True)])
    return OK


def _offers(client: Client, kind: str) -> bool:
    return ("resources" if kind == "templates" else kind) in client.server_capabilities


async def _listed(client: Client, kind: str) -> list[Any]:
    listing: dict[str, Callable[[], Awaitable[list[Any]]]] = {
        "tools": client.list_tools,
        "resources": client.list_resources,
        "templates": client.list_resource_templates,
        "prompts": client.list_prompts,
    }
    return await listing[kind]()


async def _call(client: Client, options: argparse.Namespace) -> int:
    tools: dict[Any, Any] = {tool.get("name"): tool for tool in await client.list_tools()}
    schema = tools.get(options.tool, {}).get("inputSchema")
    arguments = arguments_of(options.arguments, schema if isinstance(schema, dict) else {})
    shown = sys.stderr.isatty() and not options.json
    try:
        result = await client.call_tool(options.tool, arguments, progress=_progress if shown else None)
    finally:
        if shown:
            _clear_progress()
    if options.json:
        _dump(result)
    else:
        _content(result.get("content"))
        if "structuredContent" in result and not result.get("content"):
            _dump(result["structuredContent"])
    return TOOL_ERROR if result.get("isError") else OK


async def _read(client: Client, options: argparse.Namespace) -> int:
    result = await client.read_resource(options.uri)
    _dump(result) if options.json else _content(result.get("contents"))
    return OK


async def _prompt(client: Client, options: argparse.Namespace) -> int:
    # The arguments of a prompt are strings.
    result = await client.get_prompt(options.name, arguments_of(options.arguments, {}))
    if options.json:
        _dump(result)
        return OK
    for message in _objects(result.get("messages")):
        content = message.get("content")
        _out(f"{_line(message.get('role'))}:")
        _content(content if isinstance(content, list) else [content])
    return OK


async def _ping(client: Client, options: argparse.Namespace) -> int:
    loop = asyncio.get_running_loop()
    began = loop.time()
    await client.ping()
    seconds = loop.time() - began
    found = {"ms": round(seconds * 1e3, 3), "protocolVersion": client.revision.name, "serverInfo": client.server_info}
    if options.json:
        _dump(found)
    else:
        name = f"{client.server_info.get('name', 'a server')} {client.server_info.get('version', '')}"
        _out(f"{_line(name)} ({client.revision.name}): {found['ms']} ms")
    return OK


async def _detect(options: argparse.Namespace) -> int:
    if not is_url(options.target):
        raise UsageError("detect wants a URL")
    asked = {"timeout": options.timeout, "headers": dict(options.header), "token": _token(options)}
    try:
        found = await detect(options.target, **asked)
    except ValueError as exc:
        raise UsageError(str(exc)) from None
    result = {"transport": found.transport, "revisions": list(found.revisions), "serverInfo": found.server_info}
    if options.json:
        _dump(result)
    else:
        _out(_line(f"{found.transport}: {', '.join(found.revisions)}"))
    return OK


VERBS: dict[str, Verb] = {"list": _list, "call": _call, "read": _read, "prompt": _prompt, "ping": _ping}


# ---------------------------------------------------------------------------------------------------------------------
# The command line
# ---------------------------------------------------------------------------------------------------------------------


def parser_of(word: str) -> argparse.ArgumentParser:
    """The parser of one of these commands."""
    about, target = _ABOUT[word]
    parser = CommandParser(prog=f"{PROG} {word}", description=about)
    parser.add_argument("target", metavar="TARGET", help=target)
    if word in _ARGUMENTS:
        _ARGUMENTS[word](parser)
    parser.add_argument("--json", action="store_true", help="print the result as the server sent it")
    parser.add_argument("--header", action="append", default=[], type=_header, metavar="'NAME: VALUE'",
                        help="a header of each request; repeatable")  # fmt: skip
    parser.add_argument("--token", help=f"bearer token; better kept in the environment, as {TOKEN}")
    parser.add_argument("--revision", choices=tuple(REVISIONS), metavar="REVISION", help=", ".join(REVISIONS))
    parser.add_argument("--timeout", type=_positive, metavar="SECONDS", help=f"for an answer ({DEFAULT_TIMEOUT:g})")
    parser.add_argument("--verbose", action="store_true", help="say on stderr what happens")
    return parser


def _list_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=", ".join(KINDS))


def _call_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("tool", metavar="TOOL", help="its name")
    what = "or KEY:=JSON, or one JSON object of them"
    parser.add_argument("arguments", nargs="*", default=[], metavar="KEY=VALUE", help=what)


def _read_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("uri", metavar="URI", help="of the resource")


def _prompt_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="its name")
    parser.add_argument("arguments", nargs="*", default=[], metavar="KEY=VALUE", help="its arguments")


_ANY_TARGET = "a URL, a Python file with a server, or a command (quoted)"
_ABOUT = {
    "list": ("List tools, resources, templates and prompts.", _ANY_TARGET),
    "call": ("Call a tool.", _ANY_TARGET),
    "read": ("Read a resource.", _ANY_TARGET),
    "prompt": ("Get a prompt.", _ANY_TARGET),
    "detect": ("Tell which transport and revisions a URL speaks.", "a URL"),
    "ping": ("See that a server answers, and how fast.", _ANY_TARGET),
}
_ARGUMENTS: dict[str, Callable[[argparse.ArgumentParser], None]] = {
    "list": _list_arguments,
    "call": _call_arguments,
    "read": _read_arguments,
    "prompt": _prompt_arguments,
}


def _token(options: argparse.Namespace) -> str | None:
    return options.token or os.environ.get(TOKEN) or None


def _client(options: argparse.Namespace) -> Client:
    try:
        return Client(
            target_of(options.target),
            headers=dict(options.header),
            token=_token(options),
            revision=options.revision,
            timeout=options.timeout or DEFAULT_TIMEOUT,
            on_log=_log,
        )
    except ValueError as exc:  # an address, a header, a token that cannot be
        raise UsageError(str(exc)) from None


async def _run(word: str, options: argparse.Namespace) -> int:
    if word == "detect":
        options.timeout = options.timeout or DETECT_LIMIT
        return await _detect(options)
    async with _client(options) as client:
        return await VERBS[word](client, options)


def _log(params: dict[str, Any]) -> None:
    _say(f"{params.get('level', 'info')}: {params.get('data')}")


def main_of(word: str, arguments: Sequence[str]) -> int:
    """Run one command and return the exit code.  Raises UsageError for a mistake on the command line."""
    options = parser_of(word).parse_args(arguments)
    level = "DEBUG" if options.verbose else "ERROR"
    logging.basicConfig(level=level, format="%(levelname)s %(name)s: %(message)s")
    try:
        code = asyncio.run(_run(word, options))
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # The reader of the output has read enough (`head`).  Python flushes stdout once more when it ends: it must not
        # fail there with a traceback.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return NO_READER
    except (ConnectionLost, RequestTimeout) as exc:
        _say(f"{PROG}: no connection: {exc}")
        return NO_CONNECTION
    except MCPError as exc:
        code = exc.status if isinstance(exc, HTTPStatusError) else exc.code
        _say(f"{PROG}: error {code}: {exc}")
        if exc.data is not None:
            _say(_json(exc.data))
        return PROTOCOL_ERROR
