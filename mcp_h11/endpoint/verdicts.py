# SPDX-License-Identifier: MIT
"""The verdict on a request's head: all that follows from the head alone, computed once and kept on it.

An `Examiner` looks at the path, then Host and Origin, then the HTTP method, then the formats.  It reads no body.  A
browser that opens an address gets the page or a refusal, and never a stream: it would show a white page that loads for
ever, and hold a session.

Rule: authorization and sessions are not judged here, because they can expire and a verdict lives as long as its head is
remembered.  For the same reason a refusal is a `Denial`: a value, and no exception.  Its text names the option that
would allow the request.
"""

from __future__ import annotations

from typing import Any

from ..http.addresses import checked_prefix
from ..http.auth import WELL_KNOWN, metadata_path
from ..http.forwarded import Forwarded, Proxies
from ..http.headers import SESSION_HEADER, VERSION_HEADER, Accept, Headers, is_json, parse_accept
from ..http.messages import Head
from ..http.origins import CORS_MAX_AGE, HostPolicy, cors_exposed, cors_headers, is_authority
from ..protocol.errors import Denial, Refusal
from ..protocol.revisions import MODERN
from ..runtime.settings import Settings

MCP, SSE, MESSAGES, METADATA, NOWHERE, PAGE, CARD, CATALOG = range(8)
# Documents for everyone, which need no principal: clients read them before they have any right to more.
PUBLIC = frozenset((METADATA, CARD, CATALOG))
CARD_PATH = "/server-card"  # behind the endpoint
CATALOG_PATH = "/.well-known/ai-catalog.json"
MAX_FACTS = 256  # facts that are kept, for so many sets of fields
MAX_SPOKEN_FOR = 1024  # facts of proxies that are kept, for so many of their clients
MAX_ACCEPTS = 64  # values of Accept that are kept parsed
# Ids that an answer head may repeat, each another one: no verdict depends on their values.
ID_FIELDS = (SESSION_HEADER, "X-Request-Id", "Traceparent")
ONCE = ("Mcp-Session-Id", "Last-Event-ID", "Authorization")

