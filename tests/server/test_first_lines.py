# SPDX-License-Identifier: MIT
"""The lines that a program sees which does no more than `run`: where it serves, its access log, a busy port."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import logging
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from rawclient import Modern
from shipper import shipped

import mcp_h11
from mcp_h11 import MCPServer, Server, ServerHandler, listening, run, serve
from mcp_h11.server.access import logger as access_logger
from mcp_h11.server.logs import JSONLines

pytestmark = pytest.mark.anyio
LIMIT = 60  # seconds


class Plain(ServerHandler):
    name = "plain"


@contextlib.contextmanager
def unconfigured() -> Iterator[None]:
    """Logging as a program has it that configured none: pytest's own handlers are away."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    root.handlers[:] = []
    root.setLevel(logging.WARNING)
    try:
        yield
    finally:
        root.handlers[:] = before
        root.setLevel(level)


async def served_once(handler: Any = None, *, client: bool = False, **options: Any) -> str:
    """Serve until a client has had one answer; the URL."""
    started: list[Server] = []
    ready = asyncio.Event()

    def on_start(server: Server) -> None:
        started.append(server)
        ready.set()

    with anyio.fail_after(LIMIT):
        task = asyncio.create_task(serve(handler or Plain(), port=0, signals=False, on_start=on_start, **options))
        await ready.wait()
        if client:
            modern = Modern(started[0].port)
            assert (await modern.post(modern.request("server/discover"))).status == 200
        url = started[0].url
        started[0].stop()
        await task
    return url


async def test_one_line_says_the_name_and_the_address(capsys: pytest.CaptureFixture[str]) -> None:
    url = await served_once()
    out, err = capsys.readouterr()
    assert re.fullmatch(r"http://127\.0\.0\.1:[0-9]+/mcp", url)
    assert (out, err) == ("", f"mcp_h11 serves 'plain' at {url}\n")


async def test_it_is_json_where_the_lines_of_requests_are(capsys: pytest.CaptureFixture[str]) -> None:
    with unconfigured():
        url = await served_once(client=True, access_log="json")
    first, request = shipped(capsys.readouterr().err.encode())
    assert first["message"] == f"mcp_h11 serves 'plain' at {url}"
    assert (first["level"], first["logger"], request["message"]) == ("info", "mcp_h11.server.running", "POST /mcp 200")


async def test_quiet_is_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    await served_once(quiet=True)
    async with listening(Plain(), port=0):  # it is for programs that do other work too
        pass
    assert capsys.readouterr() == ("", "")


async def test_a_name_writes_one_line_whatever_it_holds(capsys: pytest.CaptureFixture[str]) -> None:
    await served_once(MCPServer("a\nb\x1b[31m\u202e"))
    err = capsys.readouterr().err
    assert err.startswith(r"mcp_h11 serves 'a\nb\x1b[31m\u202e' at http://") and err.count("\n") == 1


@pytest.mark.parametrize("stream", ["none", "closed"])
async def test_without_stderr_it_serves_too(stream: str, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, "stderr", None if stream == "none" else closed)
    assert await served_once()


# --- the access log --------------------------------------------------------------------------------------------------


async def access_lines(capsys: pytest.CaptureFixture[str], **options: Any) -> list[str]:
    await served_once(client=True, quiet=True, **options)
    return capsys.readouterr().err.splitlines()


async def test_the_access_log_is_seen_where_the_program_configured_no_logging(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with unconfigured():
        (line,) = await access_lines(capsys, access_log=True)
    when = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}"
    assert re.fullmatch(when + r' 127\.0\.0\.1 "POST /mcp" 200 \d+\.\d{3}s rpc=server/discover', line)
    # As it was: nothing is left for the next server of the process.
    assert access_logger.handlers == [] and access_logger.level == logging.NOTSET
    assert await access_lines(capsys) == []


