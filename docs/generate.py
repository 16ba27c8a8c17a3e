# SPDX-License-Identifier: MIT
"""Writes the tables of docs/settings.md, revisions.md and arguments.md, and the keywords of `run` for type checkers.

All of them stand between markers: `python docs/generate.py`.

A test does the same in memory and compares, so that the tables cannot drift from the code.
"""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import json
import re
import sys
import uuid
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TypedDict

import pydantic

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
SETTING_FIELDS = ROOT / "mcp_h11" / "runtime" / "setting_fields.py"

sys.path.insert(0, str(ROOT))

from mcp_h11 import REVISIONS, Limits, Settings
from mcp_h11.schema.arguments import BadArguments
from mcp_h11.schema.signature import describe

# The label of a row, and the function from a revision to its cell.
FACTS = (
    ("handshake (`initialize`) and sessions", lambda r: not r.modern),
    ("self-describing requests, `server/discover`", lambda r: r.modern),
    ("JSON-RPC batches", lambda r: r.batches),
    ("GET stream, `Last-Event-ID` resume, DELETE", lambda r: "HTTP+SSE" if r.name == "2024-11-05" else not r.modern),
    ("priming event, `retry`, polling", lambda r: r.priming),
    ("`MCP-Protocol-Version` header", lambda r: r.version_header),
    ("`Mcp-Method`, `Mcp-Name`, `Mcp-Param-*` headers", lambda r: r.modern),
    (
        "a lost connection",
        lambda r: "ends the session" if r.name == "2024-11-05" else "cancels" if r.modern else "does not cancel",
    ),
    (
        "change notices",
        lambda r: "`subscriptions/listen`" if r.modern else "sent; resources by `resources/subscribe`",
    ),
    ("questions to the client", lambda r: "input rounds" if r.input_required else "requests"),
    ("elicitation", lambda r: {"": False, "form": "form", "full": "form, URL"}[r.elicitation]),
    ("sampling, roots", lambda r: True),
    ("progress; its `message`", lambda r: "yes; yes" if r.progress_message else "yes; no"),
    ("log level", lambda r: "per request" if r.modern else "per session"),
    ("completion; its capability", lambda r: "yes; yes" if r.completions_capability else "yes; no"),
    ("tool annotations", lambda r: r.tool_annotations),
    ("structured output", lambda r: {"": False, "object": "objects", "any": "any JSON"}[r.structured]),
    ("audio content", lambda r: r.audio),
    ("resource links", lambda r: r.resource_links),
    ("titles, `_meta` on tools, resources, prompts", lambda r: r.titles),
    ("icons", lambda r: r.icons),
    ("`resultType`, `serverInfo` on every result", lambda r: r.result_type),
    ("`ttlMs`, `cacheScope`", lambda r: r.cache_hints),
    ("missing resource", lambda r: str(r.missing_resource)),
)

