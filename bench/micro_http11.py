# SPDX-License-Identifier: MIT
"""One HTTP cycle without a socket: plain h11, and mcp_h11.http11 with a head it knows and with one it does not.

The cases take turns and the lowest of many rounds counts, so that the ratios survive a noisy machine.
"""

import time

import h11

from mcp_h11.http11 import HeadCache, Limits, ServerConnection

ROUNDS = 60
REQUESTS = 400
BODY = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"add","arguments":{"a":1,"b":2}}}'
ANSWER = b'{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"3"}]}}'
HEADERS = (("Content-Type", "application/json"), ("Cache-Control", "no-store"))
DATE = b"Thu, 01 Jan 1970 00:00:00 GMT"


def request(number):
    """A head as the official Python client sends it; `number` makes it one that was never seen."""
    head = (
        "POST /mcp HTTP/1.1\r\nHost: 127.0.0.1:8000\r\nAccept: application/json, text/event-stream\r\n"
        "Accept-Encoding: gzip, deflate\r\nConnection: keep-alive\r\nUser-Agent: python-httpx/0.28.1\r\n"
        "Content-Type: application/json\r\nMCP-Protocol-Version: 2025-11-25\r\n"
        f"Mcp-Session-Id: {number:032x}\r\nContent-Length: {len(BODY)}\r\n\r\n"
    )
    return head.encode() + BODY


def plain_h11(requests):
    connection = h11.Connection(h11.SERVER)
    for data in requests:
        connection.receive_data(data)
        body = []
        while True:
            event = connection.next_event()
            if type(event) is h11.Data:
                body.append(event.data)
            elif type(event) is h11.EndOfMessage:
                break
        b"".join(body)
        headers = [("Date", DATE), ("Content-Length", str(len(ANSWER))), *HEADERS]
        out = connection.send(h11.Response(status_code=200, headers=headers, reason="OK"))
        out += connection.send(h11.Data(data=ANSWER))
        out += connection.send(h11.EndOfMessage())
        connection.start_next_cycle()


def ours(requests):
    connection = ServerConnection(CACHE, LIMITS)
    for data in requests:
        connection.receive_data(data)
        connection.next_event()
        connection.respond(200, HEADERS, ANSWER, date=DATE)
        connection.response_done()


LIMITS = Limits()
CACHE = HeadCache()


def main():
    """Prints microseconds a request and ratios to plain h11."""
    known = [request(0)] * REQUESTS
    best = {"plain h11": 1e9, "known head": 1e9, "new head": 1e9}
    for turn in range(ROUNDS):
        fresh = [request(1 + turn * REQUESTS + i) for i in range(REQUESTS)]
        for name, run, requests in (
            ("plain h11", plain_h11, known),
            ("known head", ours, known),
            ("new head", ours, fresh),
        ):
            started = time.perf_counter()
            run(requests)
            best[name] = min(best[name], (time.perf_counter() - started) / REQUESTS * 1e6)
    for name, microseconds in best.items():
        print(f"{name:12}{microseconds:8.2f} us{microseconds / best['plain h11']:8.3f} x")


if __name__ == "__main__":
    main()
