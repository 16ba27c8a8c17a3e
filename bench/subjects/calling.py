# SPDX-License-Identifier: MIT
"""The loop that the Python clients run: orders come on stdin, one line each, and what was measured goes to stdout.

An order is {"concurrency", "warmup", "seconds"}.  The answer is two lines: one when the clock begins to run, one with
the figures when it has ended.  A wrong answer ends the process with what was wrong on stderr.
"""

import asyncio
import json
import sys
import time


def say(**members):
    print(json.dumps(members), flush=True)


class Calls:
    """So many callers of `add(a, b)`, each with one call under way; every answer is judged."""

    def __init__(self, add):
        self.add = add
        self.latencies = []
        self.going = True

    async def caller(self, number):
        turn = 0
        while self.going:
            turn += 1
            a, b = 100 + (number * 7 + turn) % 400, 100 + (number * 3 + turn * 11) % 400
            began = time.perf_counter()
            text = await self.add(a, b)
            if text != str(a + b):
                raise SystemExit(f"not the answer to the question: {text!r} for {a} + {b}")
            self.latencies.append(time.perf_counter() - began)


async def obey(add, order):
    calls = Calls(add)
    callers = [asyncio.ensure_future(calls.caller(number)) for number in range(order["concurrency"])]
    failed = asyncio.ensure_future(asyncio.wait(callers, return_when=asyncio.FIRST_EXCEPTION))
    await asyncio.wait([failed], timeout=order["warmup"])
    say(begin=True)
    del calls.latencies[:]
    began, cpu = time.perf_counter(), time.process_time()
    await asyncio.wait([failed], timeout=order["seconds"])
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    latencies = calls.latencies[:]
    calls.going = False
    await asyncio.gather(*callers)
    say(seconds=seconds, cpu=cpu, latencies=[round(one, 7) for one in latencies])


async def serve(add):
    """Connected: one call, and then what is ordered, until the orders end."""
    if await add(1, 2) != "3":
        raise SystemExit("1 + 2 is not 3 there")
    say(ready=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        await obey(add, json.loads(line))
