# SPDX-License-Identifier: MIT
"""What Python and its event loop cost by themselves: asyncio and json, with an HTTP that only our own load speaks.

`raw_asyncio.py PORT`: a floor to measure against, not a server.
"""

import asyncio
import sys

from least_http import LeastHTTP, serve
from plain import respond

EVENTS = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


class Raw(LeastHTTP):
    def received(self, body):
        answer = respond(body)
        if type(answer) is tuple:
            self.answer(*answer)
            return
        write = self.transport.write
        write(EVENTS)
        for event in answer:
            write(b"%x\r\n%b\r\n" % (len(event), event))
        write(b"0\r\n\r\n")


asyncio.run(serve(sys.argv[1], Raw))
