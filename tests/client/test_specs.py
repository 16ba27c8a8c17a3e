# SPDX-License-Identifier: MIT
"""What a bridge may have behind it: which words and addresses are taken, and what is shown of them."""

from __future__ import annotations

from typing import Any

import pytest

from mcp_h11.client.targets import Command, Url


def test_a_command_keeps_its_words_and_hides_its_environment() -> None:
    command = Command(["server", "--stdio"], env={"KEY": "secret"})
    assert command.argv == ("server", "--stdio") and command.name == "server"
    assert "secret" not in repr(command)
    assert Command(["server"], env="inherit").env == "inherit"


@pytest.mark.parametrize(
    ("argv", "env"),
    [("server --stdio", None), ([], None), ([""], None), (["a", "b\0c"], None), (["a", 1], None), (["a"], "all")],
)
def test_what_is_no_command(argv: Any, env: Any) -> None:
    with pytest.raises(ValueError):
        Command(argv, env=env)


def test_an_address_is_named_without_what_may_be_secret() -> None:
    url = Url("https://user:pass@example.com:8443/mcp?key=secret", headers={"X-Key": "secret"}, token="secret")
    assert url.name == "https://example.com:8443/mcp"
    assert "X-Key" not in repr(url) and "token" not in repr(url)
    assert Url("http+unix://%2Frun%2Fx.sock/mcp").name == "http+unix://%2Frun%2Fx.sock/mcp"


@pytest.mark.parametrize(
    ("address", "transport"),
    [("ftp://example.com", None), ("example.com/mcp", None), ("http://", None), ("http://a/mcp", "stdio")],
)
def test_what_is_no_address(address: str, transport: str | None) -> None:
    with pytest.raises(ValueError) as raised:
        Url(address, transport=transport)
    assert "example.com" not in str(raised.value)


@pytest.mark.parametrize(
    "more",
    [
        {"headers": {"X": "hush\n"}},
        {"headers": {"X": "hush\r\nY: z"}},
        {"headers": {"X": " hush"}},
        {"headers": {"X": "h\u00fcsh"}},
        {"headers": {"X Y": "hush"}},
        {"headers": {"": "hush"}},
        {"token": "hush\n"},
        {"token": "hush "},
    ],
)
def test_what_cannot_be_a_header_is_refused_and_not_shown(more: Any) -> None:
    with pytest.raises(ValueError, match="cannot be sent") as refused:
        Url("http://h/", **more)
    assert "sh" not in str(refused.value)


def test_what_can_be_a_header_is_taken() -> None:
    assert Url("http://h/", {"X-Y": "", "Z": "a", "A": "a \t~"}, token="t").headers["A"] == "a \t~"
