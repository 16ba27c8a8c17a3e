# SPDX-License-Identifier: MIT
"""The demo server of `python -m mcp_h11`: one small example of each thing that a server can offer.

Meant to be read, and to be a first file to copy: below the imports stands the code that a user would write.
It does nothing outside its own process.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import anyio

from .. import Context, MCPServer, ResourceNotFound
from ..version import __version__

server = MCPServer(
    "demo",
    title="mcp_h11 demo",
    version=__version__,
    instructions="Small examples: add numbers, count with progress, order a pizza (asks the user), look up a city.",
)


# A plain tool: the schema comes from the signature and the docstring.
@server.tool(annotations={"readOnlyHint": True})
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


# Progress and log messages reach the client while the tool runs.
@server.tool
async def count(
    ctx: Context,
    to: Annotated[int, {"minimum": 1, "maximum": 100}] = 5,
    pause: Annotated[float, {"minimum": 0, "maximum": 10}] = 0.2,
) -> str:
    """Count, and report the progress.

    Args:
        to: The last number.
        pause: Seconds between two numbers.
    """
    await ctx.info(f"counting to {to}")
    for number in range(1, to + 1):
        await ctx.report_progress(number, to, f"{number} of {to}")
        await anyio.sleep(pause)
    return f"counted to {to}"


@dataclass
class Order:
    """What the user is asked for; a client shows it as a form."""

    size: Literal["small", "medium", "large"]
    olives: bool = False


# Asks the user. The same code works with every client that can ask, whichever revision it speaks.
@server.tool
async def order_pizza(ctx: Context, kind: str = "margherita") -> str:
    """Order a pizza, after asking the user how it should be. (Nothing is delivered.)"""
    answer = await ctx.elicit(f"How would you like your {kind}?", Order)
    if answer.action != "accept":
        return "No pizza was ordered."
    olives = "with olives" if answer.data.olives else "without olives"
    return f"Ordered: one {answer.data.size} {kind}, {olives}."


@dataclass
class City:
    name: str
    country: str
    latitude: float
    longitude: float


CITIES = {
    city.name.lower(): city
    for city in (
        City("Lisbon", "Portugal", 38.72, -9.14),
        City("Nairobi", "Kenya", -1.29, 36.82),
        City("Oslo", "Norway", 59.91, 10.75),
        City("Quito", "Ecuador", -0.18, -78.47),
    )
}


# Structured output: the return annotation gives the output schema. An exception becomes an error for the model.
@server.tool(annotations={"readOnlyHint": True})
def find_city(name: str) -> City:
    """Say where a city is. Knows Lisbon, Nairobi, Oslo and Quito."""
    try:
        return CITIES[name.lower()]
    except KeyError:
        raise ValueError(f"no city {name!r}; there are {', '.join(sorted(CITIES))}") from None


@server.resource("demo://about", mime_type="text/markdown")
def about() -> str:
    """What this server is."""
    return "# mcp_h11 demo\n\nEach feature of an MCP server once, in one file: `mcp_h11/cli/demo.py`.\n"


@server.resource("demo://cities/{name}", mime_type="text/plain")
def city_page(name: str) -> str:
    """One city, as text."""
    city = CITIES.get(name.lower())
    if city is None:
        raise ResourceNotFound(f"demo://cities/{name}")
    return f"{city.name}, {city.country}: {city.latitude}, {city.longitude}"


@server.prompt
def plan_trip(city: str, days: str = "3") -> str:
    """Plan a trip to a city."""
    return (
        f"Plan a trip of {days} days to {city}. Use find_city for where it is, and order_pizza for the first evening."
    )


# Completes the template's {name} and the prompt's city, as the user types.
@server.completion
def complete(ref: dict[str, Any], argument: dict[str, Any], context: dict[str, Any] | None) -> list[str]:
    if argument["name"] not in ("name", "city"):
        return []
    return [city.name for key, city in CITIES.items() if key.startswith(argument["value"].lower())]
