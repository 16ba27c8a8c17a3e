# SPDX-License-Identifier: MIT
"""Settings say what is wrong with them before anything listens."""

from __future__ import annotations

import dataclasses
import ssl
from typing import Any

import pytest
from serving import ASYNCIO, Held

from mcp_h11 import Settings, listening
from mcp_h11.http.auth import Principal, subject
from mcp_h11.protocol import codec, jsonrpc
from mcp_h11.runtime import storage
from mcp_h11.server import server

LIMITS = [f.name for f in dataclasses.fields(Settings) if type(f.default) in (int, float)]


@pytest.fixture
def anyio_backend() -> Any:
    return ASYNCIO


@pytest.mark.parametrize("name", LIMITS)
def test_a_limit_is_positive(name: str) -> None:
    for wrong in (-1, float("nan")):
        with pytest.raises(ValueError, match=name):
            Settings(**{name: wrong})
    if name == "grace":  # no patience is a choice
        assert Settings(grace=0).grace == 0
    else:
        with pytest.raises(ValueError, match=f"{name} must be greater than 0"):
            Settings(**{name: 0})


def test_settings_are_a_frozen_dataclass_though_its_methods_are_not_generated() -> None:
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Generated(Settings):
        """The same, by the standard library."""

    ours, theirs = Settings(path="/a", grace=2, token="secret"), Generated(path="/a", grace=2, token="secret")
    assert repr(ours) == repr(theirs).replace(Generated.__qualname__, "Settings", 1)
    assert "secret" not in repr(ours) and "/a" in repr(ours)
    for same in (
        Settings(path="/a", grace=2, token="secret"),
        dataclasses.replace(Settings(token="secret"), path="/a"),
    ):
        assert (ours == same) is (same.grace == 2) and (hash(ours) == hash(same)) is (same.grace == 2)
    assert ours != theirs and ours != "/a"
    assert dataclasses.asdict(ours) == dataclasses.asdict(theirs)
    with pytest.raises(dataclasses.FrozenInstanceError):
        ours.path = "/b"  # type: ignore[misc]
    for wrong in ({"tokens": "x"}, {"path": "/a", "Path": "/b"}):
        with pytest.raises(TypeError, match="tokens|Path"):
            Settings(**wrong)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        Settings("/mcp")  # type: ignore[misc]


def test_the_defaults_are_those_of_the_design() -> None:
    s = Settings()
    assert (s.path, s.response, s.stateless, s.legacy_sse, s.access_log) == ("/mcp", "auto", False, False, False)
    assert (s.limits.max_body, s.limits.max_request_line, s.limits.max_head) == (4 * 1024**2, 8 * 1024, 32 * 1024)
    assert (s.limits.max_fields, s.limits.max_chunk_overhead) == (100, 16 * 1024)
    assert (s.first_byte_timeout, s.head_timeout, s.body_timeout, s.idle_timeout) == (10, 10, 30, 75)
    assert (s.max_requests, s.write_timeout, s.max_connections) == (1_000, 30, 10_000)
    assert (s.max_running, s.max_running_session, s.max_waiting, s.max_threads) == (100, 64, 1_000, 40)
    assert s.max_values == 150_000 and s.eager
    assert s.max_client_memory == 256 * 1024**2
    assert (s.patience, s.keep_alive, s.retry, s.grace, s.state_ttl) == (15, 15, 3_000, 5, 600)
    assert (s.session_idle, s.session_initialize, s.max_sessions, s.max_sessions_peer) == (1_800, 60, 10_000, 1_000)
    assert (s.handshake_timeout, s.max_listeners, s.max_subscriptions, s.write_high) == (10, 1_024, 1_000, 256 * 1024)
    assert (s.call_timeout, s.call_ceiling, s.lag_warning, s.rate_limit) == (None, 3_600, 0.25, None)
    assert (s.allowed_hosts, s.allowed_origins, s.cors, s.trusted_proxies, s.replay) == (None, None, (), (), True)
    assert (server.DEFAULT_HOST, server.DEFAULT_PORT) == ("127.0.0.1", 8000)
    assert s.min_body_rate == 1024
    # What has no field, because nobody needs another.
    assert (codec.MAX_DEPTH, codec.MAX_DIGITS, jsonrpc.MAX_BATCH) == (128, 4_300, 100)
    assert (storage.MAX_STREAM_EVENTS, storage.MAX_SESSION_BYTES) == (256, 1024**2)
    assert (storage.MAX_TOTAL_BYTES, storage.KEEP_FINISHED) == (64 * 1024**2, 300)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"response": "xml"}, "auto, json or sse"),
        ({"token": ""}, "visible ASCII"),
        ({"token": "two words"}, "visible ASCII"),
        ({"token": "line\n"}, "visible ASCII"),
        ({"token": "schlüssel"}, "visible ASCII"),
        ({"token": "a", "authorize": lambda head: "me"}, "either token or authorize"),
        ({"path": "mcp"}, "begins with a slash"),
        ({"path": "/a b"}, "no blank"),
        ({"path": "/mcp?x"}, "no blank"),
        ({"sse_path": "/sse#x"}, "no blank"),
        ({"messages_path": ""}, "begins with a slash"),
        ({"legacy_sse": True, "path": "/sse/"}, "must differ"),
        ({"legacy_sse": True, "messages_path": "/mcp"}, "must differ"),
    ],
)
def test_what_cannot_be_meant_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Settings(**fields)


def test_paths_may_be_equal_where_only_one_is_served() -> None:
    assert Settings(path="/sse").path == "/sse"


def test_settings_are_frozen_and_by_keyword() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Settings().path = "/x"  # type: ignore[misc]
    with pytest.raises(TypeError):
        Settings("/x")  # type: ignore[misc]


@pytest.mark.anyio
@pytest.mark.parametrize(
    "fields",
    [{"cors": "https://a.example"}, {"cors": ["a.example"]}, {"allowed_hosts": "localhost"}, {"allowed_hosts": ["a b"]}]
    + [{"allowed_origins": ["a.example"]}, {"max_sesions": 3}],
)
async def test_a_server_does_not_start_with_what_could_never_match(fields: dict[str, Any]) -> None:
    with pytest.raises((ValueError, TypeError)):
        async with listening(Held(), port=0, **fields):
            pass


def test_a_subject_is_the_name_of_the_caller_and_not_the_token() -> None:
    assert subject(None) == ""
    assert subject("me") == "me"
    assert subject(Principal("me", claims={"token": "secret"})) == "me"
    assert subject(7) == "7"


def test_an_ssl_context_is_taken_as_it_is() -> None:
    context = ssl.create_default_context()
    assert Settings(ssl=context).ssl is context
