# SPDX-License-Identifier: MIT
"""The server card and the catalog that names it: two public JSON documents for clients that look for servers.

They have the name and the address of a server; tools, resources and prompts are listed by the protocol alone.

Follows the extension of SEP-2127 (Final), experimental-ext-server-card at commit 526201b; its schema may still move;
and the AI Catalog 0.9 (release candidate, commit 19208af).
"""

from __future__ import annotations

from typing import Any

from ..handler.handler import ServerHandler
from ..http.headers import Headers
from ..protocol.revisions import SUPPORTED

CARD_SCHEMA = "https://static.modelcontextprotocol.io/schemas/v1/server-card.schema.json"
CARD_TYPE = "application/mcp-server-card+json"
CATALOG_TYPE = "application/ai-catalog+json"
MAX_CARD_TEXT = 100  # characters, of the schema; so is the next one
MAX_CARD_VERSION = 255
CARD_KEPT = 300  # seconds that a cache may keep either document


def card_headers(media_type: str) -> Headers:
    """The headers of either document.  It depends on the host that the client named."""
    return (("Content-Type", media_type), ("Cache-Control", f"public, max-age={CARD_KEPT}"), ("Vary", "Host"))


def server_card(handler: ServerHandler, name: str, url: str, *, token: bool) -> dict[str, Any]:
    """The card of the server at `url`, under this `name`; `token`: clients need a bearer token that its user has."""
    info = handler.info()
    remote: dict[str, Any] = {"type": "streamable-http", "url": url, "supportedProtocolVersions": list(SUPPORTED)}
    if token:
        about = "Bearer and the token of this server"
        remote["headers"] = [{"name": "Authorization", "description": about, "isRequired": True, "isSecret": True}]
    card: dict[str, Any] = {
        "$schema": CARD_SCHEMA,
        "name": name,
        "version": str(info["version"])[:MAX_CARD_VERSION],
        "description": _short(handler.description or handler.title or handler.name) or name[:MAX_CARD_TEXT],
        "remotes": [remote],
    }
    if handler.title:
        card["title"] = _short(handler.title)
    card.update((key, info[key]) for key in ("websiteUrl", "icons") if key in info)
    return card


def catalog(handler: ServerHandler, name: str, card_url: str) -> dict[str, Any]:
    """The catalog that has this one card."""
    space, _, own = name.partition("/")
    # AI Catalog, ADR 0015: the domain of the publisher is spelled forward in an identifier.
    publisher = ".".join(reversed(space.split(".")))
    entry = {
        "identifier": f"urn:air:{publisher}:{own}",
        "displayName": _short(handler.title or handler.name) or name,
        "type": CARD_TYPE,
        "url": card_url,
    }
    return {"specVersion": "1.0", "entries": [entry]}


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= MAX_CARD_TEXT else f"{line[: MAX_CARD_TEXT - 3]}..."
