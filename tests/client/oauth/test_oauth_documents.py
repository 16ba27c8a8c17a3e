# SPDX-License-Identifier: MIT
"""Metadata, registrations and answers of token endpoints, as values: what is taken from them and what is refused."""

from __future__ import annotations

import base64
import json
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from mcp_h11.client.oauth.metadata import (
    MAX_ADDRESS,
    MAX_ISSUERS,
    MAX_NAMES,
    ServerMetadata,
    checked_address,
    default_server,
    origin_issuer,
    read_resource,
    read_server,
    resource_addresses,
    server_addresses,
)
from mcp_h11.client.oauth.registration import (
    MAX_CLIENT_ID,
    ClientOptions,
    checked_document,
    known_client,
    read_registration,
    registration_request,
)
from mcp_h11.client.oauth.store import Login, Registration
from mcp_h11.client.oauth.tokens import (
    MAX_LIFETIME,
    MAX_SUBJECT,
    auth_method,
    authorization_request,
    client_proof,
    read_tokens,
    refusal_in,
    s256,
    subject_in,
)
from mcp_h11.http.auth import MAX_TOKEN

PUBLIC = "https://mcp.test/mcp"
HERE = "http://127.0.0.1:8000/mcp"


# --- addresses --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "address, server, match",
    [
        ("http://as.test/token", PUBLIC, "not one of https"),
        ("http://as.test/token", HERE, "not one of https"),
        ("http://127.0.0.1/token", PUBLIC, "on this machine"),
        ("https://localhost/token", PUBLIC, "on this machine"),
        ("https://[::1]/token", PUBLIC, "on this machine"),
        ("javascript:alert(1)", PUBLIC, "not one of https"),
        ("file:///etc/passwd", PUBLIC, "not one of https"),
        ("http+unix://%2Frun%2Fdocker.sock/", HERE, "not one of https"),
        ("https://ann:secret@as.test/", PUBLIC, "credentials"),
        ("https://as.test/#x", PUBLIC, "fragment"),
        ("https://as.test/a b", PUBLIC, "characters"),
        ("https://as.test/\r\nX: y", PUBLIC, "characters"),
        ("https://äs.test/", PUBLIC, "characters"),
        ("https:///token", PUBLIC, "without a host"),
        ("https://as.test:port/", PUBLIC, "port"),
        ("/token", PUBLIC, "not one of https"),
        (None, PUBLIC, "no text"),
        (["https://as.test"], PUBLIC, "no text"),
    ],
)
def test_an_address_that_no_request_may_go_to(address: Any, server: str, match: str) -> None:
    with pytest.raises(ValueError, match=match) as caught:
        checked_address(address, server)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "address, server",
    [("https://as.test/token?x=y", PUBLIC), ("http://127.0.0.1:9/token", HERE), ("http://localhost/t", HERE)],
)
def test_an_address_that_a_request_may_go_to(address: str, server: str) -> None:
    assert checked_address(address, server) == address


def test_an_address_has_a_longest_form() -> None:
    longest = "https://as.test/".ljust(MAX_ADDRESS, "x")
    assert checked_address(longest, PUBLIC) == longest
    with pytest.raises(ValueError, match=str(MAX_ADDRESS)):
        checked_address(longest + "x", PUBLIC)


def test_where_metadata_is_looked_for() -> None:
    # 2026-07-28 basic/authorization/authorization-server-discovery
    assert resource_addresses("https://mcp.test/public/mcp?x=1") == [
        "https://mcp.test/.well-known/oauth-protected-resource/public/mcp",
        "https://mcp.test/.well-known/oauth-protected-resource",
    ]
    assert resource_addresses("https://mcp.test/") == ["https://mcp.test/.well-known/oauth-protected-resource"]
    assert server_addresses("https://as.test/tenant1") == [
        "https://as.test/.well-known/oauth-authorization-server/tenant1",
        "https://as.test/.well-known/openid-configuration/tenant1",
        "https://as.test/tenant1/.well-known/openid-configuration",
    ]
    for issuer in ("https://as.test", "https://as.test/"):
        assert server_addresses(issuer) == [
            "https://as.test/.well-known/oauth-authorization-server",
            "https://as.test/.well-known/openid-configuration",
        ]
    assert origin_issuer("https://mcp.test:8443/a/b") == "https://mcp.test:8443"
    assert default_server(PUBLIC).token_endpoint == "https://mcp.test/token"