# The meaning of each setting; a test wants one for every field.
MEANINGS = {
    "path": "the endpoint; with or without a slash at its end",
    "response": "`auto`: JSON unless something is emitted first or `patience` passes; `json`; `sse`",
    "stateless": "no sessions: GET and DELETE are 405, `initialize` gives no id",
    "page": "browsers that open `path` or `/` get a page that tries the server (the command line turns it on for "
    "loopback addresses)",
    "card": "the name, such as `com.example/weather`, under which a [server card](extensions.md#the-server-card) is "
    "published; `None`: no card",
    "legacy_sse": "HTTP+SSE of 2024-11-05, and by a bare GET of `path` (the command line turns it on)",
    "sse_path": "where its stream is",
    "messages_path": "where its messages are posted",
    "root_path": "the prefix that a reverse proxy strips from paths; the paths that clients are told begin with it; as "
    "`X-Forwarded-Prefix`",
    "strict_accept": "a POST must accept both JSON and event streams",
    "allowed_hosts": "Host names served; `None`: loopback and the bound address, `('*',)`: any",
    "allowed_origins": "pages that may ask, besides loopback ones; `('*',)`: any",
    "cors": "origins of the pages that may read answers",
    "token": "a bearer token that every request must carry",
    "authorize": "your function from a request's head to its principal, or `None` for 401",
    "verifier": "your `TokenVerifier`: finds the principal of a bearer token",
    "required_scopes": "that every request needs, else 403",
    "scope_includes": "your function from a granted and a needed scope to whether the first includes the second",
    "authorization_servers": "where tokens come from; served at `/.well-known/oauth-protected-resource`",
    "resource": "this server's own URI, for which tokens are issued; `None`: as clients call it",
    "scopes_supported": "named in that metadata; empty: `required_scopes`",
    "trusted_proxies": "addresses, networks, `unix` or `*`: their `X-Forwarded-*` and `Forwarded` are believed",
    "rate_limit": "`(requests, seconds)` of each principal, or else address, at all workers together; then 429",
    "rate_burst": "requests of each that may come at once, at each worker; `None`: as many as `rate_limit` says",
    "uds_mode": "permission bits of a Unix socket; `None`: as the umask says",
    "ssl": "an `ssl.SSLContext`; `tls_context(certfile, keyfile)` makes one",
    "json": "a module with `loads` and `dumps` instead of the standard library's, such as orjson",
    "access_log": "a line for each answer, to the logger `mcp_h11.connection.access`: `text` (`True`) or `json`",
    "health": "serve `health_path` and `ready_path`",
    "metrics": "serve `metrics_path`",
    "tracing": "spans of OpenTelemetry ([observability.md](observability.md)): `None`: if the program has set a "
    "provider; `True`: it must have; `False`: none; or a `TracerProvider`",
    "health_path": "200, or 503 where no client could begin",
    "ready_path": "200, or 503 and why no new clients should be sent here",
    "metrics_path": "Prometheus' text format",
    "ops_port": "serve all three there, and none of them on the endpoint's port; 0 is a free one",
    "ops_host": "the address of that port",
    "ops_hosts": "names of that port, beside `allowed_hosts`, loopback names and numbers of addresses",
    "ops_uds": "a Unix socket instead",
    "ops_token": "a bearer token for `POST /swap` there, which starts the backends of a bridge anew; `None`: no such "
    "path",
    "ready_lag": "seconds by which the event loop was late; then not ready",
    "call_in": "runs plain functions where the host wants them",
    "max_threads": "plain functions that run at once",
    "eager": "for experts: `False` gives each call a task and each answer a write, by public means of asyncio only",
    "max_values": "JSON values and names in one body over HTTP, then 400: more would hold all others up for 100 ms",
    "limits.max_request_line": "then 414",
    "limits.max_head": "then 431",
    "limits.max_fields": "then 431",
    "limits.max_body": "then 413, before the body is read where its length is announced",
    "limits.max_chunk_overhead": "chunk extensions, trailers, framing of chunks under 64 bytes, then 413",
    "max_connections": "then one of the client that has most ends, or 503; at most the descriptor limit less 64",
    "backlog": "connections not yet accepted",
    "read_ahead": "buffered of a client that sends on while it is answered; then reading pauses",
    "write_high": "not yet taken by a client; then the writer waits",
    "handshake_timeout": "of TLS, on a new connection; it counts among `max_connections` meanwhile",
    "first_byte_timeout": "on a new connection",
    "head_timeout": "for a whole head, then 408",
    "body_timeout": "for a body, then 408; each `min_body_rate` bytes that arrive give a second back",
    "min_body_rate": "bytes a second that a body must keep up on average; `None`: `body_timeout` is for all of it",
    "idle_timeout": "between two requests of a connection",
    "max_requests": "of one connection",
    "write_timeout": "without a byte taken; then the connection is dropped, not the session",
    "grace": "for running calls at shutdown, which takes 2.5 s more at most: under the 10 s of `docker stop`",
    "drain_delay": "before that, for load balancers: `ready_path` says `draining`, and new requests are still served",
    "max_running": "calls at once",
    "max_running_session": "calls of one session at once",
    "max_waiting": "calls that wait for their turn, then 503; and calls that wait for their client",
    "max_client_memory": "bytes of memory for messages of clients that the server still holds (bodies that arrive, "
    "calls that wait or run, subscriptions), then 503",
    "call_timeout": "for a call; then it is cancelled and answered so; progress gives it the whole time again",
    "lag_warning": "seconds that the event loop was blocked; then a warning names the function that did it",
    "call_ceiling": "for a call that has a timeout, also if it makes progress",
    "patience": "then an answer that is still undecided becomes an event stream",
    "keep_alive": "of silence on an event stream, then a comment",
    "retry": "milliseconds: how soon a client comes back to a cut stream",
    "ask_timeout": "for the client's answer to a question in a legacy session",
    "session_idle": "with nothing running and no stream open; then the session ends",
    "session_initialize": "from `initialize` to `notifications/initialized`, if no other message comes",
    "max_sessions": "at all workers together; then an idle one ends, of the client that has most, or 503",
    "max_sessions_peer": "the same for one client",
    "max_listeners": "open `subscriptions/listen` streams, then 503",
    "max_subscriptions": "resources of one session or listener",
    "store": "what the workers of one endpoint share: `sqlite:///path`, `redis://host:6379/0`, or an object of "
    "`mcp_h11.stores`; `None`: this process alone",
    "session_manager": "where session records live; `None`: in memory",
    "event_store": "where events wait to be replayed; `None`: `MemoryEventStore`, 256 events a stream, 1 MiB a "
    "session, 64 MiB in all, 300 s after a stream's end",
    "replay": "`False`: streams cannot be resumed",
    "state_keys": "for signing `requestState`; the same on every replica; empty: one key for this process",
    "state_ttl": "how long a user may take to answer an input round",
}


