# SPDX-License-Identifier: MIT
"""A server's TLS context with today's defaults: TLS 1.2 and 1.3, forward secrecy, authenticated ciphers.

It only makes a context.  A program with other needs gives `Settings.ssl` an `ssl.SSLContext` of its own.
"""

from __future__ import annotations

import ssl
from os import PathLike

# The suites of TLS 1.2 with forward secrecy and authenticated encryption; every suite of TLS 1.3 has both.
CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"


def tls_context(
    certfile: str | PathLike[str], keyfile: str | PathLike[str] | None = None, password: str | None = None
) -> ssl.SSLContext:
    """A context for `Settings.ssl` from PEM files.

    Args:
        certfile: The certificate and the chain to its issuer.
        keyfile: The private key; None where it is in `certfile`, behind the chain.
        password: Opens an encrypted key.

    Raises:
        OSError: A file cannot be read, or the key is not that of the certificate (`ssl.SSLError` is an OSError).
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_CIPHER_SERVER_PREFERENCE
    # A client that renegotiates makes the server do the expensive part again and again.
    context.options |= getattr(ssl, "OP_NO_RENEGOTIATION", 0)
    context.set_ciphers(CIPHERS)
    context.set_alpn_protocols(["http/1.1"])
    context.load_cert_chain(certfile, keyfile, password)
    return context
