# SPDX-License-Identifier: MIT
"""`call --task` and `tasks` on the command line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from mcp_h11 import Context, InvalidParams, MCPServer, ToolError, start_in_thread
from mcp_h11.cli.asking.ask import OK, PROTOCOL_ERROR, TOOL_ERROR, main_of
from mcp_h11.cli.main import main
from mcp_h11.handler.extension import Extension, ExtensionMethod

NAME = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}


def desk() -> MCPServer:
    server = MCPServer("desk")

    @server.tool(task="optional")
    async def add(a: int, b: int = 1) -> int:
        return a + b

    @server.tool(task="required")
    async def fail() -> str:
        raise ToolError("out of stock")

    @server.tool(task="required")
    async def refuse() -> str:
        raise InvalidParams("no such thing")

    @server.tool(task="required")
    async def ask(ctx: Context) -> str:
        answer = await ctx.elicit("Your name?", NAME)
        return f"{answer.action} {answer.content}"

    @server.tool
    def plain() -> str:
        return "plain"

    return server


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with start_in_thread(desk(), port=0) as server:
        yield server.url


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = main_of(words[0], words[1:])
    said = capsys.readouterr()
    return code, said.out, said.err


def kept(capsys: Any, url: str, *words: str) -> str:
    """The id of a task that was begun and not waited for."""
    code, out, err = run(capsys, "call", url, *words, "--no-wait")
    assert code == OK and err == ""
    return out.strip()


def test_a_task_is_followed_to_its_end_and_its_id_is_told_at_once(capsys: Any, url: str) -> None:
    code, out, err = run(capsys, "call", url, "add", "a=1", "--task")
    assert (code, out) == (OK, "2\n") and err.startswith("task ") and "tasks TARGET get|result|cancel ID" in err
    code, out, _ = run(capsys, "call", url, "add", "a=1", "--task", "--json")
    assert code == OK and json.loads(out)["content"][0]["text"] == "2"


def test_a_task_that_is_not_waited_for_is_found_again(capsys: Any, url: str) -> None:
    task_id = kept(capsys, url, "add", "a=2")
    assert run(capsys, "tasks", url, "result", task_id) == (OK, "3\n", "")
    assert run(capsys, "tasks", url, "get", task_id)[:2] == (OK, "completed\n")
    code, out, _ = run(capsys, "tasks", url, "get", task_id, "--json")
    assert code == OK and json.loads(out)["result"]["content"][0]["text"] == "3"
    code, out, _ = run(capsys, "call", url, "add", "a=2", "--no-wait", "--json")
    assert code == OK and json.loads(out)["status"] == "working"


def test_questions_of_a_task_are_answered_by_the_command_line(capsys: Any, url: str) -> None:
    task_id = kept(capsys, url, "ask")
    while (out := run(capsys, "tasks", url, "get", task_id)[1]) == "working\n":
        pass
    assert out == "input_required\n  input: Your name?\n"
    code, out, _ = run(capsys, "tasks", url, "result", task_id, "--answer", "name=Ada")
    assert (code, out) == (OK, "accept {'name': 'Ada'}\n")
    code, out, _ = run(capsys, "call", url, "ask", "--task", "--decline")
    assert (code, out) == (OK, "decline None\n")


def test_a_task_is_cancelled(capsys: Any, url: str) -> None:
    task_id = kept(capsys, url, "ask")
    assert run(capsys, "tasks", url, "cancel", task_id)[:2] == (OK, "cancelled: The client cancelled the task\n")
    code, _, err = run(capsys, "tasks", url, "result", task_id)
    assert code == PROTOCOL_ERROR and "The client cancelled the task" in err


def test_the_exit_code_is_that_of_a_call(capsys: Any, url: str) -> None:
    assert run(capsys, "call", url, "fail", "--task")[0] == TOOL_ERROR
    code, _, err = run(capsys, "call", url, "refuse", "--task")
    assert code == PROTOCOL_ERROR and "no such thing" in err
    task_id = kept(capsys, url, "refuse")
    while (out := run(capsys, "tasks", url, "get", task_id)[1]) == "working\n":
        pass
    assert out == "failed: no such thing\n"
    code, _, err = run(capsys, "tasks", url, "get", "never-was")
    assert code == PROTOCOL_ERROR and "Unknown task" in err
    assert main(["tasks", url, "look", "x"]) == 2
    assert main(["tasks", url]) == 2


def test_a_server_that_answers_at_once_says_so(capsys: Any, url: str) -> None:
    code, out, err = run(capsys, "call", url, "plain", "--no-wait")
    assert (code, out) == (OK, "plain\n") and "at once" in err


def test_without_task_a_call_waits(capsys: Any, url: str) -> None:
    assert run(capsys, "call", url, "add", "a=1") == (OK, "2\n", "")
    code, _, err = run(capsys, "call", url, "ask")
    assert code == PROTOCOL_ERROR and "-32021" in err


class Odd(Extension):
    """A server whose tasks are malformed."""

    identifier = "io.modelcontextprotocol/tasks"
    state: dict[str, Any] = {}

    def methods(self) -> dict[str, Any]:
        async def get(params: Any, ctx: Any) -> dict[str, Any]:
            return {"taskId": params["taskId"], "status": "failed", **self.state}

        return {"tasks/get": ExtensionMethod(get, mirrored="taskId")}


@pytest.mark.parametrize(
    ("state", "code", "out"),
    [
        ({"error": "text"}, OK, "failed\n"),
        ({"statusMessage": ["odd"]}, OK, "failed: ['odd']\n"),
        ({"error": {"message": {"odd": 1}}}, OK, "failed: {'odd': 1}\n"),
        ({"status": "input_required", "inputRequests": ["a"]}, OK, "input_required\n"),
        ({"status": "input_required", "inputRequests": {"a": "b"}}, PROTOCOL_ERROR, "input_required\n"),
        ({"status": "input_required", "inputRequests": {"a": {"method": "roots/list", "params": []}}}, PROTOCOL_ERROR,
         "input_required\n"),
    ],
)  # fmt: skip
def test_a_task_that_is_malformed_is_shown_or_is_an_error(capsys: Any, state: Any, code: int, out: str) -> None:
    extension = Odd()
    extension.state = state
    with start_in_thread(MCPServer("odd", extensions=[extension]), port=0) as server:
        assert run(capsys, "tasks", server.url, "get", "x")[:2] == (code, out)