def revision_table() -> str:
    """The support of each revision, from `revisions.py`."""
    names = sorted(REVISIONS)
    rows = ["| | " + " | ".join(names) + " |", "|---|" + "---|" * len(names)]
    for label, fact in FACTS:
        cells = [_cell(fact(REVISIONS[name])) for name in names]
        rows.append(f"| {label} | " + " | ".join(cells) + " |")
    return "\n".join(rows)


def settings_table() -> str:
    """Every field of `Settings` with its default, in order."""
    rows = ["| setting | default | |", "|---|---|---|"]
    for name, default in _defaults():
        rows.append(f"| `{name}` | {_default(default)} | {MEANINGS[name]} |")
    return "\n".join(rows)


def _defaults() -> Iterator[tuple[str, object]]:
    for field in fields(Settings):
        if field.name == "limits":
            yield from ((f"limits.{f.name}", f.default) for f in fields(Limits))
        else:
            yield field.name, field.default


def _cell(value: object) -> str:
    return {True: "yes", False: "–"}.get(value, str(value)) if isinstance(value, bool) else str(value)


def _default(value: object) -> str:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return f"{value:,g}" if isinstance(value, float) else f"{value:,}"
    return f"`{value!r}`"


# --- docs/arguments.md ---------------------------------------------------------------------------------------


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclasses.dataclass
class Point:
    x: int
    y: float = 0.5


class Place(TypedDict):
    street: str


class Pair(NamedTuple):
    left: int
    right: str = "r"


class Model(pydantic.BaseModel):
    price: float


# How it is written, the annotation, and the JSON values that are tried.
ANNOTATIONS: tuple[tuple[str, Any, list[Any]], ...] = (
    ("`str`", str, ["5", 5, True, None]),
    ("`int`", int, [5, 5.0, "5", " 5 ", "5.0", "1_000", True, 5.5, "5.5", "five", "", None]),
    ('`Annotated[int, {"minimum": 1}]`', Annotated[int, {"minimum": 1}], [5, "5", 0, "0"]),
    ("`Annotated[int, Field(ge=1)]`", Annotated[int, pydantic.Field(ge=1)], [5, "5", 0, "0"]),
    ("`float`", float, [1.5, 5, "1.5", "1e3", True, "nan", "inf", "1e999", "x"]),
    ("`bool`", bool, [True, "true", "True", "yes", "on", "t", "1", 1, 0, "off", "N", 2, "maybe", ""]),
    ("`None`", None, [None, "null", 0, ""]),
    ("`Any`, no annotation", Any, [5, "5", [1], '["a"]', None]),
    ("`int | None`", int | None, [5, None, "5", "null", "", "x"]),
    ("`int | str`", int | str, [5, "5", True, None]),
    ("`int | float`", int | float, [5, 1.5, "5", "1.5", True, "nan"]),
    ("`Literal[1, 2]`", Literal[1, 2], [1, "1", True, 3, "3"]),
    ('`Literal["a", "b"]`', Literal["a", "b"], ["a", "A", "c"]),
    ("`Enum`", Color, ["red", "RED", "green"]),
    ("`list[int]`", list[int], [[1], ["1", 2.0], '["1"]', "[1]", "1, 2", ["x"], 1, {"0": 1}, "[NaN]"]),
    ("`list[str]`", list[str], [["a"], '["a"]', [5], "a"]),
    ("`set[int]`", set[int], [[1, 2], [1, 1], ["1"], "[1]", 1]),
    ("`tuple[int, str]`", tuple[int, str], [[1, "a"], ["1", "a"], '[1, "a"]', [1], [1, 2]]),
    ("`dict[str, int]`", dict[str, int], [{"a": 1}, {"a": "1"}, '{"a": 1}', {"a": "x"}, [1]]),
    ("`dict[int, str]`", dict[int, str], [{"1": "a"}, {"1.0": "a"}, {"x": "a"}]),
    ("dataclass", Point, [{"x": 1}, {"x": "1"}, '{"x": 1}', {"x": 1, "z": 1}, {"z": 1}, [1]]),
    ("`TypedDict`", Place, [{"street": "s"}, '{"street": "s"}', {"street": "s", "z": 1}, {"street": 1}]),
    ("`NamedTuple`", Pair, [{"left": 1}, {"left": "1"}, [1, "a"], {"left": 1, "z": 1}, [1, "a", 2]]),
    ("pydantic model", Model, [{"price": 1}, {"price": "1"}, '{"price": 1}', {"price": 1, "z": 1}, {"price": "nan"}]),
    ("`list[dataclass]`", list[Point], [[{"x": 1}], [{"x": "1", "z": 1}], '[{"x": 1}]', ['{"x": 1}']]),
    ("`datetime`", datetime.datetime, ["2020-01-02T03:04:05Z", "2020-01-02", 1577934245, "1577934245", True, "soon"]),
    ("`date`", datetime.date, ["2020-01-02", "2020-01-02T00:00:00", 86400, "2020-01-02T03:04:05", 1, "soon"]),
    ("`time`", datetime.time, ["03:04:05", 3600, "x", -1]),
    ("`UUID`", uuid.UUID, ["00000000-0000-0000-0000-000000000001", "x", 1]),
    ("`Decimal`", decimal.Decimal, ["1.10", 1.5, 2, True, "NaN"]),
    ("`bytes`", bytes, ["AP8=", "A", 1]),
)


