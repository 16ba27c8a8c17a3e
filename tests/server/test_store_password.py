# SPDX-License-Identifier: MIT
"""The password of a store is in nothing that others can read: logs, pages, answers, command lines of workers."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from rawclient import INFO, Legacy
from redis_servers import RedisServer, redis_server
from serving import LEGACY, call
from worker_processes import LIMIT, Fleet

from mcp_h11.cli.workers import _without

pytestmark = pytest.mark.anyio

PASSWORD = "s3cret/canary"
AS_WRITTEN = "s3cret%2Fcanary"
SHOWN = "canary"  # is in both


def start(server: RedisServer, password: str) -> None:
    server.launch("--requirepass", password)

    def answers() -> bool:
        with server.control(password=password) as client:
            return bool(client.ping())

    server.wait_until(answers)


def command_line(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()


@pytest.mark.skipif(not os.path.exists("/proc/self/cmdline"), reason="looks command lines up in /proc")
async def test_a_password_on_the_command_line_is_shown_nowhere_else(tmp_path: Path) -> None:
    """While the store works, is away, and refuses the password; with all that can be logged."""
    seen: list[str] = []
    with redis_server(port=True, started=False) as server:
        start(server, PASSWORD)
        url = f"redis://:{AS_WRITTEN}@127.0.0.1:{server.port}"
        arguments = ("--workers", "2", "--port", "0", "--ops-port", "0", "--log-level", "debug", "--access-log")
        with Fleet.of_command_line(tmp_path, *arguments, "--store", url, PYTHONASYNCIODEBUG="1") as fleet:
            await fleet.started(2)

            async def look(status: int) -> None:
                for page in ("/health", "/ready", "/metrics"):
                    seen.append((await fleet.get(page)).body.decode())
                client = Legacy(fleet.port, LEGACY, limit=LIMIT)
                params = {"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": INFO}
                answer = await client.post(client.request("initialize", params))
                assert answer.status == status
                seen.append(f"{answer.headers} {answer.body.decode()}")

            client = Legacy(fleet.port, LEGACY, limit=LIMIT)
            await client.initialize()
            assert (await client.call("tools/call", call("pid"))).result
            await look(200)
            server.kill()
            await look(503)
            start(server, "another")
            await fleet.line("refuses this user or password")
            await look(503)
            lines = [command_line(pid) for pid in await fleet.workers()]
            assert len(lines) == 2 and all("--worker-channel=" in line and "--access-log" in line for line in lines)
            seen += lines
            assert SHOWN in command_line(fleet.process.pid)  # that one the user has written
        seen.append(fleet.said)
    assert [text for text in seen if SHOWN in text] == []


@pytest.mark.parametrize(
    ("arguments", "left"),
    [
        (["tools.py", "--store", "URL", "--port", "0"], ["tools.py", "--port", "0"]),
        (["--store=URL", "tools.py"], ["tools.py"]),
        (["--store", "URL", "--store=URL", "--storey", "--token", "T"], ["--storey", "--token", "T"]),
        (["--port", "0", "--", "--store"], ["--port", "0", "--", "--store"]),
        (["tools.py", "--store"], ["tools.py"]),
    ],
)
def test_an_option_and_its_value_are_taken_off_a_command_line(arguments: list[str], left: list[str]) -> None:
    assert _without(arguments, ["--store"]) == left
