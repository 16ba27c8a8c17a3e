# SPDX-License-Identifier: MIT
"""The floor we measure in: a plain h11 server loop on asyncio with the standard library's json, and nothing else.

`h11_loop.py PORT`.  Every request goes through h11 in full, each answer too; there are no sessions, no checks, no
tasks.  What every figure in bench/README.md is a ratio to is one call of `add` here.
"""

import asyncio
import sys

import h11
from plain import respond


class Loop(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport
        self.connection = h11.Connection(h11.SERVER)
        self.body = []

    def data_received(self, data):
        connection = self.connection
        connection.receive_data(data)
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA or event is h11.PAUSED:
                return
            kind = type(event)
            if kind is h11.Request:
                self.body = []
            elif kind is h11.Data:
                self.body.append(event.data)
            elif kind is h11.EndOfMessage:
                self.answer(respond(b"".join(self.body)))
                if connection.our_state is h11.MUST_CLOSE:
                    self.transport.close()
                    return
                connection.start_next_cycle()
            else:
                self.transport.close()
                return

    def answer(self, answer):
        send, write = self.connection.send, self.transport.write
        if type(answer) is tuple:
            status, body = answer
            headers = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
            head = send(h11.Response(status_code=status, headers=headers))
            write(head + send(h11.Data(data=body)) + send(h11.EndOfMessage()))
            return
        headers = [("Content-Type", "text/event-stream"), ("Transfer-Encoding", "chunked")]
        write(send(h11.Response(status_code=200, headers=headers)))
        for event in answer:
            write(send(h11.Data(data=event)))
        write(send(h11.EndOfMessage()))


async def main():
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Loop, "127.0.0.1", int(sys.argv[1]), backlog=1024)
    await server.serve_forever()


asyncio.run(main())
