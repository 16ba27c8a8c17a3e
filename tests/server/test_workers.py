# SPDX-License-Identifier: MIT
"""Workers of one address, as real processes: which of them serve, end and come back."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import tempfile
import time
from pathlib import Path
from typing import Any

import anyio
import pytest
from rawclient import Legacy, Modern, RawClient
from serving import LEGACY, call, modern
from worker_processes import LIMIT, TOOLS, Fleet, is_alive, is_refused, met

pytestmark = [pytest.mark.anyio, pytest.mark.long]  # real processes, several seconds each
posix = pytest.mark.skipif(os.name != "posix", reason="sockets are handed down on POSIX alone")

QUICK: dict[str, Any] = {"restart_min": 0.05, "restart_max": 0.2}


# --- serving ---------------------------------------------------------------------------------------------------------


@posix
async def test_each_worker_serves_the_one_port(tmp_path: Path) -> None:
    with Fleet.of_class(tmp_path, 3) as fleet:
        await fleet.started(3)
        pids = {str(pid) for pid in await fleet.workers()}
        assert len(pids) == 3 and str(fleet.process.pid) not in pids
        assert await met(fleet, 3) == pids


@posix
async def test_the_parent_loads_no_code_of_the_user(tmp_path: Path) -> None:
    tools = TOOLS + "\nprint('loaded by', os.getpid(), flush=True)\n"
    with Fleet.of_command_line(tmp_path, "--workers", "2", "--port", "0", tools=tools) as fleet:
        await fleet.started(2)
        await fleet.line("loaded by", 2)
        assert f"loaded by {fleet.process.pid}\n" not in fleet.said
        assert fleet.said.count("claude mcp add") == 1  # the address is told once


@posix
async def test_a_unix_socket_and_an_inherited_one_are_served(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with Fleet.of_command_line(tmp_path, "--workers", "2", "--uds", "socket") as fleet:
        await fleet.line(r"worker \d+ is ready", 2)
        reader, writer = await asyncio.open_unix_connection(str(path))
        writer.write(modern("tools/call", call("pid")))
        assert b"200 OK" in await asyncio.wait_for(reader.readline(), LIMIT)
        writer.close()
        fleet.process.send_signal(signal.SIGTERM)
        assert await fleet.ended() == 0 and not path.exists()
    with socket.create_server(("127.0.0.1", 0)) as ours:
        port = ours.getsockname()[1]
        with Fleet.of_command_line(
            tmp_path, "--workers", "2", "--fd", str(ours.fileno()), pass_fds=(ours.fileno(),)
        ) as fleet:
            await fleet.started(2)
            assert fleet.port == port and len(await met(fleet, 2)) == 2


@posix
async def test_a_state_opens_at_each_worker(tmp_path: Path) -> None:
    """The parent made the key: a round that one worker began goes on at another, here since the first is gone."""
    with Fleet.of_class(tmp_path, 2, **QUICK) as fleet:
        await fleet.started(2)
        client = Modern(fleet.port, limit=LIMIT)
        client.capabilities = {"elicitation": {}}
        asked = (await client.call("tools/call", call("colour"))).result
        (key,) = asked["inputRequests"]
        first = int((await fleet.line(r"asked by (\d+)\n"))[1])
        os.kill(first, signal.SIGKILL)
        await fleet.line(f"worker {first} was ended by SIGKILL")
        again = {**call("colour"), "requestState": asked["requestState"],
                 "inputResponses": {key: {"action": "accept", "content": {"it": "blue"}}}}  # fmt: skip
        said = (await client.call("tools/call", again)).result["content"][0]["text"]
        assert said.startswith("blue from ") and said != f"blue from {first}"


@posix
async def test_programs_that_tools_start_inherit_no_socket_and_no_key(tmp_path: Path) -> None:
    (tmp_path / "prelude.py").write_text("print('key', channel.charge.state_keys[0].hex(), flush=True)")
    with Fleet.of_class(tmp_path, 1) as fleet:
        await fleet.started(1)
        assert await fleet.call("handed_on") == "[]"
        key = (await fleet.line("key ([0-9a-f]{64})"))[1]
        (pid,) = await fleet.workers()
        for name in ("environ", "cmdline"):
            path = Path(f"/proc/{pid}/{name}")
            assert not path.exists() or key.encode() not in path.read_bytes()


# --- what ends, and what comes back ---------------------------------------------------------------------------------


@posix
async def test_a_killed_worker_comes_back_and_the_others_serve_meanwhile(tmp_path: Path) -> None:
    with Fleet.of_class(tmp_path, 3, restart_min=1.0) as fleet:
        await fleet.started(3)
        before = await fleet.workers()
        assert len(await met(fleet, 3)) == 3
        counted = 'mcp_server_operation_duration_seconds_count{mcp_method_name="tools/call",gen_ai_tool_name="pid"}'
        calls = (await fleet.samples())[counted]
        os.kill(before[1], signal.SIGKILL)
        for _ in range(20):
            assert int(await fleet.call("pid")) != before[1]
        await fleet.line(r"another one starts in \d")
        assert f"worker {before[1]} was ended by SIGKILL; another one starts in 1." in fleet.said
        # The counts of the dead worker stay in the sum: a counter that goes down is a burst to Prometheus.
        assert (await fleet.samples())[counted] == calls + 20
        await fleet.line(r"worker \d+ is ready\n", 4)
        after = await fleet.workers()
        assert len({*after}) == 3 and (after[0], after[2]) == (before[0], before[2]) and after[1] != before[1]
        assert (await fleet.samples())["mcp_h11_worker_restarts_total"] == 1


@posix
async def test_a_first_worker_that_cannot_start_ends_it_all(tmp_path: Path) -> None:
    with Fleet.of_command_line(tmp_path, "--workers", "3", "--port", "0", tools="import no_such_module") as fleet:
        assert await fleet.ended() == 2
        assert fleet.said.count("No module named 'no_such_module'") == 2  # once in the traceback, once in its line
        last = fleet.said.splitlines()[-1]
        assert last == "python -m mcp_h11: error: the first worker ended with exit code 2 before it was ready"


# Each worker ends soon after it has begun to serve.
CRASHES = """
import os
begin = worker.WorkerServer.start
async def start(self):
    await begin(self)
    self.loop.call_later(0.01, os._exit, 7)
