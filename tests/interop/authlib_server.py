# SPDX-License-Identifier: MIT
"""Authlib, in a Flask application, as an authorization server: ``authlib_server.py PORT`` in a Python that has both.

Authlib decides about requests, grants, PKCE, clients and tokens.  Here is what an application adds: what is kept, the
form for a person, the metadata, and the resource of RFC 8707, which Authlib leaves to its user.

POST /test/forget/AccessToken or /test/forget/RefreshToken ends all of them, as an operator would in the database.
"""

from __future__ import annotations

import logging
import secrets
import sys
import time
from typing import Any

from authlib.integrations.flask_oauth2 import AuthorizationServer
from authlib.oauth2 import OAuth2Error
from authlib.oauth2.rfc6749 import ClientMixin, TokenMixin, grants, list_to_scope, scope_to_list
from authlib.oauth2.rfc7009 import RevocationEndpoint
from authlib.oauth2.rfc7591 import ClientRegistrationEndpoint
from authlib.oauth2.rfc7636 import CodeChallenge
from authlib.oauth2.rfc7662 import IntrospectionEndpoint
from authlib.oauth2.rfc8414 import AuthorizationServerMetadata
from authlib.oauth2.rfc9207 import IssuerParameter
from flask import Flask, jsonify, request

PORT = int(sys.argv[1])
ISSUER = f"http://127.0.0.1:{PORT}"
METHODS = ["none", "client_secret_basic", "client_secret_post"]
METADATA = {
    "issuer": ISSUER,
    "authorization_endpoint": f"{ISSUER}/authorize",
    "token_endpoint": f"{ISSUER}/token",
    "registration_endpoint": f"{ISSUER}/register",
    "revocation_endpoint": f"{ISSUER}/revoke",
    "introspection_endpoint": f"{ISSUER}/introspect",
    "scopes_supported": ["files:read", "files:write"],
    "response_types_supported": ["code"],
    "grant_types_supported": ["authorization_code", "refresh_token"],
    "code_challenge_methods_supported": ["S256"],
    "token_endpoint_auth_methods_supported": METHODS,
    "authorization_response_iss_parameter_supported": True,
}
FORM = """<!DOCTYPE html><title>Log in</title>
<form method="post"><input name="username"><input name="password" type="password">
<button name="consent" value="yes">Agree</button></form>"""


class Client(ClientMixin):
    def __init__(self, info: dict[str, Any], metadata: dict[str, Any]) -> None:
        self.info, self.metadata = info, metadata

    def get_client_id(self) -> str:
        return self.info["client_id"]

    def get_default_redirect_uri(self) -> str | None:
        return next(iter(self.metadata.get("redirect_uris", ())), None)

    def get_allowed_scope(self, scope: str) -> str:
        allowed = set(scope_to_list(self.metadata.get("scope", "")))
        return list_to_scope([one for one in scope_to_list(scope or "") if one in allowed])

    def check_redirect_uri(self, redirect_uri: str) -> bool:
        # Exactly, with the port, as many servers do.
        return redirect_uri in self.metadata.get("redirect_uris", ())

    def check_client_secret(self, client_secret: str) -> bool:
        return secrets.compare_digest(self.info.get("client_secret") or "", client_secret)

    def check_endpoint_auth_method(self, method: str, endpoint: str) -> bool:
        return self.metadata.get("token_endpoint_auth_method", "client_secret_basic") == method

    def check_response_type(self, response_type: str) -> bool:
        return response_type in self.metadata.get("response_types", ["code"])

    def check_grant_type(self, grant_type: str) -> bool:
        return grant_type in self.metadata.get("grant_types", ["authorization_code"])


class Code:
    def __init__(self, code: str, asked: Any, payload: Any) -> None:
        self.code, self.client_id, self.user = code, asked.client.get_client_id(), asked.user
        self.redirect_uri, self.scope = payload.redirect_uri, asked.scope
        self.code_challenge = payload.data.get("code_challenge")
        self.code_challenge_method = payload.data.get("code_challenge_method")
        self.resource = payload.data.get("resource")

    def get_redirect_uri(self) -> str:
        return self.redirect_uri

    def get_scope(self) -> str:
        return self.scope


class Token(TokenMixin):
    def __init__(self, given: dict[str, Any], client_id: str, user: str, resource: str) -> None:
        self.access_token, self.refresh_token = given["access_token"], given.get("refresh_token")
        self.scope, self.client_id, self.user, self.resource = given.get("scope", ""), client_id, user, resource
        self.expires_at = time.time() + given["expires_in"]
        self.access_revoked = self.refresh_revoked = False

    def check_client(self, client: Client) -> bool:
        return self.client_id == client.get_client_id()

    def get_scope(self) -> str:
        return self.scope

    def get_expires_in(self) -> float:
        return self.expires_at - time.time()

    def is_expired(self) -> bool:
        return self.expires_at < time.time()

    def is_revoked(self) -> bool:
        return self.access_revoked

    def get_user(self) -> str:
        return self.user

    def get_client(self) -> Client:
        return clients[self.client_id]


# The MCP server, which asks whether a token holds.
clients = {"mcp-server": Client({"client_id": "mcp-server", "client_secret": "mcp-server-secret"}, {})}
codes: dict[str, Code] = {}
tokens: list[Token] = []


def of_resource(asked: Any) -> str:
    """The resource of the code or the refresh token; a request for another one is refused (RFC 8707, 2.2)."""
    granted = asked.authorization_code or asked.refresh_token
    if asked.payload.data.get("resource") != granted.resource:
        raise InvalidTarget
    return granted.resource


