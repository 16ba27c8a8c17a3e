# SPDX-License-Identifier: MIT
"""TLS contexts for both ends of a test, from an authority that the test makes."""

from __future__ import annotations

import ssl

import trustme

from mcp_h11.client.http.dialing import tls_defaults


def certified(authority: trustme.CA, *names: str) -> ssl.SSLContext:
    """Of a server with these names."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(*names).configure_cert(context)
    return context


def trusting(authority: trustme.CA) -> ssl.SSLContext:
    """The client's own context, which trusts the authority.

    A default one does not do: that of Debian's Python 3.11.2 takes any end of TLS for a proper one.
    """
    context = tls_defaults()
    authority.configure_trust(context)
    return context


def both_ends(*names: str) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Of a server with these names, and of a client that trusts it."""
    authority = trustme.CA()
    return certified(authority, *names), trusting(authority)
