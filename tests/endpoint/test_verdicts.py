# SPDX-License-Identifier: MIT
"""Decisions by the head of a request alone, on the wire: host, origin, path, method, formats."""

from __future__ import annotations

import gc
from contextlib import AsyncExitStack
from typing import Any

import pytest
from fleets import until
from rawclient import JSON_TYPE, SSE_TYPE, Legacy, RawClient, Response
from serving import ASYNCIO, LEGACY, Held, call, head, lives, modern, request, served, still_serves

from mcp_h11.endpoint.verdicts import MAX_FACTS, MAX_SPOKEN_FOR, Examiner, Facts, Verdict
from mcp_h11.http.heads import HeadCache
from mcp_h11.http.messages import Head, HTTPRequest, Limits
from mcp_h11.http.origins import LOOPBACK_HOSTS, HostPolicy
from mcp_h11.http.server import ServerConnection
from mcp_h11.runtime.settings import Settings
from mcp_h11.server.sockets import host_policy

pytestmark = pytest.mark.anyio
MCP_HEADERS = (
    "content-type, accept, authorization, mcp-protocol-version, mcp-session-id, last-event-id, mcp-method, mcp-name"
)


@pytest.fixture
def anyio_backend() -> Any:
    return ASYNCIO


async def ask(port: int, data: bytes, method: str = "POST") -> Response:
    """The answer; checks that the connection can be used again."""
    async with RawClient(port) as client:
        await client.send(data)
        answer = await client.receive(method)
        assert "connection" not in answer.headers
        await lives(client)
        return answer


def error(answer: Response) -> Any:
    body = answer.json()
    assert body["jsonrpc"] == "2.0" and "id" not in body
    return body["error"]


# --- who -----------------------------------------------------------------------------------------------------------

HOSTS = {
    "localhost": True, "LOCALHOST:1": True, "127.0.0.1": True, "127.0.0.1:65535": True, "[::1]": True, "[::1]:80": True,
    "localhost.": True, "evil.example": False, "localhost.evil.example": False, "evil.example:8000": False,
    "127.0.0.2": False, "0.0.0.0": False, "[::2]": False, "127.0.0.1.evil.example": False,
    "localhost:99999": False, "2130706433": False,
}  # fmt: skip


@pytest.mark.parametrize("host", HOSTS)
async def test_a_server_on_loopback_is_called_by_loopback_names_only(host: str) -> None:
    async with served() as server:
        answer = await ask(server.port, modern("server/discover", Host=host))
        if HOSTS[host]:
            assert answer.status == 200
        else:
            assert answer.status == 403
            message = error(answer)["message"]
            assert host in message and "--allowed-hosts" in message
        await still_serves(server.port)


@pytest.mark.parametrize("host", ["::1", "localhost:x", "user@localhost", "[::1"])
async def test_a_host_that_is_none_is_400(host: str) -> None:
    async with served() as server, RawClient(server.port) as client:
        await client.send(modern("server/discover", Host=host))
        assert (await client.receive("POST")).status in (400, 403)
        await still_serves(server.port)


ORIGINS = {
    None: True, "http://localhost": True, "https://localhost:3000": True, "http://127.0.0.1:5173": True,
    "http://[::1]:1": True, "HTTP://LOCALHOST": True, "https://evil.example": False, "null": False, "": False,
    "http://localhost.evil.example": False, "file://": False, "chrome-extension://abc": False,
    "http://localhost@evil.example": False, "http://localhost, http://evil.example": False, "localhost": False,
}  # fmt: skip


@pytest.mark.parametrize("origin", ORIGINS)
async def test_a_page_from_elsewhere_is_403(origin: str | None) -> None:
    async with served() as server:
        answer = await ask(server.port, modern("server/discover", Origin=origin))
        assert answer.status == (200 if ORIGINS[origin] else 403)
        if not ORIGINS[origin]:
            assert "--allowed-origins" in error(answer)["message"]
        assert not any(name.startswith("access-control") for name in answer.headers)


