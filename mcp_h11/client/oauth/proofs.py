# SPDX-License-Identifier: MIT
"""Proofs of possession, DPoP: a key of the client's that its token is bound to, and a proof for each request.

RFC 9449 and the extension dpop (SEP-1932).  The signature is that of `joserfc` (the extra ``mcp_h11[oauth]``).

Rule: each request has a proof of its own, for its method, its address and its token, so that a stolen one is of no use
elsewhere.  The private key is stored with the login, since its tokens are of no use without it.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import time
from collections.abc import Callable
from typing import Any

PROOF_ALGORITHM = "ES256"  # RFC 9449, 10: the one that each server of these proofs is likely to have
USE_NONCE = "use_dpop_nonce"
MAX_NONCE = 1024  # characters


class ProofKey:
    """A key for proofs; `text` is the private key as JSON, for a store.

    Attributes:
        nonces: for each origin the nonce that its server gave last (RFC 9449, 8 and 9).

    Raises:
        ImportError: `joserfc` is not installed.
        ValueError: the text is no key.
    """

    def __init__(self, text: str | None = None, clock: Callable[[], float] = time.time) -> None:
        try:
            from joserfc import jwt
            from joserfc.errors import JoseError
            from joserfc.jwk import ECKey
        except ImportError:
            raise ImportError("proofs of possession need joserfc: pip install 'mcp_h11[oauth]'") from None

        self._jwt = jwt
        try:
            self._key: Any = ECKey.generate_key("P-256") if text is None else ECKey.import_key(json.loads(text))
            self.text = json.dumps(self._key.as_dict(private=True))
            self._public: dict[str, Any] = self._key.as_dict(private=False)
        except (JoseError, ValueError, TypeError, KeyError):
            # Without the cause: its text may quote the key.
            raise ValueError("the stored key for proofs is none") from None
        self._clock = clock
        self.nonces: dict[str, str] = {}

    def proof(self, method: str, url: str, token: str | None = None) -> str:
        """The value of the header `DPoP` for one request.

        Args:
            url: of the request; its query and fragment are left out.
            token: the access token that is sent with it; None for a request to an authorization server.
        """
        claims: dict[str, Any] = {
            "jti": secrets.token_urlsafe(24),
            "htm": method,
            "htu": url.partition("#")[0].partition("?")[0],
            "iat": int(self._clock()),
        }
        if token is not None:
            digest = hashlib.sha256(token.encode("ascii")).digest()
            claims["ath"] = base64.urlsafe_b64encode(digest).rstrip(b"=").decode("ascii")
        nonce = self.nonces.get(_origin(url))
        if nonce is not None:
            claims["nonce"] = nonce
        header = {"typ": "dpop+jwt", "alg": PROOF_ALGORITHM, "jwk": self._public}
        return str(self._jwt.encode(header, claims, self._key, algorithms=[PROOF_ALGORITHM]))

    def heard(self, url: str, nonce: str | None) -> bool:
        """Keeps the nonce of an answer, for the origin of `url`.  Returns whether it is another than before."""
        if not nonce or len(nonce) > MAX_NONCE or not nonce.isascii() or not nonce.isprintable():
            return False
        origin = _origin(url)
        before, self.nonces[origin] = self.nonces.get(origin), nonce
        return before != nonce


def _origin(url: str) -> str:
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.partition('/')[0].partition('?')[0]}".lower()
