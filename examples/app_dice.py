# SPDX-License-Identifier: MIT
"""A tool with a page: hosts with MCP Apps show the dice, and other clients get a text.

    python -m mcp_h11 examples/app_dice.py

The page is one document without sources of its own, so that it asks the host for no origin.
"""

from __future__ import annotations

import random
from typing import TypedDict

from mcp_h11 import MCPServer
from mcp_h11.extensions.apps import Apps

PAGE = """<!doctype html>
<meta charset="utf-8">
<title>Dice</title>
<p id="dice" style="font-size: 4rem">&#9856;</p>
<button>Roll again</button>
<script>
  // JSON-RPC with the host, by messages: it tells the result of each call of the tool.
  let last = 0
  const send = (message) => parent.postMessage({jsonrpc: "2.0", ...message}, "*")
  const show = ({eyes}) => {
    document.querySelector("#dice").textContent = eyes.map((n) => String.fromCodePoint(9855 + n)).join(" ")
  }
  addEventListener("message", ({source, data}) => {
    if (source !== parent) return
    if (data.id === 0) send({method: "ui/notifications/initialized"})
    else if (data.method === "ui/notifications/tool-result") show(data.params.structuredContent)
    else if (data.result?.structuredContent) show(data.result.structuredContent)
  })
  document.querySelector("button").onclick = () =>
    send({id: ++last, method: "tools/call", params: {name: "roll", arguments: {dice: 2}}})
  send({id: 0, method: "ui/initialize", params: {
    protocolVersion: "2026-01-26", appInfo: {name: "dice", version: "1"}, appCapabilities: {}}})
</script>
"""


class Roll(TypedDict):
    eyes: list[int]


apps = Apps()
apps.add_page("ui://dice/table.html", PAGE, title="Dice", prefers_border=True)


@apps.tool(page="ui://dice/table.html", fallback=lambda roll: f"You rolled {sum(roll['eyes'])}: {roll['eyes']}.")
def roll(dice: int = 2) -> Roll:
    "Roll some dice."
    return {"eyes": [random.randint(1, 6) for _ in range(max(1, min(dice, 10)))]}


server = MCPServer("dice", version="1.0", extensions=[apps])

if __name__ == "__main__":
    server.run()
