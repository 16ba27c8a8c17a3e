# SPDX-License-Identifier: MIT
"""What a person can do about a refusal: which token, from where, which scopes, which arguments, which name."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from mcp_h11 import MCPError, MCPServer, Principal, ServerHandler, start_in_thread
from mcp_h11.cli.asking import hints
from mcp_h11.cli.asking.ask import OK, PROTOCOL_ERROR, TOKEN, main_of
from mcp_h11.cli.asking.hints import (
    MAX_METADATA,
    MAX_NAMED,
    argument_hints,
    challenge_parameters,
    meant,
    name_hint,
    signature,
)

ISSUER = "https://login.example.com"


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = main_of(words[0], words[1:])
    out, err = capsys.readouterr()
    return code, out, err


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hints, "METADATA_LIMIT", 60.0)  # a busy machine may take longer than a person waits


# --- tokens ---------------------------------------------------------------------------------------------------


class Verifier:
    async def verify_token(self, token: str) -> Principal | None:
        return {"ann": Principal("ann", "files:read"), "bob": Principal("bob", "mail")}.get(token)


@pytest.fixture(scope="module")
def guarded() -> Iterator[str]:
    server = MCPServer("guarded", version="1")

    @server.tool(scopes=["files:write"])
    def write() -> str:
        return "written"

    options: dict[str, Any] = {
        "verifier": Verifier(),
        "authorization_servers": [ISSUER],
        "required_scopes": ["files:read"],
    }
    with start_in_thread(server, port=0, **options) as running:
        yield f"http://127.0.0.1:{running.port}/mcp"


@pytest.mark.parametrize("verb", ["ping", "detect", "list"])
def test_a_401_says_how_to_give_a_token_and_where_tokens_come_from(verb, guarded, capsys):
    code, out, err = run(capsys, verb, guarded)
    assert (code, out) == (PROTOCOL_ERROR, "")
    assert err.splitlines()[-3:] == [
        f"the server wants a token: give it with --token, or in the environment as {TOKEN}",
        "scopes that it asks for: files:read",
        f"tokens come from: {ISSUER}",
    ]


@pytest.mark.parametrize("options", [["--token", "old"], ["--header", "authorization: Bearer old"]])
def test_a_token_that_is_refused_is_not_asked_for_again(options, guarded, capsys):
    code, _, err = run(capsys, "ping", guarded, *options)
    assert code == PROTOCOL_ERROR and f"tokens come from: {ISSUER}\n" in err
    assert f"the server does not take this token (--token or {TOKEN})" in err and "wants a token" not in err


@pytest.mark.parametrize("revision", ["2025-11-25", "2026-07-28"])
def test_a_403_names_the_scopes_that_are_missing(revision, guarded, capsys):
    for words, wanted in ((["ping", guarded, "--token", "bob"], "files:read"),
                          (["call", guarded, "write", "--token", "ann"], "files:write")):  # fmt: skip
        code, out, err = run(capsys, *words, "--revision", revision)
        assert (code, out) == (PROTOCOL_ERROR, "") and "error 403" in err
        scopes = next(
            one for one in err.splitlines() if one.startswith("the token lacks scopes; the server asks for: ")
        )
        assert wanted in scopes.split() and f"give a token that has them with --token or in {TOKEN}\n" in err
    assert run(capsys, "ping", guarded, "--token", "ann")[0] == OK


@contextmanager
def refusing(challenge: str | None, answer: bytes = b"{}", status: int = 401) -> Iterator[tuple[str, list[str]]]:
    """A server that refuses each POST with this challenge, and answers each GET so; and the paths that it was asked."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self._say(status, b"", {"WWW-Authenticate": challenge} if challenge is not None else {})

        def do_GET(self) -> None:
            asked.append(self.path)
            self._say(200 if self.path == "/metadata" else status, answer, {})

        def _say(self, status: int, body: bytes, headers: dict[str, str]) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}", asked
        finally:
            server.shutdown()
            thread.join(30)


