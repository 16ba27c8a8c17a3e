# SPDX-License-Identifier: MIT
"""Whom a reverse proxy speaks for: believed from proxies that were named, over sockets, and from nobody else."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from patience import heard
from rawclient import LIMIT, Modern, RawClient, Response, encode
from serving import ASYNCIO, UVLOOP, Held, head, lives, modern, request, served

from mcp_h11 import Principal, Settings, listening
from mcp_h11.http.addresses import MAX_PREFIX, checked_prefix
from mcp_h11.http.forwarded import MAX_ELEMENTS, MAX_PARAMETERS, Forwarded, Proxies, read_address
from mcp_h11.protocol.errors import Refusal

pytestmark = pytest.mark.anyio
US = "127.0.0.1"  # the address of every client here


@pytest.fixture(params=[ASYNCIO, UVLOOP], ids=["asyncio", "uvloop"])
def anyio_backend(request: Any) -> Any:
    return request.param


async def ask(port: int, data: bytes, method: str = "POST") -> Response:
    async with RawClient(port) as client:
        await client.send(data)
        return await client.receive(method)


def initialize(**headers: str | None) -> bytes:
    params = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "x", "version": "0"}}
    return request(encode({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params}), **headers)


# --- whose word counts -----------------------------------------------------------------------------------------------


async def peer_of(server: Any, **headers: str) -> str:
    """The address that a session which these headers open is counted for."""
    answer = await ask(server.port, initialize(**headers))
    assert answer.status == 200, answer.body
    session = server.endpoint.legacy.sessions[answer.headers["mcp-session-id"]]
    peer: str = session.state.peer
    return peer


CHAINS: list[tuple[str, dict[str, str], str]] = [
    ("nothing said", {}, US),
    ("one", {"X_Forwarded_For": "192.0.2.1"}, "192.0.2.1"),
    ("port", {"X_Forwarded_For": "192.0.2.1:5000"}, "192.0.2.1"),
    ("ipv6", {"X_Forwarded_For": "2001:db8::1"}, "2001:db8::1"),
    ("ipv6 port", {"X_Forwarded_For": "[2001:DB8::1]:5000"}, "2001:db8::1"),
    ("mapped", {"X_Forwarded_For": "::ffff:192.0.2.1"}, "192.0.2.1"),
    ("what the client wrote itself", {"X_Forwarded_For": "198.51.100.9, 192.0.2.1"}, "192.0.2.1"),
    ("through a second proxy of ours", {"X_Forwarded_For": "192.0.2.1, 10.1.2.3"}, "192.0.2.1"),
    ("a client that names our proxy", {"X_Forwarded_For": "10.1.2.3, 192.0.2.1, 10.1.2.3"}, "192.0.2.1"),
    ("ours only", {"X_Forwarded_For": "10.1.2.4, 10.1.2.3"}, "10.1.2.4"),
    ("in two lines", {"X_Forwarded_For": "198.51.100.9\r\nX-Forwarded-For: 192.0.2.1"}, "192.0.2.1"),
    ("no address", {"X_Forwarded_For": "unknown"}, US),
    ("no address behind ours", {"X_Forwarded_For": "unknown, 10.1.2.3"}, "10.1.2.3"),
    ("empty", {"X_Forwarded_For": ""}, US),
    ("commas", {"X_Forwarded_For": ",,"}, US),
    ("Forwarded", {"Forwarded": "for=192.0.2.1;proto=https"}, "192.0.2.1"),
    ("Forwarded ipv6", {"Forwarded": 'For="[2001:db8::1]:5000"'}, "2001:db8::1"),
    ("Forwarded chain", {"Forwarded": "for=198.51.100.9, for=192.0.2.1;by=x, for=10.1.2.3"}, "192.0.2.1"),
    ("Forwarded quoted", {"Forwarded": 'for="198.51.100.9, for=192.0.2.9", for="192\\.0.2.1"'}, "192.0.2.1"),
    ("Forwarded hidden", {"Forwarded": "for=_hidden"}, US),
    ("Forwarded without for", {"Forwarded": "proto=https"}, US),
    ("Forwarded with quotes left out", {"Forwarded": "for=[2001:db8::1]:5000 ; proto=https;;"}, "2001:db8::1"),
    ("Forwarded with empty elements", {"Forwarded": ", for=192.0.2.1,, "}, "192.0.2.1"),
    ("Forwarded empty", {"Forwarded": ""}, US),
    ("both agree", {"Forwarded": "for=192.0.2.1", "X_Forwarded_For": "192.0.2.1"}, "192.0.2.1"),
]


@pytest.mark.parametrize("case", CHAINS, ids=[case[0] for case in CHAINS])
async def test_the_client_is_the_first_from_the_right_that_is_no_proxy_of_ours(case: Any) -> None:
    _, headers, expected = case
    async with served(trusted_proxies=[US, "10.1.0.0/16"]) as server:
        assert await peer_of(server, **headers) == expected
        assert await peer_of(server, **headers) == expected  # the head is known now


@pytest.mark.parametrize("trusted", [(), ("192.0.2.7",), ("10.0.0.0/8", "::1"), ("unix",)])
async def test_who_was_not_named_is_not_believed(trusted: tuple[str, ...]) -> None:
    everything = {
        "X_Forwarded_For": "192.0.2.1",
        "X_Forwarded_Host": "localhost",
        "X_Forwarded_Proto": "https",
        "Forwarded": "for=192.0.2.9;host=localhost",
    }
    async with served(trusted_proxies=trusted) as server:
        assert await peer_of(server, **everything) == US
        assert (await ask(server.port, modern("server/discover", Host="evil.example", **everything))).status == 403


async def test_two_stories_are_one_too_many() -> None:
    async with served(trusted_proxies=[US]) as server, RawClient(server.port) as client:
        for _ in range(2):
            await client.send(modern("server/discover", Forwarded="for=192.0.2.1", X_Forwarded_For="192.0.2.2"))
            answer = await client.receive("POST")
            assert (answer.status, "disagree" in answer.json()["error"]["message"]) == (400, True)
        await lives(client)


async def test_one_head_means_two_things_from_two_peers() -> None:
    """What is remembered of a head is not what a proxy said to everybody else."""
    async with served(trusted_proxies=["127.0.0.2"], allowed_hosts=["tools.example"]) as server:
        data = modern("server/discover", Host="inner", X_Forwarded_Host="tools.example")
        for source, status in ((US, 403), ("127.0.0.2", 200), (US, 403), ("127.0.0.2", 200)):
            with anyio.fail_after(LIMIT):
                stream = await anyio.connect_tcp(US, server.port, local_host=source)
                async with stream:
                    await stream.send(data)
                    assert (await stream.receive()).startswith(f"HTTP/1.1 {status} ".encode())


# --- the host --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"X_Forwarded_Host": "tools.example"}, 200),
        ({"X_Forwarded_Host": "TOOLS.example:443"}, 200),
        ({"X_Forwarded_Host": "evil.example, tools.example"}, 200),
        ({"X_Forwarded_Host": "tools.example, evil.example"}, 403),
        ({"X_Forwarded_Host": "evil.example"}, 403),
        ({"Forwarded": "for=192.0.2.1;host=tools.example"}, 200),
        ({"Forwarded": 'host="tools.example:443";for=192.0.2.1'}, 200),
        ({"Forwarded": "for=192.0.2.1;host=evil.example"}, 403),
        ({"Forwarded": "host=tools.example, for=192.0.2.1;host=evil.example"}, 403),
        ({"Forwarded": "host=evil.example, for=192.0.2.1;host=tools.example"}, 200),
        ({"Forwarded": "for=192.0.2.1;host=tools.example, for=10.1.2.3;host=inner"}, 200),
        ({"Forwarded": "for=192.0.2.1", "X_Forwarded_Host": "tools.example"}, 200),
        ({}, 403),
        ({"Host": "tools.example"}, 200),
        ({"Host": "tools.example", "X_Forwarded_Host": "evil.example"}, 403),
    ],
)
async def test_the_host_that_is_checked_is_the_one_that_the_client_asked_for(
    headers: dict[str, str], status: int
) -> None:
    options: dict[str, Any] = {"trusted_proxies": [US, "10.1.0.0/16"], "allowed_hosts": ["tools.example"]}
    async with served(**options) as server:
        fields = {"Host": "inner", **headers}
        answer = await ask(server.port, modern("server/discover", **fields))
        assert answer.status == status
        if status == 403:
            assert "--allowed-hosts" in answer.json()["error"]["message"]
        # The same before the body is there.
        async with RawClient(server.port) as client:
            await client.send(head(Content_Length="2", **fields))
            if status == 403:
                assert (await client.receive("POST")).status == 403


class Nobody:
    async def verify_token(self, token: str) -> Principal | None:
        return None


@pytest.mark.parametrize(
    ("headers", "resource"),
    [
        ({"X_Forwarded_Proto": "https", "X_Forwarded_Host": "tools.example"}, "https://tools.example"),
        ({"X_Forwarded_Proto": "HTTPS"}, "https://inner.example"),
        ({"X_Forwarded_Proto": "gopher"}, "http://inner.example"),
        ({"Forwarded": "for=192.0.2.1;proto=https;host=tools.example"}, "https://tools.example"),
        ({}, "http://inner.example"),
    ],
)
async def test_a_client_is_told_the_address_that_it_called(headers: dict[str, str], resource: str) -> None:
    options: dict[str, Any] = {"verifier": Nobody(), "authorization_servers": ["https://login.example"]}
    hosts = ["tools.example", "inner.example"]
    for trusted in ([US], []):
        async with served(trusted_proxies=trusted, allowed_hosts=hosts, **options) as server:
            said = resource if trusted else "http://inner.example"
            fields = {"Host": "inner.example", **headers}
            answer = await ask(server.port, modern("server/discover", **fields))
            metadata = f'resource_metadata="{said}/.well-known/oauth-protected-resource/mcp"'
            assert answer.headers["www-authenticate"] == f"Bearer {metadata}"
            document = await ask(server.port, head("/.well-known/oauth-protected-resource", "GET", **fields), "GET")
            assert document.json()["resource"] == f"{said}/mcp"


# --- the path before ours ---------------------------------------------------------------------------------------------

GOOD_PREFIXES = {
    "/tools": "/tools", "/tools/": "/tools", "/a/b-c_d.e~1": "/a/b-c_d.e~1", "/caf%C3%A9": "/caf%C3%A9", "/": "",
    "/a@b:c;d=e&f!$*+": "/a@b:c;d=e&f!$*+", "/...": "/...", "/" + "x" * (MAX_PREFIX - 1): "/" + "x" * (MAX_PREFIX - 1),
}  # fmt: skip
BAD_PREFIXES = [
    "tools", "//evil.example", "/a//b", "/a//", "//", "https://evil.example", "http://evil.example/a", "/..", "/a/../b",
    "/.", "/a/.", "/%2e%2e", "/a/%2E%2e/b", "/a%2fb", "/a%5cb", "/a%0d%0aX", "/a%00", "/a%25", "/a%", "/a%g0", "/a?b",
    "/a#b", "/a b", '/a"b', "/a\\b", "/a'b", "/a\tb", "/a\x7fb", "/a\xe9", "\\evil", "/<a>", "javascript:x",
    "/" + "x" * MAX_PREFIX,
]  # fmt: skip


@pytest.mark.parametrize("prefix", GOOD_PREFIXES)
def test_a_prefix_is_a_path(prefix: str) -> None:
    assert checked_prefix(prefix) == GOOD_PREFIXES[prefix]
    assert read(x_forwarded_prefix=[prefix]).prefix == GOOD_PREFIXES[prefix]
    assert Settings(root_path=prefix).root_path == prefix


@pytest.mark.parametrize("prefix", [*BAD_PREFIXES, "/a\nb", "/a\r\nb", "/a\0"])
def test_nothing_else_is_one(prefix: str) -> None:
    with pytest.raises(ValueError, match="a prefix is a path such as /tools"):
        Settings(root_path=prefix)
    for said in ([prefix], [prefix, "/tools"], [f"{prefix}, /tools"]):
        with pytest.raises(Refusal) as caught:
            read(x_forwarded_prefix=said)
        assert caught.value.status == 400


def test_the_prefix_of_the_nearest_proxy_counts() -> None:
    assert read(x_forwarded_prefix=["/evil", "/tools"]).prefix == "/tools"
    assert read(x_forwarded_prefix=["/evil, /tools"]).prefix == "/tools"
    assert read(x_forwarded_prefix=["", " "]).prefix is None and read().prefix is None
    assert read(x_forwarded_prefix=["/tools"], forwarded=["for=192.0.2.1"]).prefix == "/tools"


@given(st.text(max_size=20), st.text("/.%2eE5cCaA\\:?#", max_size=12))
def test_a_prefix_that_passes_is_a_path_of_this_host_for_every_reader(any_text: str, likely: str) -> None:
    for text in (any_text, likely, "/" + likely):
        try:
            prefix = checked_prefix(text)
        except ValueError:
            continue
        address = urlsplit(urljoin("https://tools.example/sse", f"{prefix}/messages?session_id=x"))
        assert (address.netloc, address.path, address.query) == ("tools.example", f"{prefix}/messages", "session_id=x")
        assert prefix.isascii() and prefix.isprintable() and not set(prefix) & set(' "\\<>,')
        assert not {"", ".", ".."} & set(unquote(prefix).split("/")[1:])


@pytest.mark.parametrize("prefix", BAD_PREFIXES)
async def test_a_prefix_of_a_proxy_that_is_none_is_refused_and_never_given_out(prefix: str) -> None:
    login = {"verifier": Nobody(), "authorization_servers": ["https://login.example"]}
    for options in ({}, login):
        async with served(trusted_proxies=[US], legacy_sse=True, **options) as server:
            for data in (head("/sse", "GET", X_Forwarded_Prefix=prefix), modern("ping", X_Forwarded_Prefix=prefix)):
                for _ in range(2):
                    answer = await ask(server.port, data, data.partition(b" ")[0].decode())
                    assert (answer.status, answer.json()["error"]["code"]) == (400, -32600)
                    assert prefix not in str(answer.headers) and f'"{prefix}' not in answer.body.decode()


PREFIXED: list[tuple[dict[str, Any], dict[str, str], str]] = [
    ({"trusted_proxies": [US]}, {"X_Forwarded_Prefix": "/tools"}, "/tools"),
    ({"trusted_proxies": [US]}, {"X_Forwarded_Prefix": "/a/b/"}, "/a/b"),
    ({"root_path": "/tools/"}, {}, "/tools"),
    ({"root_path": "/tools"}, {"X_Forwarded_Prefix": "/evil"}, "/tools"),
    ({"root_path": "/other", "trusted_proxies": [US]}, {"X_Forwarded_Prefix": "/tools"}, "/tools"),
    ({"root_path": "/other", "trusted_proxies": [US]}, {"X_Forwarded_Prefix": "/"}, ""),
    ({"root_path": "/tools", "trusted_proxies": [US]}, {}, "/tools"),
    ({"trusted_proxies": ["192.0.2.7"]}, {"X_Forwarded_Prefix": "/evil"}, ""),
    ({}, {"X_Forwarded_Prefix": "/evil"}, ""),
]


@pytest.mark.parametrize("case", PREFIXED)
async def test_the_endpoint_of_http_sse_is_below_the_prefix(case: Any) -> None:
    options, headers, prefix = case
    async with served(legacy_sse=True, **options) as server, RawClient(server.port) as client:
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        for path in ("/sse", "/mcp"):
            async with RawClient(server.port) as client:
                stream = await client.open_stream("GET", path, {"Accept": "text/event-stream", **fields})
                event = await stream.next_event()
                assert event is not None and event.event == "endpoint"
                assert event.data.startswith(f"{prefix}/messages?session_id=")
                # Where the proxy has stripped the prefix, it is served.
                async with RawClient(server.port) as poster:
                    body = encode({"jsonrpc": "2.0", "id": 1, "method": "ping"})
                    target = event.data.removeprefix(prefix)
                    answer = await poster.request("POST", target, {"Content-Type": "application/json"}, body)
                    assert answer.status == 202


@pytest.mark.parametrize("case", PREFIXED)
async def test_the_metadata_and_the_challenge_are_below_the_prefix(case: Any) -> None:
    options, headers, prefix = case
    login = {"verifier": Nobody(), "authorization_servers": ["https://login.example"]}
    fields = {"Host": "tools.example", "X_Forwarded_Proto": "https", **headers}
    async with served(allowed_hosts=["tools.example", "localhost"], **login, **options) as server:
        scheme = "https" if US in options.get("trusted_proxies", ()) else "http"
        root = f"{scheme}://tools.example{prefix}"
        for data in (modern("server/discover", **fields), head(Content_Length="9", **fields)):
            answer = await ask(server.port, data)
            where = f"{root}/.well-known/oauth-protected-resource/mcp"
            assert answer.headers["www-authenticate"] == f'Bearer resource_metadata="{where}"'
        # As a client finds it: by that address, which the proxy strips, or at the root of the host (RFC 9728 3.1).
        places = ["/.well-known/oauth-protected-resource/mcp", "/.well-known/oauth-protected-resource"]
        for path in (*places, f"/.well-known/oauth-protected-resource{prefix}/mcp"):
            document = await ask(server.port, head(path, "GET", **fields), "GET")
            assert (document.status, document.json()["resource"]) == (200, f"{root}/mcp")
        missed = await ask(server.port, head("/elsewhere", "GET", **fields), "GET")
        assert missed.json()["error"]["message"].endswith(f"the endpoint is {prefix}/mcp")


async def test_a_resource_that_the_operator_named_is_given_out_as_it_is() -> None:
    login = {"verifier": Nobody(), "authorization_servers": ["https://login.example"]}
    async with served(resource="https://tools.example/own/mcp", root_path="/tools", **login) as server:
        answer = await ask(server.port, modern("server/discover"))
        where = "https://tools.example/.well-known/oauth-protected-resource/own/mcp"
        assert answer.headers["www-authenticate"] == f'Bearer resource_metadata="{where}"'
        document = await ask(server.port, head("/.well-known/oauth-protected-resource/own/mcp", "GET"), "GET")
        assert document.json()["resource"] == "https://tools.example/own/mcp"


# --- what is counted by address --------------------------------------------------------------------------------------


async def test_caps_are_of_the_client_and_not_of_the_proxy() -> None:
    async with served(trusted_proxies=[US], max_sessions_peer=1) as server:
        first = await ask(server.port, initialize(X_Forwarded_For="192.0.2.1"))
        second = await ask(server.port, initialize(X_Forwarded_For="192.0.2.2"))
        again = await ask(server.port, initialize(X_Forwarded_For="192.0.2.1"))
        ids = [answer.headers["mcp-session-id"] for answer in (first, second, again)]
        assert [session_id in server.endpoint.legacy.sessions for session_id in ids] == [False, True, True]


async def test_the_access_log_names_the_client(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    async with served(trusted_proxies=[US], access_log=True) as server:
        await ask(server.port, modern("server/discover", X_Forwarded_For="192.0.2.1"))
    assert '192.0.2.1 "POST /mcp"' in caplog.text


EARLY: dict[str, tuple[dict[str, Any], bytes, str]] = {
    "announced too large": ({}, head(Content_Length="99999999", X_Forwarded_For="192.0.2.1"), "413"),
    "another media type": (
        {},
        head(Content_Length="2", Content_Type="text/plain", X_Forwarded_For="192.0.2.1"),
        "415",
    ),
    "no token": ({"token": "s"}, head(Content_Length="2", Forwarded="for=192.0.2.1"), "401"),
    "nobody": (
        {"authorize": lambda _: None},
        head(Content_Length="2", Expect="100-continue", X_Forwarded_For="192.0.2.1"),
        "401",
    ),
    "a body that does not come": (
        {"body_timeout": 0.1},
        head(Content_Length="2", X_Forwarded_For="192.0.2.1"),
        "408",
    ),
    "health": ({"health": True}, head("/health", "GET", X_Forwarded_For="192.0.2.1"), "200"),
}


@pytest.mark.parametrize("case", EARLY)
async def test_what_is_refused_before_its_body_is_logged_under_the_clients_address(
    case: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    options, data, status = EARLY[case]
    async with served(trusted_proxies=[US], access_log=True, **options) as server:
        await ask(server.port, data)
        assert [line.split()[0] for line in caplog.messages if f'" {status}' in line] == ["192.0.2.1"], caplog.messages
    caplog.clear()
    async with served(access_log=True, **options) as server:  # not from anybody else
        await ask(server.port, data)
        assert [line.split()[0] for line in caplog.messages if f'" {status}' in line] == [US], caplog.messages


async def test_what_is_no_head_says_nothing_of_a_client(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    async with served(trusted_proxies=[US], access_log=True) as server:
        await ask(server.port, b"POST / HTTP/1.1\r\nX-Forwarded-For: 192.0.2.1\r\n\r\n")
    assert f'{US} "- -" 400' in caplog.messages


# --- reading ---------------------------------------------------------------------------------------------------------


def test_any_proxy_is_believed_for_one_step() -> None:
    anybody = Proxies(["*"])
    assert anybody.trusts("203.0.113.5") and anybody.trusts("")
    said = {"x-forwarded-for": ["198.51.100.9, 192.0.2.1"]}
    assert anybody.read(lambda name: said.get(name, [])) == Forwarded("192.0.2.1")
    assert Proxies(["unix"]).trusts("") and not Proxies(["unix"]).trusts(US)
    assert Proxies(["::1", "fe80::/10"]).trusts("fe80::1%eth0") and not Proxies(["::/0"]).trusts("192.0.2.1")
    assert Proxies(["192.0.2.0/24"]).trusts("::ffff:192.0.2.1") and not Proxies([US]).trusts("host")


@pytest.mark.parametrize("wrong", ["proxy", "10.0.0.1/8", "10.0.0.0/33", "", " 10.0.0.1", "unix:/x"])
def test_what_could_never_be_a_proxy_is_refused(wrong: str) -> None:
    with pytest.raises(ValueError, match="trusted proxy"):
        Proxies([wrong])


def read(**said: list[str]) -> Forwarded:
    names = {name.replace("_", "-"): values for name, values in said.items()}
    return Proxies(["10.0.0.0/8"]).read(lambda name: names.get(name, []))


def test_as_many_proxies_as_the_limit_and_one_more() -> None:
    for count in (MAX_ELEMENTS, MAX_ELEMENTS + 1):
        for said in (
            {"x_forwarded_for": [", ".join(["10.1.2.3"] * count)]},
            {"x_forwarded_for": ["10.1.2.3"] * count},
            {"forwarded": [", ".join(["for=10.1.2.3"] * count)]},
            {"forwarded": ["for=10.1.2.3"] * count},
            {"forwarded": [",".join(["for=10.1.2.3;"] * count)]},
        ):
            if count == MAX_ELEMENTS:
                assert read(**said).peer == "10.1.2.3"
            else:
                with pytest.raises(Refusal, match="more than 32") as caught:
                    read(**said)
                assert caught.value.status == 400


def test_as_many_parameters_as_the_limit_and_one_more() -> None:
    parameters = ["for=10.1.2.3", *(f"a{n}=b" for n in range(MAX_PARAMETERS - 1))]
    assert read(forwarded=[";".join(parameters)]).peer == "10.1.2.3"
    for wrong in (";".join([*parameters, "c=d"]), ";" * (MAX_ELEMENTS * MAX_PARAMETERS + 1)):
        with pytest.raises(Refusal) as caught:
            read(forwarded=[wrong])
        assert caught.value.status == 400


HUGE = {
    "hops": "192.0.2.1, " * 2_700, "elements": "for=192.0.2.1," * 2_100, "commas": "," * 30_000,
    "semicolons": ";" * 30_000, "parameters": "a=b;" * 7_000, "quotes": '"' * 30_000, "a quote": 'for="' + "x" * 30_000,
    "escapes": 'for="' + "\\" * 30_000, "blanks": " " * 30_000 + "x", "blanks inside": "for=a" + " " * 30_000 + "x",
    "equals": "=" * 30_000, "a value": "for=" + "1" * 30_000, "brackets": "for=" + "[" * 30_000,
}  # fmt: skip


@pytest.mark.parametrize("name", HUGE)
def test_a_header_of_any_size_costs_little(name: str) -> None:
    """In instructions of Python, which no busy machine changes: a request has some 2,000."""
    steps = 0

    def count(frame: Any, event: str, argument: Any) -> Any:
        nonlocal steps
        steps += event == "line"
        return count

    for header in ("forwarded", "x_forwarded_for"):
        before = sys.gettrace()
        sys.settrace(count)
        try:
            read(**{header: [HUGE[name]]})
        except Refusal:
            pass
        finally:
            sys.settrace(before)
    assert 0 < steps < 2_000


def test_an_address_is_read_as_proxies_write_it() -> None:
    assert read_address("1.2.3") is None and str(read_address(" [::1]:x ")) == "::1"


UNREADABLE = [
    '=;;"', 'for="192.0.2.1', 'for=192.0.2.1;x="', "for", "for=a b", 'for="a"b', 'for=a"b"', "for =a", "for= a",
    "for=a;for=b", "for=192.0.2.1\\", '"for=a"', "for=a; =b", "=a", "for=192.0.2.1;x=\"\\", "f(r=a", "for=a,b",
]  # fmt: skip


@pytest.mark.parametrize("value", UNREADABLE)
async def test_a_forwarded_that_breaks_its_grammar_is_refused(value: str) -> None:
    async with served(trusted_proxies=[US]) as server, RawClient(server.port) as client:
        for said in (value, f"{value}, for=198.51.100.7", f"for=198.51.100.7, {value}"):
            await client.send(modern("server/discover", Forwarded=said))
            answer = await client.receive("POST")
            assert (answer.status, answer.json()["error"]["code"]) == (400, -32600), said
        await lives(client)
    async with served() as server:  # and read by no server that has no proxy
        assert (await ask(server.port, modern("server/discover", Forwarded=value))).status == 200


# What a proxy writes for the client at 198.51.100.7, behind what the client wrote.
WRITTEN_BY_PROXIES = [
    "for=198.51.100.7", 'for="198.51.100.7"', 'for="198.51.100.7:4000";proto=https;by=_us',
    'by="[::1]";for=198.51.100.7;host="tools.example"',
]  # fmt: skip


@given(
    st.one_of(st.sampled_from(UNREADABLE), st.text('for=203.1 ;,"\\[]:x_', max_size=40)),
    st.sampled_from(WRITTEN_BY_PROXIES),
    st.sampled_from([", ", ","]),
)
def test_nothing_that_a_client_writes_wins_over_what_the_proxy_writes(ours: str, theirs: str, between: str) -> None:
    try:
        found = read(forwarded=[f"{ours}{between}{theirs}"])
    except Refusal as exc:
        assert exc.status == 400
    else:
        assert found.peer == "198.51.100.7"


@pytest.mark.parametrize("legacy", [False, True])
async def test_a_rate_limit_is_of_the_client_whatever_it_writes_into_forwarded(legacy: bool) -> None:
    async with served(trusted_proxies=[US], rate_limit=(2, 3600.0)) as server:
        statuses = []
        for n in range(20):
            said = f'for=203.0.113.{n};x="' if n % 2 else f"for=203.0.113.{n}"
            fields = {"Forwarded": f"{said}, for=198.51.100.7"}
            data = initialize(**fields) if legacy else modern("server/discover", **fields)
            statuses.append((await ask(server.port, data)).status)
        assert statuses == [200, 400] * 2 + [429, 400] * 8


NO_HOSTS = ["[:::]", "[.:]", "[::ffff:1.2.3]", "[1:2]", "[::1%25lo]", "[::1]]", "[]", "[::", "[12345::]", "[:::]:80"]


@pytest.mark.parametrize("host", NO_HOSTS)
async def test_a_host_that_is_none_is_400_and_no_fault_of_the_servers(
    host: str, caplog: pytest.LogCaptureFixture
) -> None:
    options: dict[str, Any] = {"verifier": Nobody(), "authorization_servers": ["https://login.example"]}
    for more in ({}, options):
        async with served(allowed_hosts=["*"], trusted_proxies=[US], **more) as server:
            for fields in (
                {"Host": host},
                {"X_Forwarded_Host": host},
                {"Forwarded": f'for=192.0.2.1;host="{host}"'},
            ):
                for data in (
                    modern("server/discover", **fields),
                    head("/.well-known/oauth-protected-resource", "GET", **fields),
                    head(Content_Length="9", **fields),
                ):
                    answer = await ask(server.port, data, data.partition(b" ")[0].decode())
                    assert (answer.status, answer.json()["error"]["code"]) == (400, -32600)
            absolute = head(f"http://{host}/mcp", "GET", Host=host)
            assert (await ask(server.port, absolute, "GET")).status == 400
    assert [record for record in heard(caplog) if record.name.startswith("mcp_h11")] == []


@pytest.mark.parametrize("host", ["[::1]", "[::ffff:1.2.3.4]", "[2001:DB8::1]:80", "[::]", "[1:2:3:4:5:6:7:8]"])
async def test_a_host_in_brackets_that_is_an_address_is_served(host: str) -> None:
    async with served(allowed_hosts=["*"], trusted_proxies=[US]) as server:
        for fields in ({"Host": host}, {"X_Forwarded_Host": host}):
            assert (await ask(server.port, modern("server/discover", **fields))).status == 200


@pytest.mark.parametrize("host", ["tools.example/", "a b", "a@b", "a:99999", "a:", "a..b"])
async def test_a_host_that_a_proxy_names_and_that_is_none_is_400(host: str) -> None:
    async with served(allowed_hosts=["*"], trusted_proxies=[US]) as server:
        assert (await ask(server.port, modern("server/discover", X_Forwarded_Host=host))).status == 400


@given(
    st.lists(st.text(st.characters(max_codepoint=255, exclude_characters="\r\n\0"), max_size=60), max_size=3),
    st.lists(st.text('for=192.0 2;,"\\[]:_hostp', max_size=60), max_size=3),
)
def test_whatever_stands_there_is_read_or_refused(common: list[str], standard: list[str]) -> None:
    proxies = Proxies([US, "10.0.0.0/8", "::1"])
    said = {"x-forwarded-for": common, "x-forwarded-host": common, "x-forwarded-proto": common, "forwarded": standard}
    for names in (said, {**said, "x-forwarded-for": standard, "forwarded": common}):
        try:
            found = proxies.read(lambda name, names=names: names.get(name, []))  # type: ignore[misc]
        except Refusal as exc:
            assert exc.status == 400
            continue
        assert found.scheme in ("", "http", "https")
        assert not found.peer or str(read_address(found.peer)) == found.peer


# --- Unix sockets ----------------------------------------------------------------------------------------------------


@pytest.mark.skipif(os.name != "posix", reason="Unix sockets")
@pytest.mark.parametrize("mode", [0o600, 0o660, 0o777, None])
async def test_a_unix_socket_has_the_bits_it_was_given(mode: int | None, tmp_path: Path) -> None:
    place = tmp_path / "s"
    before = os.umask(0o027)
    try:
        async with served(uds=str(place), uds_mode=mode):
            assert stat.S_IMODE(place.stat().st_mode) == (0o750 if mode is None else mode)
    finally:
        os.umask(before)
    assert not place.exists()


@pytest.mark.skipif(os.name != "posix", reason="Unix sockets")
async def test_a_proxy_on_a_unix_socket_is_named_unix(tmp_path: Path) -> None:
    place = str(tmp_path / "s")
    for trusted, peer in ((["unix"], "192.0.2.1"), ([US], "")):
        async with listening(Held(), uds=place, trusted_proxies=trusted) as server:
            with anyio.fail_after(LIMIT):
                async with await anyio.connect_unix(place) as stream:
                    await stream.send(initialize(X_Forwarded_For="192.0.2.1"))
                    assert (await stream.receive()).startswith(b"HTTP/1.1 200 ")
            assert [s.state.peer for s in server.endpoint.legacy.sessions.values()] == [peer]


async def test_an_open_server_pays_nothing_and_still_serves() -> None:
    async with served() as server:
        answer = await Modern(server.port).call("server/discover")
        assert answer.status == 200
