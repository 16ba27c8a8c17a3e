# SPDX-License-Identifier: MIT
"""The client on the command line: `python -m mcp_h11 list|call|read|prompt|detect|ping|tasks TARGET ...`.

One command makes one connection, sends its request, and closes.  Results go to stdout, for a person or (`--json`) for
a program; all other lines go to stderr.  `Client` has the protocol, `questions` answers the questions of the server,
and `hints` follow a refusal.

Rule: the exit code names the party at fault: 1 the tool said no, 2 the command line is wrong, 3 the server answered
with an error or broke the protocol, 4 there is no connection.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from ...client.client import Client
from ...client.conversation.input_required import question_of
from ...client.conversation.pending import Progress
from ...client.detection import DETECT_LIMIT, detect
from ...client.http.httpclient import Middleware
from ...client.http.urls import is_url
from ...client.transports.errors import (
    AuthorizationRequired,
    ConnectionLost,
    HTTPStatusError,
    LoginFailed,
    RequestTimeout,
)
from ...protocol.errors import URL_ELICITATION_REQUIRED, MCPError
from ..arguments import arguments_of, target_of
from ..colours import RED, coloured
from ..parser import FAILED, PROG, UsageError
from ..parser import OK as OK
from . import hints
from .answers import Answers
from .ask_parser import DEFAULT_TIMEOUT, KINDS, TOKEN
from .ask_parser import parser_of as parser_of
from .interrupts import until_interrupted
from .printing import Screen, dump, first_line, json_text, line, objects, out, rows
from .questions import Answerer
from .saving import part_of, save, show, write_out
from .terminal import Terminal
from .tracing import HTTPTrace, traced

if TYPE_CHECKING:
    from .authorizing import LoginInUse

TOOL_ERROR, PROTOCOL_ERROR, NO_CONNECTION = 1, 3, 4  # 2 is `parser.FAILED`, 130 `parser.INTERRUPTED`
NO_READER = 141  # 128 + SIGPIPE: the reader of the output is gone
LOG_LEVEL = "info"  # from which on a server's log messages are shown

_NO_ANSWER = (ConnectionLost, RequestTimeout)


class Asked:
    """One command while it runs.

    Attributes:
        options: of the command line.
        screen: stderr.
        questions: answers those of the server.
        hints: lines that follow the error, if there is one.
    """

    def __init__(self, word: str, options: argparse.Namespace) -> None:
        self.word = word
        self.options = options
        self.screen = Screen(progress=not options.json, verbose=bool(options.verbose))
        self.answers = Answers(getattr(options, "answer", ()))
        self.terminal = Terminal(self.screen)
        self.questions = Answerer(
            self.screen,
            self.terminal,
            self.answers,
            decline=getattr(options, "decline", False),
            roots=getattr(options, "root", ()),
        )
        self.hints: list[str] = []
        self.token = options.token or os.environ.get(TOKEN) or None
        self.login: LoginInUse | None = None

    @property
    def middleware(self) -> list[HTTPTrace]:
        """The trace of requests over HTTP, if `--verbose` asks for it."""
        authorized = self.token is not None or (self.login is not None and self.login.stored)
        return [HTTPTrace(self.screen, authorized=authorized)] if self.options.verbose else []

    @property
    def authorized(self) -> bool:
        """Whether the person has given credentials, which go before any login."""
        return self.token is not None or any(name.lower() == "authorization" for name, _ in self.options.header)

    def client(self) -> Client:
        """The client that the options describe."""
        options = self.options
        target = target_of(options.target)
        if options.verbose and not isinstance(target, str):
            target = traced(target, self.screen)
        try:
            return Client(
                target,
                headers=dict(options.header),
                token=self.token,
                auth=None if self.login is None else self.login.oauth,
                middleware=self.middleware,
                revision=options.revision,
                timeout=options.timeout or DEFAULT_TIMEOUT,
                on_log=self._log,
                on_elicitation=self.questions.elicitation,
                on_sampling=self.questions.sampling,
                on_roots=self.questions.roots,
                capabilities={"elicitation": {"form": {}, "url": {}}},
            )
        except ValueError as exc:  # an address, a header, a token that cannot be
            raise UsageError(str(exc)) from None

    def _log(self, params: dict[str, Any]) -> None:
        self.screen.tell(f"{params.get('level', 'info')}: {params.get('data')}")

    async def run(self) -> int:
        """Run the command and return its exit code.  Raises MCPError, and UsageError."""
        try:
            if is_url(self.options.target) and not self.authorized:
                from .authorizing import login_in_use

                self.login = await login_in_use(self.options.target, self.screen, self.terminal)
            if self.word == "detect":
                return await _detect(self)
            async with self.client() as client:
                self.questions.asker = line(client.server_info.get("name") or "the server")
                self.questions.modern = client.modern
                code = await VERBS[self.word](client, self)
        except AuthorizationRequired as exc:
            await self._explain(exc)
            raise
        except LoginFailed:
            # A server that takes a token of its operator has no authorization server at all.
            self.hints.append(f"the server wants a token, which may be given too: by --token, or as {TOKEN}")
            raise
        for unused in self.answers.unused() if not getattr(self.options, "decline", False) else ():
            self.screen.say(unused)
        return FAILED if self.questions.failed else code

    async def _explain(self, error: AuthorizationRequired) -> None:
        url = self.options.target
        if is_url(url):
            in_use = self.login is not None and self.login.stored
            advice = None if self.authorized else partial(hints.login_advice, url, in_use)
            self.hints += await hints.authorization_hints(error, url, TOKEN, self.authorized, advice=advice)

    def lacks(self, what: str, listed: Sequence[tuple[str, str]]) -> UsageError:
        """The mistake that a name is missing on the command line, after a list of the names that there are."""
        self.screen.say("\n".join(rows(listed)))
        return UsageError(f"{self.word} wants one of these: {PROG} {self.word} TARGET {what}")


# ---------------------------------------------------------------------------------------------------------------------
# The commands
# ---------------------------------------------------------------------------------------------------------------------

Verb = Callable[[Client, Asked], Awaitable[int]]

_KEYS = {"tools": "name", "resources": "uri", "templates": "uriTemplate", "prompts": "name"}


async def _list(client: Client, asked: Asked) -> int:
    kinds = asked.options.kinds or [kind for kind in KINDS if _offers(client, kind)]
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown:
        raise UsageError(f"{unknown[0]!r} is none of {', '.join(KINDS)}{hints.meant(unknown[0], KINDS)}")
    found = {kind: await _listed(client, kind) for kind in kinds}
    if asked.options.json:
        dump(found)
        return OK
    for kind, listed in found.items():
        items = objects(listed)
        out(f"{kind} ({len(items)})")
        for row in rows([(f"  {line(item.get(_KEYS[kind]))}", _about(item)) for item in items]):
            out(row)
    return OK


def _about(item: Mapping[str, Any]) -> str:
    return line(first_line(item.get("description") or item.get("title")))


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


async def _resource_hints(client: Client, uri: str) -> list[str]:
    """A hint by the lists of the server; [] if it refuses them."""
    try:
        listed = [(_KEYS[kind], objects(await _listed(client, kind))) for kind in ("resources", "templates")]
    except MCPError:
        return []
    names = [item.get(key) for key, items in listed for item in items]
    return hints.name_hint("resource", uri, [name for name in names if isinstance(name, str)])


async def _call(client: Client, asked: Asked) -> int:
    options = asked.options
    tools: dict[Any, Any] = {tool.get("name"): tool for tool in await client.list_tools()}
    if options.tool is None:
        shown = [(f"  {line(name)} {hints.signature(tool.get('inputSchema'))}", tool) for name, tool in tools.items()]
        raise asked.lacks("TOOL [KEY=VALUE ...]", [(text, _about(tool)) for text, tool in shown])
    schema = tools.get(options.tool, {}).get("inputSchema")
    arguments = arguments_of(options.arguments, schema if isinstance(schema, dict) else {})
    known = [name for name in tools if isinstance(name, str)]
    advice = hints.name_hint("tool", options.tool, known) or hints.argument_hints(options.tool, schema, arguments)
    if client.modern:
        # A session sends its log unasked; a request of 2026-07-28 has to want it.
        await client.set_log_level(LOG_LEVEL)
    try:
        result = await _called(client, asked, arguments)
    except MCPError as exc:
        asked.hints += advice if not isinstance(exc, (*_NO_ANSWER, HTTPStatusError)) else []
        raise
    finally:
        asked.screen.close()
    if result is None:
        return OK
    return _told(result, asked, advice)


def _told(result: Mapping[str, Any], asked: Asked, advice: Sequence[str] = ()) -> int:
    """Show the result of a tool, and give the exit code."""
    if asked.options.json:
        dump(result)
    else:
        _show_result(result, asked)
    if not result.get("isError"):
        return OK
    for text in advice:
        asked.screen.say(text)
    return TOOL_ERROR


async def _called(client: Client, asked: Asked, arguments: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The result; None where the call is a task that is not waited for."""
    progress = asked.screen.progress if asked.screen.shows_progress else None
    call: Callable[[], Awaitable[Mapping[str, Any] | None]]
    call = partial(client.call_tool, asked.options.tool, arguments, progress=progress)
    if asked.options.task or asked.options.no_wait:
        call = partial(_called_as_task, client, asked, arguments, progress)
    try:
        return await call()
    except MCPError as exc:
        # 2025-11-25 client/elicitation, URL Mode: the request may be sent again once the pages are done.
        pages = exc.data.get("elicitations") if isinstance(exc.data, dict) else None
        if exc.code != URL_ELICITATION_REQUIRED or not pages or not await asked.questions.visit(pages):
            raise
    return await call()


