# SPDX-License-Identifier: MIT
"""`--access-log-format json`: each line on stderr is one JSON object, also those that say a mistake or a traceback."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from shipper import shipped

import mcp_h11
from mcp_h11.cli.main import main

pytestmark = pytest.mark.long

ROOT = Path(mcp_h11.__file__).resolve().parents[1]
LIMIT = 60  # seconds
JSON = ("--access-log-format", "json")

TOOLS = """\
import asyncio, logging, sys, threading, traceback, warnings

def noisy() -> str:
    print("printed", "words", file=sys.stderr)
    try:
        {}["lost"]
    except KeyError:
        traceback.print_exc()
    logging.getLogger("tools").warning("two\\nlines of %s", "mine")
    warnings.warn("old")
    thread = threading.Thread(target=lambda: {}["gone"])
    thread.start()
    thread.join()
    raise RuntimeError("no\\nluck")
"""


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("MCP_H11_")]:
        monkeypatch.delenv(name)
    Path("json_tools.py").write_text(TOOLS)


def objects(text: str) -> list[dict[str, Any]]:
    found = shipped(text.encode())
    assert all(one["message"] for one in found)
    return found


def call(url: str) -> None:
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {
        "name": "noisy", "arguments": {}, "_meta": {"io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": {"name": "t", "version": "0"},
        "io.modelcontextprotocol/clientCapabilities": {}}}}  # fmt: skip
    headers = {
        "Content-Type": "application/json", "Accept": "application/json, text/event-stream", "Mcp-Name": "noisy",
        "Mcp-Method": "tools/call", "MCP-Protocol-Version": "2026-07-28",
    }  # fmt: skip
    request = urllib.request.Request(url, json.dumps(message).encode(), headers)
    with urllib.request.urlopen(request, timeout=LIMIT) as answer:
        assert answer.status == 200


def said_by(*arguments: str, command: Sequence[str] = (), **environ: str) -> str:
    """The stderr of a process that serves a call, and is stopped."""
    process = subprocess.Popen(
        [sys.executable, "-m", "mcp_h11", *command, "json_tools.py", "--port", "0", *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"], **environ},
    )  # fmt: skip
    timer = threading.Timer(LIMIT, process.kill)
    timer.start()
    try:
        assert process.stdout is not None
        found = re.search(r"at (http://\S+)", process.stdout.readline())
        assert found
        call(found[1])
        process.send_signal(signal.SIGTERM)
        err = process.communicate(timeout=LIMIT)[1]
        assert process.returncode == 0
        return err
    finally:
        timer.cancel()
        process.kill()
        process.communicate()


def test_every_line_of_a_server_is_one_object() -> None:
    found = objects(said_by("--access-log", *JSON))
    by_message = {one["message"]: one for one in found}
    assert by_message["two\nlines of mine"]["logger"] == "tools"
    request = by_message["POST /mcp 200"]
    assert (request["logger"], request["level"]) == ("mcp_h11.connection.access", "info")
    assert (request["method"], request["status"], request["rpc"]) == ("POST", 200, "tools/call")
    printed = [one["message"] for one in found if one["logger"] == "stderr"]
    assert printed[:2] == ["printed words", "Traceback (most recent call last):"] and printed[-1] == "KeyError: 'lost'"
    (warning,) = [one for one in found if one["logger"] == "py.warnings"]
    assert "old" in warning["message"]
    (uncaught,) = [one for one in found if one["level"] == "critical"]
    assert uncaught["message"] == "uncaught KeyError" and uncaught["exception"].startswith("Traceback (most recent")
    (failed,) = [one for one in found if "RuntimeError" in one.get("exception", "")]
    assert failed["exception"].startswith("Traceback (most recent") and "\n  File " in failed["exception"]


@pytest.mark.skipif(os.name != "posix", reason="sockets are handed down on POSIX alone")
def test_every_line_of_workers_has_the_number_of_the_process() -> None:
    found = objects(said_by("--workers", "1", MCP_H11_ACCESS_LOG_FORMAT="json", MCP_H11_ACCESS_LOG="1"))
    assert len({one["process"] for one in found}) == 2  # the parent and the worker
    assert any(one["message"] == "POST /mcp 200" for one in found)


@pytest.mark.skipif(os.name != "posix", reason="sockets are handed down on POSIX alone")
@pytest.mark.parametrize("command", [("dev",), ()], ids=["dev", "reload"])
def test_every_line_of_a_server_that_is_reloaded_is_one_object(command: tuple[str, ...]) -> None:
    Path("json_tools.py").write_text(f"import logging, sys\nlogging.getLogger('tools').debug('mine')\n{TOOLS}")
    found = objects(said_by(*([] if command else ["--reload"]), "--access-log", *JSON, command=command))
    assert len({one["process"] for one in found}) == 2  # the parent and the one that serves
    messages = {one["message"] for one in found}
    assert {"POST /mcp 200", "printed words", "uncaught KeyError"} <= messages
    assert ("mine" in messages) is bool(command)  # `dev` shows the debug messages of the user's own code


def test_an_end_by_a_text_is_one_object() -> None:
    Path("json_tools.py").write_text("import sys\nsys.stderr.write('half a line')\nsys.exit('no luck today')")
    ran = subprocess.run(
        [sys.executable, "-m", "mcp_h11", "json_tools.py", *JSON], capture_output=True, text=True, timeout=LIMIT,
        env={"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"]},
    )  # fmt: skip
    assert ran.returncode
    messages = [one["message"] for one in objects(ran.stderr)]
    assert messages == ["half a line", "import of json_tools.py failed: SystemExit: no luck today"]


def refusal(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    (one,) = objects(err)
    assert (one["level"], one["logger"]) == ("error", "mcp_h11.cli")
    return one


def test_a_mistake_is_one_object_too(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert refusal(capsys, "--prot", *JSON)["message"] == "there is no option --prot; did you mean --port?"
    assert "No such file" in refusal(capsys, "gone.py", "--access-log-format=JSON")["message"]
    Path("broken.py").write_text("import json\njson.loads('{')\n")
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = str(busy.getsockname()[1])
        assert "is already in use" in refusal(capsys, "json_tools.py", "--port", port, *JSON)["message"]
    monkeypatch.setenv("MCP_H11_ACCESS_LOG_FORMAT", "json")
    broken = refusal(capsys, "broken.py")
    assert broken["message"].startswith("import of broken.py failed: JSONDecodeError")
    assert broken["exception"].startswith("Traceback") and 'broken.py", line 2' in broken["exception"]
    # A client has no log of requests, and the words of a bridge's command are not ours.
    assert main(["call", "--jsn"]) == 2
    assert capsys.readouterr().err.startswith("python -m mcp_h11: error: ")
    monkeypatch.setenv("MCP_H11_ACCESS_LOG_FORMAT", "text")
    assert main(["proxy", "--prot", "--", "x", *JSON]) == 2
    assert capsys.readouterr().err.startswith("python -m mcp_h11: error: ")
    monkeypatch.setenv("MCP_H11_ACCESS_LOG_FORMAT", "json")
    # The command line goes first, as ever.
    assert main(["--prot", "--access-log-format", "text"]) == 2
    assert capsys.readouterr().err.startswith("python -m mcp_h11: error: ")
