# SPDX-License-Identifier: MIT
"""Signs a client's assertion with its private key, `private_key_jwt`: RFC 7523, 2.2 and 3.

The signature is that of `joserfc` (the extra ``mcp_h11[oauth]``), which is loaded when an assertion is first made.

Rule: an assertion lives for a minute and is made anew for each request, so that a stolen one is of no use.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

ASSERTION_LIFE = 60  # seconds
ALGORITHMS = ("ES256", "ES384", "ES512", "EdDSA", "PS256", "PS384", "PS512", "RS256", "RS384", "RS512")


@dataclass(frozen=True)
class SigningKey:
    """A private key as PEM, and the algorithm to sign with.

    Raises:
        ValueError: an algorithm that is not among `ALGORITHMS`, which are all of public keys.
    """

    pem: str = field(repr=False)
    algorithm: str = "ES256"
    key_id: str | None = None

    def __post_init__(self) -> None:
        if self.algorithm not in ALGORITHMS:
            raise ValueError(f"an assertion is signed by one of {', '.join(ALGORITHMS)}, not {self.algorithm!r:.30}")

    def assertion(self, client_id: str, audience: str, clock: Callable[[], float] = time.time) -> str:
        """A new assertion of this client for one authorization server.

        Raises:
            ImportError: `joserfc` is not installed.
            ValueError: the key cannot be read, or is none for the algorithm.
        """
        try:
            from joserfc import jwt
            from joserfc.errors import JoseError
            from joserfc.jwk import ECKey, OKPKey, RSAKey
        except ImportError:
            raise ImportError("a private key needs joserfc: pip install 'mcp_h11[oauth]'") from None
        kind: Any = {"ES": ECKey, "Ed": OKPKey}.get(self.algorithm[:2], RSAKey)
        now = int(clock())
        header = {"alg": self.algorithm, "typ": "JWT"}
        if self.key_id is not None:
            header["kid"] = self.key_id
        claims = {
            "iss": client_id,
            "sub": client_id,
            # The issuer and not the token endpoint, which another server could name as its own (RFC 7523bis, 4).
            "aud": audience,
            "jti": secrets.token_urlsafe(24),
            "iat": now,
            "exp": now + ASSERTION_LIFE,
        }
        try:
            return str(jwt.encode(header, claims, kind.import_key(self.pem), algorithms=[self.algorithm]))
        except (JoseError, ValueError, TypeError):
            # Without the cause: its text may quote the key.
            raise ValueError(f"the private key cannot be read, or is none for {self.algorithm}") from None