# The fields of a head that are looked at here: collected in one pass, since looking for one is a pass as well.
Fields = dict[bytes, list[str]]
_SESSION = SESSION_HEADER.lower().encode("ascii")
_VERSION = VERSION_HEADER.lower().encode("ascii")
_AUTHORIZATION = b"authorization"
JUDGED = (
    b"accept", b"access-control-request-headers", b"content-type", b"host", b"last-event-id", b"origin", _VERSION,
)  # fmt: skip
_COUNTED = (_SESSION, _AUTHORIZATION)  # of these the number of values is looked at, and no value
_WANTED = frozenset((*JUDGED, *_COUNTED))
# The fields by which a proxy speaks for a client (`http.forwarded`).
_FORWARDED = (b"forwarded", b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto", b"x-forwarded-prefix")
_ONCE = {name: name.lower().encode("ascii") for name in ONCE}
_NONE: list[str] = []
NOT_FORWARDED = Forwarded()

_ALLOWED = {
    MCP: ("GET", "POST", "DELETE", "OPTIONS"),
    SSE: ("GET", "OPTIONS"),
    MESSAGES: ("POST", "OPTIONS"),
    METADATA: ("GET", "HEAD", "OPTIONS"),
    PAGE: ("GET", "HEAD"),
    CARD: ("GET", "HEAD", "OPTIONS"),
    CATALOG: ("GET", "HEAD", "OPTIONS"),
}
_ANYBODY: Headers = (("Access-Control-Allow-Origin", "*"),)
_ANYBODY_PREFLIGHT: Headers = (
    *_ANYBODY,
    ("Access-Control-Allow-Methods", "GET, HEAD, OPTIONS"),
    ("Access-Control-Allow-Headers", "*"),
    ("Access-Control-Max-Age", CORS_MAX_AGE),
)


class Facts:
    """What is the same for all heads that differ in ids alone: route, format, and the refusal if there is one.

    The verdicts on these heads share one object of this class, so no field can be forgotten in a copy.
    """

    __slots__ = (
        "accepts_events", "accepts_json", "allow_events", "allow_json", "cors_headers", "host", "is_post",
        "last_event_id", "late_refusal", "legacy_revision", "method", "prefers_events", "prefix", "preflight",
        "refusal", "route", "scheme", "version", "versions",
    )  # fmt: skip

    def __init__(self, method: str, route: int, fields: Fields) -> None:
        self.method = method
        self.route = route
        self.refusal: Denial | None = None  # comes before authorization
        self.late_refusal: Denial | None = None  # of a wrong format; comes after authorization
        self.host: str | None = None  # the authority that the client addressed
        self.scheme = ""  # that a trusted proxy names; empty where no proxy does
        self.prefix = ""  # stands before each path that is given out
        self.cors_headers: Headers = ()  # go with every answer
        self.preflight: Headers | None = None  # the answer to OPTIONS
        self.is_post = False  # a POST of a message that nothing in the head refuses
        self.versions = fields.get(_VERSION, [])
        self.version = self.versions[0].strip() if self.versions else None
        self.legacy_revision: Any = None  # the one that `version` names; None until `sessions` has looked it up
        self.last_event_id = _first(fields, b"last-event-id")
        # The formats that the client can read (accepts), and those it will be sent (allow), which the settings narrow.
        self.accepts_json = self.accepts_events = False
        self.allow_json = self.allow_events = self.prefers_events = False


class Verdict:
    """The head of a request in the protocol's terms: its `facts`, and the values that belong to this head alone."""

    __slots__ = ("facts", "head", "mirrored", "peer", "proxied", "session_id")

    def __init__(self, head: Head, facts: Facts, peer: str = "") -> None:
        self.facts = facts
        self.head = head
        self.session_id = None if head.session is None else head.session.strip().decode("latin-1")
        self.peer = peer  # the client that a trusted proxy names
        self.proxied: Verdict | None = None  # the verdict on the same head where a trusted proxy sent it
        # Version, method and name in the body of a 2026-07-28 request that these headers were found to repeat.
        self.mirrored: Any = None

    # For requests that are rare: the path of a plain call reads `facts` itself, which is one call less.

    @property
    def method(self) -> str:
        return self.facts.method

    @property
    def version(self) -> str | None:
        """The first MCP-Protocol-Version."""
        return self.facts.version

    @property
    def versions(self) -> list[str]:
        """All values of MCP-Protocol-Version."""
        return self.facts.versions

    @property
    def last_event_id(self) -> str | None:
        return self.facts.last_event_id

    @property
    def is_bare(self) -> bool:
        """A client of 2024-11-05 GETs the URL of the endpoint so; clients of later revisions do with their session."""
        return self.session_id is None and self.version is None and self.last_event_id is None


class Examiner:
    """Examines heads.  `hosts` is the policy for the addresses that the server is bound to."""

    def __init__(self, settings: Settings, hosts: HostPolicy) -> None:
        self._settings = settings
        self._hosts = hosts
        self._accepts: dict[str, Accept] = {}
        self._facts: dict[tuple[Any, ...], Facts] = {}
        self._said: dict[tuple[bytes | None, ...], Forwarded] = {}
        self._cors = HostPolicy((), settings.cors)
        self.proxies = Proxies(settings.trusted_proxies) if settings.trusted_proxies else None
        self._prefix = checked_prefix(settings.root_path)
        self._routes = {settings.path.rstrip("/"): MCP}
        if settings.legacy_sse and not settings.stateless:
            self._routes[settings.sse_path.rstrip("/")] = SSE
            self._routes[settings.messages_path.rstrip("/")] = MESSAGES
        if settings.authorization_servers:
            # 2026-07-28 basic/authorization, Protected Resource Metadata: behind the path, or at the root.  A proxy may
            # strip a prefix, so both the path with the prefix and the path without it are served.
            own = settings.path.rstrip("/")
            for path in ("", own, self._prefix + own):
                self._routes[WELL_KNOWN + path] = METADATA
            self._routes[metadata_path(settings.resource or "")] = METADATA
        if settings.card is not None:
            self._routes[settings.path.rstrip("/") + CARD_PATH] = CARD
            self._routes[CATALOG_PATH] = CATALOG

    def verdict(self, head: Head) -> Verdict:
        """The verdict on a head, which keeps it; never raises."""
        shape = head.shape
        if shape is None or shape.verdict is None:
            verdict = head.verdict = self.examine(head)
        else:
            verdict = head.verdict = Verdict(head, shape.verdict)
        return verdict

    def examine(self, head: Head, proxied: bool = False) -> Verdict:
        """The verdict on a head; never raises.  `proxied`: a trusted proxy sent it and names the client."""
        said = NOT_FORWARDED
        if proxied and self.proxies is not None:
            try:
                said = self._forwarded(head, self.proxies)
            except Refusal as exc:
                return Verdict(head, self._examine(head, said, Denial(exc.status, exc.message, exc.headers)))
        # A verdict depends on these alone, and on the presence of a session id and of a token but not on their values.
        fields, headers = head.fields, head.headers
        values: tuple[Any, ...]
        if len(fields) != len(headers):
            values = tuple([(n, v if n not in _COUNTED else b"") for n, v in headers if n in _WANTED])
        else:
            values = (_SESSION in fields, _AUTHORIZATION in fields, *map(fields.get, JUDGED))
        key = (head.method, head.path, head.prefix, head.scheme, said.host, said.scheme, said.prefix, values)
        facts = self._facts.get(key)
        if facts is None:
            facts = self._examine(head, said, None)
            if facts.refusal is None:
                if len(self._facts) >= MAX_FACTS:
                    self._facts.clear()
                self._facts[key] = facts
        if head.shape is not None and facts.refusal is None and not proxied:
            head.shape.verdict = facts
        return Verdict(head, facts, said.peer)

    def _forwarded(self, head: Head, proxies: Proxies) -> Forwarded:
        """The facts that a trusted proxy gives, read once for each client that it speaks for.  Raises a Refusal."""
        if head.repeats:
            return proxies.read(head.get_all)
        key = tuple(map(head.fields.get, _FORWARDED))
        said = self._said.get(key)
        if said is None:
            said = proxies.read(head.get_all)
            if len(self._said) >= MAX_SPOKEN_FOR:
                self._said.clear()
            self._said[key] = said
        return said

    def _examine(self, head: Head, said: Forwarded, denial: Denial | None) -> Facts:
        # A path is served with and without a final "/": a redirect would lose the body or the credentials on the way.
        path = head.path
        route = self._routes.get(path.rstrip("/") if len(path) > 1 else "", NOWHERE)
        fields = _collect(head)
        facts = Facts(head.method, route, fields)
        origins = fields.get(b"origin", _NONE)
        facts.refusal = self._set_sender(facts, head, said, fields) or denial or self._check_sender(facts, origins)
        if facts.refusal is None:
            if facts.method in ("GET", "HEAD") and self._accept_of(fields).browser and _is_bare(fields):
                facts.refusal = self._set_page(facts, path)
            if facts.route != PAGE:
                self._set_cors(facts, origins[0] if origins else None, fields)
            facts.refusal = facts.refusal or self._check_target(facts) or _check_once(fields)
        if facts.refusal is None:
            self._set_format(facts, fields)
        return facts

    def _set_sender(self, facts: Facts, head: Head, said: Forwarded, fields: Fields) -> Denial | None:
        facts.host, facts.prefix, facts.scheme = _first(fields, b"host"), head.prefix or self._prefix, head.scheme
        if said.host and not is_authority(said.host):
            return Denial(400, "Bad Request: the host that the proxy names is no host")
        facts.scheme, facts.host = said.scheme or facts.scheme, said.host or facts.host
        if said.prefix is not None:
            # A server around this one may have been told of the proxy's prefix too.
            known = head.prefix.startswith(said.prefix)
            facts.prefix = head.prefix if known else said.prefix + head.prefix
            # RFC 9728 section 3.1 has the metadata there; a proxy that strips only at the beginning leaves it so.
            if head.path.rstrip("/") == f"{WELL_KNOWN}{said.prefix}{self._settings.path.rstrip('/')}":
                facts.route = self._routes.get(WELL_KNOWN, NOWHERE)
        return None

    def _check_sender(self, facts: Facts, origins: list[str]) -> Denial | None:
        host = facts.host
        if not self._hosts.check_host(host):
            return Denial(403, f"Host {host!r:.100} is not allowed here; --allowed-hosts adds it")
        if facts.route in PUBLIC:
            return None
        # 2025-11-25 and 2026-07-28 basic/transports: "MUST respond with HTTP 403 Forbidden" to an invalid Origin.
        if len(origins) > 1 or (
            origins and not self._hosts.check_origin(origins[0]) and not self._cors.check_origin(origins[0])
        ):
            return Denial(403, f"Origin {origins[0]!r:.100} is not allowed here; --allowed-origins adds it")
        return None

    def _set_page(self, facts: Facts, path: str) -> Denial | None:
        """Send a browser to the page, or refuse it where it would get a stream."""
        settings = self._settings
        if settings.page and (facts.route == MCP or (facts.route == NOWHERE and path == "/")):
            facts.route = PAGE
        elif facts.route in (MCP, SSE):
            found = f"; the page is at {facts.prefix}{settings.path}" if settings.page else "; --page serves one"
            return Denial(406, f"Not Acceptable: MCP clients speak here, and there is no page for a browser{found}")
        return None

    def _set_cors(self, facts: Facts, origin: str | None, fields: Fields) -> None:
        if facts.route in PUBLIC:
            facts.cors_headers = _ANYBODY
            if facts.method == "OPTIONS":
                facts.preflight = _ANYBODY_PREFLIGHT
        elif origin is not None and self._cors.check_origin(origin):
            facts.cors_headers = cors_exposed(origin)
            if facts.method == "OPTIONS":
                facts.preflight = cors_headers(origin, _first(fields, b"access-control-request-headers"))

    def _check_target(self, facts: Facts) -> Denial | None:
        if facts.route == NOWHERE and facts.method != "CONNECT":  # CONNECT has no path
            return Denial(404, f"Nothing is served here; the endpoint is {facts.prefix}{self._settings.path}")
        allowed = _ALLOWED.get(facts.route, _ALLOWED[MCP])
        if facts.route == MCP:
            if facts.version in MODERN and facts.method != "POST":
                # 2026-07-28 streamable-http, Earlier Streamable HTTP Revisions: GET and DELETE are 405.
                allowed = ("POST", "OPTIONS")
            elif self._settings.stateless:
                allowed = ("POST", "OPTIONS")
        if facts.method not in allowed:
            return Denial(405, f"Method Not Allowed: {facts.method:.20}", headers=(("Allow", ", ".join(allowed)),))
        if facts.method == "OPTIONS" and facts.preflight is None:
            facts.preflight = (("Allow", ", ".join(allowed)),)
        return None

    def _set_format(self, facts: Facts, fields: Fields) -> None:
        settings = self._settings
        accept = self._accept_of(fields)
        facts.accepts_json, facts.accepts_events = accept.json, accept.sse
        facts.allow_events = accept.sse and settings.response != "json"
        facts.allow_json = accept.json or not facts.allow_events
        facts.prefers_events = settings.response == "sse" or (settings.response == "auto" and accept.prefers_sse)
        if facts.method == "POST":
            # Any page may send text/plain without a preflight: only JSON gets in.
            if not is_json(", ".join(fields.get(b"content-type", _NONE))):
                facts.late_refusal = Denial(415, "Unsupported Media Type: Content-Type must be application/json")
            elif facts.route == MCP and not self._acceptable(facts):
                facts.late_refusal = Denial(
                    406, "Not Acceptable: Accept must allow application/json and text/event-stream"
                )
            facts.is_post = facts.late_refusal is None
        elif facts.method == "GET" and facts.route not in PUBLIC and facts.route != PAGE and not accept.sse:
            facts.late_refusal = Denial(406, "Not Acceptable: Accept must allow text/event-stream")

    def _accept_of(self, fields: Fields) -> Accept:
        # Heads differ in their sessions, but their Accept fields are the same few texts.
        value = ", ".join(fields.get(b"accept", _NONE))
        accept = self._accepts.get(value)
        if accept is None:
            if len(self._accepts) >= MAX_ACCEPTS:
                self._accepts.clear()
            accept = self._accepts[value] = parse_accept(value or None)
        return accept

    def _acceptable(self, facts: Facts) -> bool:
        if self._settings.strict_accept:
            return facts.accepts_json and facts.accepts_events
        # A listen stream is always events, so either format is enough here; `modern` refuses a listen without events.
        return facts.accepts_json or facts.accepts_events


def _collect(head: Head) -> Fields:
    fields: Fields = {}
    for name, value in head.headers:
        if name in _WANTED:
            fields.setdefault(name, []).append(value.decode("latin-1"))
    return fields


def _first(fields: Fields, name: bytes) -> str | None:
    values = fields.get(name)
    return values[0] if values else None


def _is_bare(fields: Fields) -> bool:
    # A browser that opens an address sends none of these; HTTP libraries that call themselves browsers may.
    return not {_SESSION, _VERSION, b"last-event-id"} & fields.keys()


def _check_once(fields: Fields) -> Denial | None:
    # A gateway in front of this server may act on another of two values than this server does.
    for name in ONCE:
        if len(fields.get(_ONCE[name], _NONE)) > 1:
            return Denial(400, f"Bad Request: {name} comes more than once")
    return None
