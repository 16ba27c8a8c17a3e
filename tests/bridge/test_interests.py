# SPDX-License-Identifier: MIT
"""Subscriptions of clients at a backend: one for each URI, ended with its last client, and no client waits."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import anyio
import pytest
from pipes_support import piped
from rawclient import LIMIT, Legacy, Modern, RawClient, encode
from scripted import Peer, Seen, failure, result, scripted, session_server
from serving import LEGACY, modern, served, turns

from mcp_h11 import Principal
from mcp_h11.bridge import listening
from mcp_h11.bridge.interests import MAX_SUBSCRIBED, Interests
from mcp_h11.bridge.proxy import ProxyHandler
from mcp_h11.client.targets import Url
from mcp_h11.protocol.errors import InvalidParams, MCPError
from mcp_h11.protocol.methods import META_SUBSCRIPTION

pytestmark = pytest.mark.anyio


class Client:
    def __init__(self, name: str = "") -> None:
        self.party = name
        self.closed = False


class Backend:
    """A backend that records subscriptions, and answers when the test lets it."""

    def __init__(self, *, answers: bool = True) -> None:
        self.told: list[str] = []
        self.may_answer = asyncio.Event()
        self.error: MCPError | None = None
        if answers:
            self.may_answer.set()

    def subscribe(self, uri: str) -> Callable[[], Awaitable[None]]:
        async def tell() -> None:
            self.told.append(f"+{uri}")
            await self.may_answer.wait()
            if self.error is not None:
                raise MCPError(self.error.code, self.error.message)

        return tell

    async def unsubscribe(self, backend: Any, uri: str) -> None:
        assert backend is self
        self.told.append(f"-{uri}")
        await self.may_answer.wait()
        if self.error is not None:
            raise TimeoutError


async def subscribe(interests: Interests, backend: Backend, client: Client, uri: str) -> None:
    await interests.subscribe(uri, client, client.party, backend, backend.subscribe(uri))


async def test_the_first_has_the_backend_told_and_the_last_again() -> None:
    interests, backend, a, b = Interests(), Backend(), Client(), Client()
    for client in (a, b, a):
        await subscribe(interests, backend, client, "x")
    assert backend.told == ["+x"]
    assert not interests.leave(a, "x") and not interests.leave(a, "x") and not interests.leave(a, "y")
    assert interests.leave(b, "x")
    await interests.take_back(backend.unsubscribe, "x")
    assert backend.told == ["+x", "-x"] and not interests.uris


async def test_who_wants_another_resource_does_not_wait() -> None:
    interests, slow, quick, a, b = Interests(), Backend(answers=False), Backend(), Client(), Client()
    waiting = asyncio.ensure_future(subscribe(interests, slow, a, "x"))
    await turns()
    await subscribe(interests, quick, b, "y")
    assert not waiting.done()
    slow.may_answer.set()
    await waiting
    assert slow.told == ["+x"]


async def test_those_who_want_the_same_wait_for_one_answer() -> None:
    interests, backend, clients = Interests(), Backend(answers=False), [Client() for _ in range(3)]
    waiting = [asyncio.ensure_future(subscribe(interests, backend, client, "x")) for client in clients]
    await turns()
    assert backend.told == ["+x"]
    waiting[0].cancel()  # the client that made the subscription
    await turns()
    assert backend.told == ["+x", "+x"] and not waiting[1].done()
    backend.may_answer.set()
    await asyncio.gather(*waiting[1:])
    assert interests.uris["x"].sessions == set(clients[1:])


async def test_each_gets_an_error_of_its_own_and_nothing_is_left() -> None:
    interests, backend = Interests(), Backend(answers=False)
    backend.error = MCPError(-32002, "there is no x")
    waiting = [asyncio.ensure_future(subscribe(interests, backend, Client(), "x")) for _ in range(2)]
    await turns()
    backend.may_answer.set()
    errors = await asyncio.gather(*waiting, return_exceptions=True)
    assert [str(error) for error in errors] == ["there is no x"] * 2 and errors[0] is not errors[1]
    assert not interests.uris and not interests.leave_closed()


async def test_a_backend_that_may_know_of_what_was_broken_off_is_told_that_it_is_over() -> None:
    interests, backend, a = Interests(), Backend(answers=False), Client()
    waiting = asyncio.ensure_future(subscribe(interests, backend, a, "x"))
    await turns()
    waiting.cancel()
    await asyncio.wait([waiting])
    assert interests.leave_closed()
    backend.may_answer.set()
    await interests.take_back(backend.unsubscribe)
    assert backend.told == ["+x", "-x"] and not interests.uris


async def test_what_is_wanted_again_is_not_taken_back() -> None:
    interests, backend, a, b = Interests(), Backend(), Client(), Client()
    await subscribe(interests, backend, a, "x")
    interests.leave(a, "x")
    await subscribe(interests, backend, b, "x")
    await interests.take_back(backend.unsubscribe)
    assert backend.told == ["+x"]


async def test_who_wants_what_is_being_taken_back_has_it_told_after_that() -> None:
    interests, backend, a, b = Interests(), Backend(), Client(), Client()
    await subscribe(interests, backend, a, "x")
    interests.leave(a, "x")
    backend.may_answer.clear()
    taking = asyncio.ensure_future(interests.take_back(backend.unsubscribe))
    await turns()
    waiting = asyncio.ensure_future(subscribe(interests, backend, b, "x"))
    await turns()
    assert backend.told == ["+x", "-x"]
    backend.may_answer.set()
    await asyncio.gather(taking, waiting)
    assert backend.told == ["+x", "-x", "+x"] and interests.uris["x"].sessions == {b}


async def test_one_who_leaves_while_the_backend_is_told_leaves_nothing() -> None:
    interests, backend, a = Interests(), Backend(answers=False), Client()
    waiting = asyncio.ensure_future(subscribe(interests, backend, a, "x"))
    await turns()
    assert interests.leave(a, "x")
    backend.may_answer.set()
    await waiting
    await interests.take_back(backend.unsubscribe)
    assert backend.told == ["+x", "-x"] and not interests.uris


async def test_a_backend_that_does_not_answer_is_not_told_of_all_the_rest() -> None:
    interests, backend, a, b = Interests(), Backend(), Client(), Client()
    for number in range(100):
        await subscribe(interests, backend, a, f"x{number}")
    await subscribe(interests, backend, b, "x99")
    backend.error = MCPError(-32603, "")
    a.closed = True
    assert interests.leave_closed()
    await interests.take_back(backend.unsubscribe)
    assert len([told for told in backend.told if told[0] == "-"]) == 1
    assert list(interests.uris) == ["x99"] and not interests.leave_closed()


async def test_two_backends_are_told_of_one_resource() -> None:
    interests, old, new, a, b = Interests(), Backend(), Backend(), Client(), Client()
    await subscribe(interests, old, a, "x")
    await subscribe(interests, new, b, "x")
    assert (old.told, new.told) == (["+x"], ["+x"])
    told: list[Any] = []

    async def unsubscribe(backend: Any, uri: str) -> None:
        told.append(backend)

    interests.leave(a, "x")
    interests.leave(b, "x")
    await interests.take_back(unsubscribe)
    assert set(told) == {old, new} and not interests.uris


async def test_each_party_has_its_share_of_the_resources() -> None:
    assert MAX_SUBSCRIBED == 10_000
    interests, backend, greedy, other = Interests(100), Backend(), Client("a"), Client("b")
    had = 0
    with pytest.raises(InvalidParams, match="At most 100 resources"):
        for had in range(101):
            await subscribe(interests, backend, greedy, f"x{had}")
    assert had == 80
    await subscribe(interests, backend, other, "y")
    greedy.closed = True
    interests.leave_closed()
    await interests.take_back(backend.unsubscribe)
    assert list(interests.uris) == ["y"]
    for number in range(79):
        await subscribe(interests, backend, other, f"z{number}")


def test_the_lowest_level_decides() -> None:
    interests = Interests()
    assert interests.level is None
    interests.levels.update(a=4, b=1)
    assert interests.level == "info"


# --- through a bridge -------------------------------------------------------------------------------------------------


async def test_listeners_that_have_left_hold_up_no_other_client_and_leave_nothing() -> None:
    """The backend answers no subscription to slow://.  Nine listeners ask for a thousand of them each, and leave."""
    held: list[Peer] = []

    async def answer(seen: Seen, peer: Peer) -> None:
        uri = (seen.message.get("params") or {}).get("uri", "")
        if seen.method == "resources/subscribe" and uri.startswith("slow:"):
            held.append(peer)
            await peer.gone()
        else:
            await peer.answer(result(seen, {"tools": []} if seen.method == "tools/list" else {}))

    async with scripted(session_server(answer)) as script:
        handler = ProxyHandler(Url(script.url, revision=LEGACY))
        async with served(handler) as front:  # type: ignore[arg-type]
            for number in range(9):
                uris = [f"slow://{number}/{index}" for index in range(1_000)]
                async with RawClient(front.port) as leaver:
                    await leaver.send(modern("subscriptions/listen", wanted(uris)))
                    await script.until("resources/subscribe", number + 1)
                    if number % 2:  # one that stops sending is taken for one that has left
                        await leaver.send_eof()
                        assert await leaver.receive_eof() == b""
            assert len(handler._listening.walks) <= 9
            async with Legacy(front.port, LEGACY) as client:
                for uri in ("quick://1", "quick://2"):
                    assert (await client.call("resources/subscribe", {"uri": uri})).result == {}
                with anyio.fail_after(2 * LIMIT):
                    while handler._listening.walks or set(handler._interests.uris) != {"quick://1", "quick://2"}:
                        await anyio.sleep(0.01)
            # For each listener the bridge requested one resource, and requested no other before the answer.
            slow = [seen for seen in script.of("resources/subscribe") if seen.message["params"]["uri"][0] == "s"]
            assert len(slow) == 9 and not front.endpoint.modern.listeners


