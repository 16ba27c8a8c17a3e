# SPDX-License-Identifier: MIT
"""A server for the tests of the page: each thing once, with texts that try to be markup."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

from mcp_h11 import Audio, Context, Image, MCPServer, ToolError

MARKUP = '<img src=x onerror="alert(1)"><script>alert(2)</script><b>bold</b>'
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8DwHwAFBQIAX8jx0gAAAABJRU5ErkJggg=="
)
WAV = base64.b64decode("UklGRiYAAABXQVZFZm10IBAAAAABAAEAQB8AAAB9AAACABAAZGF0YQIAAAA=")
BIG = 9007199254740993  # 2^53 + 1, which a JavaScript number cannot hold

EVERY_FIELD: dict[str, Any] = {
    "type": "object",
    "$defs": {"point": {"type": "object", "properties": {"x": {"type": "number"}, "y": {"type": "number"}},
                        "required": ["x", "y"]}},
    "properties": {
        "name": {"type": "string", "title": "Your name", "description": "As on the parcel."},
        "note": {"type": "string"},
        "count": {"type": "integer", "minimum": 1, "maximum": 10**18},
        "price": {"type": "number", "default": 1.5},
        "gift": {"type": "boolean", "default": True},
        "express": {"type": "boolean"},
        "size": {"type": "string", "enum": ["small", "large"]},
        "colour": {"oneOf": [{"const": "r", "title": "Red"}, {"const": "g", "title": "Green"}], "default": "g"},
        "tags": {"type": "array", "items": {"type": "string"}},
        "days": {"type": "array", "items": {"enum": ["Monday", "Friday"]}},
        "place": {"$ref": "#/$defs/point"},
        "parcel": {"type": "object", "properties": {"weight": {"type": "integer", "default": 3}}},
        "extra": {"type": "object", "additionalProperties": True},
        "maybe": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
    },
    "required": ["name", "count", "size", "place"],
}  # fmt: skip

# Each node has ten nodes of the same kind, all of them required: a form of all levels has a million fields.
NODES = {f"n{number}": {"$ref": "#/$defs/node"} for number in range(10)}
TREE: dict[str, Any] = {
    "type": "object",
    "$defs": {
        "node": {"type": "object", "properties": NODES, "required": list(NODES)},
        "loop": {"anyOf": [{"$ref": "#/$defs/loop"}, {"type": "null"}]},
    },
    "properties": {"root": {"$ref": "#/$defs/node"}, "loop": {"$ref": "#/$defs/loop"}},
}


class Shop(MCPServer):
    """`go` lets a waiting tool end; `calls` are the arguments of the calls of `order`."""

    def __init__(self) -> None:
        super().__init__("shop", title=f"Shop {MARKUP}", version="1.2", instructions=f"Be kind. {MARKUP}")
        self.calls: list[dict[str, Any]] = []
        self.cancelled = 0
        self.go = asyncio.Event()
        self.add_tool(self.order, name="order", input_schema=EVERY_FIELD)
        plain = (self.add, self.wait, self.fail, self.show, self.ask_form, self.ask_model, self.ask_roots, self.ask_url)
        for tool in (*plain, self.grow, self.cut):
            self.add_tool(tool, name=tool.__name__)
        self.add_tool(self.tree, name="tree", input_schema=TREE)
        self.add_tool(self.hostile, name="hostile", title=MARKUP, description=MARKUP,
                      annotations={"destructiveHint": True, "readOnlyHint": False})  # fmt: skip
        self.add_resource("shop://terms", lambda: f"Terms {MARKUP}", name="terms", mime_type="text/plain")
        self.add_resource("shop://logo", lambda: PNG, name="logo", mime_type="image/png")
        self.add_resource("shop://data", lambda: b"\0" * 2048, name="data", mime_type="application/zip")
        self.add_resource("shop://orders/{number}{?colour}", self.one_order, name="orders")
        self.add_prompt(self.praise, name="praise")
        self.completion(self.words)

    async def order(self, **arguments: Any) -> dict[str, Any]:
        """Take an order of every kind of field."""
        self.calls.append(arguments)
        return {"structuredContent": {"big": BIG}, "content": [{"type": "text", "text": "taken"}]}

    async def add(self, a: int, b: int) -> int:
        """Add two numbers."""
        return a + b

    async def wait(self, ctx: Context) -> str:
        """Report progress, and wait until the test says so."""
        await ctx.info(f"it began {MARKUP}")
        await ctx.report_progress(1, 3, f"one of three {MARKUP}")
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return "over"

    async def fail(self, how: str = "tool") -> str:
        """Fail."""
        raise ToolError(f"no luck {MARKUP}") if how == "tool" else ValueError(how)

    async def show(self) -> list[Any]:
        """Give each kind of content."""
        link = {"type": "resource_link", "uri": "shop://terms", "name": "terms"}
        page = {"type": "resource", "resource": {"uri": "shop://page", "mimeType": "text/html", "text": MARKUP}}
        return [
            {"type": "text", "text": MARKUP},
            Image(data=PNG, format="png"),
            Audio(data=WAV, format="wav"),
            link,
            page,
        ]

    async def ask_form(self, ctx: Context) -> str:
        """Ask the user twice."""
        schema = {
            "type": "object",
            "properties": {"name": {"type": "string"}, "age": {"type": "integer", "default": 30}},
        }
        answer = await ctx.elicit(f"Who are you? {MARKUP}", {**schema, "required": ["name"]})
        if answer.action != "accept":
            return f"it was {answer.action}"
        again = await ctx.elicit(
            "Sure?", {"type": "object", "properties": {"ok": {"type": "boolean", "default": True}}}
        )
        return f"{answer.content['name']}, {answer.content['age']}, {again.action}"

    async def ask_model(self, ctx: Context) -> str:
        """Ask a model."""
        return f"it said {(await ctx.sample('A joke, please', max_tokens=50)).text}"

    async def ask_roots(self, ctx: Context) -> str:
        """Ask for folders."""
        return f"roots {[root['uri'] for root in await ctx.list_roots()]}"

    async def ask_url(self, ctx: Context, address: str = "https://shop.example/pay") -> str:
        """Ask the user to open an address."""
        return f"it was {(await ctx.elicit_url('Please pay', address)).action}"

    async def cut(self, ctx: Context) -> str:
        """End the stream before the answer; it is there for a client that comes back."""
        await ctx.close_sse_stream()
        return "the answer came later"

    async def tree(self, **arguments: Any) -> str:
        """Take a tree."""
        return str(arguments)

    async def grow(self, ctx: Context) -> str:
        """Add a tool to the list."""
        self.add_tool(lambda: "new", name="grown")
        return "grown"

    async def hostile(self) -> str:
        raise AssertionError("no test calls it")

    def one_order(self, number: str, colour: str = "none") -> str:
        """One order."""
        return f"Order {number} in {colour}."

    def praise(self, product: str) -> str:
        """Praise a product."""
        return f"Praise {product}! {MARKUP}"

    def words(self, ref: dict[str, Any], argument: dict[str, Any], context: dict[str, Any] | None) -> list[str]:
        return [word for word in ("apple", "apricot", "red") if word.startswith(argument["value"])]