# --- documents --------------------------------------------------------------------------------------------------------


def resource(**changes: Any) -> dict[str, Any]:
    return {"resource": PUBLIC, "authorization_servers": ["https://as.test"], **changes}


def test_the_metadata_of_a_resource() -> None:
    found = read_resource(resource(scopes_supported=["a", 5, "b"]), PUBLIC)
    assert (found.resource, found.issuers, found.scopes) == (PUBLIC, ("https://as.test",), ("a", "b"))
    assert read_resource(resource(), PUBLIC).scopes is None
    assert read_resource(resource(scopes_supported=[]), PUBLIC).scopes == ()
    # A server at its root, and the same text in another spelling, which the requests keep.
    assert read_resource(resource(resource="https://mcp.test/"), PUBLIC).resource == "https://mcp.test/"
    assert read_resource(resource(resource="HTTPS://MCP.test:443/mcp"), PUBLIC).issuers
    many = [f"https://as{number}.test" for number in range(MAX_ISSUERS + 1)]
    assert read_resource(resource(authorization_servers=many), PUBLIC).issuers == tuple(many[:-1])


@pytest.mark.parametrize(
    "named",
    [
        None, 5, "", "https://evil.test/mcp", "http://mcp.test/mcp", "https://mcp.test:8443/mcp", "https://mcp.test/mc",
        "https://mcp.test/mcp/deeper", "https://mcp.test.evil.test/", "https://mcp.test/mcp?x=1", "urn:mcp",
    ],
)  # fmt: skip
def test_the_metadata_of_another_resource_is_refused(named: Any) -> None:
    with pytest.raises(ValueError, match="for another resource"):
        read_resource(resource(resource=named), PUBLIC)


@pytest.mark.parametrize("listed", [None, [], "https://as.test", [5, ""]])
def test_a_resource_without_an_authorization_server_is_refused(listed: Any) -> None:
    with pytest.raises(ValueError, match="no authorization server"):
        read_resource(resource(authorization_servers=listed), PUBLIC)


def server(**changes: Any) -> dict[str, Any]:
    return {
        "issuer": "https://as.test",
        "authorization_endpoint": "https://as.test/authorize",
        "token_endpoint": "https://as.test/token",
        "code_challenge_methods_supported": ["S256"],
        **changes,
    }


def test_the_metadata_of_an_authorization_server() -> None:
    found = read_server(
        server(scopes_supported="a", token_endpoint_auth_methods_supported=["none"]), "https://as.test", PUBLIC
    )
    assert (found.token_endpoint, found.registration_endpoint) == ("https://as.test/token", None)
    assert (found.scopes, found.auth_methods, found.sends_iss, found.knows_documents) == ((), ("none",), False, False)
    flags = {"authorization_response_iss_parameter_supported": True, "client_id_metadata_document_supported": True}
    found = read_server(server(**flags), "https://as.test", PUBLIC)
    assert found.sends_iss and found.knows_documents
    # A text is not a yes.
    assert not read_server(server(**dict.fromkeys(flags, "true")), "https://as.test", PUBLIC).sends_iss
    many = [f"s{number}" for number in range(MAX_NAMES + 1)]
    assert read_server(server(scopes_supported=many), "https://as.test", PUBLIC).scopes == tuple(many[:-1])


@pytest.mark.parametrize("named", [None, 5, "https://as.test/", "https://AS.test", "https://honest.test"])
def test_the_metadata_of_another_issuer_is_refused(named: Any) -> None:
    with pytest.raises(ValueError, match="of another issuer"):
        read_server(server(issuer=named), "https://as.test", PUBLIC)


@pytest.mark.parametrize(
    "name", ["authorization_endpoint", "token_endpoint", "registration_endpoint", "revocation_endpoint"]
)
@pytest.mark.parametrize("address", ["http://as.test/x", "http://127.0.0.1/x", "javascript:alert(1)", 5])
def test_an_endpoint_that_no_request_may_go_to_is_refused(name: str, address: Any) -> None:
    with pytest.raises(ValueError, match=name):
        read_server(server(**{name: address}), "https://as.test", PUBLIC)