def arguments_table() -> str:
    """The values that each type takes, found out by trying them: by `strict=True`, by default, or not at all."""
    rows = ["| type | schema | taken as it is | also taken, unless `strict` | refused |", "|---|---|---|---|---|"]
    for label, annotation, values in ANNOTATIONS:
        strict, lax = _taking(annotation, strict=True, refuse_extra=True), _taking(annotation)
        exact, converted, refused = [], [], []
        for value in values:
            written = f"`{json.dumps(value)}`"
            if _reads(strict, value) is not _REFUSED:
                exact.append(written)
            elif (made := _reads(lax, value)) is not _REFUSED:
                converted.append(f"{written} → `{_python(made)}`")
            else:
                refused.append(written)
        schema = json.dumps({**lax.input_schema["properties"]["a"], **_definitions(lax.input_schema)})
        cells = [label, f"`{schema}`", ", ".join(exact), ", ".join(converted), ", ".join(refused)]
        rows.append("| " + " | ".join(cell.replace("|", "\\|") or "–" for cell in cells) + " |")
    return "\n".join(rows)


_REFUSED = object()


def _taking(annotation: Any, **options: Any) -> Any:
    def tool(a: Any) -> None: ...

    tool.__annotations__ = {"a": annotation}
    return describe(tool, **options)


def _reads(signature: Any, value: Any) -> Any:
    try:
        return signature.bind({"a": value})["a"]
    except BadArguments:
        return _REFUSED


def _definitions(schema: dict[str, Any]) -> dict[str, Any]:
    return {"$defs": schema["$defs"]} if "$defs" in schema else {}


def _python(value: Any) -> str:
    """As Python writes it; times are shorter in ISO 8601."""
    return value.isoformat() if isinstance(value, (datetime.date, datetime.time)) else repr(value)


# --- mcp_h11/runtime/setting_fields.py -----------------------------------------------------------------------


def setting_fields() -> str:
    """Every field of `Settings` as a member of the TypedDict of its keywords."""
    # A dataclass of a module with postponed annotations has them as texts, in single quotes.
    return "\n".join(f"    {field.name}: {field.type}".replace("'", '"') for field in fields(Settings))


def generated_fields(text: str) -> str:
    """The module with its members made anew."""
    pattern = re.compile(r"(    # fields: generated\n).*?(    # /fields\n)", re.S)
    assert pattern.search(text), "no marker for fields"
    return pattern.sub(lambda match: match[1] + setting_fields() + "\n" + match[2], text)


# Each page of docs/ that has a table, with the name of its markers and the function that writes the table.
PAGES = {
    "settings.md": ("settings", settings_table),
    "revisions.md": ("revisions", revision_table),
    "arguments.md": ("arguments", arguments_table),
}


def generated(page: str, text: str) -> str:
    """The text of a page of docs/ with its table made anew."""
    name, make = PAGES[page]
    pattern = re.compile(rf"(<!-- {name}: generated -->\n).*?(<!-- /{name} -->)", re.S)
    assert pattern.search(text), f"{page}: no marker for {name}"
    return pattern.sub(lambda match: match[1] + make() + "\n" + match[2], text)


if __name__ == "__main__":
    for page in PAGES:
        (DOCS / page).write_text(generated(page, (DOCS / page).read_text("utf-8")), "utf-8")
    SETTING_FIELDS.write_text(generated_fields(SETTING_FIELDS.read_text("utf-8")), "utf-8")
