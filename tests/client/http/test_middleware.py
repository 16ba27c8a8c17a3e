# SPDX-License-Identifier: MIT
"""middleware: what it makes of a call, by a chain that ends in a fake; time is a number that the test sets."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest

from mcp_h11.client.http.httpclient import HTTPCall, HTTPClient, Middleware, Next
from mcp_h11.client.http.middleware import (
    BearerToken,
    CircuitBreaker,
    CircuitOpen,
    Token,
    extra_headers,
    log_calls,
)
from mcp_h11.client.http.wire import BadAnswer, BrokenAnswer, ConnectError, HTTPAnswer

pytestmark = pytest.mark.anyio
LIMIT = 30.0
URL = "http://a.example/mcp"


class Clock:
    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class FakeAnswer:
    def __init__(self, status: int) -> None:
        self.status = status
        self.closed = False

    async def aclose(self) -> None:
        self.closed = True


class Server:
    """The end of the chain: keeps what it was sent, answers with what `answer` gives for it."""

    def __init__(self, *statuses: int | BaseException) -> None:
        self.statuses = list(statuses)
        self.seen: list[dict[str, str]] = []
        self.answers: list[FakeAnswer] = []

    async def __call__(self, call: HTTPCall) -> HTTPAnswer:
        names = [name.lower() for name, _ in call.headers]
        assert len(set(names)) == len(names)
        self.seen.append({name.lower(): value for name, value in call.headers})
        outcome = self.statuses.pop(0) if self.statuses else 200
        if isinstance(outcome, BaseException):
            raise outcome
        self.answers.append(FakeAnswer(outcome))
        return self.answers[-1]  # type: ignore[return-value]

    @property
    def tokens(self) -> list[str]:
        return [headers.get("authorization", "none").removeprefix("Bearer ") for headers in self.seen]


class Provider:
    """Gives t1, t2, …; or raises what stands in its place."""

    def __init__(
        self, clock: Clock | None = None, lifetime: float | None = None, fail: dict[int, Exception] | None = None
    ):
        self.calls = 0
        self.clock, self.lifetime, self.fail = clock, lifetime, fail or {}
        self.gate: anyio.Event | None = None

    async def __call__(self) -> str | Token:
        self.calls += 1
        number = self.calls
        if self.gate is not None:
            await self.gate.wait()
        if number in self.fail:
            raise self.fail[number]
        if self.clock is None or self.lifetime is None:
            return f"t{number}"
        return Token(f"t{number}", self.clock.now + self.lifetime)


def call(*headers: tuple[str, str], url: str = URL) -> HTTPCall:
    return HTTPCall("POST", url, list(headers), b"secret body")


async def chained(middleware: list[Middleware], end: Next, sent: HTTPCall) -> HTTPAnswer:
    """Through the client's own chain, which ends in `end` instead of a socket."""

    async def last(this: HTTPCall, _: Next) -> HTTPAnswer:
        return await end(this)

    last.priority = 10**6  # type: ignore[attr-defined]
    async with HTTPClient(middleware=[*middleware, last]) as client:
        return await client.send(sent)


# --- headers ----------------------------------------------------------------------------------------------------------


async def test_extra_headers_replace_what_is_there() -> None:
    server = Server()
    await extra_headers({"X-One": "1", "Authorization": "Bearer new"})(call(("authorization", "Bearer old")), server)
    assert server.seen == [{"x-one": "1", "authorization": "Bearer new"}]


async def test_the_later_of_equal_priority_has_the_last_word_and_a_higher_priority_more() -> None:
    def named(value: str, **how: Any) -> Middleware:
        return extra_headers({"X": value}, **how)

    for chain, winner in (
        ([named("a"), named("b")], "b"),
        ([named("a", priority=51), named("b")], "a"),
        ([named("a"), named("b", priority=49)], "a"),
    ):
        server = Server()
        await chained(chain, server, call(("X", "static")))
        assert server.seen == [{"x": winner}]


