# SPDX-License-Identifier: MIT
"""How a reader or a check says that a JSON value does not fit: problems, each with its path into the value."""

from __future__ import annotations

from typing import Any

MAX_PROBLEMS = 20  # enough for a model to mend its call; more would let a bad call order a huge answer
Path = tuple[str | int, ...]
Problem = tuple[Path, str]


class Mismatch(Exception):
    """A JSON value does not fit the annotation; `problems` are (path, text) pairs."""

    def __init__(self, problems: list[Problem], *, kind_only: bool = False) -> None:
        super().__init__(problems)
        self.problems = problems
        self.kind_only = kind_only  # the value is not even of the right JSON type


def render(problem: Problem) -> str:
    """A path and a text as one line, ``address.lines[2]: expected string, got null``."""
    path, text = problem
    out = ""
    for step in path:
        out += f"[{step}]" if isinstance(step, int) else f".{shorten(step)}" if out else shorten(step)
    return f"{out}: {text}" if out else text


def shorten(text: str, limit: int = 64) -> str:
    """A text that a client chose, cut to `limit` characters: a message repeats it, and must not become huge by it."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def kind(value: Any) -> str:
    """The JSON type of a value."""
    if value is None:
        return "null"
    for types, name in _KINDS:
        if isinstance(value, types):
            return name
    return type(value).__name__


_KINDS: tuple[tuple[Any, str], ...] = (
    (bool, "boolean"),  # before int, because bool is a subclass of int
    (int, "integer"),
    (float, "number"),
    (str, "string"),
    (dict, "object"),
    (list, "array"),
)


def refuse(expected: str, value: Any) -> Mismatch:
    return Mismatch([((), f"expected {expected}, got {kind(value)}")], kind_only=True)


def problems_below(step: str | int, error: Mismatch) -> list[Problem]:
    return [((step, *path), text) for path, text in error.problems]


def nearest(tried: list[list[Problem]], path: Path) -> list[Problem]:
    """The problems of the alternative that came furthest into the value; of all, where none came into it at all."""
    # All problems lie inside the value, so its type was right: this alternative was meant.
    inner = [found for found in tried if all(len(where) > len(path) for where, _ in found)]
    if len(inner) == 1:
        return inner[0]
    if len(tried) == 1:
        return tried[0]
    texts = dict.fromkeys(render((where[len(path) :], text)) for found in inner or tried for where, text in found[:1])
    return [(path, "; or ".join(list(texts)[:MAX_PROBLEMS]) or "nothing is allowed here")]
