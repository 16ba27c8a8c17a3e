# SPDX-License-Identifier: MIT
"""All verdicts that depend on a request's head alone, computed once per distinct head and kept on it.

The order is the specification's and common sense: where to, who says so, what for, in which format; nothing of the
body is needed for any of it.

Rule: what can expire is not judged here (authorization, sessions), because a verdict lives as long as the head is
remembered, and so it is a `Denial`: a value, and no exception.  It names the option that would allow what it refuses.
"""

from __future__ import annotations

from typing import Any

from ..http.addresses import checked_prefix
from ..http.auth import WELL_KNOWN, metadata_path
from ..http.forwarded import Proxies
from ..http.headers import SESSION_HEADER, VERSION_HEADER, Accept, Headers, is_json, parse_accept
from ..http.messages import Head
from ..http.origins import CORS_MAX_AGE, HostPolicy, cors_exposed, cors_headers, is_authority
from ..protocol.errors import Denial, Refusal
from ..protocol.revisions import MODERN
from ..runtime.settings import Settings

MCP, SSE, MESSAGES, METADATA, NOWHERE = range(5)
MAX_DOORS = 256  # different sets of fields whose verdicts are kept
MAX_ACCEPTS = 64  # different values of Accept whose meaning is kept
# Ids that may differ in each head: nothing here depends on what they say.
VARYING = (SESSION_HEADER, "X-Request-Id", "Traceparent")
ONCE = ("Mcp-Session-Id", "Last-Event-ID", "Authorization")

# The fields of a head that are looked at here: collected in one pass, since looking for one is a pass as well.
Fields = dict[bytes, list[str]]
_WANTED = frozenset(
    (
        b"accept",
        b"access-control-request-headers",
        b"authorization",
        b"content-type",
        b"host",
        b"last-event-id",
        b"mcp-session-id",
        b"origin",
        VERSION_HEADER.lower().encode("ascii"),
    )
)
_SESSION = SESSION_HEADER.lower().encode("ascii")
_VERSION = VERSION_HEADER.lower().encode("ascii")
_ONCE = {name: name.lower().encode("ascii") for name in ONCE}
_NONE: list[str] = []

_ALLOWED = {
    MCP: ("GET", "POST", "DELETE", "OPTIONS"),
    SSE: ("GET", "OPTIONS"),
    MESSAGES: ("POST", "OPTIONS"),
    METADATA: ("GET", "HEAD", "OPTIONS"),
}
# The metadata is public, and clients in browsers need it before they have any right to more.
_ANYBODY: Headers = (("Access-Control-Allow-Origin", "*"),)
_ANYBODY_PREFLIGHT: Headers = (
    *_ANYBODY,
    ("Access-Control-Allow-Methods", "GET, HEAD, OPTIONS"),
    ("Access-Control-Allow-Headers", "*"),
    ("Access-Control-Max-Age", CORS_MAX_AGE),
)


class Door:
    """What the head of a request says, in the protocol's terms."""

    __slots__ = (
        "accepts_events", "accepts_json", "agreed", "allow_events", "allow_json", "claimed", "extra", "head", "host",
        "last_event_id", "method", "peer", "posts", "prefers_events", "prefix", "preflight", "proxied", "refusal",
        "route", "scheme", "session_id", "unfit", "version", "versions",
    )  # fmt: skip

    def __init__(self, head: Head, route: int, fields: Fields) -> None:
        self.head = head
        self.method = head.method
        self.route = route
        self.refusal: Denial | None = None  # before anything else
        self.unfit: Denial | None = None  # after authorization: the format is wrong
        self.host: str | None = None  # by which the client called us
        self.peer = self.scheme = ""  # of whom a proxy speaks for, and how it was called; empty where none said
        self.prefix = ""  # which stands before each path that is given out
        self.proxied: Door | None = None  # the verdicts where the same head comes from a trusted proxy
        self.extra: Headers = ()  # CORS, on every answer
        self.preflight: Headers | None = None  # the answer to OPTIONS
        self.posts = False  # nothing is wrong with it, and it is a POST of a message
        self.claimed: Any = None  # the legacy revision that its version names, where somebody has looked
        self.agreed: Any = None  # what the body of a 2026-07-28 request said when the headers were found to say so too
        self.versions = fields.get(_VERSION, [])
        self.version = self.versions[0].strip() if self.versions else None
        self.session_id = _first(fields, b"mcp-session-id")
        self.last_event_id = _first(fields, b"last-event-id")
        # What the client can read, and what it will be sent: the settings may narrow the second.
        self.accepts_json = self.accepts_events = False
        self.allow_json = self.allow_events = self.prefers_events = False

    def of(self, head: Head) -> Door:
        """The same verdicts on another head, which may name another session."""
        door: Door = Door.__new__(Door)
        door.posts, door.agreed, door.claimed = self.posts, None, self.claimed
        door.head, door.session_id = head, head.get(SESSION_HEADER)
        door.method, door.route, door.host = self.method, self.route, self.host
        door.peer, door.scheme, door.prefix, door.proxied = self.peer, self.scheme, self.prefix, None
        door.refusal, door.unfit, door.extra, door.preflight = self.refusal, self.unfit, self.extra, self.preflight
        door.versions, door.version, door.last_event_id = self.versions, self.version, self.last_event_id
        door.accepts_json, door.accepts_events = self.accepts_json, self.accepts_events
        door.allow_json, door.allow_events = self.allow_json, self.allow_events
        door.prefers_events = self.prefers_events
        return door


