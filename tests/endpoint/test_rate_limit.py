# SPDX-License-Identifier: MIT
"""The limit of requests in a time: for a principal, for an address, and for failed authorizations."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rawclient import LIMIT, Legacy, Modern, RawClient, Response, encode
from serving import ASYNCIO, LEGACY, UVLOOP, head, is_closed, lives, modern, request, served

from mcp_h11 import Principal
from mcp_h11.endpoint.ratelimit import MAX_BUCKETS, RateLimiter
from mcp_h11.runtime.fairness import address_party

US = "127.0.0.1"
HOUR = 3600.0  # so that no bucket fills up within a test
on_sockets = pytest.mark.anyio


@pytest.fixture(params=[ASYNCIO, UVLOOP], ids=["asyncio", "uvloop"])
def anyio_backend(request: Any) -> Any:
    return request.param


async def statuses(client: RawClient, *requests: bytes) -> list[int]:
    return [(await one(client, data)).status for data in requests]


async def one(client: RawClient, data: bytes) -> Response:
    method = data.partition(b" ")[0].decode()
    await client.send(data)
    return await client.receive(method)


def user(name: str, **headers: str) -> bytes:
    return modern("tools/list", X_User=name, **headers)


def by_header(head: Any) -> Any:
    name = head.get("x-user")
    return Principal(name) if name and name != "nobody" else None


async def by_header_later(head: Any) -> Any:
    return by_header(head)


# --- over sockets ----------------------------------------------------------------------------------------------------


@on_sockets
async def test_one_request_too_many_is_429_and_the_connection_lives() -> None:
    async with served(rate_limit=(3, HOUR)) as server, RawClient(server.port) as client:
        assert await statuses(client, *[modern("server/discover")] * 3) == [200] * 3
        answer = await one(client, modern("server/discover", id="x"))
        assert answer.status == 429
        # The whole seconds until the next request is allowed, which is a third of an hour.
        assert int(answer.headers["retry-after"]) in (1199, 1200)
        assert answer.json() == {"jsonrpc": "2.0", "error": {"code": -32603, "message": "Too Many Requests"}}
        assert "connection" not in answer.headers
        assert await statuses(client, head(method="GET"), head(method="DELETE"), request(b"{")) == [429] * 3
        # A request for a wrong path or host takes no token.
        assert await statuses(client, head("/nowhere", "GET"), modern("x", Host="evil.example")) == [404, 403]


@on_sockets
async def test_there_is_no_limit_by_default() -> None:
    async with served() as server, RawClient(server.port) as client:
        assert set(await statuses(client, *[modern("server/discover")] * 100)) == {200}


@on_sockets
async def test_it_fills_up_again() -> None:
    options: dict[str, Any] = {"rate_limit": (1, 0.2), "max_requests": None}
    async with served(**options) as server, RawClient(server.port) as client:
        assert await statuses(client, modern("server/discover")) == [200]
        seen = []
        with anyio.fail_after(LIMIT):
            while seen[-2:] != [429, 200]:
                answer = await one(client, modern("server/discover"))
                assert answer.headers.get("retry-after") == ("1" if answer.status == 429 else None)
                seen.append(answer.status)
        assert set(seen) == {429, 200}


@on_sockets
async def test_a_burst_is_at_most_what_was_set() -> None:
    async with served(rate_limit=(3600, HOUR), rate_burst=2) as server, RawClient(server.port) as client:
        assert await statuses(client, *[modern("server/discover")] * 3) == [200, 200, 429]


@on_sockets
@pytest.mark.parametrize("authorize", [by_header, by_header_later])
async def test_principals_are_counted_apart_whatever_their_address(authorize: Any) -> None:
    async with served(rate_limit=(2, HOUR), authorize=authorize) as server:
        for name in ("ann", "bob"):
            async with RawClient(server.port) as client:
                assert await statuses(client, *[user(name)] * 3) == [200, 200, 429]
        async with RawClient(server.port) as client:  # on another connection as well
            assert await statuses(client, user("ann"), user("cleo")) == [429, 200]


@on_sockets
@pytest.mark.parametrize("authorize", [by_header, by_header_later])
async def test_guessing_is_counted_by_address_and_keeps_nobody_out(authorize: Any) -> None:
    async with served(rate_limit=(2, HOUR), authorize=authorize) as server, RawClient(server.port) as client:
        assert await statuses(client, *[user("nobody")] * 4) == [401, 401, 429, 429]
        # A known principal at the same address is not limited by the failures.
        assert await statuses(client, user("ann"), user(US), user("nobody")) == [200, 200, 429]


@on_sockets
async def test_guessing_a_token_without_sending_a_body_is_counted() -> None:
    async with served(rate_limit=(2, HOUR), token="s3cret") as server:
        found = []
        for _ in range(3):
            async with RawClient(server.port) as client:
                await client.send(head(Authorization="Bearer guess", Content_Length="5"))
                answer = await client.receive("POST")
                found.append(answer.status)
                await is_closed(client)
        assert found == [401, 401, 429] and "retry-after" in answer.headers
        async with RawClient(server.port) as client:
            assert (await one(client, modern("tools/list", Authorization="Bearer s3cret"))).status == 200


@on_sockets
@pytest.mark.parametrize("authorize", [by_header, by_header_later])
async def test_guessing_before_the_body_is_invited_is_counted(authorize: Any) -> None:
    async with served(rate_limit=(2, HOUR), authorize=authorize) as server:
        found = []
        for name in ("nobody", "nobody", "nobody"):
            async with RawClient(server.port) as client:
                await client.send(head(X_User=name, Content_Length="5", Expect="100-continue"))
                found.append((await client.receive("POST")).status)
                await is_closed(client)
        assert found == [401, 401, 429]
        async with RawClient(server.port) as client:  # the answer 100 takes no token
            for status in (400, 400, 429):
                await client.send(head(X_User="ann", Content_Length="2", Expect="100-continue"))
                assert (await client.receive_head()).status == 100
                await client.send(b"[]")
                assert (await client.receive("POST")).status == status


@on_sockets
async def test_the_address_is_that_of_the_client_behind_a_proxy() -> None:
    async with served(rate_limit=(1, HOUR), trusted_proxies=[US]) as server, RawClient(server.port) as client:
        forwarded = ["192.0.2.1", "192.0.2.2", "192.0.2.1", "2001:db8::1", "2001:db8::2", "2001:db8:0:1::1"]
        data = [modern("server/discover", X_Forwarded_For=address) for address in forwarded]
        assert await statuses(client, *data) == [200, 200, 429, 200, 429, 200]
    async with served(rate_limit=(1, HOUR)) as server, RawClient(server.port) as client:
        assert await statuses(client, *data[:2]) == [200, 429]  # no proxy is trusted: one address


@on_sockets
async def test_a_batch_counts_as_what_it_is() -> None:
    async with served(rate_limit=(10, HOUR)) as server:
        session = Legacy(server.port, "2025-03-26")
        await session.initialize()  # two requests
        batch = [session.request("ping") for _ in range(9)]
        assert (await session.post(batch)).status == 200  # let in with eight, a debt of one
        assert (await session.post(session.request("ping"))).status == 429
        answer = await session.post(session.request("ping"))
        assert int(answer.headers["retry-after"]) in (719, 720)  # two requests' worth
        session.session = None


@on_sockets
async def test_sessions_and_metadata_are_counted_and_preflights_are_not() -> None:
    async with served(rate_limit=(4, HOUR), cors=["https://a.example"]) as server, RawClient(server.port) as client:
        preflight = head(method="OPTIONS", Origin="https://a.example")
        assert await statuses(client, *[preflight] * 9) == [204] * 9
        async with Legacy(server.port, LEGACY) as session:
            assert (await session.call("ping")).result == {}
        answer = await one(client, modern("server/discover", Origin="https://a.example"))
        assert answer.status == 429
        assert answer.headers["access-control-allow-origin"] == "https://a.example"
        await client.send(preflight)
        assert (await client.receive("OPTIONS")).status == 204
    async with served() as server, RawClient(server.port) as client:
        await lives(client)
    assert encode(Modern(0).request("x"))


# --- the buckets -----------------------------------------------------------------------------------------------------


def test_a_bucket_gives_its_burst_and_then_its_rate() -> None:
    limiter = RateLimiter(10, 5.0, burst=3)
    assert [limiter.take("a", 0.0) for _ in range(4)] == [0.0, 0.0, 0.0, 0.5]
    assert limiter.take("b", 0.0) == 0.0
    assert limiter.take("a", 0.25) == 0.25
    assert limiter.take("a", 0.5) == 0.0
    assert limiter.take("a", 0.5) == 0.5
    assert [limiter.take("a", 1000.0) for _ in range(4)] == [0.0, 0.0, 0.0, 0.5]


def test_a_debt_is_paid_off() -> None:
    limiter = RateLimiter(1, 1.0)
    limiter.charge("a", 5, 0.0)
    assert limiter.take("a", 0.0) == 5.0
    assert limiter.take("a", 4.0) == 1.0
    assert limiter.take("a", 5.0) == 0.0


@pytest.mark.parametrize("most", [1, 3, MAX_BUCKETS])
def test_the_table_is_full_at_its_limit_and_the_longest_unused_makes_room(most: int) -> None:
    limiter = RateLimiter(1, HOUR, max_buckets=most)
    for number in range(most):
        assert limiter.take(str(number), 0.0) == 0.0
    assert len(limiter) == most
    assert limiter.take("0", 0.0) > 0  # used again: now it is the last to go
    assert limiter.take("one more", 0.0) == 0.0
    assert len(limiter) == most
    if most > 1:
        assert limiter.take("0", 0.0) > 0
        assert limiter.take("1", 0.0) == 0.0  # forgotten, so it begins anew


@given(st.lists(st.tuples(st.integers(1, 100), st.floats(0, 100)), max_size=60), st.integers(1, 5))
def test_batches_are_paid_for_and_overdraw_by_one_of_them_at_most(batches: list[tuple[int, float]], burst: int) -> None:
    """A batch of any size is allowed while a token is left.  After it, none is allowed until the debt is paid."""
    limiter, now, allowed = RateLimiter(1, 2.0, burst), 0.0, list[tuple[float, int]]()
    for size, pause in batches:
        now += pause
        if not limiter.take("a", now):
            limiter.charge("a", size - 1, now)
            allowed.append((now, size))
    for i, (begin, _) in enumerate(allowed):
        for j in range(i, len(allowed)):
            served = sum(size for _, size in allowed[i : j + 1])
            assert served <= burst + (allowed[j][0] - begin) / 2.0 + (allowed[j][1] - 1) + 1e-6


@on_sockets
async def test_a_batch_that_does_not_run_costs_what_it_did_and_one_that_cannot_be_read_costs_one() -> None:
    async with served(rate_limit=(10, HOUR)) as server:
        session = Legacy(server.port, "2025-03-26")
        await session.initialize()  # two requests, eight are left
        too_long = encode([session.request("ping")] * 101)
        for body, status in ((too_long, 400), (b"[", 400), (b"[]", 400)):
            assert (await session.post(body)).status == status
        assert (await session.post([session.request("ping")] * 5)).status == 200
        assert (await session.post(session.request("ping"))).status == 429
        session.session = None


@given(st.lists(st.tuples(st.sampled_from("ab"), st.floats(0, 10)), max_size=60), st.integers(1, 5))
def test_no_one_gets_more_than_burst_and_rate_allow(requests: list[tuple[str, float]], burst: int) -> None:
    limiter, now = RateLimiter(1, 2.0, burst), 0.0
    allowed: dict[str, list[float]] = {"a": [], "b": []}
    for key, pause in requests:
        now += pause
        wait = limiter.take(key, now)
        assert 0.0 <= wait <= 2.0
        if not wait:
            allowed[key].append(now)
    for times in allowed.values():
        for i, begin in enumerate(times):
            for j, end in enumerate(times[i:]):
                assert j + 1 <= burst + (end - begin) / 2.0 + 1e-6


def test_an_ipv6_subscriber_is_one_peer() -> None:
    assert address_party("2001:db8::1") == address_party("2001:db8::ffff:1") != address_party("2001:db8:0:1::1")
    assert address_party("192.0.2.1") == "192.0.2.1" == address_party("192.0.2.1")
    assert address_party("") == "" and address_party("fe80::1%eth0") == address_party("fe80::2")
