# SPDX-License-Identifier: MIT
"""Metadata of MCP servers and of authorization servers, as values: where it is looked for, and the checks of it.

RFC 9728 (the resource), RFC 8414 and OpenID Connect Discovery 1.0 (the authorization server); the order of addresses is
that of 2026-07-28 basic/authorization/authorization-server-discovery.  It fetches nothing.

Rules:
- Metadata for another resource or of another issuer is never used.
- An address in a document is checked before any request goes there: https, or http on loopback where the MCP server
  itself is on loopback.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...http.addresses import on_loopback
from ...http.auth import canonical_uri
from ..http.urls import origin_of
from .challenges import sound_scopes

RESOURCE_WELL_KNOWN = "/.well-known/oauth-protected-resource"
SERVER_WELL_KNOWN = "/.well-known/oauth-authorization-server"
OPENID_WELL_KNOWN = "/.well-known/openid-configuration"
MAX_ADDRESS = 2048  # characters of an address in a document
MAX_ISSUERS = 20  # authorization servers of one resource that are looked at
MAX_NAMES = 100  # entries of another list in a document


@dataclass(frozen=True)
class ResourceMetadata:
    """The metadata of an MCP server.

    Attributes:
        resource: its identifier, as it stands in the document; requests for tokens carry it.
        issuers: its authorization servers.
        scopes: those that basic functionality needs; None where the document does not say.
    """

    resource: str
    issuers: tuple[str, ...]
    scopes: tuple[str, ...] | None = None


@dataclass(frozen=True)
class ServerMetadata:
    """The metadata of an authorization server, as far as a client reads it.

    Attributes:
        issuer: its identifier, to which clients and tokens are bound.
        auth_methods: how a client may show its secret at the token endpoint; None where the document does not say.
        sends_iss: its authorization responses have `iss` (RFC 9207).
        knows_documents: a client may be the address of a metadata document.
        proof_algorithms: those that a proof of possession may be signed by (RFC 9449, 5.1).
    """

    issuer: str
    authorization_endpoint: str | None
    token_endpoint: str | None
    registration_endpoint: str | None = None
    revocation_endpoint: str | None = None
    scopes: tuple[str, ...] = ()
    auth_methods: tuple[str, ...] | None = None
    challenge_methods: tuple[str, ...] = ()
    sends_iss: bool = False
    knows_documents: bool = False
    proof_algorithms: tuple[str, ...] = ()


def checked_address(address: object, server: str) -> str:
    """An address that a server gave, if a request for tokens or metadata may go there.

    Args:
        server: the address of the MCP server.

    Raises:
        ValueError: it is no address of https without credentials and fragment; or it is on loopback, or http, and the
            MCP server is not on loopback itself.
    """
    if not isinstance(address, str) or len(address) > MAX_ADDRESS:
        raise ValueError(f"the address is no text of at most {MAX_ADDRESS} characters")
    if not address.isascii() or not address.isprintable() or any(character in address for character in ' "<>\\^`{|}'):
        raise ValueError("the address has characters that no address has")
    scheme, colon, _ = address.partition("://")
    if not colon or scheme.lower() not in ("https", "http"):
        raise ValueError("the address is not one of https")
    if "#" in address:
        raise ValueError("the address has a fragment")
    host = origin_of(address).host
    here = on_loopback(host)
    if here and not on_loopback(origin_of(server).host):
        raise ValueError("the address is on this machine, and the MCP server is not")
    if scheme.lower() == "http" and not here:
        raise ValueError("the address is not one of https, so that tokens could be read on their way")
    return address


# --- the resource -----------------------------------------------------------------------------------------------------


def resource_addresses(server: str) -> list[str]:
    """Where the metadata of an MCP server is looked for, if its challenge names no address: its path, then the root."""
    origin, path = _split(server)
    return list(dict.fromkeys([f"{origin}{RESOURCE_WELL_KNOWN}{path}", f"{origin}{RESOURCE_WELL_KNOWN}"]))


def read_resource(document: Mapping[str, Any], server: str) -> ResourceMetadata:
    """The metadata of the MCP server at `server`.

    Raises:
        ValueError: it is the metadata of another resource, or names no authorization server.
    """
    resource = document.get("resource")
    if not isinstance(resource, str) or not _covers(resource, server):
        # Tokens would be for that resource, which another party may run (RFC 9728, 3.3 and 7.3).
        named = f"{resource:.200}" if isinstance(resource, str) else "nothing"
        raise ValueError(f"the metadata is for another resource: it names {named}")
    listed = document.get("authorization_servers")
    issuers = [one for one in listed if isinstance(one, str) and one][:MAX_ISSUERS] if isinstance(listed, list) else []
    if not issuers:
        raise ValueError("the metadata names no authorization server")
    scopes = document.get("scopes_supported")
    return ResourceMetadata(resource, tuple(issuers), sound_scopes(scopes) if isinstance(scopes, list) else None)


def _covers(resource: str, server: str) -> bool:
    """Whether a resource is the server, or a path above it: servers at the root name their origin alone."""
    try:
        above, below = canonical_uri(resource), canonical_uri(server)
    except ValueError:
        return False
    return below == above or below.startswith(f"{above}/")


# --- the authorization server -----------------------------------------------------------------------------------------


def server_addresses(issuer: str) -> list[str]:
    """Where the metadata of an authorization server is looked for, in the order of the specification."""
    origin, path = _split(issuer)
    if not path:
        return [f"{origin}{SERVER_WELL_KNOWN}", f"{origin}{OPENID_WELL_KNOWN}"]
    return [
        f"{origin}{SERVER_WELL_KNOWN}{path}",
        f"{origin}{OPENID_WELL_KNOWN}{path}",
        f"{origin}{path}{OPENID_WELL_KNOWN}",
    ]


def read_server(document: Mapping[str, Any], issuer: str, server: str) -> ServerMetadata:
    """The metadata of the authorization server `issuer`.

    Args:
        server: the address of the MCP server.

    Raises:
        ValueError: it is the metadata of another issuer (RFC 8414, 3.3), or an address in it is not sound.
    """
    named = document.get("issuer")
    # As texts, without a normal form: "the `issuer` value in the document MUST be identical".
    if named != issuer:
        said = f"{named:.200}" if isinstance(named, str) else "nothing"
        raise ValueError(f"the metadata is that of another issuer: it names {said}, not {issuer:.200}")

    def address(name: str) -> str | None:
        if document.get(name) is None:
            return None
        try:
            return checked_address(document[name], server)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None

    return ServerMetadata(
        issuer,
        address("authorization_endpoint"),
        address("token_endpoint"),
        address("registration_endpoint"),
        address("revocation_endpoint"),
        _names(document, "scopes_supported") or (),
        _names(document, "token_endpoint_auth_methods_supported"),
        _names(document, "code_challenge_methods_supported") or (),
        document.get("authorization_response_iss_parameter_supported") is True,
        document.get("client_id_metadata_document_supported") is True,
        _names(document, "dpop_signing_alg_values_supported") or (),
    )


def origin_issuer(server: str) -> str:
    """The issuer of a server without metadata: its own origin (2025-03-26 basic/authorization, 2.3.2)."""
    return _split(server)[0]


def default_server(server: str) -> ServerMetadata:
    """An authorization server without metadata, at the default paths (2025-03-26 basic/authorization, 2.3.3)."""
    origin = origin_issuer(server)
    return ServerMetadata(
        origin, f"{origin}/authorize", f"{origin}/token", f"{origin}/register", challenge_methods=("S256",)
    )


def _names(document: Mapping[str, Any], member: str) -> tuple[str, ...] | None:
    found = document.get(member)
    return sound_scopes(found[:MAX_NAMES]) if isinstance(found, list) else None


def _split(address: str) -> tuple[str, str]:
    """The origin of an address as it is written, and its path without a slash at its end and without a query."""
    scheme, _, rest = address.partition("#")[0].partition("?")[0].partition("://")
    authority, slash, path = rest.partition("/")
    return f"{scheme}://{authority}", f"{slash}{path}".rstrip("/")
