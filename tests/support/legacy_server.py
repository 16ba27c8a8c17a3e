# SPDX-License-Identifier: MIT
"""A server on stdin and stdout that speaks 2025-11-25 and nothing newer, and misbehaves when it is told to.

    python tests/support/legacy_server.py [--name NAME] [--ignore-term] [--crash]

The standard library alone, so that a child starts quickly, and none of the package, so that a fault there cannot hide
itself here.  Each call runs in a thread of its own; `state` says what the client wanted so far.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import threading
import time
from typing import Any

TOOLS = ["echo", "pid", "state", "hold", "ask", "sample", "roots", "log", "progress", "touch", "change", "die",
         "close_stdout", "garbage", "flood", "fork", "big", "emit", "arm", "hidden"]  # fmt: skip
FORM = {"type": "object", "properties": {"it": {"type": "string"}}}


class Server:
    def __init__(self, name: str) -> None:
        self.name = name
        self.lock = threading.Lock()
        self.initialize: dict[str, Any] = {}
        self.initializes = 0
        self.levels: list[str] = []
        self.subscribed: list[str] = []
        self.unsubscribed: list[str] = []
        self.cancelled: list[Any] = []
        self.notified: list[str] = []
        self.stopped: dict[Any, threading.Event] = {}
        self.answers: dict[str, tuple[threading.Event, list[Any]]] = {}
        self.asked = 0

    def send(self, message: dict[str, Any]) -> None:
        line = json.dumps({"jsonrpc": "2.0", **message}) + "\n"
        with self.lock:
            sys.stdout.write(line)
            sys.stdout.flush()

    def raw(self, data: bytes) -> None:
        with self.lock:
            sys.stdout.buffer.write(data)
            sys.stdout.flush()

    def notify(self, method: str, params: dict[str, Any] | None = None) -> None:
        self.send({"method": method, **({"params": params} if params is not None else {})})

    def ask(self, method: str, params: dict[str, Any]) -> Any:
        """The client's answer: its result, or its error under "error"."""
        with self.lock:
            self.asked += 1
            request_id = f"ask-{self.asked}"
        done, box = threading.Event(), list[Any]()
        self.answers[request_id] = (done, box)
        self.send({"id": request_id, "method": method, "params": params})
        done.wait()
        return box[0]

    def run(self) -> None:
        for line in sys.stdin:
            message = json.loads(line)
            method = message.get("method")
            if method is None:
                done, box = self.answers.pop(message["id"])
                box.append(message.get("result", {"error": message.get("error")}))
                done.set()
            elif "id" in message:
                self.stopped[message["id"]] = threading.Event()
                threading.Thread(target=self.answer, args=(message,), daemon=True).start()
            else:
                self.notified.append(method)
                if method == "notifications/cancelled":
                    self.cancelled.append(message["params"]["requestId"])
                    event = self.stopped.get(message["params"]["requestId"])
                    if event is not None:
                        event.set()

    def answer(self, message: dict[str, Any]) -> None:
        try:
            result = self.result(message["method"], message.get("params") or {}, message["id"])
        except LookupError as error:
            self.send({"id": message["id"], "error": {"code": -32601, "message": f"no {error}"}})
            return
        finally:
            stopped = self.stopped.pop(message["id"]).is_set()
        if not stopped:
            self.send({"id": message["id"], "result": result})

    def result(self, method: str, params: dict[str, Any], request_id: Any) -> dict[str, Any]:
        if method == "initialize":
            self.initialize = params
            self.initializes += 1
            return {
                "protocolVersion": "2025-11-25",
                "capabilities": {
                    "tools": {"listChanged": True}, "resources": {"subscribe": True, "listChanged": True},
                    "logging": {}, "tasks": {},
                },
                "serverInfo": {"name": self.name, "version": "7"},
                "instructions": f"I am {self.name}",
            }  # fmt: skip
        if method == "ping":
            return {}
        if method == "tools/list":
            return {"tools": [{"name": name, "inputSchema": {"type": "object"}} for name in TOOLS]}
        if method == "resources/read":
            return {"contents": [{"uri": params["uri"], "text": self.name}]}
        if method == "logging/setLevel":
            self.levels.append(params["level"])
            return {}
        if method == "resources/subscribe":
            self.subscribed.append(params["uri"])
            return {}
        if method == "resources/unsubscribe":
            self.unsubscribed.append(params["uri"])
            return {}
        if method != "tools/call" or params["name"] not in TOOLS:
            raise LookupError(method)
        text = getattr(self, params["name"] + "_tool")(params.get("arguments") or {}, params, request_id)
        return {"content": [{"type": "text", "text": text}]}

    # --- tools -----------------------------------------------------------------------------------------------

    def echo_tool(self, arguments: dict[str, Any], *_: Any) -> str:
        return str(arguments["text"])

    hidden_tool = echo_tool

    def emit_tool(self, arguments: dict[str, Any], params: dict[str, Any], _: Any) -> str:
        """Sends what it is told to, and says how the client answered a question; or takes it back (`withdrawn`)."""
        method, said, token = arguments["method"], dict(arguments["params"]), (params.get("_meta") or {})
        if method == "notifications/progress":
            said["progressToken"] = token.get("progressToken")
        if not arguments.get("question"):
            self.notify(method, said)
            return "emitted"
        if arguments.get("withdrawn"):
            asking = threading.Thread(target=self.ask, args=(method, said), daemon=True)
            asking.start()
            # Until a client has it, and shows that by a file, or it is refused.
            while asking.is_alive() and not os.path.exists(arguments["withdrawn"]):
                time.sleep(0.001)
            self.notify("notifications/cancelled", {"requestId": f"ask-{self.asked}"})
            while asking.is_alive() and not os.path.exists(arguments["withdrawn"] + ".told"):
                time.sleep(0.001)
            return "withdrawn"
        return json.dumps(self.ask(method, said))

    def arm_tool(self, arguments: dict[str, Any], *_: Any) -> str:
        """Is answered at once; what it is told to say is said when a file of that name is there."""

        def say() -> None:
            while not os.path.exists(arguments["when"]):
                time.sleep(0.001)
            for method, params in arguments["messages"]:
                if method.startswith("notifications/"):
                    self.notify(method, params)
                else:
                    self.answered = self.ask(method, params)
            os.unlink(arguments["when"])

        threading.Thread(target=say, daemon=True).start()
        return "armed"

    def pid_tool(self, *_: Any) -> str:
        return str(os.getpid())

    def big_tool(self, arguments: dict[str, Any], *_: Any) -> str:
        return "x" * int(arguments["size"])

    def state_tool(self, *_: Any) -> str:
        names = ("name", "initialize", "initializes", "levels", "subscribed", "unsubscribed", "cancelled", "notified")
        return json.dumps({name: getattr(self, name) for name in names})

    def hold_tool(self, arguments: dict[str, Any], params: dict[str, Any], request_id: Any) -> str:
        """Until it is cancelled, for so many seconds, or until there is a file with the name `until`."""
        self.say("info", f"holding {arguments.get('label', '')}")
        end, until = time.monotonic() + arguments.get("seconds", 60), arguments.get("until", "")
        while not self.stopped[request_id].wait(0.005 if until else end - time.monotonic()):
            if time.monotonic() >= end or os.path.exists(until):
                break
        return "held"

    def ask_tool(self, arguments: dict[str, Any], *_: Any) -> str:
        if "after" in arguments:  # there is a file with that name: so that another call can begin before
            self.say("info", "asking soon")
            while not os.path.exists(arguments["after"]):
                time.sleep(0.005)
        said = self.ask("elicitation/create", {"mode": "form", "message": arguments.get("text", "?"),
                                               "requestedSchema": FORM, **arguments.get("more", {})})  # fmt: skip
        if arguments.get("twice"):
            again = self.ask("elicitation/create", {"mode": "form", "message": "again?", "requestedSchema": FORM})
            return json.dumps([said, again])
        return json.dumps(said)

    def sample_tool(self, *_: Any) -> str:
        return json.dumps(self.ask("sampling/createMessage", {"messages": [], "maxTokens": 1}))

    def roots_tool(self, *_: Any) -> str:
        return json.dumps(self.ask("roots/list", {}))

    def say(self, level: str, data: str) -> None:
        self.notify("notifications/message", {"level": level, "data": data})

    def log_tool(self, arguments: dict[str, Any], *_: Any) -> str:
        later = arguments.get("later")
        if later:
            threading.Timer(later, self.say, (arguments.get("level", "info"), arguments["text"])).start()
        else:
            self.say(arguments.get("level", "info"), arguments["text"])
        return "logged"

    def progress_tool(self, arguments: dict[str, Any], params: dict[str, Any], _: Any) -> str:
        token = (params.get("_meta") or {}).get("progressToken")
        for done in range(3):
            self.notify("notifications/progress", {"progressToken": token, "progress": done, "message": str(done)})
        return json.dumps(token)

    def touch_tool(self, arguments: dict[str, Any], *_: Any) -> str:
        self.notify("notifications/resources/updated", {"uri": arguments["uri"]})
        return "touched"

    def change_tool(self, *_: Any) -> str:
        self.notify("notifications/tools/list_changed")
        return "changed"

    def die_tool(self, arguments: dict[str, Any], *_: Any) -> str:
        print("last words", arguments.get("text", ""), file=sys.stderr, flush=True)
        if arguments.get("signal"):
            os.kill(os.getpid(), arguments["signal"])
            time.sleep(60)
        os._exit(3)

    def close_stdout_tool(self, *_: Any) -> str:
        os.close(1)
        time.sleep(60)
        return "never"

    def garbage_tool(self, arguments: dict[str, Any], *_: Any) -> str:
        lines = [b"Server started!", b'{"jsonrpc": "2.0"', b"[]", b"\xff\xfe", b"", b"null"]
        lines += [b'{"jsonrpc": "2.0", "id": 99, "result": {}}', b"x" * arguments.get("size", 0)]
        for line in lines:
            self.raw(line + b"\n")
        return "after garbage"

    def flood_tool(self, arguments: dict[str, Any], *_: Any) -> str:
        line = "e" * 1000
        for _index in range(int(arguments["lines"])):
            print(line, file=sys.stderr)
        return "flooded"

    def fork_tool(self, *_: Any) -> str:
        """A grandchild that has the pipes and ignores SIGTERM."""
        pid = os.fork()
        if not pid:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            time.sleep(300)
            os._exit(0)
        return str(pid)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--name", default="legacy")
    parser.add_argument("--ignore-term", action="store_true")
    parser.add_argument("--crash", action="store_true", help="end at once")
    options = parser.parse_args()
    if options.crash:
        print("I never start", file=sys.stderr)
        sys.exit(7)
    if options.ignore_term:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    Server(options.name).run()
    while options.ignore_term:  # not even the end of its input ends it
        time.sleep(1)


if __name__ == "__main__":
    main()
