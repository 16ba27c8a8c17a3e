# SPDX-License-Identifier: MIT
"""Defaults and aliases of pydantic's `Field` mean for parameters and members what the official SDK makes of them."""

from __future__ import annotations

import dataclasses
import sys
from typing import Annotated, Any, NamedTuple

import pytest
from mcp.server.mcpserver import MCPServer as Official
from pydantic import AliasChoices, AliasPath, Field
from typing_extensions import NotRequired, Required, TypedDict

from mcp_h11 import MCPServer
from mcp_h11.schema.arguments import BadArguments
from mcp_h11.schema.forms import elicitation_schema
from mcp_h11.schema.pydantic_types import NOTHING, said_of
from mcp_h11.schema.signature import describe

CASES: list[tuple[Any, list[Any]]] = [
    (Annotated[int, Field(default=7)], [{}, {"x": 3}, {"x": None}]),
    (Annotated[int, Field(default=1), Field(default=7)], [{}]),
    (Annotated[int, Field(default=7, ge=5)], [{}, {"x": 3}]),
    (Annotated[list[int], Field(default_factory=list)], [{}, {"x": [1]}]),
    (Annotated[int | None, Field(default=None)], [{}, {"x": 1}, {"x": None}]),
    (Annotated[int, Field(validation_alias="why")], [{}, {"x": 1}, {"why": 1}]),
    (Annotated[int, Field(validation_alias="why", default=2)], [{}, {"x": 1}, {"why": 1}]),
    (
        Annotated[int, Field(validation_alias=AliasChoices("a", "b"))],
        [{}, {"x": 1}, {"a": 1}, {"b": 2}, {"b": 2, "a": 1}],
    ),
    (Annotated[int, Field(serialization_alias="why")], [{"x": 1}, {"why": 1}]),
]


@pytest.mark.anyio
@pytest.mark.parametrize(("annotation", "calls"), CASES, ids=lambda case: str(case)[:40])
async def test_parameters_are_as_the_official_sdk_has_them(annotation: Any, calls: list[Any]) -> None:
    def tool(x: Any) -> str:
        return repr(x)

    tool.__annotations__["x"] = annotation
    official = Official("official")
    official.add_tool(tool)
    theirs = (await official.list_tools())[0].input_schema
    signature = describe(tool)
    ours = signature.input_schema
    assert ours["properties"].keys() == theirs["properties"].keys()
    assert ours.get("required", []) == theirs.get("required", [])
    for name, member in ours["properties"].items():
        assert member.get("default", ...) == theirs["properties"][name].get("default", ...)
    for call in calls:
        try:
            expected: Any = (await official.call_tool("tool", call)).content[0].text  # type: ignore[union-attr]
        except Exception:
            expected = BadArguments
        try:
            found: Any = tool(**signature.bind(dict(call)))
        except BadArguments:
            found = BadArguments
        assert found == expected, call


def test_an_alias_is_the_name_in_json_also_where_the_sdk_cannot_call_the_function() -> None:
    def tool(x: Annotated[int, Field(alias="why")] = 3, y: int = Field(4, alias="z")) -> None: ...

    signature = describe(tool)
    assert signature.input_schema["properties"] == {
        "why": {"type": "integer", "default": 3},
        "z": {"type": "integer", "default": 4},
    }
    assert "required" not in signature.input_schema
    assert signature.bind({"why": 1, "z": 2}) == {"x": 1, "y": 2}
    assert signature.bind({}) == {"y": 4}
    with pytest.raises(BadArguments, match="why: Input should be a valid integer"):
        signature.bind({"why": "a"})
    assert signature.bind_text({"why": "1"}) == {"x": 1, "y": 4}


@dataclasses.dataclass
class Member:
    a: Annotated[int, Field(default=7)]
    b: Annotated[int, Field(alias="bee")] = 3
    c: list[int] = Field(default_factory=list, validation_alias=AliasChoices("sea", "see"))


