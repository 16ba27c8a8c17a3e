# SPDX-License-Identifier: MIT
"""An MCP server as an ASGI 3 application: under uvicorn, hypercorn or granian, or mounted in an application.

    app = server.asgi(allowed_hosts=["tools.example"])      # uvicorn tools:app
    api.mount("/mcp", server.asgi())                        # Starlette and FastAPI

The endpoint is the place where the application is mounted, and "/mcp" below it.  The handler's lifespan begins with the
lifespan of ASGI, or with the first request where the server sends none; a mounted application is sent none, so an
application that needs an orderly end gives `lifespan` to its framework.

ASGI specification 3.0: Applications; Lifespan Protocol.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from ..handler.handler import ServerHandler
from ..protocol.shown import escaping
from ..runtime.settings import DEFAULT_PATH, Settings
from .requests import ASGIMessage, ASGIReceive, ASGISend, kind_of
from .server import HostedServer

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from ..runtime.setting_fields import SettingFields
    from .options import ASGIOptions as ASGIOptions

logger = escaping(logging.getLogger(__name__))

ROOT = "/"
# Settings of sockets and connections, which belong to the server around the application.
_NOT_OURS = ("ssl", "uds_mode", "ops_port", "ops_uds")


def asgi(handler: ServerHandler, *, settings: Settings | None = None, **fields: Unpack[SettingFields]) -> ASGIApp:
    """An ASGI 3 application that serves `handler`; further keywords are fields of `Settings`, and outrank `settings`.

    `path` is "/" here, so clients use the address where the application is mounted.  Name the hosts that clients use in
    `allowed_hosts`; without it, loopback names alone are served.  Raises ValueError for a setting of sockets: `ssl`,
    `uds_mode`, `ops_port`, `ops_uds`.
    """
    if settings is None:
        fields.setdefault("path", ROOT)
    found = replace(settings or Settings(), **fields)
    for name in _NOT_OURS:
        if getattr(found, name) is not None:
            raise ValueError(f"{name} belongs to the server that runs the application")
    return ASGIApp(handler, found)


class ASGIApp:
    """The application; `asgi` makes one.  Call it as ASGI does, or give `lifespan` to the framework that mounts it."""

    def __init__(self, handler: ServerHandler, settings: Settings) -> None:
        self.handler = handler
        self.settings = settings
        self._alias = DEFAULT_PATH if settings.path == ROOT else ""
        self._server: HostedServer | None = None

    async def __call__(self, scope: ASGIMessage, receive: ASGIReceive, send: ASGISend) -> None:
        """One request, or the lifespan of the process.  Raises RuntimeError for any other kind of connection."""
        kind = scope.get("type")
        if kind == "http":
            await (await self._started()).serve(scope, receive, send)
        elif kind == "lifespan":
            await self._live(receive, send)
        elif kind == "websocket":
            await send({"type": "websocket.close", "code": 1008})  # before it is accepted: the server answers 403
        else:
            raise RuntimeError(f"{kind!r} is no kind of connection that an MCP server has")

    @asynccontextmanager
    async def lifespan(self, app: object = None) -> AsyncIterator[None]:
        """The life of the application, for a framework, which is `app`: ``FastAPI(lifespan=mcp_app.lifespan)``."""
        await self._started()
        try:
            yield
        finally:
            await self.aclose()

    async def aclose(self) -> None:
        """End streams, calls and the handler's lifespan in order.  A later request begins anew."""
        server = self._server
        if server is not None:
            try:
                await server.aclose()
            finally:
                if self._server is server:  # until now a request is refused, and does not begin the lifespan anew
                    self._server = None

    async def _started(self) -> HostedServer:
        server = self._server
        if server is None or server.loop is not asyncio.get_running_loop():
            if server is not None and not server.loop.is_closed():
                raise RuntimeError("the application runs on another event loop: make one application for each loop")
            server = self._server = HostedServer(self.handler, self.settings, self._alias)
        try:
            await server.start()
        except Exception:
            if self._server is server:
                self._server = None  # the next request tries again
            raise
        return server

    async def _live(self, receive: ASGIReceive, send: ASGISend) -> None:
        await _expect("lifespan.startup", receive)
        try:
            await self._started()
        except Exception as exc:
            logger.exception("the application could not start")
            await send({"type": "lifespan.startup.failed", "message": f"{type(exc).__name__}: {exc}"})
            return
        await send({"type": "lifespan.startup.complete"})
        try:
            await _expect("lifespan.shutdown", receive)
        except BaseException:  # the server around us is at its end, and not in order
            await self.aclose()
            raise
        try:
            await self.aclose()
        except Exception as exc:
            logger.exception("the application could not end in order")
            await send({"type": "lifespan.shutdown.failed", "message": f"{type(exc).__name__}: {exc}"})
            return
        await send({"type": "lifespan.shutdown.complete"})


async def _expect(kind: str, receive: ASGIReceive) -> None:
    found = kind_of(await receive())
    if found != kind:
        raise RuntimeError(f"the ASGI server sent {found!r:.80} where {kind!r} was due")
