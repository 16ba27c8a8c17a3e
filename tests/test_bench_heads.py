# SPDX-License-Identifier: MIT
"""The heads of `mcp_h11/bench/heads.py`, by which requests behind proxies are measured."""

from __future__ import annotations

import h11
import pytest

from mcp_h11.bench.heads import HOST, PROXIES, TOKEN_REQUESTS, Traffic

FIELDS = {"mcp-protocol-version": "2025-11-25", "mcp-session-id": "a" * 43}


def read(data: bytes) -> tuple[dict[str, str], bytes]:
    """A request as h11 reads it."""
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(data)
    request, body = connection.next_event(), b""
    assert type(request) is h11.Request
    while type(event := connection.next_event()) is h11.Data:
        body += event.data
    assert type(event) is h11.EndOfMessage
    return {name.decode(): value.decode() for name, value in request.headers}, body


def test_the_same_seed_gives_the_same_bytes_and_another_seed_does_not():
    one, again, other = ([Traffic(seed).request(b"{}", FIELDS) for _ in range(1)] for seed in (1, 1, 2))
    assert one == again != other


@pytest.mark.parametrize("kind", PROXIES)
def test_each_head_is_new_and_most_of_its_lines_are_known(kind):
    traffic = Traffic(kinds=[kind], clients=20)
    requests = [traffic.request(b"x" * (number % 7), FIELDS) for number in range(400)]
    assert len(set(requests)) == len(requests)
    known = {line for data in requests[:200] for line in data.split(b"\r\n")}
    later = [line for data in requests[200:] for line in data.split(b"\r\n")[1:-2]]
    assert 0.6 < sum(line in known for line in later) / len(later) < 0.95


@pytest.mark.parametrize("kind", PROXIES)
def test_h11_reads_each_head_with_the_fields_of_its_proxy(kind):
    traffic = Traffic(kinds=[kind])
    expected = {
        "alb": {"x-forwarded-for", "x-forwarded-proto", "x-forwarded-port", "x-amzn-trace-id", "cookie"},
        "cloudflare": {"cf-ray", "cf-connecting-ip", "cf-ipcountry", "cf-visitor", "cdn-loop", "cookie"},
        "nginx": {"x-real-ip", "x-forwarded-for", "x-forwarded-proto", "x-request-id"},
        "envoy": {"x-forwarded-for", "x-request-id", "x-envoy-external-address", "x-envoy-attempt-count"},
    }[kind]
    for number in range(50):
        fields, body = read(traffic.request(b"y" * number, FIELDS))
        assert fields.items() >= {**FIELDS, "host": HOST}.items() and expected <= fields.keys()
        assert len(body) == number and fields.get("content-length", "0") == str(number)


def test_a_token_is_replaced_after_some_requests_and_may_be_left_out():
    traffic = Traffic(clients=1)
    tokens = [read(traffic.request(b"", FIELDS, "GET"))[0]["authorization"] for _ in range(2 * TOKEN_REQUESTS)]
    assert len(set(tokens[:TOKEN_REQUESTS])) == len(set(tokens[TOKEN_REQUESTS:])) == 1 and len(set(tokens)) == 2
    assert "authorization" not in read(Traffic(tokens=False).request(b"", FIELDS, "GET"))[0]
