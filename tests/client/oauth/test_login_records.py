# SPDX-License-Identifier: MIT
"""Records of logins as JSON, the store in memory, and the address that a browser comes back to."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import anyio
import pytest

from mcp_h11.client.oauth.redirect import MAX_RESPONSE, MAX_RESPONSE_FIELDS, AuthorizationResponse
from mcp_h11.client.oauth.store import MAX_LOGIN, Login, MemoryTokenStore, Registration, Tokens

CLIENT = Registration("id-1", "s3cret", "registered", "client_secret_post", ("http://127.0.0.1:5/cb",), 17.0)
TOKENS = Tokens("acc3ss", "Bearer", "r3fresh", 1234.5, "a b")
LOGIN = Login("https://mcp.test/mcp", "https://as.test", CLIENT, TOKENS, "https://as.test/token", "ann@example.com")


@pytest.mark.parametrize("login", [LOGIN, Login("r", "i", Registration("c"))])
def test_a_record_comes_back_as_it_was(login: Login) -> None:
    assert Login.from_json(login.to_json()) == login
    assert Login.from_json(login.to_json().encode()) == login
    assert "\n" not in login.to_json()


def test_no_secret_is_in_a_repr() -> None:
    shown = repr(LOGIN) + repr(AuthorizationResponse(code="c0de", state="st4te"))
    assert not any(secret in shown for secret in ("s3cret", "acc3ss", "r3fresh", "c0de", "st4te"))


def changed(path: str, value: Any) -> str:
    record = json.loads(LOGIN.to_json())
    place = record
    *folders, name = path.split(".")
    for folder in folders:
        place = place[folder]
    if value is None:
        del place[name]
    else:
        place[name] = value
    return json.dumps(record)


@pytest.mark.parametrize(
    "text",
    [
        "", "[]", "{", "nothing", "[" * 100_000,
        changed("version", 2), changed("version", None),
        changed("resource", None), changed("issuer", 5), changed("client", None), changed("client", "id-1"),
        changed("client.client_id", None), changed("client.client_secret", 5), changed("client.redirect_uris", "uri"),
        changed("client.redirect_uris", [5]), changed("client.secret_expires_at", "soon"),
        changed("tokens", []), changed("tokens.access_token", None), changed("tokens.refresh_token", {}),
        changed("tokens.expires_at", True), changed("tokens.expires_at", 10**400),
        changed("tokens.expires_at", float("nan")), changed("token_endpoint", 5),
    ],
)  # fmt: skip
def test_what_is_no_record_is_refused_and_not_quoted(text: str) -> None:
    with pytest.raises(ValueError, match="a stored login") as caught:
        Login.from_json(text)
    assert not any(secret in str(caught.value) for secret in ("s3cret", "acc3ss", "r3fresh"))


def test_a_record_may_be_as_long_as_the_limit_and_no_longer() -> None:
    room = MAX_LOGIN - len(LOGIN.to_json())
    longest = replace(LOGIN, resource=LOGIN.resource + "x" * room)
    assert Login.from_json(longest.to_json()) == longest
    with pytest.raises(ValueError, match=str(MAX_LOGIN)):
        Login.from_json(replace(longest, resource=longest.resource + "x").to_json())


def test_the_store_in_memory_keeps_one_login_for_each_key() -> None:
    async def main() -> None:
        store = MemoryTokenStore()
        assert await store.load("a") is None
        await store.save("a", LOGIN)
        await store.save("b", replace(LOGIN, tokens=None))
        assert await store.load("a") == LOGIN
        await store.delete("a")
        await store.delete("a")
        assert await store.load("a") is None
        assert await store.load("b") == replace(LOGIN, tokens=None)

    anyio.run(main)


def test_one_task_holds_the_lock_of_a_key_and_the_next_waits() -> None:
    store, order = MemoryTokenStore(), list[str]()

    async def main() -> None:
        begun = anyio.Event()

        async def hold(name: str, key: str) -> None:
            async with store.locked(key):
                order.append(f"{name} in")
                begun.set()
                await anyio.lowlevel.checkpoint()
                await anyio.lowlevel.checkpoint()
                order.append(f"{name} out")

        with anyio.fail_after(10):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(hold, "first", "a")
                await begun.wait()
                tasks.start_soon(hold, "second", "a")
                async with store.locked("b"):
                    order.append("other")
        assert order.index("first out") < order.index("second in")
        assert order.index("other") < order.index("second in")

    # Twice: a lock of one event loop is of no use in the next.
    anyio.run(main)
    order.clear()
    anyio.run(main)


def test_an_address_is_read_into_the_answer() -> None:
    whole = AuthorizationResponse.from_url("http://127.0.0.1:5/cb?code=a%20b&state=s&iss=https%3A%2F%2Fas.test&x=1#y")
    assert whole == AuthorizationResponse("a b", "s", "https://as.test")
    assert AuthorizationResponse.from_url("code=a&state=s") == AuthorizationResponse("a", "s")
    refused = AuthorizationResponse.from_url("?error=access_denied&error_description=no&state=")
    assert refused == AuthorizationResponse(state="", error="access_denied", error_description="no")
    assert AuthorizationResponse.from_url("http://127.0.0.1:5/cb") == AuthorizationResponse()


@pytest.mark.parametrize("name", ["code", "state", "iss", "error", "error_description"])
def test_a_parameter_that_is_there_twice_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name!r} more than once") as caught:
        AuthorizationResponse.from_url(f"http://127.0.0.1/?{name}=f1rst&{name}=sec0nd")
    assert "f1rst" not in str(caught.value)


def test_an_address_has_a_longest_form_and_a_largest_number_of_parameters() -> None:
    start = "?code=a&x="
    longest = start + "y" * (MAX_RESPONSE - len(start))
    assert AuthorizationResponse.from_url(longest).code == "a"
    with pytest.raises(ValueError, match=str(MAX_RESPONSE)):
        AuthorizationResponse.from_url(longest + "y")
    fields = "&".join(f"x{number}=" for number in range(MAX_RESPONSE_FIELDS - 1))
    assert AuthorizationResponse.from_url(f"?code=a&{fields}").code == "a"
    with pytest.raises(ValueError, match=str(MAX_RESPONSE_FIELDS)):
        AuthorizationResponse.from_url(f"?code=a&z=&{fields}")