def test_metadata_is_read_from_the_server_that_was_asked_and_from_no_other(capsys):
    with refusing(None, b'{"authorization_servers": ["https://evil.example"]}') as (other, asked):
        where = f"{other}/metadata"
        with refusing(f'Bearer resource_metadata="{where}"') as (url, _):
            code, _, err = run(capsys, "ping", f"{url}/mcp")
        assert code == PROTOCOL_ERROR and f"where tokens come from is said at {where}\n" in err and asked == []


@pytest.mark.parametrize(
    ("answer", "named"),
    [
        (b'{"authorization_servers": ["https://a.example", 7, "b\\u001b[2J"]}', "https://a.example, b\\x1b[2J"),
        (b'{"authorization_servers": "https://a.example"}', None),
        (b"[]", None),
        (b"no json", None),
        (b'{"authorization_servers": ["https://a.example"]}' + b" " * (MAX_METADATA - 48), "https://a.example"),
        (b'{"authorization_servers": ["https://a.example"]}' + b" " * (MAX_METADATA - 47), None),
    ],
)
def test_metadata_that_cannot_be_read_is_a_hint_less(answer, named, capsys, monkeypatch):
    with refusing("Bearer", answer) as (url, _):
        where = f"{url}/metadata"
        error = hints.AuthorizationRequired(
            401, "no", headers={"www-authenticate": f'Bearer resource_metadata="{where}"'}, error=None
        )
        lines = asyncio.run(hints.authorization_hints(error, f"{url}/mcp", TOKEN, False))
    assert lines[-1] == (f"tokens come from: {named}" if named else f"where tokens come from is said at {where}")


def test_metadata_that_is_not_there_is_a_hint_less(capsys):
    with refusing(None) as (other, asked):
        # Of the server itself this time, at a path that it refuses.
        challenge = f'Bearer resource_metadata="{other}/missing"'
        error = hints.AuthorizationRequired(401, "no", headers={"www-authenticate": challenge}, error=None)
        lines = asyncio.run(hints.authorization_hints(error, f"{other}/mcp", TOKEN, False))
        assert lines[-1] == f"where tokens come from is said at {other}/missing" and asked == ["/missing"]