async def test_two_origins_are_one_too_many() -> None:
    twice = modern("server/discover").replace(
        b"\r\n\r\n", b"\r\nOrigin: http://localhost\r\nOrigin: http://a.b\r\n\r\n"
    )
    async with served() as server:
        assert (await ask(server.port, twice)).status == 403


@pytest.mark.parametrize(
    ("allowed", "host", "status"),
    [
        (["tools.example"], "tools.example", 200),
        (["tools.example"], "TOOLS.example:8443", 200),
        (["tools.example:8443"], "tools.example:8443", 200),
        (["tools.example:8443"], "tools.example", 403),
        (["tools.example:*"], "tools.example:1", 200),
        (["tools.example"], "localhost", 403),
        (["[fd00::1]"], "[fd00::1]:80", 200),
        (["*"], "anything.example", 200),
        ([], "localhost", 403),
    ],
)
async def test_allowed_hosts_are_allowed_and_no_others(allowed: list[str], host: str, status: int) -> None:
    async with served(allowed_hosts=allowed) as server, RawClient(server.port) as client:
        await client.send(modern("server/discover", Host=host))
        assert (await client.receive("POST")).status == status


@pytest.mark.parametrize(
    ("options", "origin", "status"),
    [
        ({"allowed_origins": ["https://a.example"]}, "https://a.example", 200),
        ({"allowed_origins": ["https://a.example"]}, "https://a.example:443", 200),
        ({"allowed_origins": ["https://a.example"]}, "http://a.example", 403),
        ({"allowed_origins": ["https://a.example"]}, "https://a.example:8443", 403),
        ({"allowed_origins": ["https://a.example:*"]}, "https://a.example:8443", 200),
        ({"allowed_origins": ["*"]}, "https://b.example", 200),
        ({"allowed_origins": ["*"]}, "null", 403),
        ({"cors": ["https://a.example"]}, "https://a.example", 200),
        ({"cors": ["https://a.example"]}, "https://b.example", 403),
        ({"cors": ["*"]}, "https://b.example", 200),
        ({"cors": ["*"]}, "null", 403),
        ({"cors": ["*"]}, "https://b.example, https://c.example", 403),
        ({"allowed_hosts": ["tools.example"]}, "http://localhost", 403),
    ],
)
async def test_allowed_origins_are_allowed_and_no_others(options: dict[str, Any], origin: str, status: int) -> None:
    host = "tools.example" if "allowed_hosts" in options else "localhost"
    async with served(**options) as server, RawClient(server.port) as client:
        await client.send(modern("server/discover", Host=host, Origin=origin))
        assert (await client.receive("POST")).status == status


def test_the_hosts_of_a_bind_are_its_own_and_the_loopback_names() -> None:
    policy = host_policy(Settings(), [("127.0.0.5", 1), ("::1", 1, 0, 0), "/a/unix/socket"])
    assert [policy.check_host(h) for h in ("127.0.0.5", "[::1]", "localhost", "127.0.0.6")] == [True, True, True, False]
    assert isinstance(host_policy(Settings(allowed_hosts=["a.example"]), [("192.0.2.1", 1)]), HostPolicy)
    for reachable in ("192.0.2.1", "0.0.0.0", "::", "fe80::1%eth0"):
        with pytest.raises(ValueError, match=r'--allowed-hosts.*"\*" for any'):
            host_policy(Settings(), [("127.0.0.1", 1), (reachable, 1)])


# --- CORS ----------------------------------------------------------------------------------------------------------

PAGE = "https://page.example"