class Row(TypedDict):
    a: Annotated[int, Field(default=7)]
    b: Required[Annotated[int, Field(alias="bee")]]
    c: NotRequired[Annotated[int, Field(alias="sea")]]


class Pair(NamedTuple):
    a: Annotated[int, Field(default=7)]
    b: Annotated[int, Field(alias="bee")] = 3


@pytest.mark.parametrize(
    ("cls", "given", "made"),
    [
        (Member, {}, Member(7, 3, [])),
        (Member, {"bee": 1, "see": [1]}, Member(7, 1, [1])),
        (Member, {"b": 1}, Member(7, 3, [])),
        (Row, {"bee": 1}, {"a": 7, "b": 1}),
        (Row, {"bee": 1, "sea": 2, "a": 0}, {"a": 0, "b": 1, "c": 2}),
        (Row, {"b": 1}, None),
        (Pair, {}, Pair(7, 3)),
        (Pair, {"bee": 1}, Pair(7, 1)),
        (Pair, [1, 2], Pair(1, 2)),
    ],
)
def test_members_are_as_pydantic_has_those_of_models(cls: Any, given: Any, made: Any) -> None:
    def tool(x: Any) -> None: ...

    tool.__annotations__["x"] = cls
    signature = describe(tool)
    member = signature.input_schema["properties"]["x"]
    assert {"a", "bee"} <= member["properties"].keys() and "b" not in member["properties"]
    if made is None:
        with pytest.raises(BadArguments, match=r"x\.bee: missing"):
            signature.bind({"x": given})
    else:
        assert signature.bind({"x": given}) == {"x": made}


def test_results_keep_the_names_that_they_are_written_with() -> None:
    def tool() -> Member: ...  # type: ignore[empty-body]

    signature = describe(tool)
    assert signature.output_schema is not None
    assert signature.output_schema["properties"].keys() == {"a", "b", "c"}
    assert signature.content(Member(1, 2, [3]))[1] == {"a": 1, "b": 2, "c": [3]}


@pytest.mark.parametrize(
    ("annotation", "message"),
    [
        (Annotated[int, Field(validation_alias=AliasPath("a", 0))], "a path"),
        (Annotated[int, Field(validation_alias=AliasChoices("b", AliasPath("a", 0)))], "a path"),
        (Annotated[int, Field(default_factory=lambda data: data["a"])], "default_factory"),
        (Annotated[int, Field(alias="y")], "same name in JSON"),
        (Annotated[int, Field(validation_alias=AliasChoices("z", "y"))], "same name in JSON"),
    ],
)
def test_what_cannot_be_done_is_an_error_at_registration(annotation: Any, message: str) -> None:
    def tool(y: int, x: Any) -> None: ...

    tool.__annotations__["x"] = annotation
    with pytest.raises(TypeError, match=f"tool: parameter 'x': .*{message}"):
        describe(tool)


def test_further_arguments_cannot_stand_for_one_with_an_alias() -> None:
    def tool(x: Annotated[int, Field(alias="why")], **rest: int) -> None: ...

    signature = describe(tool)
    assert signature.bind({"why": 1, "more": 2}) == {"x": 1, "more": 2}
    with pytest.raises(BadArguments, match="x: unknown"):
        signature.bind({"why": 1, "x": 2})


def test_a_schema_of_the_users_passes_parameters_by_their_python_names() -> None:
    server = MCPServer()

    def tool(x: Annotated[int, Field(alias="why")]) -> int:
        return x

    server.add_tool(tool, input_schema={"type": "object"})
    assert server._catalogue.tools["tool"].bind({"x": 1, "why": 2}) == {"x": 1}


def test_a_form_has_the_names_of_its_aliases() -> None:
    @dataclasses.dataclass
    class Form:
        name: Annotated[str, Field(alias="Name")]

    assert elicitation_schema(Form)["properties"].keys() == {"Name"}


def test_without_pydantic_nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "pydantic.fields")
    assert said_of(Annotated[int, "text"]) is NOTHING
