# SPDX-License-Identifier: MIT
"""Finds the forward proxy for a client's connection: reads the environment as curl and Python do.

`http_proxy` and `https_proxy` are for the scheme of the address, `all_proxy` is for both.  `no_proxy` names hosts that
are reached directly.  Lower case names come before upper case ones, and an empty variable means no proxy.  A proxy is
``http://[user:password@]host[:port]``.

Rules:
- A server on loopback is never reached through a proxy, which would look for it on the proxy's own machine.
- A proxy that cannot be used is an error, and never a direct connection: the network may forbid all other ways.
- No message and no `repr` contains the credentials of a proxy.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from .urls import authority_of

if TYPE_CHECKING:
    from ipaddress import IPv4Address, IPv6Address

FROM_ENVIRONMENT = "environment"
PROXY_PORT = 80
MAX_NO_PROXY = 64 * 1024  # characters

_PORT = re.compile(r":[0-9]{1,5}")
_ENDS = tuple("0123456789abcdef:")  # the last character of a numeric address is one of these


@dataclass(frozen=True)
class ForwardProxy:
    """A proxy; `authorization` is the value of `Proxy-Authorization`, or None."""

    host: str
    port: int
    authorization: str | None = field(default=None, repr=False)

    @property
    def name(self) -> str:
        """Its address for messages, without credentials."""
        return authority_of(self.host, self.port)


def parse_proxy(url: str) -> ForwardProxy:
    """The proxy at an address.  Raises ValueError, which quotes nothing: the address may hold a password."""
    scheme, colons, _ = url.partition("://")
    if colons and scheme.lower() != "http":
        raise ValueError("a proxy is spoken to by http://, and by no other scheme")
    try:
        parts = urlsplit(url if colons else f"http://{url}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host or not host.isascii() or not host.isprintable() or port == 0:
        raise ValueError("not the address of a proxy: http://host:port")
    authorization = None
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        authorization = "Basic " + base64.b64encode(pair.encode("utf-8")).decode("ascii")
    return ForwardProxy(host, port or PROXY_PORT, authorization)


class ForwardProxies:
    """Finds the proxy for an address.

    Args:
        environ: the environment's variables; only those for proxies are kept.
        url: one proxy for all addresses but those on loopback; the variables are not read then.

    Raises:
        ValueError: the url is not that of a proxy.
    """

    def __init__(self, environ: Mapping[str, str], url: str | None = None) -> None:
        self._one = None if url is None else parse_proxy(url)
        names = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
        self._variables = {} if url is not None else {name: _variable(environ, name) for name in names}
        no_proxy = self._variables.get("no_proxy") or ("", "")
        self._direct = [_Host(word) for word in no_proxy[1][:MAX_NO_PROXY].replace(",", " ").split()]

    def find(self, secure: bool, host: str, port: int) -> ForwardProxy | None:
        """The proxy, or None for a direct connection.

        Raises:
            ValueError: the environment names something that is no proxy; the message names the variable.
        """
        # First of all rules, even before a proxy that the user named.
        if is_loopback(host):
            return None
        if self._one is not None:
            return self._one
        variable = self._variables["https_proxy" if secure else "http_proxy"] or self._variables["all_proxy"]
        if variable is None or not variable[1] or any(one.covers(host, port) for one in self._direct):
            return None
        try:
            return parse_proxy(variable[1])
        except ValueError as error:
            raise ValueError(f"{variable[0]}: {error}") from None


def _variable(environ: Mapping[str, str], name: str) -> tuple[str, str] | None:
    """The variable's name as the environment spells it, and its value."""
    names = [name, name.upper()]
    # A CGI script sees a client's header `Proxy` as HTTP_PROXY: any client could redirect us (CVE-2016-5385).
    if name == "http_proxy" and "REQUEST_METHOD" in environ:
        names.pop()
    found = next((one for one in names if one in environ), None)
    return None if found is None else (found, environ[found].strip())


def is_loopback(host: str) -> bool:
    """Whether a host is this machine itself, by name (RFC 6761, 6.3) or by number."""
    name = host.lower().rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    address = _address(name)
    return address is not None and (address.is_loopback or address.is_unspecified)


def _address(text: str) -> IPv4Address | IPv6Address | None:
    if text[-1:] not in _ENDS:  # a name, as in most addresses
        return None
    from ipaddress import ip_address  # imported late: most clients never need it, and it is slow to load

    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


class _Host:
    """One entry of `no_proxy`: ``*``, a name with all names below it, an address, a network; perhaps with a port."""

    def __init__(self, text: str) -> None:
        text, self._port = _split_port(text.lower())
        self._name = text.removeprefix("*").strip(".") if text != "*" else text
        self._network = None
        # An entry that is no network stays a name, which no host has; it does not void the other entries.
        if "/" in text:
            from ipaddress import ip_network

            with suppress(ValueError):
                self._network = ip_network(text, strict=False)
        self._address = _address(text)

    def covers(self, host: str, port: int) -> bool:
        """Whether this entry says that the host is reached directly."""
        if self._port is not None and self._port != port:
            return False
        if self._name == "*":
            return True
        host = host.lower().rstrip(".")
        address = _address(host)
        if address is not None:
            return address == self._address or (self._network is not None and address in self._network)
        return bool(self._name) and (host == self._name or host.endswith(f".{self._name}"))


def _split_port(text: str) -> tuple[str, int | None]:
    if text.startswith("["):
        host, _, rest = text[1:].partition("]")
        return host, int(rest[1:]) if _PORT.fullmatch(rest) else None
    host, _, port = text.rpartition(":")
    # More than one colon without brackets is an IPv6 address.
    return (host, int(port)) if ":" not in host and host and _PORT.fullmatch(f":{port}") else (text, None)