async def test_a_preflight_names_every_header_of_the_protocol() -> None:
    async with served(cors=[PAGE], token="s3cret") as server:  # without a token: browsers send none here
        data = head(method="OPTIONS", Origin=PAGE, Access_Control_Request_Method="POST")
        async with RawClient(server.port) as client:
            await client.send(data + data)
            for _ in range(2):
                answer = await client.receive("OPTIONS")
                assert (answer.status, answer.body) == (204, b"")
                assert {n: v for n, v in answer.headers.items() if n != "date"} == {
                    "access-control-allow-origin": PAGE,
                    "vary": "Origin",
                    "access-control-allow-methods": "GET, POST, DELETE, OPTIONS",
                    "access-control-allow-headers": MCP_HEADERS,
                    "access-control-max-age": "7200",
                }
            wanted = "content-type,mcp-param-region, mcp-protocol-version, bad header"
            await client.send(
                data.replace(b"\r\n\r\n", f"\r\nAccess-Control-Request-Headers: {wanted}\r\n\r\n".encode())
            )
            allowed = (await client.receive("OPTIONS")).headers["access-control-allow-headers"]
            assert allowed == "content-type, mcp-param-region, mcp-protocol-version"


async def test_every_answer_can_be_read_by_the_page_that_may() -> None:
    handler = Held()
    handler.released.set()
    async with served(handler, cors=[PAGE]) as server:
        requests = [
            (modern("server/discover", Origin=PAGE), 200),
            (modern("tools/call", call("hold"), Origin=PAGE, Accept=SSE_TYPE), 200),
            (modern("nope", Origin=PAGE), 404),
            (request(b"{", Origin=PAGE), 400),
            (request(b"{}", target="/nowhere", Origin=PAGE), 404),
            (request(b"{}", Origin=PAGE, Content_Type="text/plain"), 415),
            (head(method="PUT", Origin=PAGE), 405),
        ]
        for data, status in requests:
            async with RawClient(server.port) as client:
                await client.send(data)
                answer = await client.receive("POST")
                assert answer.status == status
                assert answer.headers["access-control-allow-origin"] == PAGE
                assert answer.headers["access-control-expose-headers"] == (
                    "Mcp-Session-Id, WWW-Authenticate, MCP-Protocol-Version"
                )
                assert answer.headers["vary"] == "Origin"
        async with RawClient(server.port) as client:  # refused before its body; the page can still read the answer
            await client.send(head("/nowhere", Content_Length="10", Origin=PAGE))
            assert (await client.receive("POST")).headers["access-control-allow-origin"] == PAGE
        async with Legacy(server.port, LEGACY) as session:
            assert session.session


async def test_options_without_cors_says_what_is_allowed() -> None:
    async with served() as server:
        for origin in (None, "http://localhost:1"):
            answer = await ask(server.port, head(method="OPTIONS", Origin=origin), "OPTIONS")
            assert (answer.status, answer.headers["allow"]) == (204, "GET, POST, DELETE, OPTIONS")
            assert "access-control-allow-origin" not in answer.headers
        assert (await ask(server.port, head("*", method="OPTIONS"), "OPTIONS")).status == 404


# --- where to ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "found"),
    [
        ("/mcp", True), ("/mcp/", True), ("/mcp?x=1", True), ("http://localhost/mcp", True), ("/", False),
        ("/MCP", False), ("/mcp/x", False), ("/mcpx", False), ("/%6dcp", False), ("/sse", False), ("/messages", False),
        ("/../mcp", False),
    ],
)  # fmt: skip
async def test_both_spellings_of_the_path_are_served_and_no_other_path(target: str, found: bool) -> None:
    async with served() as server:
        answer = await ask(server.port, modern("server/discover").replace(b"POST /mcp", b"POST " + target.encode()))
        assert answer.status == (200 if found else 404)
        if not found:
            assert "/mcp" in error(answer)["message"] and "location" not in answer.headers


@pytest.mark.parametrize("path", ["/", "/a/b/", "/~tools"])
async def test_the_path_is_what_the_settings_say(path: str) -> None:
    async with served(path=path) as server:
        assert server.url.endswith(path)
        await still_serves(server.port, path)
        await still_serves(server.port, path.rstrip("/") or "/")
        async with RawClient(server.port) as client:
            await client.send(modern("server/discover"))
            assert (await client.receive("POST")).status == 404


@pytest.mark.parametrize("method", ["HEAD", "PUT", "PATCH", "TRACE", "post", "Get", "PROPFIND", "M-SEARCH"])
async def test_other_methods_are_405_with_those_that_are_allowed(method: str) -> None:
    async with served() as server:
        answer = await ask(server.port, head(method=method), method)
        assert (answer.status, answer.headers["allow"]) == (405, "GET, POST, DELETE, OPTIONS")


