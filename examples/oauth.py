# SPDX-License-Identifier: MIT
"""An OAuth resource server: tokens with scopes, and a tool that needs one of them.

    export TOKEN_KEY=secret
    python examples/oauth.py &
    MCP_H11_CLIENT_TOKEN=$(python examples/oauth.py token ann files:read)
    export MCP_H11_CLIENT_TOKEN
    python -m mcp_h11 call http://127.0.0.1:8000/mcp read name=a
    python -m mcp_h11 call http://127.0.0.1:8000/mcp write name=a

The last line is refused with 403, since the token lacks `files:write`; a token with both scopes is taken.

A real server reads the tokens of its authorization server with a JWT library (PyJWT, joserfc, ...).  So that this
program needs nothing else, its tokens are JSON with a signature by a key that both sides know.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import sys
import time
from typing import Any

from mcp_h11 import Context, MCPServer, Principal, canonical_uri

KEY = os.environ.get("TOKEN_KEY", "").encode()
PORT = int(os.environ.get("PORT", "8000"))
RESOURCE = os.environ.get("RESOURCE", f"http://127.0.0.1:{PORT}/mcp")  # the server's own address
ISSUER = "https://login.example"

server = MCPServer("files")


def make_token(subject: str, *scopes: str, seconds: float = 600) -> str:
    """Issue a token, as an authorization server does."""
    claims = {"iss": ISSUER, "aud": RESOURCE, "sub": subject, "scope": " ".join(scopes), "exp": time.time() + seconds}
    body = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return f"{body}.{signature(body)}"


def signature(body: str) -> str:
    return hmac.new(KEY, body.encode(), hashlib.sha256).hexdigest()


class Verifier:
    """Asked for the bearer token of each request."""

    async def verify_token(self, token: str) -> Principal | None:
        body, _, signed = token.rpartition(".")
        if not hmac.compare_digest(signed.encode(), signature(body).encode()):
            return None
        claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
        # A token for another server is no token here: else that server could use it here in the user's name.
        if claims["iss"] != ISSUER or canonical_uri(claims["aud"]) != canonical_uri(RESOURCE):
            return None
        # From `expires_at` on the server refuses the token by itself.
        return Principal(claims["sub"], claims["scope"], issuer=claims["iss"], expires_at=claims["exp"])


@server.tool
def read(name: str) -> str:
    "Read a file."
    return f"the contents of {name}"


@server.tool(scopes=["files:write"])
def write(name: str, ctx: Context) -> str:
    "Write a file."
    assert ctx.principal is not None
    return f"{name}, written by {ctx.principal.subject}"


if __name__ == "__main__":
    if not KEY:
        sys.exit("set TOKEN_KEY to a secret")
    if sys.argv[1:2] == ["token"]:
        print(make_token(*sys.argv[2:]))
    else:
        server.run(
            port=PORT,
            verifier=Verifier(),
            required_scopes=["files:read"],
            resource=RESOURCE,
            authorization_servers=[ISSUER],
        )