async def test_a_provider_outranks_middleware_which_outranks_a_static_header() -> None:
    async def provider() -> str:
        return "provided"

    server = Server()
    middle = extra_headers({"authorization": "Bearer middleware"})
    token = BearerToken(provider, priority=1000)
    await chained([], server, call(("Authorization", "Bearer static")))
    await chained([middle], server, call(("Authorization", "Bearer static")))
    await chained([token, middle], server, call(("Authorization", "Bearer static")))
    assert server.tokens == ["static", "middleware", "provided"]


# --- tokens -----------------------------------------------------------------------------------------------------------


async def test_a_provider_may_be_a_plain_function_and_gives_a_token_or_nothing_is_sent() -> None:
    sent: list[str] = []

    async def following(call: HTTPCall) -> HTTPAnswer:
        sent.append(dict(call.headers)["Authorization"])
        raise ConnectError("enough")

    for provider in (lambda: "a", lambda: Token("a")):
        with pytest.raises(ConnectError):
            await BearerToken(provider)(HTTPCall("GET", "http://h/"), following)
    assert sent == ["Bearer a", "Bearer a"]
    with pytest.raises(TypeError, match="gave no text and no Token, but NoneType"):
        await BearerToken(lambda: None)(HTTPCall("GET", "http://h/"), following)  # type: ignore[arg-type,return-value]
    with pytest.raises(TypeError, match="a provider of tokens is a function"):
        BearerToken("token")  # type: ignore[arg-type]
    assert len(sent) == 2


async def test_a_token_without_an_end_is_asked_for_once() -> None:
    provider, server = Provider(), Server()
    bearer = BearerToken(provider)
    for _ in range(3):
        await bearer(call(), server)
    assert server.tokens == ["t1"] * 3 and provider.calls == 1


async def test_a_token_is_renewed_sixty_seconds_before_its_end() -> None:
    clock = Clock()
    provider, server = Provider(clock, lifetime=100.0), Server()
    bearer = BearerToken(provider, clock=clock)
    for now in (1000.0, 1039.9, 1040.0, 1079.9, 1080.0):
        clock.now = now
        await bearer(call(), server)
    assert server.tokens == ["t1", "t1", "t2", "t2", "t3"]


async def at_once(number: int, run: Callable[[], Awaitable[Any]], gate: anyio.Event) -> list[BaseException]:
    """Runs so many, opens the gate when all of them wait; what they raised."""
    raised: list[BaseException] = []

    async def one() -> None:
        try:
            await run()
        except Exception as error:
            raised.append(error)

    with anyio.fail_after(LIMIT):
        async with anyio.create_task_group() as tasks:
            for _ in range(number):
                tasks.start_soon(one)
            await anyio.wait_all_tasks_blocked()
            gate.set()
    return raised


@pytest.mark.parametrize("renewed", [False, True])
async def test_fifty_calls_share_one_refresh(renewed: bool) -> None:
    clock = Clock()
    provider, server = Provider(clock, lifetime=100.0), Server()
    bearer = BearerToken(provider, clock=clock)
    if renewed:
        await bearer(call(), server)
        clock.now += 50.0
    gate = provider.gate = anyio.Event()
    assert await at_once(50, lambda: bearer(call(), server), gate) == []
    assert provider.calls == 1 + renewed
    assert server.tokens[-50:] == [f"t{1 + renewed}"] * 50


async def test_fifty_calls_share_one_error_and_the_next_asks_again() -> None:
    error = OSError("no token today")
    provider, server = Provider(fail={1: error}), Server()
    bearer = BearerToken(provider)
    gate = provider.gate = anyio.Event()
    told = await at_once(50, lambda: bearer(call(), server), gate)
    assert [(type(one), str(one)) for one in told] == [(OSError, "no token today")] * 50
    assert all(one is not error for one in told)  # each raises its own: a traceback grows with each time it is raised
    assert provider.calls == 1 and server.seen == []
    await bearer(call(), server)
    assert server.tokens == ["t2"]


async def test_who_is_cancelled_while_it_asks_leaves_it_to_the_next() -> None:
    provider, server = Provider(), Server()
    bearer = BearerToken(provider)
    gate = provider.gate = anyio.Event()
    with anyio.fail_after(LIMIT):
        async with anyio.create_task_group() as tasks:
            scope = anyio.CancelScope()

            async def first() -> None:
                with scope:
                    await bearer(call(), server)

            tasks.start_soon(first)
            await anyio.wait_all_tasks_blocked()
            tasks.start_soon(bearer, call(), server)
            await anyio.wait_all_tasks_blocked()
            scope.cancel()
            await anyio.wait_all_tasks_blocked()
            gate.set()
    assert provider.calls == 2 and server.tokens == ["t2"]