class Doorkeeper:
    """Examines heads.  `hosts` is the policy for the addresses that the server is bound to."""

    def __init__(self, settings: Settings, hosts: HostPolicy) -> None:
        self._settings = settings
        self._hosts = hosts
        self._accepts: dict[str, Accept] = {}
        self._doors: dict[tuple[Any, ...], Door] = {}
        self._cors = HostPolicy((), settings.cors)
        self.proxies = Proxies(settings.trusted_proxies) if settings.trusted_proxies else None
        self._prefix = checked_prefix(settings.root_path)
        self._routes = {settings.path.rstrip("/"): MCP}
        if settings.legacy_sse and not settings.stateless:
            self._routes[settings.sse_path.rstrip("/")] = SSE
            self._routes[settings.messages_path.rstrip("/")] = MESSAGES
        if settings.authorization_servers:
            # 2026-07-28 basic/authorization, Protected Resource Metadata: behind the path, or at the root.  The path
            # that clients know may be another one than what a proxy asks us for.
            own = settings.path.rstrip("/")
            for path in ("", own, self._prefix + own):
                self._routes[WELL_KNOWN + path] = METADATA
            self._routes[metadata_path(settings.resource or "")] = METADATA

    def examine(self, head: Head, proxied: bool = False) -> Door:
        """The verdicts; never raises.  `proxied`: a trusted proxy sent it, and says for whom."""
        key: tuple[Any, ...] = ()
        if not proxied:
            # Nothing else of a head is looked at here, and of the session's id nothing but that there is one.
            wanted = tuple([(n, v if n != _SESSION else b"") for n, v in head.headers if n in _WANTED])
            key = (head.method, head.path, wanted)
            known = self._doors.get(key)
            if known is not None:
                return known.of(head)
        door = self._examine(head, proxied)
        if not proxied and door.refusal is None:
            if len(self._doors) >= MAX_DOORS:
                self._doors.clear()
            self._doors[key] = door
        return door

    def _examine(self, head: Head, proxied: bool) -> Door:
        # Both spellings of a path are served: a redirect would lose the body or the credentials on the way.
        path = head.path
        route = self._routes.get(path.rstrip("/") if len(path) > 1 else "", NOWHERE)
        fields = _collect(head)
        door = Door(head, route, fields)
        origins = fields.get(b"origin", _NONE)
        door.refusal = self._set_sender(door, proxied, fields) or self._check_sender(door, origins)
        if door.refusal is None:
            self._set_cors(door, origins[0] if origins else None, fields)
            door.refusal = self._check_target(door) or _check_once(fields)
        if door.refusal is None:
            self._set_format(door, fields)
        return door

    def _set_sender(self, door: Door, proxied: bool, fields: Fields) -> Denial | None:
        door.host, door.prefix = _first(fields, b"host"), self._prefix
        if proxied and self.proxies is not None:
            try:
                said = self.proxies.read(door.head.get_all)
            except Refusal as exc:
                return Denial(exc.status, exc.message, exc.headers)
            if said.host and not is_authority(said.host):
                return Denial(400, "Bad Request: the host that the proxy names is no host")
            door.peer, door.scheme, door.host = said.peer, said.scheme, said.host or door.host
            if said.prefix is not None:
                door.prefix = said.prefix
                # RFC 9728 section 3.1 has the metadata there; a proxy that strips only at the beginning leaves it so.
                if door.head.path.rstrip("/") == f"{WELL_KNOWN}{said.prefix}{self._settings.path.rstrip('/')}":
                    door.route = self._routes.get(WELL_KNOWN, NOWHERE)
        return None

    def _check_sender(self, door: Door, origins: list[str]) -> Denial | None:
        host = door.host
        if not self._hosts.check_host(host):
            return Denial(403, f"Host {host!r:.100} is not allowed here; --allowed-hosts adds it")
        if door.route == METADATA:
            return None
        # 2025-11-25 and 2026-07-28 basic/transports: "MUST respond with HTTP 403 Forbidden" to an invalid Origin.
        if len(origins) > 1 or (
            origins and not self._hosts.check_origin(origins[0]) and not self._cors.check_origin(origins[0])
        ):
            return Denial(403, f"Origin {origins[0]!r:.100} is not allowed here; --allowed-origins adds it")
        return None

    def _set_cors(self, door: Door, origin: str | None, fields: Fields) -> None:
        if door.route == METADATA:
            door.extra = _ANYBODY
            if door.method == "OPTIONS":
                door.preflight = _ANYBODY_PREFLIGHT
        elif origin is not None and self._cors.check_origin(origin):
            door.extra = cors_exposed(origin)
            if door.method == "OPTIONS":
                door.preflight = cors_headers(origin, _first(fields, b"access-control-request-headers"))

    def _check_target(self, door: Door) -> Denial | None:
        if door.route == NOWHERE and door.method != "CONNECT":  # whose target is no path of ours to be missed
            return Denial(404, f"Nothing is served here; the endpoint is {door.prefix}{self._settings.path}")
        allowed = _ALLOWED.get(door.route, _ALLOWED[MCP])
        if door.route == MCP:
            if door.version in MODERN and door.method != "POST":
                # 2026-07-28 streamable-http, Earlier Streamable HTTP Revisions: GET and DELETE are 405.
                allowed = ("POST", "OPTIONS")
            elif self._settings.stateless:
                allowed = ("POST", "OPTIONS")
        if door.method not in allowed:
            return Denial(405, f"Method Not Allowed: {door.method:.20}", headers=(("Allow", ", ".join(allowed)),))
        if door.method == "OPTIONS" and door.preflight is None:
            door.preflight = (("Allow", ", ".join(allowed)),)
        return None

    def _set_format(self, door: Door, fields: Fields) -> None:
        settings = self._settings
        accept = self._accept(", ".join(fields.get(b"accept", _NONE)))
        door.accepts_json, door.accepts_events = accept.json, accept.sse
        door.allow_events = accept.sse and settings.response != "json"
        door.allow_json = accept.json or not door.allow_events
        door.prefers_events = settings.response == "sse" or (settings.response == "auto" and accept.prefers_sse)
        if door.method == "POST":
            # Any page may send text/plain without a preflight: only JSON gets in.
            if not is_json(", ".join(fields.get(b"content-type", _NONE))):
                door.unfit = Denial(415, "Unsupported Media Type: Content-Type must be application/json")
            elif door.route == MCP and not self._acceptable(door):
                door.unfit = Denial(406, "Not Acceptable: Accept must allow application/json and text/event-stream")
            door.posts = door.unfit is None
        elif door.method == "GET" and door.route != METADATA and not accept.sse:
            door.unfit = Denial(406, "Not Acceptable: Accept must allow text/event-stream")

    def _accept(self, value: str) -> Accept:
        # Heads differ in their session; what they accept is the same few texts for ever.
        accept = self._accepts.get(value)
        if accept is None:
            if len(self._accepts) >= MAX_ACCEPTS:
                self._accepts.clear()
            accept = self._accepts[value] = parse_accept(value or None)
        return accept

    def _acceptable(self, door: Door) -> bool:
        if self._settings.strict_accept:
            return door.accepts_json and door.accepts_events
        # A listen stream is events whatever the settings say, so either will do here.
        return door.accepts_json or door.accepts_events


def _collect(head: Head) -> Fields:
    fields: Fields = {}
    for name, value in head.headers:
        if name in _WANTED:
            fields.setdefault(name, []).append(value.decode("latin-1"))
    return fields


def _first(fields: Fields, name: bytes) -> str | None:
    values = fields.get(name)
    return values[0] if values else None


def _check_once(fields: Fields) -> Denial | None:
    # Of two values, something in front of us may have read the other one.
    for name in ONCE:
        if len(fields.get(_ONCE[name], _NONE)) > 1:
            return Denial(400, f"Bad Request: {name} comes more than once")
    return None