# --- the client -------------------------------------------------------------------------------------------------------

AS = ServerMetadata("https://as.test", "https://as.test/authorize", "https://as.test/token", "https://as.test/register")
URI = "http://127.0.0.1:1/cb"
DOCUMENT = "https://me.test/client.json"


def login(**changes: Any) -> Login:
    client = Registration(**{"client_id": "old", "origin": "registered", "redirect_uris": (URI,), **changes})
    return Login(PUBLIC, "https://as.test", client)


def test_a_client_is_chosen_in_the_order_of_the_specification() -> None:
    given = Registration("mine", "secret")
    knowing = ServerMetadata("https://as.test", None, None, "https://as.test/register", knows_documents=True)
    both = ClientOptions(given, document=DOCUMENT)
    assert known_client(both, knowing, login(), URI, 0) == given
    only_document = ClientOptions(document=DOCUMENT)
    assert known_client(only_document, knowing, login(), URI, 0) == Registration(DOCUMENT, None, "metadata", "none")
    assert known_client(only_document, AS, login(), URI, 0) == login().client
    assert known_client(ClientOptions(), AS, None, URI, 0) is None
    with pytest.raises(ValueError, match="register one there by hand"):
        known_client(only_document, ServerMetadata("https://as.test", None, None), None, URI, 0)


def test_a_stored_registration_is_used_where_it_still_fits() -> None:
    assert known_client(ClientOptions(), AS, login(secret_expires_at=11.0), URI, 10) is not None
    assert known_client(ClientOptions(), AS, login(secret_expires_at=10.0), URI, 10) is None
    assert known_client(ClientOptions(), AS, login(), "http://127.0.0.1:2/cb", 0) is None
    assert known_client(ClientOptions(), AS, login(), None, 0) is not None
    assert known_client(ClientOptions(), AS, login(origin="given"), URI, 0) is None
    elsewhere = Login(PUBLIC, "https://other.test", login().client)
    assert known_client(ClientOptions(), AS, elsewhere, URI, 0) is None


def test_a_client_of_another_issuer_is_not_shown() -> None:
    given = Registration("mine", "secret")
    with pytest.raises(ValueError, match=r"belongs to https://other\.test") as caught:
        known_client(ClientOptions(given, issuer="https://other.test"), AS, None, URI, 0)
    assert "secret" not in str(caught.value)
    # Without an issuer of the user's it is that of the last login.
    before = Login(PUBLIC, "https://other.test", given)
    with pytest.raises(ValueError, match=r"belongs to https://other\.test"):
        known_client(ClientOptions(given), AS, before, URI, 0)
    assert known_client(ClientOptions(given, issuer="https://as.test"), AS, before, URI, 0) == given


def test_a_new_registration_says_what_kind_of_program_it_is() -> None:
    def kind(uri: str) -> str:
        return str(registration_request(ClientOptions(), AS, uri, ())["application_type"])

    assert [kind(uri) for uri in (URI, "http://localhost/cb", "com.example.app:/cb")] == ["native"] * 3
    assert kind("https://app.test/cb") == "web"
    asked = registration_request(ClientOptions(name="me"), AS, URI, ("a", "b"))
    assert (asked["client_name"], asked["scope"]) == ("me", "a b")
    assert "refresh_token" in asked["grant_types"]

    def method(*listed: str) -> str:
        found = ServerMetadata("https://as.test", None, None, auth_methods=listed)
        return str(registration_request(ClientOptions(), found, URI, ())["token_endpoint_auth_method"])

    assert method("client_secret_basic", "none") == "none"
    assert method("client_secret_post", "client_secret_basic") == "client_secret_basic"
    assert method("client_secret_post") == "client_secret_post"
    assert method("tls_client_auth") == "none"


ASKED = {"redirect_uris": [URI], "token_endpoint_auth_method": "none"}


