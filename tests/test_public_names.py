# SPDX-License-Identifier: MIT
"""The docstrings of the public names, which are the API reference: each is there, and names each argument."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Iterator
from typing import Any

import pytest

import mcp_h11
from mcp_h11 import ServerHandler
from mcp_h11.server.options import ServerRunOptions

# Objects that the package makes and a user is given; the arguments of their constructors are nothing for users.
GIVEN = {"Context", "ServerThread", "HTTPAnswer", "ChangeStream", "ASGIApp"}
# Their meaning is the same everywhere: the text of an error; the params and the context of a handler's method.
SAID_ONCE = {"message"}
OF_HANDLERS = {"params", "ctx"}


def functions() -> Iterator[tuple[str, Any, str]]:
    """Each public function and method: its name, itself, and its documentation with that of overridden methods."""
    for name in mcp_h11.__all__:
        public = getattr(mcp_h11, name)
        if inspect.isclass(public):
            if name not in GIVEN and not dataclasses.is_dataclass(public) and "__init__" in vars(public):
                yield name, public.__init__, f"{public.__doc__}\n{public.__init__.__doc__ or ''}"
            for method in dir(public):
                found = inspect.getattr_static(public, method)
                if inspect.isfunction(found) and not method.startswith("_"):
                    classes = [*public.__mro__, *protocols_of(public)]
                    texts = [vars(cls)[method].__doc__ or "" for cls in classes if method in vars(cls)]
                    yield f"{name}.{method}", found, "\n".join(texts)
        elif callable(public):
            yield name, public, public.__doc__ or ""


def protocols_of(cls: type) -> list[type]:
    """The public protocols that a class has all methods of, without being a subclass."""
    from mcp_h11.handler.questions import Question

    protocols = [Question, mcp_h11.EventStore, mcp_h11.SessionManager]
    return [
        protocol
        for protocol in protocols
        if all(
            hasattr(cls, name) for name, value in vars(protocol).items() if inspect.isfunction(value) and name[0] != "_"
        )
    ]


FUNCTIONS = {name: (function, text) for name, function, text in functions()}


def test_there_are_many() -> None:
    assert len(FUNCTIONS) > 120 and {"run", "Client.call_tool", "Context.elicit", "MCPServer.tool"} < FUNCTIONS.keys()


@pytest.mark.parametrize("name", mcp_h11.__all__)
def test_each_public_name_is_explained(name: str) -> None:
    public = getattr(mcp_h11, name)
    if callable(public):
        assert inspect.getdoc(public)


def of(name: str) -> list[str]:
    """The functions of one public name."""
    return [function for function in FUNCTIONS if function.partition(".")[0] == name]


with_functions = pytest.mark.parametrize("name", [name for name in mcp_h11.__all__ if of(name)])


@with_functions
def test_the_documentation_names_each_argument(name: str) -> None:
    owner = getattr(mcp_h11, name)
    exempt = SAID_ONCE | OF_HANDLERS if inspect.isclass(owner) and issubclass(owner, ServerHandler) else SAID_ONCE
    missing = []
    for full in of(name):
        function, text = FUNCTIONS[full]
        assert text.strip(), full
        # `tool` and its siblings name `add_tool` and its siblings, which take the same.
        if refers := re.search(r"(?:see|arguments as) `(add_\w+)`", text):
            text += getattr(owner, refers[1]).__doc__
        for parameter in inspect.signature(function).parameters.values():
            variable = parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
            if not variable and parameter.name not in ("self", *exempt):
                if not re.search(rf"\b{parameter.name}\b", text):
                    missing.append((full, parameter.name))
    assert missing == []


def section_of(text: str) -> list[str]:
    """The lines of the first `Args:` section."""
    _, _, rest = text.partition("Args:\n")
    rest = re.split(r"^ *(?:Raises|Returns|Attributes):$", rest, maxsplit=1, flags=re.M)[0]
    return [line for line in rest.splitlines() if line.strip()]


@with_functions
def test_the_documentation_names_no_argument_that_is_not_there(name: str) -> None:
    for full in of(name):
        function, text = FUNCTIONS[full]
        if not (lines := section_of(text)):
            continue
        depth = min(len(line) - len(line.lstrip()) for line in lines)
        entries = [found[1] for line in lines if (found := re.match(rf" {{{depth}}}(\w[\w, ]*?):(?: |$)", line))]
        assert entries, full
        documented = {one.strip() for entry in entries for one in entry.split(",")}
        parameters = inspect.signature(function).parameters
        taken = set(parameters)
        if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
            taken |= set(ServerRunOptions.__annotations__)
        assert documented - taken == set(), full