async def _called_as_task(
    client: Client, asked: Asked, arguments: Mapping[str, Any], progress: Progress | None
) -> Mapping[str, Any] | None:
    options = asked.options
    handle = await client.call_tool(options.tool, arguments, progress=progress, task=True)
    if handle.id is None:
        asked.screen.say("the server answered at once, and not with a task")
    elif options.no_wait:
        if options.json:
            dump(handle.state)
        else:
            out(line(handle.id))
        return None
    else:
        # At once: the task goes on when this command is interrupted.
        asked.screen.say(f"task {line(handle.id)}  (later: {PROG} tasks TARGET get|result|cancel ID)")
    return await handle.result()


async def _tasks(client: Client, asked: Asked) -> int:
    options = asked.options
    handle = client.task(options.id, progress=asked.screen.progress if asked.screen.shows_progress else None)
    if options.action == "result":
        try:
            result = await handle.result()
        finally:
            asked.screen.close()
        return _told(result, asked)
    if options.action == "cancel":
        await handle.cancel()
    state = await handle.status()
    if options.json:
        dump(state)
        return OK
    error, questions = state.get("error"), state.get("inputRequests")
    about = line(state.get("statusMessage") or (error.get("message") if isinstance(error, dict) else "") or "")
    out(f"{line(state['status'])}{': ' if about else ''}{about}")
    for key, asking in questions.items() if isinstance(questions, dict) else ():
        method, params = question_of(asking)
        out(f"  {line(key)}: {line(params.get('message') or method)}")
    return OK


