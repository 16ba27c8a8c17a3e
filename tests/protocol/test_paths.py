# SPDX-License-Identifier: MIT
"""A variable of a URI template that is used as a path does not leave its folder, whatever it is decoded from."""

from __future__ import annotations

import base64
import collections
import enum
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypedDict
from urllib.parse import quote

import pydantic
import pytest

from mcp_h11 import Client, MCPServer, ResourceNotFound
from mcp_h11.protocol.uritemplate import MAX_VALUES, climbs, climbs_anywhere

pytestmark = pytest.mark.anyio


@dataclass
class Place:
    folder: str
    names: list[str]


@dataclass
class Slotted:
    __slots__ = ("path",)
    path: str


class Pair(NamedTuple):
    folder: str
    name: str


class Where(TypedDict):
    path: str


class Model(pydantic.BaseModel):
    path: str
    inner: list[dict[str, str]] = []


class Kind(enum.Enum):
    UP = ".."


OUT = [
    "..",
    "../secret",
    "a/../../secret",
    "..\\secret",
    "/etc/passwd",
    "\\\\host\\share",
    "C:secret",
    "a\0b",
    "a/.. /b",
]


def shapes(path: str) -> list[tuple[Any, Any]]:
    """An annotation, and JSON that gives a value of it with this path somewhere in it."""
    return [
        (str, path),
        (Path, path),
        (bytes, base64.b64encode(path.encode()).decode()),
        (list[str], ["a", path]),
        (set[str], ["a", path]),
        (tuple[str, int], [path, 1]),
        (list[list[str]], [["a"], ["b", path]]),
        (dict[str, str], {"a": path}),
        (dict[str, str], {path: "a"}),
        (dict[str, list[str]], {"a": ["b", path]}),
        (list[Path], [path]),
        (Place, {"folder": "a", "names": ["b", path]}),
        (Place, {"folder": path, "names": []}),
        (Pair, {"folder": "a", "name": path}),
        (Where, {"path": path}),
        (Model, {"path": path}),
        (Model, {"path": "a", "inner": [{"b": path}]}),
        (list[Model], [{"path": path}]),
    ]


def written(value: Any, form: str) -> str:
    """A value as text of a URI: escaped as little as can be, or each dot, slash and letter of it."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    if form == "json" and not isinstance(value, str):
        text = "".join(rf"\u{ord(c):04x}" if c in "./" else c for c in text.replace("\\\\", "\\u005c"))
    if form == "percent":
        return "".join(f"%{byte:02x}" for byte in text.encode())
    return quote(text, safe="")


async def read(annotation: Any, text: str, **options: Any) -> Any:
    """What the function got; None where it was not called."""
    server = MCPServer("paths")
    got: list[Any] = []

    async def file(x: Any) -> str:
        got.append(x)
        return "read"

    file.__annotations__ = {"x": annotation}
    server.add_resource("file://{x}", file, **options)
    async with Client(server) as client:
        try:
            await client.read_resource(f"file://{text}")
        except ResourceNotFound:
            assert not got
    return got[0] if got else None


@pytest.mark.parametrize("form", ["plain", "json", "percent"])
@pytest.mark.parametrize("path", OUT)
async def test_no_value_with_a_path_out_of_its_folder_reaches_the_function(path: str, form: str) -> None:
    for annotation, value in shapes(path):
        assert await read(annotation, written(value, form)) is None, annotation


async def test_what_stays_in_its_folder_arrives_and_what_checks_for_itself_gets_everything() -> None:
    for annotation, value in shapes("a/b..c/..d/...e.txt"):
        assert await read(annotation, written(value, "json")) is not None, annotation
    for annotation, value in shapes("../x"):
        assert await read(annotation, written(value, "plain"), any_path=True) is not None, annotation


async def test_what_is_encoded_twice_is_decoded_once() -> None:
    assert await read(str, "%252e%252e%252fsecret") == "%2e%2e%2fsecret"
    assert await read(list[str], quote('["%2e%2e%2fsecret"]', safe="")) == ["%2e%2e%2fsecret"]


async def test_a_type_of_the_authors_own_may_hold_what_it_likes() -> None:
    assert await read(Kind, "..") is None  # as it came, it climbs
    assert not climbs_anywhere(Kind.UP)
    assert not climbs_anywhere([Kind, 1, None, 2.5])


def test_objects_are_looked_into_by_their_members_and_slots() -> None:
    class Own:
        def __init__(self, path: str) -> None:
            self.path = path

    class One(Own):
        __slots__ = "only"

        def __init__(self) -> None:
            super().__init__("a")
            self.only = ".."

    slotted = Slotted("../x")
    for value in (Own(".."), One(), slotted, collections.deque(["a", b".."]), memoryview(b"../x"), {"a": {"..": 1}}):
        assert climbs_anywhere(value) and climbs_anywhere([value])
    assert not climbs_anywhere([Own("a"), Slotted("b"), b"c", Path("d")])


def test_so_many_values_are_looked_at_and_more_are_refused() -> None:
    assert not climbs_anywhere(["a"] * (MAX_VALUES - 1))  # and the list itself
    assert climbs_anywhere(["a"] * MAX_VALUES)
    assert not climbs_anywhere([["a"] * (MAX_VALUES - 3), "b"])
    assert climbs_anywhere([["a"] * (MAX_VALUES - 3), "b", "c"])
    assert climbs_anywhere({str(number): number for number in range(MAX_VALUES)})
    itself: list[Any] = []
    itself.append(itself)
    assert climbs_anywhere(itself)


@pytest.mark.parametrize("name", ["...", "...a", "a..", "a...", ". .", ".", "a/./b", " ..a", "..a/b"])
def test_names_with_dots_stay(name: str) -> None:
    assert not climbs(name)


@pytest.mark.parametrize("name", ["..", ".. ", "..  . ", "a/.. ./b", "a\\... "])
def test_names_that_windows_takes_for_the_folder_above_climb(name: str) -> None:
    assert climbs(name)
