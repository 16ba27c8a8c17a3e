# SPDX-License-Identifier: MIT
"""The `mcpServers` file: what is read of it, what is refused, and what changed from one reading to the next."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mcp_h11.proxyconfig import MAX_CONFIG, MAX_NAME, MAX_SERVERS, ConfigError, ServerEntry, changes, read_config
from mcp_h11.specs import Command, Url


def read(servers: Any, **environ: str) -> dict[str, ServerEntry]:
    return read_config(json.dumps({"mcpServers": servers}), environ)


def test_commands_and_addresses_are_read_as_clients_write_them() -> None:
    found = read(
        {
            "files": {"command": "npx", "args": ["-y", "server"], "env": {"KEY": "v"}, "cwd": "/srv", "icon": "x"},
            "search": {"type": "http", "url": "https://example.com/mcp", "headers": {"X-Key": "k"}},
            "old": {"type": "sse", "url": "http://localhost:1/sse"},
            "off": {"command": "never", "disabled": True},
        }
    )
    assert found == {
        "files": ServerEntry(Command(("npx", "-y", "server"), {"KEY": "v"}, "/srv")),
        "search": ServerEntry(Url("https://example.com/mcp", {"X-Key": "k"}, transport="http")),
        "old": ServerEntry(Url("http://localhost:1/sse", transport="sse")),
    }


def test_what_is_ours_is_read_too() -> None:
    found = read({"a": {"command": "x", "perSession": True, "allowTools": ["r*"], "denyTools": ["rm"]}})
    assert found == {"a": ServerEntry(Command(("x",)), True, ("r*",), ("rm",))}


def test_variables_come_from_the_environment() -> None:
    server = {"command": "${BIN}", "args": ["--key=${KEY:-none}", "$KEY"], "env": {"T": "a${KEY:-}b"}}
    assert read({"a": server}, BIN="tool")["a"].spec == Command(("tool", "--key=none", "$KEY"), {"T": "ab"})
    assert read({"a": server}, BIN="tool", KEY="k")["a"].spec == Command(("tool", "--key=k", "$KEY"), {"T": "akb"})


def test_a_value_is_not_filled_twice() -> None:
    assert read({"a": {"command": "${A}"}}, A="${B}", B="secret")["a"].spec == Command(("${B}",))


@pytest.mark.parametrize(
    ("servers", "says"),
    [
        ([], "mcpServers"),
        ({"a": []}, "a: a server is an object"),
        ({"a": {}}, 'either a "command" or a "url"'),
        ({"a": {"command": "x", "url": "http://h/"}}, 'either a "command" or a "url"'),
        ({"a": {"command": ["x"]}}, '"command" is a text'),
        ({"a": {"command": " "}}, '"command" is a text'),
        ({"a": {"command": "x", "args": "y"}}, '"args" is a list'),
        ({"a": {"command": "x", "args": [1]}}, '"args" is a list'),
        ({"a": {"command": "x", "env": {"K": 1}}}, '"env" is an object of texts'),
        ({"a": {"command": "x\0"}}, "NUL"),
        ({"a": {"command": "${NOT_SET}"}}, "the environment has no NOT_SET"),
        ({"a": {"url": "ftp://h/"}}, "not an address"),
        ({"a": {"url": "http://h/", "type": "carrier-pigeon"}}, '"type"'),
        ({"a": {"command": "x", "perSession": 1}}, '"perSession" is true or false'),
        ({"a": {"command": "x", "denyTools": [""]}}, "a pattern has"),
        ({"a": {"command": "x", "precedence": "none"}}, '"precedence"'),
        ({"a/b": {"command": "x"}}, "cannot stand in an address"),
        ({"..": {"command": "x"}}, "cannot stand in an address"),
        ({"a b": {"command": "x"}}, "cannot stand in an address"),
        ({"x" * (MAX_NAME + 1): {"command": "x"}}, "cannot stand in an address"),
        ({f"a{n}": {"command": "x"} for n in range(MAX_SERVERS + 1)}, "more than"),
    ],
)
def test_a_mistake_is_named_and_nothing_is_read(servers: Any, says: str) -> None:
    with pytest.raises(ConfigError, match="(?s)" + says.replace(".", r"\.")) as raised:
        read(servers)
    assert "\n" not in str(raised.value)


def test_the_limits_themselves_are_fine() -> None:
    assert len(read({f"a{n}": {"command": "x"} for n in range(MAX_SERVERS)})) == MAX_SERVERS
    assert read({"x" * MAX_NAME: {"command": "x"}})
    text = json.dumps({"mcpServers": {}})
    assert read_config(text + " " * (MAX_CONFIG - len(text)), {}) == {}
    with pytest.raises(ConfigError, match="longer"):
        read_config(text + " " * (MAX_CONFIG - len(text) + 1), {})


@pytest.mark.parametrize("text", ["", "{", "[]", '{"mcpServers": 1}', "[" * 100_000])
def test_what_is_no_such_file_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        read_config(text, {})


def test_a_name_that_is_there_twice_is_refused() -> None:
    with pytest.raises(ConfigError, match="twice"):
        read_config('{"mcpServers": {"a": {"command": "x"}, "a": {"command": "y"}}}', {})


def test_a_secret_is_in_no_message_and_no_repr() -> None:
    found = read({"a": {"url": "https://h/x", "headers": {"Authorization": "Bearer hush"}},
                  "b": {"command": "x", "env": {"K": "hush"}}})  # fmt: skip
    assert "hush" not in repr(found)
    for wrong in ({"url": "hush"}, {"url": "http://h", "headers": {"K": ["hush"]}}, {"command": "x", "args": "hush"}):
        with pytest.raises(ConfigError) as raised:
            read({"a": wrong})
        assert "hush" not in str(raised.value)


def test_the_difference_names_only_what_differs() -> None:
    old = read({"same": {"command": "x"}, "gone": {"command": "y"}, "other": {"command": "z"}})
    new = read({"other": {"command": "z", "args": ["-v"]}, "same": {"command": "x"}, "more": {"command": "w"}})
    found = changes(old, new)
    assert (found.added, found.removed, found.changed) == (("more",), ("gone",), ("other",))
    assert found and not changes(old, dict(old))


def test_another_environment_is_a_change() -> None:
    server = {"a": {"command": "x", "env": {"K": "${K}"}}}
    assert changes(read(server, K="1"), read(server, K="2")).changed == ("a",)
    assert not changes(read(server, K="1"), read(server, K="1"))