def _show_result(result: Mapping[str, Any], asked: Asked) -> None:
    blocks = result.get("content")
    parts = [part_of(item, asked.options.tool) for item in blocks] if isinstance(blocks, list) else []
    output = asked.options.output
    if output is None or result.get("isError"):
        show(parts, hint=" (--output FILE saves it)")
        if "structuredContent" in result and not blocks:
            dump(result["structuredContent"])
        return
    # A person reads the text of a result.  It is saved if the result has no file.
    saved = [part for part in parts if part.text is None or part.is_file] or parts
    show([part for part in parts if part not in saved])
    for said in save(saved, output):
        asked.screen.say(said)


async def _read(client: Client, asked: Asked) -> int:
    options = asked.options
    if options.uri is None:
        kinds = [kind for kind in ("resources", "templates") if _offers(client, kind)]
        listed = [(kind, item) for kind in kinds for item in objects(await _listed(client, kind))]
        raise asked.lacks("URI", [(f"  {line(item.get(_KEYS[kind]))}", _about(item)) for kind, item in listed])
    try:
        result = await client.read_resource(options.uri)
    except MCPError as exc:
        if not isinstance(exc, (*_NO_ANSWER, HTTPStatusError)):
            asked.hints += await _resource_hints(client, options.uri)
        raise
    if options.json:
        dump(result)
        return OK
    contents: Any = result.get("contents")
    parts = [part_of(item, "content") for item in contents] if isinstance(contents, list) else []
    if options.output is None:
        write_out(parts)
    else:
        for said in save(parts, options.output):
            asked.screen.say(said)
    return OK