async def test_an_access_log_of_json_has_the_time_and_the_fields(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with unconfigured():
        (line,) = await access_lines(capsys, access_log="json")
    found = json.loads(line)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", found.pop("time"))
    assert found.pop("seconds") >= 0
    assert found == {
        "level": "info", "logger": "mcp_h11.connection.access", "message": "POST /mcp 200",
        "peer": "127.0.0.1", "method": "POST", "path": "/mcp", "status": 200, "rpc": "server/discover",
    }  # fmt: skip


@pytest.mark.parametrize("name", [None, "mcp_h11"])
async def test_a_program_that_has_a_handler_decides(capsys: pytest.CaptureFixture[str], name: str | None) -> None:
    text = io.StringIO()
    handler, logger = logging.StreamHandler(text), logging.getLogger(name)
    with unconfigured():
        logger.addHandler(handler)
        try:
            assert await access_lines(capsys, access_log=True) == []
            assert text.getvalue() == ""  # at the level of the root, a warning
            logger.setLevel(logging.INFO)
            assert await access_lines(capsys, access_log=True) == []
            assert text.getvalue().count('"POST /mcp" 200') == 1
        finally:
            logger.removeHandler(handler)
            logger.setLevel(logging.NOTSET)


async def test_a_handler_that_comes_later_writes_each_line_alone(
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = io.StringIO()
    handler = logging.StreamHandler(text)

    class Late(Plain):
        @contextlib.asynccontextmanager
        async def lifespan(self) -> Any:
            asyncio.get_running_loop().call_soon(logging.getLogger().addHandler, handler)
            yield

    with unconfigured():
        lines = await access_lines(capsys, handler=Late(), access_log=True)
    assert lines == [] and text.getvalue().count('"POST /mcp" 200') == 1


# --- lines of JSON ---------------------------------------------------------------------------------------------------


def formatted(**fields: Any) -> dict[str, Any]:
    record = logging.makeLogRecord(
        {"name": "some.logger", "levelno": 30, "levelname": "WARNING", "created": 1.5, **fields}
    )
    line = JSONLines(process=7).format(record)
    assert "\n" not in line and line.isascii()
    return json.loads(line)  # type: ignore[no-any-return]


def test_a_line_of_json_has_time_level_logger_and_message() -> None:
    assert formatted(msg="%s is\n%s", args=("this", "\u2028late")) == {
        "time": "1970-01-01T00:00:01.500Z", "level": "warning", "logger": "some.logger", "process": 7,
        "message": "this is\n\u2028late",
    }  # fmt: skip


def test_a_traceback_is_a_member_of_the_line() -> None:
    try:
        raise LookupError("gone")
    except LookupError:
        found = formatted(msg="failed", exc_info=sys.exc_info(), stack_info="Stack:\n here")
    assert found["exception"].startswith("Traceback") and found["exception"].endswith("LookupError: gone")
    assert found["stack"] == "Stack:\n here"


def test_arguments_that_do_not_fit_the_message_are_shown_beside_it() -> None:
    assert formatted(msg="%d of %d", args=("one",))["message"] == "%d of %d ('one',)"


# --- an address that cannot be had -----------------------------------------------------------------------------------


async def test_a_busy_port_names_the_address_and_the_way_out() -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        said = (
            f"cannot listen on 127.0.0.1 port {port}: it is already in use; port=... takes another, port=0 any free one"
        )
        for begin in (serve(Plain(), port=port), listening(Plain(), port=port).__aenter__()):
            with pytest.raises(OSError) as caught:
                await begin
            assert str(caught.value) == said and caught.value.errno in (48, 98, 10048)
        with pytest.raises(OSError, match=f"^cannot listen on the ops port {port} of 127.0.0.1: it is already in use$"):
            async with listening(Plain(), port=0, ops_port=port):
                pass


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            {"host": "192.0.2.1", "port": 0, "allowed_hosts": ["*"]},
            "192.0.2.1 port 0: it is no address of this machine",
        ),
        ({"uds": "none/x.sock"}, "none/x.sock: No such file or directory"),
        ({"uds": "x" * 200}, "x" * 200 + ": AF_UNIX path too long"),
        ({"fd": 1_000_000}, "descriptor 1000000: Bad file descriptor"),
        ({"port": 0, "ops_uds": "none/x.sock"}, "the ops socket none/x.sock: No such file or directory"),
    ],
)
async def test_what_cannot_be_had_is_named(options: dict[str, Any], said: str) -> None:
    with pytest.raises(OSError, match=f"^cannot listen on {re.escape(said)}$"):
        async with listening(Plain(), **options):
            pass


def test_the_script_of_a_newcomer_says_where_it_is_and_why_it_cannot_be(tmp_path: Path) -> None:
    text = "import sys\nfrom mcp_h11 import MCPServer\nMCPServer('ten lines').run(port=int(sys.argv[1]))\n"
    script = tmp_path / "server.py"
    script.write_text(text)
    root = Path(mcp_h11.__file__).resolve().parents[1]

    def start(port: int) -> subprocess.Popen[str]:
        command = [sys.executable, str(script), str(port)]
        return subprocess.Popen(
            command, env={"PYTHONPATH": str(root)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    with start(0) as first:
        assert first.stderr is not None
        try:
            line = first.stderr.readline()
            found = re.fullmatch(
                r"mcp_h11 serves 'ten lines' at http://127\.0\.0\.1:([0-9]+)/mcp \(stop it with Ctrl\+C\)\n", line
            )
            assert found, line
            with start(int(found[1])) as second:
                out, err = second.communicate(timeout=LIMIT)
            assert second.returncode == 1 and out == ""
            assert err.splitlines()[-1] == (
                f"mcp_h11.server.sockets.ListenError: cannot listen on 127.0.0.1 port {found[1]}: it is already in use"
                "; port=... takes another, port=0 any free one"
            )
            assert "During handling" not in err
        finally:
            first.kill()


def test_run_is_quiet_too(capsys: pytest.CaptureFixture[str]) -> None:
    for quiet in (True, False):
        run(Plain(), port=0, signals=False, quiet=quiet, on_start=lambda server: server.stop())
        assert capsys.readouterr().err.startswith("mcp_h11 serves 'plain' at http://127.0.0.1:") is not quiet
