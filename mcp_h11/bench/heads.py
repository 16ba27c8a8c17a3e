# SPDX-License-Identifier: MIT
"""Request heads as a server behind a proxy gets them: each is new, and most of its lines are known.

    traffic = Traffic(seed=1)
    data = traffic.request(body, {"Mcp-Session-Id": session})   # bytes, through each kind of proxy in turn
    data = Traffic(kinds=("envoy",), host="127.0.0.1:8000").request(body)

Pure data: the same seed gives the same bytes.  A population of clients sends the requests, each with its address, its
program and a token that is replaced after some requests, as tokens of an hour are.  The forms are those of the proxies'
own documentation:

- `alb`, an Application Load Balancer of AWS: `X-Forwarded-For`, `-Proto`, `-Port` and `X-Amzn-Trace-Id` ("Root=1-",
  eight digits of time, 24 digits of id; with "Self=" where the client or a proxy before it named a root), its own names
  in mixed case, names of an HTTP/2 client in lower case, and the cookies of sticky sessions (`AWSALB`, `AWSALBCORS`);
- `cloudflare`: `CF-RAY` (16 digits and the airport), `CF-Connecting-IP`, `CF-IPCountry`, `CF-Visitor`, `CDN-Loop`,
  and the cookie `__cf_bm` of its bot management;
- `nginx`: `proxy_set_header` with `$host`, `$remote_addr`, `$proxy_add_x_forwarded_for`, `$scheme` and `$request_id`
  (32 digits), as its guide for reverse proxies has them;
- `envoy`: names in lower case, `x-request-id` (a UUID), `x-envoy-external-address`, `x-envoy-attempt-count` and
  `x-envoy-expected-rq-timeout-ms`.

Half of the clients are traced: `traceparent` and `tracestate` of W3C Trace Context, `baggage` of W3C Baggage.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random

PROXIES = ("alb", "cloudflare", "nginx", "envoy")
HOST = "mcp.example.com"
POPULATION = 200  # in the population
TOKEN_REQUESTS = 40  # that a client sends with one token
TOKEN_BYTES = 540  # of the claims and the signature of a token: some 800 characters
ACCEPTED = "application/json, text/event-stream"
PROGRAMS = (
    "python-httpx2/2.16",
    "node",
    "claude-code/2.1.4 (cli)",
    "Cursor/2.6.11 (darwin arm64)",
    "Go-http-client/2.0",
    "rmcp/3.9.0",
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/148.0.0.0 Safari/537.36",
)
AIRPORTS = ("FRA", "SJC", "NRT", "LHR", "GRU", "SYD", "IAD")
COUNTRIES = ("DE", "US", "JP", "GB", "BR", "AU", "FR")
EPOCH = 0x6926F000  # of the first request, in seconds

HeadLine = tuple[str, str]


@dataclass
class ProxiedClient:
    """One client of the population, as the proxy in front of the server sees it."""

    address: str
    behind: str  # the address before it in a chain: a proxy of its own network, or nothing
    program: str
    place: int
    traced: bool
    cookies: str
    token: str = ""
    left: int = 0  # requests until the token is replaced


class Traffic:
    """Requests of many clients through proxies, each with a head that no other request has.

    Args:
        seed: chooses all that is random.
        kinds: the proxies of `PROXIES`, which take turns.
        host: the value of Host.
        clients: how many there are.
        tokens: whether they send Authorization.
        path: of the endpoint.
    """

    def __init__(
        self,
        seed: int = 1,
        kinds: Sequence[str] = PROXIES,
        host: str = HOST,
        clients: int = POPULATION,
        tokens: bool = True,
        path: str = "/mcp",
    ) -> None:
        self._random = Random(seed)
        self._kinds = tuple(kinds)
        self._host = host
        self._tokens = tokens
        self._path = path
        self._number = 0
        self._clients = [self._client() for _ in range(clients)]

    def request(self, body: bytes, fields: Mapping[str, str] | None = None, method: str = "POST") -> bytes:
        """The next request: `fields` are those of MCP, which the client sends and the proxy passes on."""
        return self.head(len(body) if body else None, fields, method) + body

    def head(self, length: int | None, fields: Mapping[str, str] | None = None, method: str = "POST") -> bytes:
        """The next head, for a body of `length` bytes; None for a request without one."""
        kind = self._kinds[self._number % len(self._kinds)]
        self._number += 1
        client = self._random.choice(self._clients)
        lines = getattr(self, f"_{kind}")(client, length, self._own(client, length, fields or {}))
        text = [f"{method} {self._path} HTTP/1.1", *(f"{name}: {value}" for name, value in lines), "", ""]
        return "\r\n".join(text).encode("latin-1")

    # --- clients ---------------------------------------------------------------------------------------------

    def _client(self) -> ProxiedClient:
        random = self._random
        if random.random() < 0.25:
            address = "2001:db8:" + ":".join(f"{random.randrange(1, 1 << 16):x}" for _ in range(6))
        else:
            address = random.choice(("203.0.113", "198.51.100", "192.0.2")) + f".{random.randrange(1, 255)}"
        behind = f"10.{random.randrange(256)}.{random.randrange(256)}.{random.randrange(1, 255)}"
        return ProxiedClient(
            address,
            behind if random.random() < 0.3 else "",
            random.choice(PROGRAMS),
            random.randrange(len(AIRPORTS)),
            random.random() < 0.5,
            self._base64(96),
        )

    def _own(self, client: ProxiedClient, length: int | None, fields: Mapping[str, str]) -> list[HeadLine]:
        """The fields that the client itself sends, beside Host and Content-Length."""
        lines = [("accept", ACCEPTED)]
        if length is not None:
            lines.append(("content-type", "application/json"))
        lines.append(("user-agent", client.program))
        if self._tokens:
            if not client.left:
                client.token, client.left = self._token(), TOKEN_REQUESTS
            client.left -= 1
            lines.append(("authorization", f"Bearer {client.token}"))
        lines += fields.items()
        if client.traced:
            lines.append(("traceparent", f"00-{self._hex(32)}-{self._hex(16)}-01"))
            lines.append(("tracestate", f"dd=s:1;p:{self._hex(16)};t.dm:-1,congo={self._base64(9)}"))
            lines.append(("baggage", f"userId={self._hex(8)},serverNode=DF%2028,isProduction=true"))
        return lines

    def _token(self) -> str:
        header = base64.urlsafe_b64encode(b'{"alg":"RS256","typ":"at+jwt","kid":"2026-11"}').decode().rstrip("=")
        return f"{header}.{self._base64(TOKEN_BYTES // 2)}.{self._base64(TOKEN_BYTES // 2)}"

    def _hex(self, digits: int) -> str:
        return f"{self._random.getrandbits(4 * digits):0{digits}x}"

    def _base64(self, size: int) -> str:
        return base64.urlsafe_b64encode(self._random.randbytes(size)).decode().rstrip("=")

    # --- proxies ---------------------------------------------------------------------------------------------

    def _chain(self, client: ProxiedClient) -> str:
        return f"{client.behind}, {client.address}" if client.behind else client.address

    def _alb(self, client: ProxiedClient, length: int | None, own: list[HeadLine]) -> list[HeadLine]:
        now = f"{EPOCH + self._number // 50:08x}"
        root = f"Root=1-{now}-{self._hex(24)}"
        lines = [
            ("X-Forwarded-For", self._chain(client)),
            ("X-Forwarded-Proto", "https"),
            ("X-Forwarded-Port", "443"),
            ("Host", self._host),
            ("X-Amzn-Trace-Id", f"Self=1-{now}-{self._hex(24)};{root}" if client.behind else root),
        ]
        cookie = ("cookie", f"AWSALB={client.cookies}; AWSALBCORS={client.cookies}")
        return lines + _length("Content-Length", length) + own + [cookie]

    def _cloudflare(self, client: ProxiedClient, length: int | None, own: list[HeadLine]) -> list[HeadLine]:
        lines = [
            ("Host", self._host),
            ("CF-RAY", f"{self._hex(16)}-{AIRPORTS[client.place]}"),
            ("Connection", "Keep-Alive"),
            ("Accept-Encoding", "gzip, br"),
            ("CF-IPCountry", COUNTRIES[client.place]),
            ("X-Forwarded-For", self._chain(client)),
            ("CF-Visitor", '{"scheme":"https"}'),
            ("X-Forwarded-Proto", "https"),
        ]
        lines += _length("Content-Length", length) + own
        lines += [("cookie", f"__cf_bm={client.cookies}"), ("CF-Connecting-IP", client.address)]
        return [*lines, ("CDN-Loop", "cloudflare; loops=1")]

    def _nginx(self, client: ProxiedClient, length: int | None, own: list[HeadLine]) -> list[HeadLine]:
        lines = [
            ("Host", self._host),
            ("X-Real-IP", client.address),
            ("X-Forwarded-For", self._chain(client)),
            ("X-Forwarded-Proto", "https"),
            ("X-Request-ID", self._hex(32)),
        ]
        return lines + _length("Content-Length", length) + own

    def _envoy(self, client: ProxiedClient, length: int | None, own: list[HeadLine]) -> list[HeadLine]:
        uuid = self._hex(32)
        lines = [("host", self._host), *own, *_length("content-length", length)]
        return [
            *lines,
            ("x-forwarded-for", self._chain(client)),
            ("x-forwarded-proto", "https"),
            ("x-envoy-external-address", client.address),
            ("x-request-id", f"{uuid[:8]}-{uuid[8:12]}-4{uuid[13:16]}-a{uuid[17:20]}-{uuid[20:]}"),
            ("x-envoy-attempt-count", "1"),
            ("x-envoy-expected-rq-timeout-ms", "15000"),
        ]


def _length(name: str, length: int | None) -> list[HeadLine]:
    return [] if length is None else [(name, str(length))]
