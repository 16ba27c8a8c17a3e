# SPDX-License-Identifier: MIT
"""The least HTTP that our load speaks, on asyncio alone: it finds Content-Length and trusts everything else."""

import asyncio

ANSWER = b"HTTP/1.1 %d OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"


class LeastHTTP(asyncio.Protocol):
    """Gives each body to `received`, which a subclass has and which answers by `answer` or writes to `transport`."""

    def connection_made(self, transport):
        self.transport = transport
        self.buffer = b""

    def data_received(self, data):
        data = self.buffer + data if self.buffer else data
        start = data.find(b"\r\n\r\n") + 4
        length = data.find(b"Content-Length: ") + 16
        if length < 16:  # behind a proxy that writes names in lower case
            length = data.find(b"content-length: ") + 16
        size = int(data[length : data.find(b"\r", length)]) if 16 <= length < start else 0
        if start < 4 or len(data) < start + size:
            self.buffer = data
            return
        self.buffer = b""
        self.received(data[start : start + size])

    def answer(self, status, body):
        self.transport.write(ANSWER % (status, len(body), body))


async def serve(port, made):
    """For ever; `made` makes the protocol of a connection."""
    server = await asyncio.get_running_loop().create_server(made, "127.0.0.1", int(port), backlog=1024)
    await server.serve_forever()