def test_a_registration_is_what_the_server_says_it_is() -> None:
    assert read_registration({"client_id": "c"}, ASKED) == Registration("c", None, "registered", "none", (URI,))
    full = {
        "client_id": "c", "client_secret": "s", "client_secret_expires_at": 5,
        "token_endpoint_auth_method": "client_secret_post", "redirect_uris": ["http://x/cb", 5],
    }  # fmt: skip
    assert read_registration(full, ASKED) == Registration(
        "c", "s", "registered", "client_secret_post", ("http://x/cb",), 5.0
    )
    assert read_registration({"client_id": "c", "client_secret_expires_at": 0}, ASKED).secret_expires_at is None
    longest = "x" * MAX_CLIENT_ID
    assert read_registration({"client_id": longest}, ASKED).client_id == longest


@pytest.mark.parametrize(
    "document",
    [
        {}, {"client_id": ""}, {"client_id": 5}, {"client_id": "a\nb"}, {"client_id": "x" * (MAX_CLIENT_ID + 1)},
        {"client_id": "c", "client_secret": 5}, {"client_id": "c", "token_endpoint_auth_method": "unknown"},
    ],
)  # fmt: skip
def test_an_answer_without_a_client_is_refused(document: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="its answer has"):
        read_registration(document, ASKED)


@pytest.mark.parametrize(
    "url",
    ["http://me.test/c", "https://me.test", "https://me.test/", "https://me.test/c#x", "https://a@me.test/c", "c"],
)
def test_a_metadata_document_has_https_and_a_path(url: str) -> None:
    with pytest.raises(ValueError, match="https and a path"):
        checked_document(url)


# --- the token endpoint -----------------------------------------------------------------------------------------------


def test_the_proof_of_a_client() -> None:
    public, secret = Registration("a:b", None), Registration("a:b", "s e%c")
    assert client_proof(public, "none", None) == ([], {"client_id": "a:b"})
    headers, fields = client_proof(secret, "client_secret_basic", None)
    # RFC 6749, 2.3.1: form-encoded, so that the colon of the id is not the one between.
    assert fields == {"client_id": "a:b"} and headers[0][0] == "Authorization"
    assert base64.b64decode(headers[0][1].removeprefix("Basic ")) == b"a%3Ab:s+e%25c"
    assert client_proof(secret, "client_secret_post", None) == ([], {"client_id": "a:b", "client_secret": "s e%c"})
    assert client_proof(secret, "none", None) == ([], {"client_id": "a:b"})
    assert client_proof(public, "client_secret_basic", None) == ([], {"client_id": "a:b"})
    _, fields = client_proof(public, "private_key_jwt", "assertion")
    assert fields["client_assertion"] == "assertion" and fields["client_assertion_type"].endswith(":jwt-bearer")


def test_the_way_of_proof_is_one_that_both_have() -> None:
    public, secret = Registration("c"), Registration("c", "s")
    assert auth_method(Registration("c", "s", "registered", "client_secret_post"), ("none",)) == "client_secret_post"
    assert auth_method(public, None) == auth_method(public, ("none",)) == "none"
    assert auth_method(secret, None) == "client_secret_basic"
    assert auth_method(secret, ("client_secret_post", "client_secret_basic")) == "client_secret_basic"
    assert auth_method(secret, ("client_secret_post",)) == "client_secret_post"
    assert auth_method(secret, ("none",)) == "none"
    assert auth_method(public, None, has_key=True) == "private_key_jwt"
    for methods, client, key in (
        (("tls",), secret, False),
        (("tls",), public, False),
        (("none",), public, True),
        ((), public, False),
    ):
        with pytest.raises(ValueError, match="proof of a client"):
            auth_method(client, methods, has_key=key)


def test_pkce_is_that_of_the_rfc() -> None:
    # RFC 7636, appendix B
    assert s256("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk") == "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"


def test_an_authorization_request() -> None:
    found = read_server(server(authorization_endpoint="https://as.test/authorize?tenant=1"), "https://as.test", PUBLIC)
    asked = authorization_request(found, "c", URI, PUBLIC, ("a", "offline_access"))
    query = {name: values[0] for name, values in parse_qs(urlsplit(asked.url).query).items()}
    assert (query["tenant"], query["scope"], query["prompt"]) == ("1", "a offline_access", "consent")
    assert query["code_challenge"] == s256(asked.verifier) and query["state"] == asked.state
    another = authorization_request(found, "c", URI, PUBLIC, ())
    assert "scope" not in another.url and "prompt" not in another.url
    assert asked.state != another.state and asked.verifier != another.verifier
    assert asked.state not in repr(asked) and asked.verifier not in repr(asked)