async def _prompt(client: Client, asked: Asked) -> int:
    options = asked.options
    if options.name is None:
        listed = objects(await client.list_prompts())
        shown = [(f"  {line(one.get('name'))} {hints.prompt_signature(one.get('arguments'))}", one) for one in listed]
        raise asked.lacks("NAME [KEY=VALUE ...]", [(text, _about(one)) for text, one in shown])
    # The arguments of a prompt are strings.
    arguments = arguments_of(options.arguments, {})
    try:
        result = await client.get_prompt(options.name, arguments)
    except MCPError as exc:
        if not isinstance(exc, (*_NO_ANSWER, HTTPStatusError)):
            asked.hints += await _prompt_hints(client, options.name, arguments)
        raise
    if options.json:
        dump(result)
        return OK
    for message in objects(result.get("messages")):
        content = message.get("content")
        out(f"{line(message.get('role'))}:")
        show([part_of(item, "content") for item in (content if isinstance(content, list) else [content])])
    return OK


async def _prompt_hints(client: Client, name: str, arguments: Mapping[str, Any]) -> list[str]:
    try:
        listed = {str(one.get("name")): one for one in objects(await client.list_prompts())}
    except MCPError:
        return []
    schema = hints.prompt_schema(listed.get(name, {}).get("arguments"))
    return hints.name_hint("prompt", name, list(listed)) or hints.argument_hints(name, schema, arguments)


async def _ping(client: Client, asked: Asked) -> int:
    loop = asyncio.get_running_loop()
    began = loop.time()
    await client.ping()
    seconds = loop.time() - began
    found = {"ms": round(seconds * 1e3, 3), "protocolVersion": client.revision.name, "serverInfo": client.server_info}
    if asked.options.json:
        dump(found)
    else:
        name = f"{client.server_info.get('name', 'a server')} {client.server_info.get('version', '')}"
        out(f"{line(name)} ({client.revision.name}): {found['ms']} ms")
    return OK


async def _detect(asked: Asked) -> int:
    options = asked.options
    if not is_url(options.target):
        raise UsageError("detect wants a URL")
    middleware: list[Middleware] = [*asked.middleware]
    if asked.login is not None:
        middleware.append(asked.login.oauth.middleware(options.target))
    how = {"headers": dict(options.header), "token": asked.token, "middleware": middleware}
    try:
        found = await detect(options.target, timeout=options.timeout or DETECT_LIMIT, **how)
    except ValueError as exc:
        raise UsageError(str(exc)) from None
    result = {"transport": found.transport, "revisions": list(found.revisions), "serverInfo": found.server_info}
    if options.json:
        dump(result)
    else:
        out(line(f"{found.transport}: {', '.join(found.revisions)}"))
    return OK


VERBS: dict[str, Verb] = {
    "list": _list,
    "call": _call,
    "read": _read,
    "prompt": _prompt,
    "ping": _ping,
    "tasks": _tasks,
}


# ---------------------------------------------------------------------------------------------------------------------
# The command line
# ---------------------------------------------------------------------------------------------------------------------


def main_of(word: str, arguments: Sequence[str]) -> int:
    """Run one command and return the exit code.  Raises UsageError for a mistake on the command line."""
    options = parser_of(word).parse_args(arguments)
    if options.json and getattr(options, "output", None) is not None:
        raise UsageError("--json and --output cannot be used together: --json prints all of the result")
    level = ("ERROR", "WARNING", "DEBUG")[min(options.verbose, 2)]
    logging.basicConfig(level=level, format="%(levelname)s %(name)s: %(message)s")
    asked = Asked(word, options)
    try:
        code = asyncio.run(until_interrupted(asked.run()))
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # The reader of the output has read enough (`head`).  Python flushes stdout once more when it ends: it must not
        # fail there with a traceback.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return NO_READER
    except _NO_ANSWER as exc:
        asked.screen.say(f"{PROG}: {coloured('no connection:', RED, sys.stderr)} {line(exc)}")
        return NO_CONNECTION
    except MCPError as exc:
        _show_error(exc, asked)
        return PROTOCOL_ERROR
    finally:
        asked.screen.close()


def _show_error(error: MCPError, asked: Asked) -> None:
    code = error.status if isinstance(error, HTTPStatusError) else error.code
    label = "error:" if isinstance(error, LoginFailed) else f"error {code}:"
    asked.screen.say(f"{PROG}: {coloured(label, RED, sys.stderr)} {line(error)}")
    if error.data is not None:
        asked.screen.say(line(json_text(error.data)))
    for text in asked.hints:
        asked.screen.say(text)