async def test_connect_is_refused() -> None:
    async with served() as server, RawClient(server.port) as client:
        await client.send(b"CONNECT localhost:22 HTTP/1.1\r\nHost: localhost:22\r\n\r\n")
        answer = await client.receive("GET")
        assert (answer.status, answer.headers["connection"]) == (405, "close")
        await still_serves(server.port)


@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_the_newest_revision_and_stateless_servers_have_post_only(method: str) -> None:
    async with served() as server:
        answer = await ask(server.port, head(method=method, MCP_Protocol_Version="2026-07-28"), method)
        assert (answer.status, answer.headers["allow"]) == (405, "POST, OPTIONS")
    async with served(stateless=True, legacy_sse=True) as server:
        answer = await ask(server.port, head(method=method), method)
        assert (answer.status, answer.headers["allow"]) == (405, "POST, OPTIONS")
        assert (await ask(server.port, head("/sse", method="GET"), "GET")).status == 404


async def test_http_sse_has_its_own_paths_and_methods() -> None:
    async with served(legacy_sse=True) as server:
        for target, method, allowed in (("/sse", "POST", "GET, OPTIONS"), ("/messages/", "GET", "POST, OPTIONS")):
            answer = await ask(server.port, head(target, method=method, Content_Length="0"), method)
            assert (answer.status, answer.headers["allow"]) == (405, allowed)
        for target in ("/sse/", "/mcp"):
            async with RawClient(server.port) as client:
                stream = await client.open_stream("GET", target, {"Accept": SSE_TYPE})
                event = await stream.next_event()
                assert (
                    event is not None and event.event == "endpoint" and event.data.startswith("/messages?session_id=")
                )
        for extra in ({"Mcp_Session_Id": "x"}, {"MCP_Protocol_Version": LEGACY}, {"Last_Event_ID": "x"}):
            answer = await ask(server.port, head(method="GET", Accept=SSE_TYPE, **extra), "GET")
            assert answer.status in (400, 404, 405)


# --- with what, for what -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("application/json", 200), ("Application/JSON; charset=UTF-8", 200), ('application/json;charset="utf-8"', 200),
        ("text/plain", 415), ("application/json; charset=utf-16", 415), ("application/jsonp", 415), (None, 415),
        ("", 415), ("application/json, text/plain", 415), ("text/plain; application/json", 415),
        ("multipart/form-data", 415), ("application/x-www-form-urlencoded", 415),
    ],
)  # fmt: skip
async def test_only_json_gets_in(content_type: str | None, status: int) -> None:
    async with served() as server:
        assert (await ask(server.port, modern("server/discover", Content_Type=content_type))).status == status


async def test_a_second_content_type_is_not_overlooked() -> None:
    twice = modern("server/discover").replace(b"\r\n\r\n", b"\r\nContent-Type: text/plain\r\n\r\n", 1)
    async with served() as server:
        assert (await ask(server.port, twice)).status == 415


ACCEPTS = [
    (None, 200, JSON_TYPE), ("", 200, JSON_TYPE), ("*/*", 200, JSON_TYPE), (JSON_TYPE, 200, JSON_TYPE),
    (SSE_TYPE, 200, SSE_TYPE), ("text/*", 200, SSE_TYPE), ("application/*;q=0.1", 200, JSON_TYPE),
    (f"{JSON_TYPE};q=0.5, {SSE_TYPE};q=0.9", 200, SSE_TYPE), (f"{JSON_TYPE};q=0, */*", 200, SSE_TYPE),
    ("text/html", 406, JSON_TYPE), (f"{JSON_TYPE};q=0", 406, JSON_TYPE), ("*/*;q=0", 406, JSON_TYPE),
    ("image/png, text/html;q=0.9", 406, JSON_TYPE),
]  # fmt: skip


