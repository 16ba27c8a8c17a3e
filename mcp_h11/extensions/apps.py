# SPDX-License-Identifier: MIT
"""MCP Apps, extension `io.modelcontextprotocol/ui`: a host shows the result of a tool in a page of the server's.

    apps = Apps()
    apps.add_page("ui://clock/face.html", Path("face.html"))

    @apps.tool(page="ui://clock/face.html")
    def time_now() -> Time: ...

    server = MCPServer("clock", extensions=[apps])

A page is a resource, and the tool names it in `_meta.ui.resourceUri`; the host reads the page, shows it in a frame, and
gives it the results of the tool.  A client that did not announce the extension gets the same tool with a text.

Follows ext-apps, `specification/2026-01-26/apps.mdx` (SEP-1865, stable), in every protocol revision.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

from ..handler.context import Context
from ..handler.extension import CallTool, Extension, ExtensionServices
from ..handler.functions import name_of
from ..handler.mcpserver import MCPServer
from ..handler.questions import InputRequired
from ..protocol.content import text

F = TypeVar("F", bound=Callable[..., Any])

UI = "io.modelcontextprotocol/ui"
PAGE_TYPE = "text/html;profile=mcp-app"
PAGE_SCHEME = "ui://"
VISIBILITIES = ("model", "app")
PERMISSIONS = ("camera", "microphone", "geolocation", "clipboardWrite")


class Apps(Extension):
    """The pages and the tools of one server that belong together; pass it to ``MCPServer(extensions=[...])``."""

    identifier = UI

    def __init__(self) -> None:
        self._server: MCPServer | None = None
        self._pages: dict[str, tuple[Callable[[], Any], dict[str, Any]]] = {}  # as `add_resource` takes them
        self._tools: list[tuple[Callable[..., Any], str, dict[str, Any]]] = []  # with the page of each
        self._fallbacks: dict[str, Callable[[Any], str]] = {}  # by the name of the tool

    def add_page(
        self,
        uri: str,
        html: str | os.PathLike[str] | Callable[[], str],
        *,
        name: str | None = None,
        title: str | None = None,
        description: str | None = None,
        connect_domains: Sequence[str] = (),
        resource_domains: Sequence[str] = (),
        frame_domains: Sequence[str] = (),
        base_uri_domains: Sequence[str] = (),
        permissions: Collection[str] = (),
        domain: str | None = None,
        prefers_border: bool | None = None,
    ) -> None:
        """Add a page.

        Args:
            uri: Its address, such as ``ui://clock/face.html``.
            html: The whole document as a text; a path, which is read at each request; or a function that returns it.
            name, title, description: Facts for the list of resources.
            connect_domains, resource_domains, frame_domains, base_uri_domains: The origins that the page may reach:
                by scripts; for images, scripts, styles and fonts; in frames; as its base.  None without them.
            permissions: Of the browser, which the host may grant: camera, microphone, geolocation, clipboardWrite.
            domain: The origin of the frame, in the form that a host documents.
            prefers_border: Whether the host draws a border; None leaves it to the host.

        Raises:
            ValueError: `uri` does not begin with ui://, or is there already, or there is no such permission.
        """
        if not uri.startswith(PAGE_SCHEME):
            raise ValueError(f"the address of a page begins with {PAGE_SCHEME}, and not {uri!r:.100}")
        if uri in self._pages:
            raise ValueError(f"there is a page {uri} already")
        unknown = set(permissions).difference(PERMISSIONS)
        if unknown:
            raise ValueError(f"{uri}: a permission is one of {', '.join(PERMISSIONS)}, not {sorted(unknown)}")
        csp = {
            "connectDomains": list(connect_domains),
            "resourceDomains": list(resource_domains),
            "frameDomains": list(frame_domains),
            "baseUriDomains": list(base_uri_domains),
        }
        ui: dict[str, Any] = {
            "csp": {key: value for key, value in csp.items() if value} or None,
            "permissions": {key: {} for key in PERMISSIONS if key in permissions} or None,
            "domain": domain,
            "prefersBorder": prefers_border,
        }
        meta = {"ui": {key: value for key, value in ui.items() if value is not None}}
        listed: dict[str, Any] = {
            "name": name or uri,
            "title": title,
            "description": description,
            "mime_type": PAGE_TYPE,
        }
        listed["meta"] = meta if meta["ui"] else None
        self._pages[uri] = (_reader(uri, html, meta if meta["ui"] else {}), listed)
        if self._server is not None:
            self._server.add_resource(uri, self._pages[uri][0], **listed)

    def tool(
        self,
        *,
        page: str,
        visibility: Sequence[str] | None = None,
        fallback: Callable[[Any], str] | None = None,
        meta: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Callable[[F], F]:
        """Register a function as a tool with a page for its results: ``@apps.tool(page="ui://...")``.

        Args:
            page: The address of a page of `add_page`, which may be added later.
            visibility: "model" where the model may call the tool, "app" where the page may; both by default.
            fallback: Makes the text for a client that shows no pages, from the structured content of the result, or
                from its content blocks where it has none.  Without it that client gets the result as it is.
            meta: Further members of the tool's `_meta`.
            options: As for `MCPServer.add_tool`: name, title, description ...

        Raises:
            ValueError: `page` is no address of a page, `visibility` has another word, or `meta` has `ui` already.
        """
        if not page.startswith(PAGE_SCHEME):
            raise ValueError(f"the address of a page begins with {PAGE_SCHEME}, and not {page!r:.100}")
        if visibility is not None and (not visibility or not set(visibility).issubset(VISIBILITIES)):
            raise ValueError(f"visibility is some of {', '.join(VISIBILITIES)}, not {visibility!r}")
        if meta is not None and "ui" in meta:
            raise ValueError("`ui` in the tool's _meta is made of page and visibility")
        ui: dict[str, Any] = {"resourceUri": page}
        if visibility is not None:
            ui["visibility"] = list(visibility)
        keywords = {**options, "meta": {**(meta or {}), "ui": ui}}

        def decorate(fn: F) -> F:
            self._tools.append((fn, page, keywords))
            if fallback is not None:
                self._fallbacks[keywords.get("name") or name_of(fn)] = fallback
            if self._server is not None:
                self._server.add_tool(fn, **keywords)
            return fn

        return decorate

    def shown(self, ctx: Context) -> bool:
        """Whether the client of the call `ctx` shows pages: it announced the extension, and this kind of page."""
        settings = self.announced(ctx)
        kinds = settings.get("mimeTypes") if settings is not None else None
        return isinstance(kinds, list) and PAGE_TYPE in kinds

    # --- the extension -------------------------------------------------------------------------------------

    def attach(self, server: MCPServer) -> None:
        if self._server is not None:
            raise ValueError("one Apps is for one server: make another")
        self._server = server
        for uri, (read, listed) in self._pages.items():
            server.add_resource(uri, read, **listed)
        for fn, _, keywords in self._tools:
            server.add_tool(fn, **keywords)

    @asynccontextmanager
    async def lifespan(self, services: ExtensionServices) -> AsyncIterator[None]:
        """Raises ValueError for a tool without its page: "Resource MUST exist on the server"."""
        for fn, page, keywords in self._tools:
            if page not in self._pages:
                raise ValueError(
                    f"the tool {keywords.get('name') or name_of(fn)} has the page {page}: add_page adds it"
                )
        yield

    async def call_tool(self, params: dict[str, Any], ctx: Context, call: CallTool) -> Any:
        result = await call(params, ctx)
        name = params.get("name")
        fallback = self._fallbacks.get(name) if isinstance(name, str) else None
        if fallback is None or isinstance(result, InputRequired) or result.get("isError") or self.shown(ctx):
            return result
        told = result.get("structuredContent", result.get("content"))
        return {**result, "content": [text(fallback(told))]}


def _reader(uri: str, html: Any, meta: dict[str, Any]) -> Callable[[], list[dict[str, Any]]]:
    """The function of the page's resource."""

    def read() -> list[dict[str, Any]]:
        if callable(html):
            document = html()
        elif isinstance(html, str):
            document = html
        else:
            document = Path(html).read_text("utf-8")
        contents = {"uri": uri, "mimeType": PAGE_TYPE, "text": document}
        # The host makes the page's Content-Security-Policy of this copy (UI Resource Format).
        return [{**contents, "_meta": meta} if meta else contents]

    return read
