# SPDX-License-Identifier: MIT
"""The answers for people: a browser that opens an address gets the page, or a short text that says why there is none.

The page is one document with its style and its script inside.  It is made of the files in `page/`, when a browser asks
for it first, and says nothing about the server: it asks the server itself, over the endpoint, as every client does.  So
it is the same for all, and needs no token.

Rules:
- The files are read by the loader of the package, so that a copy in a zip file has them as well.
- The policy of the page names its one style and its one script by their hashes.  Nothing else can run in it, no other
  page can frame it, and it can send to its own origin alone.
- What depends on the request is one address, escaped.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from typing import NamedTuple

from ..http.headers import Headers

FOLDER = "page"
# In the order in which they are joined.
SCRIPTS = (
    "dom.js", "json.js", "journal.js", "wire.js", "session.js", "stateless.js", "forms.js", "content.js",
    "questions.js", "catalogue.js", "panels.js", "clients.js", "main.js",
)  # fmt: skip
_ENDPOINT, _STYLE, _SCRIPT = "%endpoint%", "%style%", "%script%"

# Trusted types: the script cannot make markup of text, even by a mistake.
_POLICY = (
    "default-src 'none'; script-src '{script}'; style-src '{style}'; connect-src 'self'; img-src data: blob:; "
    "media-src data: blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
_GUARDS: Headers = (
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Vary", "Accept"),
)
_PERMISSIONS: Headers = (("Permissions-Policy", "camera=(), geolocation=(), microphone=(), payment=(), usb=()"),)
_BARE_POLICY = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

Document = tuple[int, bytes, Headers]


class Frame(NamedTuple):
    """The page up to the address of the endpoint and from there on, and its policy."""

    before: str
    behind: str
    policy: str


@cache
def frame() -> Frame:
    """Read the files.  Raises OSError where a copy of the package was made without them."""
    style = _read("page.css")
    script = "(() => {\n'use strict';\n" + "\n".join(_read(name) for name in SCRIPTS) + "})();\n"
    before, _, behind = _read("page.html").replace(_STYLE, style).replace(_SCRIPT, script).partition(_ENDPOINT)
    return Frame(before, behind, _POLICY.format(script=_hash(script), style=_hash(style)))


def _read(name: str) -> str:
    import pkgutil  # most servers have no page

    data = pkgutil.get_data(__package__ or "", f"{FOLDER}/{name}")
    if data is None:
        raise FileNotFoundError(name)
    # A browser reads \r\n as \n, and the hash is of what it reads.
    return data.decode("utf-8").replace("\r\n", "\n")


def _hash(text: str) -> str:
    import base64
    import hashlib

    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")


def page(endpoint: str, known: Sequence[str]) -> Document:
    """The page for a server whose endpoint has this address, relative to the page's own; "" is that one.

    `known` is the values of If-None-Match: the answer is 304 where the browser has the page already.
    """
    try:
        found = frame()
    except OSError:
        return plain_text(404, f"Not Found: this copy of the package was made without endpoint/{FOLDER}/")
    body = f"{found.before}{_escaped(endpoint)}{found.behind}".encode()
    headers = (("Content-Type", "text/html; charset=utf-8"), ("Content-Security-Policy", found.policy))
    return cacheable(body, headers + _GUARDS + _PERMISSIONS, known)


def cacheable(body: bytes, headers: Headers, known: Sequence[str]) -> Document:
    """A document that browsers ask for again each time, but need not read again (RFC 9110 13.1.2)."""
    tag = f'"{_hash(body.decode())[7:29]}"'
    headers += (("Cache-Control", "no-cache"), ("ETag", tag))
    tags = [one.strip().removeprefix("W/") for value in known for one in value.split(",")]
    return (304, b"", headers) if tag in tags or "*" in tags else (200, body, headers)


def plain_text(status: int, message: str, headers: Iterable[tuple[str, str]] = ()) -> Document:
    """A refusal for a person to read."""
    own = (
        ("Content-Type", "text/plain; charset=utf-8"),
        ("Content-Security-Policy", _BARE_POLICY),
        ("Cache-Control", "no-store"),
    )
    return status, f"{status} {message}\n".encode("utf-8", "replace"), (*own, *_GUARDS, *headers)


def listing(names: Iterable[str], prefix: str, known: Sequence[str]) -> Document:
    """A list of the servers of a gateway, with links to their pages; `prefix` stands before their paths."""
    style = _LISTING_STYLE
    items = "\n".join(
        f'<li><a href="{_escaped(f"{prefix}{name}/mcp")}">{_escaped(name)}</a></li>' for name in sorted(names)
    )
    body = _LISTING.format(style=style, items=items or "<li>none</li>").encode("utf-8", "replace")
    policy = f"{_BARE_POLICY}; style-src '{_hash(style)}'; img-src data:"
    headers = (("Content-Type", "text/html; charset=utf-8"), ("Content-Security-Policy", policy))
    return cacheable(body, headers + _GUARDS + _PERMISSIONS, known)


def _escaped(value: str) -> str:
    import html

    return html.escape(value, quote=True)


_LISTING_STYLE = """
:root { color-scheme: light dark; font: 1rem/1.5 system-ui, sans-serif; }
body { max-width: 40rem; margin: 2rem auto; padding: 0 1rem; }
li { margin: 0.4rem 0; overflow-wrap: anywhere; }
"""
_LISTING = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>MCP servers</title>
<link rel="icon" href="data:,">
<style>{style}</style>
</head>
<body>
<h1>MCP servers</h1>
<ul>
{items}
</ul>
</body>
</html>
"""