class InvalidTarget(OAuth2Error):
    error = "invalid_target"


def save_token(given: dict[str, Any], asked: Any) -> None:
    tokens.append(Token(given, asked.client.get_client_id(), asked.user, of_resource(asked)))


def found(token: str, hint: str | None) -> Token | None:
    return next((one for one in tokens if token in (one.access_token, one.refresh_token)), None)


class CodeGrant(grants.AuthorizationCodeGrant):
    TOKEN_ENDPOINT_AUTH_METHODS = METHODS

    def save_authorization_code(self, code: str, asked: Any) -> Code:
        codes[code] = Code(code, asked, asked.payload)
        return codes[code]

    def query_authorization_code(self, code: str, client: Client) -> Code | None:
        kept = codes.get(code)
        return kept if kept is not None and kept.client_id == client.get_client_id() else None

    def delete_authorization_code(self, authorization_code: Code) -> None:
        codes.pop(authorization_code.code, None)

    def authenticate_user(self, authorization_code: Code) -> str:
        return authorization_code.user


class RefreshGrant(grants.RefreshTokenGrant):
    TOKEN_ENDPOINT_AUTH_METHODS = METHODS
    INCLUDE_NEW_REFRESH_TOKEN = True

    def authenticate_refresh_token(self, refresh_token: str) -> Token | None:
        kept = next((one for one in tokens if one.refresh_token == refresh_token), None)
        return kept if kept is not None and not kept.refresh_revoked else None

    def authenticate_user(self, refresh_token: Token) -> str:
        return refresh_token.user

    def revoke_old_credential(self, refresh_token: Token) -> None:
        refresh_token.refresh_revoked = refresh_token.access_revoked = True


class Registration(ClientRegistrationEndpoint):
    def get_server_metadata(self) -> dict[str, Any]:
        return METADATA

    def authenticate_token(self, asked: Any) -> bool:
        return True

    def save_client(self, client_info: dict[str, Any], client_metadata: dict[str, Any], asked: Any) -> Client:
        client = Client(client_info, client_metadata)
        clients[client.get_client_id()] = client
        return client


class Revocation(RevocationEndpoint):
    CLIENT_AUTH_METHODS = METHODS

    def query_token(self, token_string: str, token_type_hint: str | None) -> Token | None:
        return found(token_string, token_type_hint)

    def revoke_token(self, token: Token, asked: Any) -> None:
        token.access_revoked = token.refresh_revoked = True


class Introspection(IntrospectionEndpoint):
    def check_permission(self, token: Token, client: Client, asked: Any) -> bool:
        return client.get_client_id() == "mcp-server"

    def query_token(self, token_string: str, token_type_hint: str | None) -> Token | None:
        return found(token_string, token_type_hint)

    def introspect_token(self, token: Token) -> dict[str, Any]:
        return {
            "active": True, "client_id": token.client_id, "scope": token.scope, "sub": token.user,
            "aud": token.resource, "iss": ISSUER, "exp": int(token.expires_at),
        }  # fmt: skip


class Issuer(IssuerParameter):
    def get_issuer(self) -> str:
        return ISSUER


app = Flask(__name__)
app.config["OAUTH2_REFRESH_TOKEN_GENERATOR"] = True
app.config["OAUTH2_SCOPES_SUPPORTED"] = METADATA["scopes_supported"]
server = AuthorizationServer(app, clients.get, save_token)
server.register_grant(CodeGrant, [CodeChallenge(required=True)])
server.register_grant(RefreshGrant)
server.register_endpoint(Registration)
server.register_endpoint(Revocation)
server.register_endpoint(Introspection)
server.register_extension(Issuer())


@app.get("/.well-known/oauth-authorization-server")
def metadata() -> Any:
    checked = AuthorizationServerMetadata(METADATA)
    # It demands https, which a server on loopback does not have.
    for name in AuthorizationServerMetadata.REGISTRY_KEYS:
        if not str(METADATA.get(name, "")).startswith("http:") and name != "issuer":
            getattr(checked, f"validate_{name}")()
    return jsonify(METADATA)


@app.route("/authorize", methods=["GET", "POST"])
def authorize() -> Any:
    if request.method == "GET":
        try:
            server.get_consent_grant(end_user=None)
        except OAuth2Error as error:
            return f"refused: {error.error} {error.description}", 400
        return FORM
    agreed = request.form.get("consent") == "yes" and request.form.get("username") == "ann"
    try:
        grant = server.get_consent_grant(end_user="ann")
    except OAuth2Error as error:
        return f"refused: {error.error} {error.description}", 400
    return server.create_authorization_response(grant_user="ann" if agreed else None, grant=grant)


@app.post("/token")
def token() -> Any:
    return server.create_token_response()


@app.post("/register")
def register() -> Any:
    return server.create_endpoint_response("client_registration")


@app.post("/revoke")
def revoke() -> Any:
    return server.create_endpoint_response("revocation")


@app.post("/introspect")
def introspect() -> Any:
    return server.create_endpoint_response("introspection")


@app.post("/test/forget/<kind>")
def forget(kind: str) -> str:
    for one in tokens:
        setattr(one, {"AccessToken": "access_revoked", "RefreshToken": "refresh_revoked"}[kind], True)
    return ""


if __name__ == "__main__":
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    app.run("127.0.0.1", PORT, threaded=True)