ACKNOWLEDGED = "notifications/subscriptions/acknowledged"


def wanted(uris: list[str], **more: Any) -> dict[str, Any]:
    return {"notifications": {"resourceSubscriptions": uris, **more}}


class Subscribing:
    """A backend that answers subscriptions when the test lets it, refuses those to no://, and ignores slow://."""

    def __init__(self) -> None:
        self.may_answer = asyncio.Event()

    async def __call__(self, seen: Seen, peer: Peer) -> None:
        uri = (seen.message.get("params") or {}).get("uri", "")
        if seen.method == "resources/subscribe":
            if uri.startswith("slow:"):
                await peer.gone()
                return
            with anyio.fail_after(LIMIT):
                await self.may_answer.wait()
            if uri.startswith("no:"):
                await peer.answer(failure(seen, -32602))
                return
        await peer.answer(result(seen, {"tools": []} if seen.method == "tools/list" else {}))


async def open_listening(client: RawClient, notifications: dict[str, Any]) -> Any:
    """The stream, once its head is there."""
    listener = Modern(client.port)
    message = listener.request("subscriptions/listen", notifications, id="l")
    return await client.open_stream("POST", "/mcp", listener.headers_for(message), encode(message))


async def test_a_listener_is_told_that_it_listens_when_the_backend_knows() -> None:
    """Else a change right after the acknowledgement is lost."""
    backend = Subscribing()
    async with scripted(session_server(backend)) as script:
        handler = ProxyHandler(Url(script.url, revision=LEGACY))
        async with served(handler) as front, RawClient(front.port) as client:  # type: ignore[arg-type]
            filters = wanted(["test://x"], toolsListChanged=True)
            opened = asyncio.ensure_future(open_listening(client, filters))
            await script.until("resources/subscribe")
            handler.notify_tools_changed()  # the acknowledgement is the first message all the same
            assert (await Modern(front.port).call("tools/list")).result["tools"] == []
            assert not opened.done()
            backend.may_answer.set()
            stream = await opened
            acknowledged = await stream.next_message()
            assert acknowledged["method"] == ACKNOWLEDGED
            assert acknowledged["params"]["notifications"] == filters["notifications"]
            handler.notify_resource_updated("test://x")
            assert (await stream.next_message())["params"]["uri"] == "test://x"