worker.WorkerServer.start = start
"""


@posix
async def test_workers_that_end_again_and_again_end_it_all(tmp_path: Path) -> None:
    (tmp_path / "prelude.py").write_text(CRASHES)
    with Fleet.of_class(tmp_path, 2, **QUICK, crash_limit=3) as fleet:
        assert await fleet.ended() == 1
        assert "ended with exit code 7, 3 times in a row; no worker lives for 30 s (7)" in fleet.said
        assert fleet.said.count("another one starts in") >= 2


@posix
async def test_one_worker_that_cannot_live_does_not_end_the_others(tmp_path: Path) -> None:
    """As after a call that kills its process: five such calls must not end the server for all others."""
    with Fleet.of_class(tmp_path, 2, **QUICK, crash_limit=3, stable=0.001) as fleet:
        await fleet.started(2)
        (tmp_path / "prelude.py").write_text("raise SystemExit(7)")
        first, second = await fleet.workers()
        os.kill(first, signal.SIGKILL)
        await fleet.line("ended with exit code 7; another one starts", 5)
        assert await fleet.call("pid") == str(second)
        (tmp_path / "prelude.py").unlink()
        await fleet.line(r"worker \d+ is ready\n", 3)
        assert len(await fleet.workers()) == 2


@posix
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_all_in_order(tmp_path: Path, number: int) -> None:
    with Fleet.of_class(tmp_path, 2, {"grace": 30.0}) as fleet:
        await fleet.started(2)
        pids = await fleet.workers()
        async with RawClient(fleet.port, limit=LIMIT) as client:
            await client.send(modern("tools/call", call("nap", seconds=1)))
            await fleet.line("napping")
            # As Ctrl+C in a terminal: each process of the group gets the signal.
            os.killpg(fleet.process.pid, number)
            assert (await client.receive("POST")).messages()[-1]["result"]["content"][0]["text"] == "rested"
        assert await fleet.ended() == 0
        assert not any(map(is_alive, pids)) and await is_refused(fleet.port)
        assert "Traceback" not in fleet.said and "starts in" not in fleet.said


@posix
async def test_while_it_ends_new_clients_are_refused_and_a_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    with Fleet.of_class(tmp_path, 2, {"grace": 2 * LIMIT}) as fleet:
        await fleet.started(2)
        async with RawClient(fleet.port, limit=LIMIT) as client:
            await client.send(modern("tools/call", call("nap", seconds=10 * LIMIT)))
            await fleet.line("napping")
            fleet.process.send_signal(signal.SIGTERM)
            while not await is_refused(fleet.port):
                await anyio.sleep(0.01)
            health = await fleet.get("/health")
            assert (health.status, health.json()["status"]) == (503, "draining")
            assert "draining" in (await fleet.get("/ready")).json()["reasons"]
            fleet.process.send_signal(signal.SIGTERM)
            assert await fleet.ended() == 0
        assert "killed" not in fleet.said and "never retrieved" not in fleet.said


@posix
async def test_a_worker_that_does_not_end_is_killed(tmp_path: Path) -> None:
    with Fleet.of_class(tmp_path, 2, {"grace": 0.1}) as fleet:
        await fleet.started(2)
        async with RawClient(fleet.port, limit=LIMIT) as client:
            await client.send(modern("tools/call", call("stuck", seconds=10 * LIMIT)))
            pid = (await fleet.line(r"stuck in (\d+)"))[1]
            fleet.process.send_signal(signal.SIGTERM)
            assert await fleet.ended() == 0
        assert f"worker {pid} has not ended and is killed" in fleet.said and "never retrieved" not in fleet.said


@posix
async def test_workers_end_when_their_parent_is_gone(tmp_path: Path) -> None:
    with Fleet.of_class(tmp_path, 3, {"grace": 0.1}) as fleet:
        await fleet.started(3)
        pids = await fleet.workers()
        async with RawClient(fleet.port, limit=LIMIT) as client:
            await client.send(modern("tools/call", call("stuck", seconds=10 * LIMIT)))
            await fleet.line("stuck in")  # its loop hears nothing any more
            fleet.process.kill()
            for pid in pids:
                await fleet.until(lambda pid=pid: not is_alive(pid), f"end of {pid}")
        await fleet.ended()  # its output is read to the end
        assert fleet.said.count("the parent of this worker is gone") == 2
        with anyio.fail_after(LIMIT):  # a thread of a process that is dead may still hold its descriptors
            while not await is_refused(fleet.port):
                await anyio.sleep(0.01)


@posix
async def test_a_worker_that_has_not_begun_ends_when_its_parent_is_gone(tmp_path: Path) -> None:
    (tmp_path / "prelude.py").write_text("import os, time; print('begins', os.getpid(), flush=True); time.sleep(9999)")
    with Fleet.of_class(tmp_path, 2) as fleet:
        pid = int((await fleet.line(r"begins (\d+)"))[1])
        fleet.process.kill()
        await fleet.until(lambda: not is_alive(pid), "end")


@posix
async def test_a_worker_that_an_operator_ends_is_started_again(tmp_path: Path) -> None:
    with Fleet.of_class(tmp_path, 2, **QUICK) as fleet:
        await fleet.started(2)
        first, _ = await fleet.workers()
        os.kill(first, signal.SIGTERM)
        await fleet.line(f"worker {first} ended with exit code 0; another one starts")
        await fleet.line(r"worker \d+ is ready\n", 3)
        assert len(await fleet.workers()) == 2


# --- sessions --------------------------------------------------------------------------------------------------------


@posix
async def test_a_session_lives_on_every_worker_and_outlives_each_of_them(tmp_path: Path) -> None:
    with (
        tempfile.TemporaryDirectory(dir="/tmp") as short,
        Fleet.of_class(tmp_path, 3, **QUICK, TMPDIR=short) as fleet,
    ):
        await fleet.started(3)
        (folder,) = Path(short).iterdir()
        assert folder.stat().st_mode & 0o777 == 0o700
        client = Legacy(fleet.port, LEGACY, limit=LIMIT)  # a connection for each request
        await client.initialize()

        async def answered(least: int = 0) -> set[int]:
            """The workers that answered calls of the session, several of which run at once; at least so many."""
            found: set[int] = set()

            async def ask() -> None:
                answer = await client.call("tools/call", call("pid"))
                found.add(int(answer.result["content"][0]["text"]))

            limit, rounds = time.monotonic() + LIMIT, 0
            while rounds < 20 or (len(found) < least and time.monotonic() < limit):
                rounds += 1
                async with anyio.create_task_group() as tasks:
                    for _ in range(10):
                        tasks.start_soon(ask)
            return found

        before = await fleet.workers()
        assert await answered(3) == {*before}
        os.kill(before[0], signal.SIGKILL)
        await fleet.line(f"worker {before[0]} was ended by SIGKILL")
        assert before[0] not in await answered()
        await fleet.line(r"worker \d+ is ready\n", 4)
        fleet.process.send_signal(signal.SIGHUP)
        await fleet.line("replaces worker", 3)
        for pid in before[1:]:  # the last of them accepts until it has read that it is replaced
            await fleet.until(lambda pid=pid: not is_alive(pid), f"end of {pid}")
        after = await answered()
        assert not after & {*before} and after <= {*await fleet.workers()}
        session = client.session
        await client.delete()
        client.session = session
        with anyio.fail_after(LIMIT):  # the others hear of it on the bus
            while (await client.post(client.request("ping"))).status != 404:
                await anyio.sleep(0.01)
        fleet.process.send_signal(signal.SIGTERM)
        assert await fleet.ended() == 0
        assert not folder.exists()