@pytest.mark.parametrize("methods", [None, [], ["plain"], "S256"])
def test_a_server_without_pkce_is_refused(methods: Any) -> None:
    found = read_server(server(code_challenge_methods_supported=methods), "https://as.test", PUBLIC)
    with pytest.raises(ValueError, match="PKCE"):
        authorization_request(found, "c", URI, PUBLIC, ())


def test_a_server_without_an_authorization_endpoint_is_refused() -> None:
    with pytest.raises(ValueError, match="no authorization_endpoint"):
        authorization_request(
            read_server(server(authorization_endpoint=None), "https://as.test", PUBLIC), "c", URI, PUBLIC, ()
        )


def answer(**changes: Any) -> dict[str, Any]:
    return {"access_token": "t", "token_type": "Bearer", **changes}


def test_the_tokens_of_an_answer() -> None:
    plain = read_tokens(answer(), 100.0, "asked")
    assert (plain.access_token, plain.refresh_token, plain.expires_at, plain.scope) == ("t", None, None, "asked")
    full = read_tokens(answer(token_type="BEARER", expires_in="60", refresh_token="r", scope="a b"), 100.0, None, "old")
    assert (full.token_type, full.refresh_token, full.expires_at, full.scope) == ("Bearer", "r", 160.0, "a b")
    assert read_tokens(answer(), 0.0, None, "old").refresh_token == "old"
    assert read_tokens(answer(access_token="x" * MAX_TOKEN), 0.0, None).access_token == "x" * MAX_TOKEN
    assert read_tokens(answer(expires_in=MAX_LIFETIME + 1), 0.0, None).expires_at == MAX_LIFETIME
    assert read_tokens(answer(expires_in=10**400), 0.0, None).expires_at == MAX_LIFETIME
    for odd in (True, None, "soon", -1, [], float("nan"), "9" * 20):
        assert read_tokens(answer(expires_in=odd), 0.0, None).expires_at is None


@pytest.mark.parametrize(
    "document",
    [
        {}, answer(access_token=""), answer(access_token=5), answer(access_token="a b"),
        answer(access_token="a\r\nX:y"), answer(access_token="x" * (MAX_TOKEN + 1)), answer(token_type=None),
        answer(token_type="DPoP"),
        answer(token_type="mac\x1b"), {"access_token": "s3cret"},
    ],
)  # fmt: skip
def test_an_answer_without_a_bearer_token_is_refused(document: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="its answer") as caught:
        read_tokens(document, 0.0, None)
    assert "s3cret" not in str(caught.value) and "\x1b" not in str(caught.value)


def test_a_refusal_of_a_token_endpoint() -> None:
    assert refusal_in(200, {"access_token": "t"}) is None
    assert refusal_in(201, None) is None
    for status, document, text, code in (
        (400, {"error": "invalid_grant"}, "invalid_grant (status 400)", "invalid_grant"),
        (200, {"error": "slow_down", "error_description": "a\nb"}, "slow_down: a b (status 200)", "slow_down"),
        (502, None, "status 502", ""),
        (400, {"error": 5}, "status 400", ""),
    ):
        refused = refusal_in(status, document)
        assert refused is not None and (str(refused), refused.code) == (text, code)


def test_the_name_of_a_person_is_for_people_to_read() -> None:
    def token(claims: Any) -> dict[str, Any]:
        return {"id_token": f"h.{base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip('=')}.s"}

    assert subject_in(token({"sub": "1", "preferred_username": "ann"})) == "ann"
    assert subject_in(token({"sub": "a\u202eb"})) == "a\\u202eb"
    assert subject_in(token({"sub": "x" * (MAX_SUBJECT + 1)})) == "x" * MAX_SUBJECT
    for odd in (
        {},
        {"id_token": 5},
        {"id_token": "a.b"},
        {"id_token": "a.!.c"},
        token([]),
        token({"sub": 5}),
        token({"sub": ""}),
        {"id_token": "h." + "A" * MAX_TOKEN + ".s"},
    ):
        assert subject_in(odd) is None