async def test_a_resource_that_the_backend_refuses_is_left_out_of_the_acknowledgement() -> None:
    backend = Subscribing()
    backend.may_answer.set()
    async with scripted(session_server(backend)) as script:
        handler = ProxyHandler(Url(script.url, revision=LEGACY))
        async with served(handler, max_listeners=1) as front:  # type: ignore[arg-type]
            for _ in range(2):  # of which there is but one place
                async with Modern(front.port).listen("n", resourceSubscriptions=["no://1", "no://2"]) as stream:
                    assert (await stream.next_message())["params"]["notifications"] == {}
                    assert (await stream.next_message())["id"] == "n"
                    assert await stream.next_message() is None
            uris = ["no://1", "test://x", "no://2"]
            async with Modern(front.port).listen(resourceSubscriptions=uris, toolsListChanged=True) as stream:
                honoured = (await stream.next_message())["params"]["notifications"]
                assert honoured == {"toolsListChanged": True, "resourceSubscriptions": ["test://x"]}
                for uri in ("no://1", "test://x"):
                    handler.notify_resource_updated(uri)
                assert (await stream.next_message())["params"]["uri"] == "test://x"


async def test_a_listener_waits_for_a_silent_backend_for_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listening, "SUBSCRIBE_TIME", 0.05)
    backend = Subscribing()
    async with scripted(session_server(backend)) as script:
        handler = ProxyHandler(Url(script.url, revision=LEGACY))
        async with served(handler) as front:  # type: ignore[arg-type]
            uris = ["slow://1", "slow://2", "slow://3"]
            async with Modern(front.port).listen(resourceSubscriptions=uris) as stream:
                honoured = (await stream.next_message())["params"]["notifications"]
            # It did not take the first that it was asked for in time; of the others no more is known then.
            assert len(honoured["resourceSubscriptions"]) == 2 and {*honoured["resourceSubscriptions"]} < {*uris}


