# SPDX-License-Identifier: MIT
"""Skills over MCP, extension `io.modelcontextprotocol/skills`: a folder of folders with a SKILL.md, for clients.

    server = MCPServer("tools", extensions=[Skills("skills")])

It answers `skills/list`, `skills/get` and `resources/directory/read`, and adds the resources `skill://NAME/...` to the
server.  Files may change while it serves: each list is of that moment, and clients that listen are told.

Follows ext-skills, `specification/stable/skills.mdx`, as of 2026-09-18 (SEP-2640: Final on 2026-09-13; the extension is
Beta since 2026-10-29), on protocol revision 2026-07-28.  Sessions of earlier revisions get the same, without the
members that their revision does not have.  Clients announce nothing for this extension: it only adds to a server.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import os
import threading
import time
from bisect import bisect_right
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any, TypeVar

from ..handler.context import Context
from ..handler.extension import Extension, ExtensionMethod, ExtensionServices, text_member
from ..handler.mcpserver import MCPServer
from ..protocol.errors import InvalidParams
from ..protocol.shown import escaping
from ..protocol.uris import normal
from .skill_folder import FOLDER_TYPE, SCHEME, SKILL_FILE, Found, Skill, SkillFile, SkillFolder, uri_of

logger = escaping(logging.getLogger(__name__))

SKILLS = "io.modelcontextprotocol/skills"
PAGE_SKILLS = 100
PAGE_FILES = 2_048  # of all skills of a page together; a skill is never divided
PAGE_NAMES = 512  # of a folder
WATCH_EVERY = 5.0  # seconds between two looks for changes without a request
READ_AGE = 1.0  # seconds; a read may rely on a look that is as old as that

T = TypeVar("T")


class Skills(Extension):
    """Serves the skills below `folder`, or the one skill that it is.

    Args:
        folder: Each folder in it with a SKILL.md is a skill, at any depth; its name is that of its folder.
            docs/extensions.md says which front matter is read.
        watch_every: Seconds between two looks for changes, of which listening clients are told; None for no looks but
            those of requests.

    Raises:
        ValueError: `folder` is no folder, or `watch_every` is not positive.
    """

    identifier = SKILLS

    def __init__(self, folder: str | os.PathLike[str], *, watch_every: float | None = WATCH_EVERY) -> None:
        if watch_every is not None and not watch_every > 0:
            raise ValueError(f"watch_every is a number of seconds or None, not {watch_every!r}")
        self._folder = SkillFolder(folder)
        self._watch_every = watch_every
        self._server: MCPServer | None = None
        self._shown: dict[str, Skill] = {}  # the skills with a SKILL.md among the server's resources, by its URI
        self._told: frozenset[str] = frozenset()
        self._lock = threading.Lock()

    def settings(self) -> Mapping[str, Any]:
        return {"directoryRead": True}

    def methods(self) -> Mapping[str, ExtensionMethod]:
        # Clients announce nothing: "Clients issue skills/list and skills/get only after observing the server's
        # declaration" (Capability Negotiation).
        return {
            "skills/list": ExtensionMethod(self._list, cacheable=True, announced=False),
            "skills/get": ExtensionMethod(self._get, cacheable=True, announced=False),
            "resources/directory/read": ExtensionMethod(self._read_folder, announced=False),
        }

    def attach(self, server: MCPServer) -> None:
        if self._server is not None:
            raise ValueError("one Skills is for one server: make another")
        self._server = server
        server.add_resource(
            SCHEME + "{+path}", self._read, name="skill files", description="The files of the skills of this server."
        )
        self._look()

    @property
    def problems(self) -> Sequence[str]:
        """Why parts of the folder are not served, at the last look: a line for each, which begins with a path."""
        return sorted(self._told)

    @asynccontextmanager
    async def lifespan(self, services: ExtensionServices) -> AsyncIterator[None]:
        if self._watch_every is None:
            yield
            return
        watching = asyncio.ensure_future(self._watch(self._watch_every))
        try:
            yield
        finally:
            watching.cancel()
            with suppress(asyncio.CancelledError):
                await watching

    async def _watch(self, every: float) -> None:
        while True:
            await asyncio.sleep(every)
            # A thread of the loop's own pool: the server's threads are for the calls of clients.
            try:
                await asyncio.get_running_loop().run_in_executor(None, self._look)
            except Exception:
                logger.exception("the folder of skills could not be looked at")

    # --- looking ---------------------------------------------------------------------------------------------

    def _look(self, max_age: float = 0.0) -> Found:
        """The state of the folder; the server's resources follow it, and its listening clients are told.  Blocks."""
        asked = time.monotonic()
        with self._lock:  # a change is told once
            # A look that began while this one waited is new enough: else each of many requests would have its own.
            return self._looked(self._folder.look(max_age + time.monotonic() - asked))

    def _looked(self, found: Found) -> Found:
        if found.problems and not self._told.issuperset(found.problems):
            for problem in found.problems:
                if problem not in self._told:
                    logger.warning("skills: %s", problem)
        self._told = frozenset(found.problems)
        if found.skills != self._shown:
            self._show(found.skills)
        return found

    def _show(self, skills: Mapping[str, Skill]) -> None:
        server = self._server
        if server is None:  # the handler has no catalogue, and serves the files itself
            return
        before, self._shown = self._shown, dict(skills)
        for uri, skill in before.items():
            if uri not in skills or _listed(skills[uri]) != _listed(skill):
                with suppress(KeyError):  # the program may have removed it
                    server.remove_resource(uri)
        for uri, skill in skills.items():
            old = before.get(uri)
            if old is None or _listed(old) != _listed(skill):
                with suppress(ValueError):  # the program may have a resource of this URI
                    server.add_resource(uri, partial(self._read, path=f"{skill.path}/{SKILL_FILE}"), **_listed(skill))
            if old is not None:
                self._tell_of_files(server, old, skill)

    def _tell_of_files(self, server: MCPServer, old: Skill, new: Skill) -> None:
        before = {file.uri: file.digest for file in old.files}
        after = {file.uri: file.digest for file in new.files}
        for uri in before.keys() | after.keys():
            if before.get(uri) != after.get(uri):
                server.notify_resource_updated(uri)

    # --- requests --------------------------------------------------------------------------------------------

    async def _found(self, ctx: Context) -> Found:
        return await ctx.run_sync(self._look)

    async def _list(self, params: dict[str, Any], ctx: Context) -> dict[str, Any]:
        found = await self._found(ctx)
        skills = sorted(found.skills.values(), key=lambda skill: skill.uri)
        page, cursor = _page(params, "skills", skills, lambda skill: skill.uri, PAGE_SKILLS, lambda s: len(s.files))
        return {"skills": [skill.entry() for skill in page], **cursor}

    async def _get(self, params: dict[str, Any], ctx: Context) -> dict[str, Any]:
        uri = text_member(params, "uri")
        skill = (await self._found(ctx)).skills.get(normal(uri))
        if skill is None:
            raise InvalidParams(f"No skill is served at {uri:.200}")
        return {"skill": skill.entry()}

    async def _read_folder(self, params: dict[str, Any], ctx: Context) -> dict[str, Any]:
        uri = text_member(params, "uri")
        found = await self._found(ctx)
        # "Directory URIs are written without a trailing slash"; one is allowed here.
        wanted = normal(uri if uri == SCHEME else uri.removesuffix("/"))
        paths = found.folders.get(wanted)
        if paths is None:
            raise InvalidParams(f"{uri:.200} is not a directory resource")
        page, cursor = _page(params, wanted, paths, lambda inner: inner, PAGE_NAMES)
        return {"resources": [_child(found, inner) for inner in page], **cursor}

    def _read(self, path: str) -> list[dict[str, Any]] | None:
        """The contents of one file; None where no skill has it."""
        uri = uri_of(path)
        file = self._look(READ_AGE).files.get(uri) or self._look().files.get(uri)
        if file is None:
            return None
        try:
            data = self._folder.read(file)
        except OSError:
            return None
        contents: dict[str, Any] = {"uri": uri, "mimeType": file.mime_type}
        # As it is now: a host compares the bytes with the digest of its entry.
        try:
            if b"\0" not in data:
                return [{**contents, "text": data.decode("utf-8")}]
        except UnicodeDecodeError:
            pass
        return [{**contents, "blob": base64.b64encode(data).decode("ascii")}]


