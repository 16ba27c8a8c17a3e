# SPDX-License-Identifier: MIT
"""The pages for operators of a server with workers: health, readiness and metrics of all of them."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import anyio
import pytest
from rawclient import RawClient
from serving import call, modern
from worker_processes import LIMIT, Fleet, met

pytestmark = [pytest.mark.anyio, pytest.mark.long]
posix = pytest.mark.skipif(os.name != "posix", reason="sockets are handed down on POSIX alone")


PID_CALLS = 'mcp_server_operation_duration_seconds_count{mcp_method_name="tools/call",gen_ai_tool_name="pid"}'


@posix
async def test_the_metrics_are_the_sum_over_the_workers(tmp_path: Path) -> None:
    with Fleet.of_class(tmp_path, 2) as fleet:
        await fleet.started(2)
        assert len(await met(fleet, 2)) == 2
        first = (await fleet.samples())[PID_CALLS]
        async with RawClient(fleet.port, limit=LIMIT), RawClient(fleet.port, limit=LIMIT):
            for _ in range(10):
                await fleet.call("pid")
            samples = await fleet.samples()
        assert samples[PID_CALLS] == first + 10
        assert (samples["mcp_h11_workers"], samples["mcp_h11_workers_wanted"]) == (2, 2)
        assert samples["mcp_h11_draining"] == 0
        # A worker that is replaced takes its counts along to the parent.
        fleet.process.send_signal(signal.SIGHUP)
        await fleet.line("replaces worker", 2)
        assert (await fleet.samples())[PID_CALLS] == samples[PID_CALLS]


@posix
async def test_on_the_main_port_each_worker_tells_the_metrics_of_all(tmp_path: Path) -> None:
    with Fleet.of_class(tmp_path, 2, {"ops_port": None, "health": True, "metrics": True}) as fleet:
        await fleet.started(2)
        assert len(await met(fleet, 2)) == 2
        for _ in range(5):
            await fleet.call("pid")
        counts = {(await fleet.samples(fleet.port))[PID_CALLS] for _ in range(10)}
        assert len(counts) == 1 and counts.pop() >= 15
        health = await fleet.get("/health", fleet.port)
        assert (health.status, health.json()["status"]) == (200, "ok")  # of the worker that answers
        only = await fleet.get("/metrics", fleet.port, "HEAD")
        assert (only.status, only.body, only.headers["cache-control"]) == (200, b"", "no-store")
        assert (await fleet.get("/metrics", fleet.port, Host="evil.example")).status == 403
        assert (await fleet.get("/metrics", fleet.port, "POST", Content_Length="0")).status == 405
        os.kill(fleet.process.pid, signal.SIGSTOP)
        try:
            refused = await fleet.get("/metrics", fleet.port)
            assert refused.status == 503 and b"does not answer" in refused.body
            assert await fleet.call("pid")  # calls do not wait for the parent
        finally:
            os.kill(fleet.process.pid, signal.SIGCONT)
        with anyio.fail_after(LIMIT):
            while (await fleet.get("/metrics", fleet.port)).status != 200:
                await anyio.sleep(0.05)


@posix
async def test_a_worker_whose_loop_is_stuck_is_told_and_the_others_are_ready(tmp_path: Path) -> None:
    with Fleet.of_class(tmp_path, 2) as fleet:
        await fleet.started(2)
        calls = (await fleet.samples()).get(PID_CALLS, 0)
        async with RawClient(fleet.port, limit=LIMIT) as client:
            await client.send(modern("tools/call", call("stuck", seconds=10 * LIMIT)))
            pid = int((await fleet.line(r"stuck in (\d+)"))[1])
            health = await fleet.get("/health")
            assert (health.status, health.json()["status"]) == (200, "degraded")
            (found,) = (worker for worker in health.json()["workers"] if worker["pid"] == pid)
            assert found["status"] == "no answer"
            ready = (await fleet.get("/ready")).json()
            assert ready == {"ready": True, "reasons": [f"worker {pid}: no answer"]}
            assert await fleet.call("pid") != str(pid)  # connections go to the workers that accept
            assert (await fleet.samples())[PID_CALLS] == calls + 1
            other = next(worker["pid"] for worker in health.json()["workers"] if worker["pid"] != pid)
            os.kill(other, signal.SIGSTOP)
            assert (await fleet.get("/ready")).status == 503
            health = await fleet.get("/health")
            assert (health.status, health.json()["status"]) == (503, "unavailable")
            os.kill(other, signal.SIGCONT)


@posix
async def test_the_pages_of_the_parent_check_host_method_and_path(tmp_path: Path) -> None:
    with Fleet.of_class(tmp_path, 1) as fleet:
        await fleet.started(1)
        for path in ("/health", "/ready", "/metrics"):
            assert (await fleet.get(path)).status == 200
            assert (await fleet.get(path, Host="evil.example")).status == 403
            assert (await fleet.get(path, fleet.port)).status == 404  # not on the main port
            answer = await fleet.get(path, method="POST", Content_Length="0")
            assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD")
        assert (await fleet.get("/mcp")).status == 404