async def test_a_listener_that_waits_when_the_server_ends_is_answered() -> None:
    async with scripted(session_server(Subscribing())) as script, AsyncExitStack() as stack:
        async with served(ProxyHandler(Url(script.url, revision=LEGACY))) as front:  # type: ignore[arg-type]
            client = await stack.enter_async_context(RawClient(front.port))
            opened = asyncio.ensure_future(open_listening(client, wanted(["slow://1"])))
            await script.until("resources/subscribe")
        stream = await opened
        assert (await stream.next_message())["params"]["notifications"] == {}
        assert (await stream.next_message())["id"] == "l" and await stream.next_message() is None


async def test_a_listener_whose_token_expires_while_it_waits_is_ended() -> None:
    backend, expires = Subscribing(), time.time() + 1.0

    def authorize(head: Any) -> Principal:
        return Principal("ann", expires_at=expires)

    async with scripted(session_server(backend)) as script:
        handler = ProxyHandler(Url(script.url, revision=LEGACY))
        async with served(handler, authorize=authorize, keep_alive=0.2) as front:  # type: ignore[arg-type]
            async with RawClient(front.port) as client:
                opened = asyncio.ensure_future(open_listening(client, wanted(["test://x"])))
                await script.until("resources/subscribe")
                with anyio.fail_after(LIMIT):
                    while time.time() <= expires:
                        await anyio.sleep(0.01)
                backend.may_answer.set()
                stream = await opened
                assert (await stream.next_message())["method"] == ACKNOWLEDGED
                assert (await stream.next_message())["id"] == "l" and await stream.next_message() is None


