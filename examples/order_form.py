# SPDX-License-Identifier: MIT
"""A tool that asks the user: a form, and a payment that happens once.

    python -m mcp_h11 examples/order_form.py

and call `order` from a client that shows forms.  The same code works in every revision.  In 2026-07-28 the function
runs again from its start when the answer has come, so the payment stands inside `ctx.once`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from mcp_h11 import Context, MCPServer

server = MCPServer("pizzeria")
CHARGED: list[int] = []  # stands for a payment service


@dataclass
class Order:
    """The form.  A client shows a field for each member."""

    size: Literal["small", "large"]
    number: Annotated[int, {"minimum": 1, "maximum": 9}] = 1


@dataclass
class Address:
    street: str


def charge(cents: int) -> int:
    CHARGED.append(cents)
    return len(CHARGED)  # the number of the receipt


@server.tool
async def order(kind: str, ctx: Context) -> str:
    "Order pizza, after asking the user for size, number and address."
    answer = await ctx.elicit(f"How would you like your {kind}?", Order)
    if answer.action != "accept":
        return "Nothing was ordered."
    price = (900 if answer.data.size == "small" else 1200) * answer.data.number
    receipt = await ctx.once("charge", charge, price)
    address = await ctx.elicit("Where shall it go?", Address)
    where = address.data.street if address.data is not None else "the counter"
    return f"{answer.data.number} x {kind} to {where}; receipt {receipt}."


if __name__ == "__main__":
    server.run()
