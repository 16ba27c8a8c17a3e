# SPDX-License-Identifier: MIT
"""`--reload` and `dev`, as real processes: an edit is served, sessions go on, and code that cannot run does no harm."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest
from rawclient import Legacy, Modern, RawClient
from serving import call, modern
from worker_processes import LIMIT, Fleet

from mcp_h11 import Client
from mcp_h11.cli.main import main
from mcp_h11.cli.reloading import dev, reload
from mcp_h11.client.transports.stdio import StdioTransport

pytestmark = [pytest.mark.anyio, pytest.mark.long]  # real processes, several seconds each
posix = pytest.mark.skipif(os.name != "posix", reason="sockets are handed down on POSIX alone")
ROOT = Path(reload.__file__).resolve().parents[3]

TOOLS = """\
import asyncio
import logging
import os

from helper import VERSION

async def version() -> int:
    logging.getLogger("mine").debug("asked for the version")
    return VERSION

async def nap() -> int:
    print("napping", flush=True)
    while not os.path.exists("over"):
        await asyncio.sleep(0.05)
    return VERSION
"""
SERVED = "the new code is served"


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("MCP_H11_")]:
        monkeypatch.delenv(name)
    save(tmp_path, "VERSION = 1\n")
    yield


def save(folder: Path, text: str, name: str = "helper.py") -> None:
    """As editors do: the text goes into a file beside it, which then takes its place."""
    new = folder / f".{name}.swp"
    new.write_text(text)
    os.replace(new, folder / name)


def reloading(folder: Path, *arguments: str, word: str = "", **environment: str) -> Fleet:
    (folder / "tools.py").write_text(TOOLS)
    words = [word] if word else []
    more = ["--reload"] if not word else []
    return Fleet("-m", "mcp_h11", *words, "tools.py", *more, "--port", "0", *arguments, folder=folder, **environment)


@posix
async def test_an_edit_is_served_to_the_same_session_and_clients_are_told(tmp_path: Path) -> None:
    with reloading(tmp_path) as fleet:
        await fleet.started(1)
        session = Legacy(fleet.port, "2025-11-25", limit=LIMIT)
        await session.initialize()
        async with (
            session.get_stream() as own,
            Modern(fleet.port, limit=LIMIT).listen(toolsListChanged=True) as listened,
            RawClient(fleet.port, limit=LIMIT) as kept,
        ):
            await kept.send(modern("tools/call", call("version")))
            answer = await kept.receive("POST")
            assert answer.messages()[-1]["result"]["structuredContent"] == {"result": 1}
            save(tmp_path, "VERSION = 2\n")
            assert (await own.next_message(LIMIT))["method"] == "notifications/tools/list_changed"
            acknowledged = await listened.next_message(LIMIT)
            assert acknowledged["method"] == "notifications/subscriptions/acknowledged"
            assert (await listened.next_message(LIMIT))["method"] == "notifications/tools/list_changed"
            # The connection was idle: the next call on it would have met the old code.
            assert await kept.receive_eof() == b""
            # The listening streams end, and their clients open others.
            while await own.next_event(LIMIT) is not None:
                pass
        result = await session.call("tools/call", call("version"))
        assert result.result["structuredContent"] == {"result": 2}
        await fleet.line(f"helper.py changed: {SERVED}")  # the parent writes it, when the client may have its answer


@posix
async def test_code_that_cannot_run_is_told_once_and_the_code_before_goes_on(tmp_path: Path) -> None:
    with reloading(tmp_path) as fleet:
        await fleet.started(1)
        for text, said in (
            ("VERSION = (\n", r"helper\.py:1: SyntaxError: '\(' was never closed \(the code before it goes on\)"),
            (
                "from absent import VERSION\n",
                r"helper\.py:1: ModuleNotFoundError: No module named 'absent' \(the code before",
            ),
        ):
            save(tmp_path, text)
            await fleet.line(said)
            assert len([line for line in fleet.said.splitlines() if "the code before" in line]) == 1
            assert await fleet.call("version") == "1"
            save(tmp_path, text + "# and again\n")
            await fleet.line(said, 2)
            fleet.forget()
        save(tmp_path, "VERSION = 3\n", "absent.py")  # it was missing, and nothing else changes
        await fleet.line(f" absent.py changed: {SERVED}")
        assert await fleet.call("version") == "3" and "Traceback" not in fleet.said


@posix
async def test_a_running_call_ends_in_the_code_in_which_it_began_and_holds_up_no_edit(tmp_path: Path) -> None:
    with reloading(tmp_path) as fleet, anyio.fail_after(LIMIT):
        await fleet.started(1)
        async with RawClient(fleet.port, limit=LIMIT) as slow:
            await slow.send(modern("tools/call", call("nap")))
            await fleet.line("napping")
            for number in (2, 3):
                save(tmp_path, f"VERSION = {number}\n")
                await fleet.line(SERVED, number - 1)
                assert await fleet.call("version") == str(number)
            save(tmp_path, "", "over")
            answer = await slow.receive("POST")
            assert answer.messages()[-1]["result"]["structuredContent"] == {"result": 1}


@posix
async def test_a_worker_that_dies_while_the_code_is_broken_comes_back_when_it_is_mended(tmp_path: Path) -> None:
    with reloading(tmp_path) as fleet:
        await fleet.started(1)
        save(tmp_path, "VERSION = (\n")
        await fleet.line("the code before it goes on")
        os.kill(int((await fleet.line(r"worker (\d+) is ready"))[1]), signal.SIGKILL)
        await fleet.line("was ended by SIGKILL")
        await fleet.line("waiting until it is mended")
        save(tmp_path, "VERSION = 6\n")
        await fleet.line(r"worker \d+ is ready|the new code is served", 2)
        assert await fleet.call("version") == "6"


@posix
async def test_code_that_cannot_run_at_the_start_is_waited_for(tmp_path: Path) -> None:
    save(tmp_path, "VERSION = \n")
    with reloading(tmp_path) as fleet:
        await fleet.line(r"helper\.py:1: SyntaxError: .* \(waiting until it is mended\)")
        save(tmp_path, "VERSION = 5\n")
        await fleet.started(1)
        assert await fleet.call("version") == "5"
        fleet.process.send_signal(signal.SIGTERM)
        assert await fleet.ended() == 0
    save(tmp_path, "VERSION = \n")
    with reloading(tmp_path) as fleet:
        await fleet.line("waiting until it is mended")
        fleet.process.send_signal(signal.SIGINT)
        assert await fleet.ended() == 0


@posix
async def test_dev_logs_requests_and_the_debug_messages_of_the_user_alone_and_hides_a_secret(tmp_path: Path) -> None:
    with reloading(tmp_path, "--token", "s3cret", word="dev") as fleet:
        await fleet.started(1)
        if sys.platform == "linux":  # others can read a command line
            pid = int((await fleet.line(r"worker (\d+) is ready"))[1])
            assert b"s3cret" not in Path(f"/proc/{pid}/cmdline").read_bytes()
        client = Modern(fleet.port, limit=LIMIT)
        client.extra_headers = {"Authorization": "Bearer s3cret"}
        await client.call("tools/call", call("version"))
        await fleet.line(r'\d\d:\d\d:\d\d INFO .*"POST /mcp" 200 .*rpc=tools/call')
        await fleet.line(r"\d\d:\d\d:\d\d DEBUG asked for the version")
        await fleet.line(r"The new code is served when a file changes\.")
        assert "DEBUG Using selector" not in fleet.said and "s3cret" not in fleet.said


async def test_on_pipes_the_session_goes_on_in_the_new_code(tmp_path: Path) -> None:
    (tmp_path / "tools.py").write_text(TOOLS.replace('print("napping", flush=True)', "pass"))
    command = [sys.executable, "-m", "mcp_h11", "tools.py", "--stdio", "--reload"]
    pipes = StdioTransport(command, env={"PYTHONPATH": str(ROOT)}, cwd=str(tmp_path))
    tell, told = anyio.create_memory_object_stream[str](100)
    with anyio.fail_after(LIMIT):
        async with told, tell, Client(pipes, on_list_changed=tell.send_nowait) as client:
            for number in (1, 2):
                assert (await client.call_tool("version"))["structuredContent"] == {"result": number}
                save(tmp_path, f"VERSION = {number + 1}\n")
                while await told.receive() != "tools":
                    pass  # the notices about prompts and resources follow it, those of the last reload too


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--reload"], "--reload is for code of yours: name a file or a module"),
        (["absent.py", "--reload"], "there is no file absent.py"),
        (["dev"], "the following arguments are required: TARGET"),
        (["dev", "absent.py"], "there is no file absent.py"),
        (["proxy", "--reload", "--", sys.executable], "--reload is for tools"),
    ],
)
def test_mistakes(capsys: pytest.CaptureFixture[str], arguments: list[str], reason: str) -> None:
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith(f"python -m mcp_h11: error: {reason}") and err.count("\n") == 1


def test_dev_is_not_for_pipes(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MCP_H11_STDIO", "1")
    assert main(["dev", "helper.py"]) == 2
    assert "dev serves over HTTP, and MCP_H11_STDIO says pipes" in capsys.readouterr().err


def test_a_system_that_hands_no_sockets_down_is_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(reload, "HANDS_DOWN", False)
        assert main(["helper.py", "--reload"]) == 2
    assert "--reload needs --stdio here" in capsys.readouterr().err


@posix
async def test_a_module_that_is_nowhere_and_a_setting_that_is_wrong_are_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / "tools.py").write_text(TOOLS)
    for arguments, reason in (
        (["nowhere", "--reload", "--port", "0"], "'nowhere' is no command, no file and no module"),
        (["tools.py", "--reload", "--port", "0", "--host", "0.0.0.0"], "can be reached from elsewhere"),
    ):
        with Fleet("-m", "mcp_h11", *arguments, folder=tmp_path) as fleet:
            assert await fleet.ended() == 2
            assert fleet.said.count(reason) >= 1 and "Traceback" not in fleet.said


def test_what_dev_switches_on_can_be_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    options = dev.read_dev_options(["helper.py"])
    assert (options.reload, options.access_log, options.debug, options.log_level) == (True, True, True, "info")
    options = dev.read_dev_options(["helper.py", "--no-access-log", "--log-level", "warning"])
    assert (options.access_log, options.debug, options.log_level) == (False, False, "warning")
    monkeypatch.setenv("MCP_H11_ACCESS_LOG", "0")
    assert dev.read_dev_options(["helper.py"]).access_log is False