@pytest.mark.parametrize(("accept", "status", "kind"), ACCEPTS)
async def test_the_answer_has_a_form_that_the_client_accepts(accept: str | None, status: int, kind: str) -> None:
    async with served() as server:
        answer = await ask(server.port, modern("server/discover", Accept=accept))
        assert (answer.status, answer.content_type) == (status, kind)
        assert kind == JSON_TYPE or [m["id"] for m in answer.messages()] == [1]


@pytest.mark.parametrize(("response", "accept", "kind"), [
    ("sse", f"{JSON_TYPE}, {SSE_TYPE}", SSE_TYPE), ("sse", JSON_TYPE, JSON_TYPE), ("json", SSE_TYPE, JSON_TYPE),
    ("json", f"{JSON_TYPE}, {SSE_TYPE}", JSON_TYPE),
])  # fmt: skip
async def test_the_settings_may_force_a_form(response: str, accept: str, kind: str) -> None:
    async with served(response=response) as server:
        assert (await ask(server.port, modern("server/discover", Accept=accept))).content_type == kind


async def test_strict_accept_wants_both_types() -> None:
    async with served(strict_accept=True) as server:
        for accept, status in ((JSON_TYPE, 406), (SSE_TYPE, 406), (f"{JSON_TYPE}, {SSE_TYPE}", 200), ("*/*", 200)):
            assert (await ask(server.port, modern("server/discover", Accept=accept))).status == status


async def test_a_get_has_to_accept_events() -> None:
    async with served() as server, Legacy(server.port, LEGACY) as session:
        fields = {"Mcp_Session_Id": session.session, "MCP_Protocol_Version": LEGACY}
        answer = await ask(server.port, head(method="GET", **{**fields, "Accept": JSON_TYPE}), "GET")
        assert answer.status == 406 and SSE_TYPE in error(answer)["message"]


# --- verdicts that are kept ----------------------------------------------------------------------------------------

SEEN: dict[str, str] = {
    "Host": "localhost", "Accept": f"{JSON_TYPE}, {SSE_TYPE}", "Content-Type": JSON_TYPE,
    "MCP-Protocol-Version": "2025-11-25", "Mcp-Session-Id": "one", "X-Request-Id": "1",
}  # fmt: skip
OTHERS: dict[str, list[dict[str, str]]] = {
    "another session": [{**SEEN, "Mcp-Session-Id": "two"}],
    "another request": [{**SEEN, "X-Request-Id": "2"}],
    "no session": [{name: value for name, value in SEEN.items() if name != "Mcp-Session-Id"}],
    "two sessions": [{**SEEN, "mcp-session-id": "two"}],
    "another Host": [{**SEEN, "Host": "evil.example"}, {**SEEN, "Host": "127.0.0.1"}],
    "an Origin": [{**SEEN, "Origin": "http://evil.example"}, {**SEEN, "Origin": "http://localhost"}],
    "another Accept": [{**SEEN, "Accept": SSE_TYPE}, {**SEEN, "Accept": "text/html"}, {**SEEN, "accept": SSE_TYPE}],
    "another format": [{**SEEN, "Content-Type": "text/plain"}],
    "another version": [{**SEEN, "MCP-Protocol-Version": "2026-07-28"}, {**SEEN, "mcp-protocol-version": "x"}],
    "a token": [{**SEEN, "Authorization": "Bearer a"}, {**SEEN, "Authorization": "Bearer b"}],
    "an event": [{**SEEN, "Last-Event-ID": "a.1"}, {**SEEN, "Last-Event-ID": "a.2"}],
}


def read_head(fields: dict[str, str], method: str = "POST", target: str = "/mcp") -> Head:
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items()), "", ""]
    connection = ServerConnection(HeadCache(), Limits())
    connection.receive_data("\r\n".join(lines).encode())
    request = connection.next_event()
    assert isinstance(request, HTTPRequest)
    return request.head


def verdicts(verdict: Verdict) -> dict[str, Any]:
    facts = verdict.facts
    found = {name: getattr(verdict, name) for name in Verdict.__slots__ if name != "facts"}
    shared = {name: getattr(facts, name) for name in Facts.__slots__ if name not in ("refusal", "late_refusal")}
    refusals = [
        (r.status, r.message, r.headers) if r is not None else None for r in (facts.refusal, facts.late_refusal)
    ]
    return {**found, **shared, "refusals": refusals}