def test_metadata_that_never_comes_is_a_hint_less(monkeypatch):
    monkeypatch.setattr(hints, "METADATA_LIMIT", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes the connection, and says nothing
        where = f"http://127.0.0.1:{silent.getsockname()[1]}/metadata"
        challenge = f'Bearer resource_metadata="{where}"'
        error = hints.AuthorizationRequired(401, "no", headers={"www-authenticate": challenge}, error=None)
        lines = asyncio.run(asyncio.wait_for(hints.authorization_hints(error, where, TOKEN, False), 60))
    assert lines[-1] == f"where tokens come from is said at {where}"


class Listless(ServerHandler):
    """It offers resources and prompts, and refuses to list them."""

    async def list_resources(self, params: Any, ctx: Any) -> Any:
        raise MCPError(7, "no list")

    list_prompts = list_resources

    async def read_resource(self, params: Any, ctx: Any) -> Any:
        raise MCPError(8, "no resource")

    async def get_prompt(self, params: Any, ctx: Any) -> Any:
        raise MCPError(8, "no prompt")


@pytest.mark.parametrize(("words", "said"), [(["read", "a://b"], "no resource"), (["prompt", "p"], "no prompt")])
def test_a_list_that_is_refused_hides_no_error(words, said, capsys):
    with start_in_thread(Listless(), port=0) as running:
        code, out, err = run(capsys, words[0], f"http://127.0.0.1:{running.port}/mcp", *words[1:])
    assert (code, out, err) == (PROTOCOL_ERROR, "", f"python -m mcp_h11: error 8: {said}\n")


def test_a_refusal_without_a_challenge_has_the_hints_that_it_can_have(capsys):
    with refusing(None) as (url, _):
        _, _, err = run(capsys, "ping", f"{url}/mcp")
        assert err.endswith(f"the server wants a token: give it with --token, or in the environment as {TOKEN}\n")
    with refusing("Bearer", status=403) as (url, _):
        assert run(capsys, "ping", f"{url}/mcp")[2].count("\n") == 1
    with refusing('Bearer error="insufficient_scope"', status=403) as (url, _):
        assert "\nthe token lacks scopes\n" in run(capsys, "ping", f"{url}/mcp")[2]


@pytest.mark.parametrize(
    ("challenge", "found"),
    [
        (None, {}),
        ("Bearer", {}),
        ('Bearer realm="a, b", Scope="x y"', {"realm": "a, b", "scope": "x y"}),
        ('Bearer error=invalid_token,scope="a",scope="b"', {"error": "invalid_token", "scope": "a"}),
        (r'Bearer realm="a \"quoted\" word"', {"realm": 'a "quoted" word'}),
    ],
)
def test_the_parameters_of_a_challenge(challenge, found):
    assert challenge_parameters(challenge) == found


# --- names and arguments --------------------------------------------------------------------------------------


def test_a_name_that_is_near_is_named_in_the_servers_own_letters():
    assert meant("ADD_ONE", ["add_One", 7, None]) == "; did you mean add_One?"
    assert meant("add", []) == meant("add", ["multiply"]) == ""
    assert meant("evil", ["evil\x1b"]) == "; did you mean evil\\x1b?"


def test_the_names_of_a_list_are_shown_where_they_fit():
    names = [f"name{number}xyz" for number in range(MAX_NAMED)]
    assert name_hint("tool", names[0], names) == []
    assert name_hint("tool", "qq", names)[0].endswith(f"it has {', '.join(names)}")
    assert name_hint("tool", "qq", [*names, "more"]) == ["tool 'qq' is not in the list of the server"]
    assert name_hint("tool", "qq", []) == ["tool 'qq' is not in the list of the server"]


def test_the_parameters_of_a_tool_in_one_line():
    schema: Any = {
        "properties": {"a": {"type": "integer"}, "b": {"type": ["string", "null"]}, "c\x1b": True},
        "required": ["a", 7],
    }
    assert signature(schema) == "a=INTEGER [b=NULL|STRING] [c\\x1b=ANY]"
    many = {"properties": {f"p{number}": {} for number in range(MAX_NAMED)}}
    assert signature(many).count("=") == MAX_NAMED and "..." not in signature(many)
    many["properties"]["more"] = {}
    assert signature(many).count("=") == MAX_NAMED and signature(many).endswith(" ...")
    for wrong in (None, [], {"properties": [], "required": {}}):
        assert signature(wrong) == ""


def test_what_is_wrong_with_the_arguments_of_a_call():
    schema: Any = {
        "properties": {
            "size": {"type": "string", "enum": ["s", "l"], "description": "How\nlarge."},
            "count": {"type": "integer"},
        },
        "required": ["size"],
    }
    assert argument_hints("t", schema, {"size": "s", "count": 1}) == []
    assert argument_hints("t", schema, {"cuont": 1}) == [
        'missing: size (string, one of "s", "l", How large.)',
        "unknown: cuont; did you mean count?",
        "t takes: size=STRING [count=INTEGER]",
    ]
    # A tool that takes any member may know this one.
    assert argument_hints("t", schema, {"size": "s", "other": 1}) == []
    closed = {**schema, "additionalProperties": False}
    assert argument_hints("t", closed, {"size": "s", "other": 1})[0] == "unknown: other"
    assert argument_hints("t", {"additionalProperties": False}, {"a": 1}) == ["unknown: a", "t takes: no arguments"]
    assert argument_hints("t", None, {"a": 1}) == []