async def test_on_pipes_a_listener_is_told_when_the_backend_knows() -> None:
    backend = Subscribing()
    async with scripted(session_server(backend)) as script:
        handler = ProxyHandler(Url(script.url, revision=LEGACY))
        async with piped(handler) as client:  # type: ignore[arg-type]
            client.request("l", "subscriptions/listen", wanted(["test://x", "no://1"]))
            client.request("gone", "subscriptions/listen", wanted(["test://y"]))
            client.request("none", "subscriptions/listen", wanted(["no://2"]))
            await script.until("resources/subscribe", 3)
            client.notify("notifications/cancelled", requestId="gone")
            handler.notify_resource_updated("test://x")
            client.request(1, "tools/list")
            assert (await client.result(1))["tools"] == []
            backend.may_answer.set()
            answers = [await client.receive() for _ in range(3)]
            told = {one["params"]["_meta"][META_SUBSCRIPTION]: one["params"]["notifications"]
                    for one in answers if one.get("method") == ACKNOWLEDGED}  # fmt: skip
            assert told == {"l": {"resourceSubscriptions": ["test://x"]}, "none": {}}
            assert [one["id"] for one in answers if "id" in one] == ["none"]
            for uri in ("test://y", "test://x"):
                handler.notify_resource_updated(uri)
            assert (await client.receive())["params"]["uri"] == "test://x"
            client.request("late", "subscriptions/listen", wanted(["slow://1"]))
            await script.until("resources/subscribe", 5)
            client.close()
            answers = [await client.receive() for _ in range(3)]
            assert [one.get("id", one.get("method")) for one in answers] == ["l", ACKNOWLEDGED, "late"]
            assert answers[1]["params"]["notifications"] == {}


async def test_a_subscription_that_the_backend_does_not_answer_is_an_error_in_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(listening, "SUBSCRIBE_TIME", 0.05)

    async def answer(seen: Seen, peer: Peer) -> None:
        if seen.method in ("resources/subscribe", "resources/unsubscribe") and "slow" in str(seen.message):
            await peer.gone()
        else:
            await peer.answer(result(seen, {"tools": []} if seen.method == "tools/list" else {}))

    async with scripted(session_server(answer)) as script:
        handler = ProxyHandler(Url(script.url, revision=LEGACY))
        async with served(handler) as front, Legacy(front.port, LEGACY) as client:  # type: ignore[arg-type]
            error = (await client.call("resources/subscribe", {"uri": "slow://x"})).error
            assert error["code"] == -32603 and "did not take the subscription" in error["message"]
            assert (await client.call("resources/unsubscribe", {"uri": "slow://x"})).result == {}
            with anyio.fail_after(2 * LIMIT):
                while handler._interests.uris:
                    await anyio.sleep(0.01)


async def test_each_client_of_a_bridge_has_its_share_of_the_resources() -> None:
    async def user_of(head: Any) -> str:
        return str(head.get("x-user"))

    async def answer(seen: Seen, peer: Peer) -> None:
        await peer.answer(result(seen, {"tools": []} if seen.method == "tools/list" else {}))

    async with scripted(session_server(answer)) as script:
        handler = ProxyHandler(Url(script.url, revision=LEGACY))
        handler._interests._places.limit = 10
        async with served(handler, authorize=user_of) as front:  # type: ignore[arg-type]
            greedy, other = Modern(front.port), Modern(front.port)
            greedy.extra_headers, other.extra_headers = {"X-User": "ada"}, {"X-User": "bob"}
            uris = [f"test://{number}" for number in range(100)]
            async with greedy.listen(resourceSubscriptions=uris) as one:
                await one.next_message()
                with anyio.fail_after(LIMIT):
                    while len(handler._interests.uris) < 8 or handler._listening.walks:
                        await anyio.sleep(0.01)
                assert len(handler._interests.uris) == 8
                async with other.listen(resourceSubscriptions=["test://bob"]) as two:
                    await two.next_message()
                    with anyio.fail_after(LIMIT):
                        while "test://bob" not in handler._interests.uris:
                            await anyio.sleep(0.01)