@pytest.mark.parametrize("what", OTHERS)
@pytest.mark.parametrize("proxied", [False, True])
async def test_a_kept_verdict_is_the_one_that_a_new_look_would_give(what: str, proxied: bool) -> None:
    settings = Settings(allowed_origins=["http://localhost"], cors=["http://localhost"], trusted_proxies=["127.0.0.1"])
    policy = HostPolicy(LOOPBACK_HOSTS, settings.allowed_origins)
    keeper = Examiner(settings, policy)
    heads = [read_head(SEEN), *map(read_head, OTHERS[what])]
    heads += [read_head(SEEN, method) for method in ("GET", "DELETE", "OPTIONS", "PUT")]
    heads += [read_head(SEEN, target=target) for target in ("/mcp/", "/mcp?x=y", "/elsewhere", "/sse")]
    for one in [*heads, *reversed(heads), *heads]:
        new = Examiner(settings, policy).examine(one, proxied)
        assert verdicts(keeper.examine(one, proxied)) == verdicts(new)
        assert new.head is one


async def test_kept_verdicts_are_few() -> None:
    keeper = Examiner(Settings(), HostPolicy(LOOPBACK_HOSTS, ()))
    for number in range(MAX_FACTS + 1):
        keeper.examine(read_head({**SEEN, "Last-Event-ID": f"a.{number}"}))
        assert len(keeper._facts) == number % MAX_FACTS + 1


async def test_tokens_sessions_and_ids_share_the_facts_of_a_verdict() -> None:
    keeper = Examiner(Settings(), HostPolicy(LOOPBACK_HOSTS, ()))
    differing = ("Authorization", "Mcp-Session-Id", "Traceparent", "X-Forwarded-For", "Cookie")
    found = [keeper.examine(read_head({**SEEN, **dict.fromkeys(differing, str(n))})) for n in range(3)]
    assert found[0].facts is found[1].facts is found[2].facts
    assert [one.session_id for one in found] == ["0", "1", "2"]


def forwarded(address: str, **fields: str) -> Head:
    return read_head({**SEEN, "X-Forwarded-For": address, **fields})


async def test_clients_of_a_proxy_share_facts_and_each_keeps_its_address() -> None:
    settings = Settings(trusted_proxies=["127.0.0.1"])
    keeper = Examiner(settings, HostPolicy(LOOPBACK_HOSTS, ()))
    heads = [forwarded(f"192.0.2.{n}", **{"X-Forwarded-Proto": "https"}) for n in (1, 2, 1)]
    found = [keeper.examine(one, True) for one in heads]
    assert [one.peer for one in found] == ["192.0.2.1", "192.0.2.2", "192.0.2.1"]
    assert found[0].facts is found[1].facts is found[2].facts and found[0].facts.scheme == "https"
    other = keeper.examine(forwarded("192.0.2.1", **{"X-Forwarded-Proto": "http"}), True)
    assert other.facts.scheme == "http" and other.peer == "192.0.2.1"
    assert keeper.examine(heads[0]).facts.scheme == "" and keeper.examine(heads[0]).peer == ""
    twice = read_head({**SEEN, "X-Forwarded-For": "192.0.2.7", "x-forwarded-for": "192.0.2.8"})
    assert keeper.examine(twice, True).peer == "192.0.2.8"


async def test_what_a_proxy_says_is_kept_for_a_bounded_number_of_clients() -> None:
    keeper = Examiner(Settings(trusted_proxies=["127.0.0.1"]), HostPolicy(LOOPBACK_HOSTS, ()))
    for number in range(MAX_SPOKEN_FOR + 1):
        address = f"192.0.{number // 200}.{number % 200}"
        assert keeper.examine(forwarded(address), True).peer == address
        assert len(keeper._said) == number % MAX_SPOKEN_FOR + 1