async def test_a_refresh_that_fails_uses_the_old_token_to_its_end(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    error = OSError("secret reason")
    provider, server = Provider(clock, lifetime=100.0, fail={2: error, 3: error}), Server()
    bearer = BearerToken(provider, clock=clock)
    for now in (1000.0, 1099.9):
        clock.now = now
        await bearer(call(), server)
    assert server.tokens == ["t1", "t1"]
    assert "old one still holds" in caplog.text and "secret" not in caplog.text
    clock.now = 1100.0
    with pytest.raises(OSError):
        await bearer(call(), server)
    await bearer(call(), server)
    assert server.tokens == ["t1", "t1", "t4"]


async def test_a_401_leads_to_one_refresh_and_one_repeat() -> None:
    provider, server = Provider(), Server(401, 401)
    answer = await BearerToken(provider)(call(), server)
    assert answer.status == 401 and server.tokens == ["t1", "t2"]
    assert [one.closed for one in server.answers] == [True, False]
    server = Server(401, 200)
    assert (await BearerToken(Provider())(call(), server)).status == 200
    assert (await BearerToken(Provider())(call(), Server(403))).status == 403


async def test_fifty_calls_refused_at_once_share_one_refresh() -> None:
    provider = Provider()
    gate = anyio.Event()
    seen: list[str] = []

    async def server(sent: HTTPCall) -> HTTPAnswer:
        token = dict(sent.headers)["Authorization"]
        seen.append(token)
        if token == "Bearer t1":
            await gate.wait()
        return FakeAnswer(401 if token == "Bearer t1" else 200)  # type: ignore[return-value]

    bearer = BearerToken(provider)
    assert await at_once(50, lambda: bearer(call(), server), gate) == []
    assert provider.calls == 2 and seen == ["Bearer t1"] * 50 + ["Bearer t2"] * 50


async def test_a_call_that_is_refused_late_uses_what_others_have_got() -> None:
    provider = Provider()
    bearer = BearerToken(provider)
    gate = anyio.Event()
    late = Server(401)

    async def slow(sent: HTTPCall) -> HTTPAnswer:
        await gate.wait()
        return await late(sent)

    with anyio.fail_after(LIMIT):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(bearer, call(), slow)
            await anyio.wait_all_tasks_blocked()
            await bearer(call(), Server(401))
            gate.set()
    assert provider.calls == 2 and late.tokens == ["t1", "t2"]


async def test_the_same_token_again_is_not_tried_again() -> None:
    async def provider() -> str:
        return "always"

    server = Server(401)
    answer = await BearerToken(provider)(call(), server)
    assert answer.status == 401 and server.tokens == ["always"] and not server.answers[0].closed


async def test_a_refresh_after_401_that_fails_is_raised() -> None:
    server = Server(401)
    with pytest.raises(OSError, match="gone"):
        await BearerToken(Provider(fail={2: OSError("gone")}))(call(), server)
    assert server.answers[0].closed


def test_a_token_does_not_show_itself() -> None:
    assert "secret" not in repr(Token("secret", 1.0))


# --- log --------------------------------------------------------------------------------------------------------------


async def test_calls_are_logged_without_their_secrets(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    logger = logging.getLogger("test.calls")
    caplog.set_level(logging.INFO, "test.calls")

    async def slow(sent: HTTPCall) -> HTTPAnswer:
        clock.now += 0.0125
        return await Server(200)(sent)

    log = log_calls(logger, clock=clock)
    await log(call(("Authorization", "Bearer secret"), url=f"{URL}?token=secret#secret"), slow)
    with pytest.raises(BrokenAnswer):
        await log(call(("Authorization", "Bearer secret")), Server(BrokenAnswer("secret")))
    assert caplog.messages == [f"POST {URL}: 200 after 12.5 ms", f"POST {URL}: BrokenAnswer after 0.0 ms"]


async def test_the_level_of_the_log_is_the_callers(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("test.calls")
    caplog.set_level(logging.INFO, "test.calls")
    await log_calls(logger, level=logging.DEBUG)(call(), Server())
    assert caplog.messages == []


# --- circuit breaker --------------------------------------------------------------------------------------------------


async def outcome(breaker: CircuitBreaker, server: Server) -> str:
    try:
        return str((await breaker(call(), server)).status)
    except CircuitOpen as error:
        return f"open {error.retry_after:g}"
    except Exception as error:
        return type(error).__name__


async def test_five_failures_open_the_circuit_for_sixty_seconds() -> None:
    clock = Clock()
    breaker = CircuitBreaker(clock=clock)
    server = Server(ConnectError(), BrokenAnswer("x"), 500, 503, BadAnswer())
    failures = [await outcome(breaker, server) for _ in range(5)]
    assert failures == ["ConnectError", "BrokenAnswer", "500", "503", "BadAnswer"]
    assert await outcome(breaker, server) == "open 60"
    clock.now += 59.0
    assert await outcome(breaker, server) == "open 1"
    assert len(server.seen) == 5
    clock.now += 1.0
    assert await outcome(breaker, server) == "200"
    assert await outcome(breaker, server) == "200"


async def test_a_good_answer_begins_the_count_anew_and_refusals_are_good_answers() -> None:
    breaker = CircuitBreaker(clock=Clock())
    server = Server(*([500] * 4 + [404]) * 3)
    for _ in range(15):
        await outcome(breaker, server)
    assert await outcome(breaker, server) == "200"


async def test_what_is_no_fault_of_the_server_does_not_count() -> None:
    breaker = CircuitBreaker(failures=1, clock=Clock())
    server = Server(ValueError("a header"))
    assert [await outcome(breaker, server) for _ in range(2)] == ["ValueError", "200"]


async def opened(clock: Clock) -> CircuitBreaker:
    breaker = CircuitBreaker(failures=1, clock=clock)
    assert await outcome(breaker, Server(500)) == "500"
    clock.now += 60.0
    return breaker


async def test_a_probe_that_fails_opens_it_again() -> None:
    clock = Clock()
    breaker = await opened(clock)
    assert await outcome(breaker, Server(500)) == "500"
    assert await outcome(breaker, Server()) == "open 60"


@pytest.mark.parametrize("cancelled", [False, True])
async def test_one_call_alone_tries(cancelled: bool) -> None:
    clock = Clock()
    breaker = await opened(clock)
    gate, server = anyio.Event(), Server()

    async def slow(sent: HTTPCall) -> HTTPAnswer:
        await gate.wait()
        return await server(sent)

    with anyio.fail_after(LIMIT):
        async with anyio.create_task_group() as tasks:
            scope = anyio.CancelScope()

            async def probe() -> None:
                with scope:
                    await breaker(call(), slow)

            tasks.start_soon(probe)
            await anyio.wait_all_tasks_blocked()
            assert [await outcome(breaker, server) for _ in range(3)] == ["open 0"] * 3
            if cancelled:
                scope.cancel()
            else:
                gate.set()
    # Whether it was answered or said nothing: the next one goes through.
    assert await outcome(breaker, server) == "200"
    assert len(server.seen) == 2 - cancelled


@pytest.mark.parametrize("late", [200, 500])
async def test_what_was_under_way_when_it_opened_changes_nothing(late: int) -> None:
    clock = Clock()
    breaker = CircuitBreaker(failures=1, clock=clock)
    gate = anyio.Event()

    async def slow(sent: HTTPCall) -> HTTPAnswer:
        await gate.wait()
        return await Server(late)(sent)

    with anyio.fail_after(LIMIT):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(breaker, call(), slow)
            await anyio.wait_all_tasks_blocked()
            await outcome(breaker, Server(500))
            clock.now += 30.0
            gate.set()
    assert await outcome(breaker, Server()) == "open 30"


def test_an_open_circuit_says_that_nothing_was_sent() -> None:
    error = CircuitOpen(3.0)
    assert isinstance(error, ConnectError) and not error.sent and "3.0 s" in str(error)
