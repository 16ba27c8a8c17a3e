# SPDX-License-Identifier: MIT
"""What Python and its event loop cost by themselves: asyncio and json, with an HTTP that only our own client speaks.

`raw_asyncio.py PORT`.  It finds Content-Length and trusts everything else: a floor to measure against, not a server.
"""

import asyncio
import sys

from plain import respond

JSON = b"HTTP/1.1 %d OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
EVENTS = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


class Raw(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport
        self.buffer = b""

    def data_received(self, data):
        data = self.buffer + data if self.buffer else data
        start = data.find(b"\r\n\r\n") + 4
        length = data.find(b"Content-Length: ") + 16
        size = int(data[length : data.find(b"\r", length)]) if 16 <= length < start else 0
        if start < 4 or len(data) < start + size:
            self.buffer = data
            return
        self.buffer = b""
        answer = respond(data[start : start + size])
        write = self.transport.write
        if type(answer) is tuple:
            write(JSON % (answer[0], len(answer[1]), answer[1]))
            return
        write(EVENTS)
        for event in answer:
            write(b"%x\r\n%b\r\n" % (len(event), event))
        write(b"0\r\n\r\n")


async def main():
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Raw, "127.0.0.1", int(sys.argv[1]), backlog=1024)
    await server.serve_forever()


asyncio.run(main())