async def test_a_refusal_of_what_a_proxy_says_is_not_kept() -> None:
    keeper = Examiner(Settings(trusted_proxies=["127.0.0.1"]), HostPolicy(LOOPBACK_HOSTS, ()))
    for _ in range(2):
        found = keeper.examine(read_head({**SEEN, "Forwarded": "for="}), True)
        assert found.facts.refusal is None
        refused = keeper.examine(forwarded("192.0.2.1", Forwarded="for=192.0.2.2"), True)
        assert refused.facts.refusal is not None and refused.facts.refusal.status == 400
        nowhere = keeper.examine(forwarded("192.0.2.1", **{"X-Forwarded-Host": "a b"}), True)
        assert nowhere.facts.refusal is not None and "no host" in nowhere.facts.refusal.message
    assert len(keeper._facts) == 1


async def test_heads_that_come_once_leave_nothing_for_the_garbage_collector() -> None:
    async with served(trusted_proxies=["127.0.0.1"]) as server, RawClient(server.port) as client:
        try:
            for number in range(23):
                if number == 3:
                    gc.collect()
                    gc.disable()
                await client.send(modern("server/discover", X_Forwarded_For=f"192.0.2.{number}", X_Serial=str(number)))
                assert (await client.receive("POST")).status == 200
            left = [one for one in gc.get_objects(generation=0) if type(one) in (Verdict, Head)]
        finally:
            gc.enable()
        assert len(left) <= 1  # the last one, until its reply has ended


async def test_open_streams_leave_nothing_for_the_garbage_collector() -> None:
    async with served() as server, AsyncExitStack() as stack:
        try:
            for number in range(13):
                if number == 3:
                    gc.collect()
                    gc.disable()
                client = await stack.enter_async_context(Legacy(server.port, LEGACY))
                await stack.enter_async_context(client.get_stream())
            left = [one for one in gc.get_objects(generation=0) if type(one) in (Verdict, Head)]
        finally:
            gc.enable()
        assert len(left) <= 2  # of the last one, until the task that opened the stream has ended


@pytest.mark.parametrize("refused", [False, True])
async def test_connections_that_end_without_an_answer_leave_nothing_for_the_garbage_collector(refused: bool) -> None:
    held = Held()
    async with served(held) as server:
        try:
            for number in range(13):
                if number == 3:
                    gc.collect()
                    gc.disable()
                client = await RawClient(server.port).connect()
                if refused:  # before its body arrives
                    await client.send(head(Host="evil.example", Content_Length="9", X_Serial=str(number)))
                    assert (await client.receive("POST")).status == 403
                else:
                    await client.send(modern("tools/call", call("hold"), X_Serial=str(number)))
                    await held.until(started=number + 1)
                client.abort()
                await until(lambda: not server.connections)
                await held.until(cancelled=0 if refused else number + 1)
            left = [one for one in gc.get_objects(generation=0) if type(one) in (Verdict, Head)]
        finally:
            gc.enable()
        assert len(left) <= 2  # of the last one, until its task has ended


PING = b'{"jsonrpc":"2.0","id":1,"method":"ping"}'


async def test_each_session_is_found_by_its_own_id_though_their_heads_are_alike() -> None:
    async with served() as server:
        opened = []
        for _ in range(3):
            client = Legacy(server.port, LEGACY)
            await client.initialize()
            opened.append(str(client.session))
        assert len(set(opened)) == 3
        unknown = opened[0][:-2] + ("aa" if opened[0][-2:] != "aa" else "bb")
        for session_id in (*opened, unknown, *reversed(opened)):
            answer = await ask(server.port, request(PING, Mcp_Session_Id=session_id, MCP_Protocol_Version=LEGACY))
            assert answer.status == (404 if session_id == unknown else 200)
        one = request(PING, Mcp_Session_Id=opened[0], MCP_Protocol_Version=LEGACY)
        twice = one.replace(b"\r\n\r\n", f"\r\nMcp-Session-Id: {opened[1]}\r\n\r\n".encode(), 1)
        for _ in range(2):
            assert (await ask(server.port, twice)).status == 400