def _listed(skill: Skill) -> dict[str, Any]:
    """SEP-2640, Resource Metadata."""
    return {
        "name": skill.front["name"],
        "description": skill.front["description"],
        "mime_type": "text/markdown",
        "size": next(file.size for file in skill.files if file.uri == skill.uri),
    }


def _child(found: Found, path: str) -> dict[str, Any]:
    """The Resource of one name in a folder."""
    uri = uri_of(path)
    name = path.rpartition("/")[2]
    file: SkillFile | None = found.files.get(uri)
    if file is None:
        return {"uri": uri, "name": name, "mimeType": FOLDER_TYPE}
    child: dict[str, Any] = {"uri": uri, "name": name, "mimeType": file.mime_type, "size": file.size}
    skill = found.skills.get(uri)
    if skill is not None:
        child.update(name=skill.front["name"], description=skill.front["description"])
    return child


def _page(
    params: Mapping[str, Any],
    what: str,
    items: Sequence[T],
    key: Callable[[T], str],
    most: int,
    weight: Callable[[T], int] = lambda item: 0,
) -> tuple[list[T], dict[str, str]]:
    """The page of sorted items that the cursor in `params` asks for, and the `nextCursor` where there is another.

    A cursor has the key of the last item, so that a page neither skips nor repeats an item when others come or go.
    Raises InvalidParams for a cursor that is none of this list.
    """
    cursor = params.get("cursor")
    start = 0
    if cursor is not None:
        start = bisect_right([key(item) for item in items], _last_of(cursor, what))
    page: list[T] = []
    total = 0
    for item in items[start : start + most]:
        total += weight(item)
        if page and total > PAGE_FILES:
            break
        page.append(item)
    if start + len(page) >= len(items):
        return page, {}
    made = f"{what}\n{key(page[-1])}".encode()
    return page, {"nextCursor": base64.urlsafe_b64encode(made).decode("ascii")}


def _last_of(cursor: Any, what: str) -> str:
    try:
        made = base64.b64decode(cursor.encode("ascii"), altchars=b"-_", validate=True).decode("utf-8")
    except (AttributeError, ValueError):
        raise InvalidParams("Invalid cursor") from None
    list_of, separator, last = made.partition("\n")
    if not separator or list_of != what:
        raise InvalidParams("Invalid cursor")
    return last
