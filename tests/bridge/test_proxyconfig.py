# SPDX-License-Identifier: MIT
"""The `mcpServers` file: its entries, the refusal of wrong ones, and the changes from one reading to the next."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_h11.bridge.config import MAX_NAME, MAX_SERVERS, ServerEntry, changes, read_config
from mcp_h11.bridge.configtext import MAX_CONFIG, ConfigError, decoded, env_file, parsed
from mcp_h11.cli import proxy as proxycli
from mcp_h11.client.targets import Command, Url


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
    assert read({"a": {"command": "x", "shareLogs": True}}) == {"a": ServerEntry(Command(("x",)), share_logs=True)}


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
        ({"a": {"command": "x", "shareLogs": "yes"}}, '"shareLogs" is true or false'),
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


# --- whatever JSON a member holds -------------------------------------------------------------------------------------

MEMBERS = (
    "command", "args", "env", "cwd", "url", "serverUrl", "httpUrl", "headers", "http_headers", "env_http_headers",
    "bearer_token_env_var", "type", "transport", "disabled", "enabled", "envFile", "perSession", "allowTools",
    "includeTools", "enabled_tools", "denyTools", "excludeTools", "disabledTools", "disabled_tools", "precedence",
    "shareLogs",
)  # fmt: skip
VALUES = [
    None, True, False, 0, -1, 1.5, 10**400, float("nan"), "", " ", "x", "${", "${X", "${}", "\0", "\ud800", [], {},
    [[]], [{}], [None], ["\ud800"], ["\0"], {"": ""}, {"a": 1}, {"a": []}, {"a": {}}, {"\n": "\n"}, {"a=b": "x"},
    {"type": "http"}, {"path": []}, {"path": "x", "args": {}}, {"path": "x", "env": []},
]  # fmt: skip
BASES = ({"command": "x"}, {"url": "http://h/"}, {})


@pytest.mark.parametrize("member", MEMBERS)
def test_a_member_of_any_type_is_read_or_refused_by_name(member: str) -> None:
    for base in BASES:
        for value in VALUES:
            try:
                read({"server": {**base, member: value}})
            except ConfigError as error:  # noqa: PERF203
                assert str(error).startswith("server: ") and str(error).isprintable()
                if base and not (value is None or member in ("command", "url", "serverUrl", "httpUrl")):
                    assert f'"{member}"' in str(error) or "header" in str(error) or "pattern" in str(error), value


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from(MEMBERS), ANY_JSON, max_size=4), ANY_JSON, st.sampled_from(BASES))
def test_a_file_of_any_json_is_read_or_refused(members: dict[str, Any], value: Any, base: dict[str, str]) -> None:
    for servers in ({"a": {**base, **members}}, {"a": value}, value):
        for container in ("mcpServers", "servers", "context_servers", "mcp_servers"):
            try:
                read_config(json.dumps({container: servers}), {})
            except ConfigError as error:  # noqa: PERF203
                assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("server", "says"),
    [
        ({"url": "http://h/", "type": {"type": "http"}}, '"type" is a text'),
        ({"url": "http://h/", "transport": {"type": "http"}}, '"transport" is a text'),
        ({"command": "x", "type": "http"}, 'the "type" of a "command" is "stdio"'),
        ({"url": "http://h/", "type": "http", "transport": "sse"}, "say different things"),
        ({"url": "http://h/", "httpUrl": "http://h/"}, 'both "url" and "httpUrl"'),
        ({"url": "http://ann:hush@h/"}, '"url" has credentials in it'),
        ({"url": "http://h:hush/"}, '"url" is not an address'),
        ({"serverUrl": "http://:80/"}, '"serverUrl" is not an address'),
        ({"url": "http://h:0/"}, '"url" is not an address'),
        ({"command": {"args": []}}, '"command" is a text, or an object with a "path"'),
        ({"command": "x", "env": {"A=B": "c"}}, '"env" has a name'),
        ({"command": "x", "envFile": "e"}, '"envFile" cannot be read here'),
        ({"url": "http://h/", "bearer_token_env_var": "NOT_SET"}, "the environment has no 'NOT_SET'"),
    ],
)
def test_what_contradicts_itself_or_cannot_be_is_refused(server: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError) as raised:
        read({"a": server})
    assert says in str(raised.value) and "hush" not in str(raised.value)


# --- files of other programs ------------------------------------------------------------------------------------------

VS_CODE = """\ufeff{
  // written by hand
  "inputs": [{"id": "key", "type": "promptString"}],
  "servers": {
    /* "old": {"command": "old"}, */
    "files": {
      "type": "stdio", "command": "npx", "args": ["-y", "files", "${workspaceFolder}//data", "/*no comment*/"],
      "env": {"TOKEN": "${env:TOK}",},
    },
    "web": {"type": "http", "url": "https://example.com/mcp", "headers": {"Authorization": "Bearer ${env:TOK}"}},
  },
}"""
ZED = """{"theme": "One", "context_servers": {
  "new": {"source": "custom", "enabled": true, "command": "x", "args": ["a"], "env": {"K": "v"}},
  "old": {"command": {"path": "y", "args": ["b"], "env": {"K": "v"}}},
  "web": {"url": "https://example.com/mcp", "headers": {}}, "off": {"enabled": false, "command": "z"}}}"""
GEMINI = """{"mcpServers": {
  "a": {"httpUrl": "https://example.com/mcp", "headers": {"Authorization": "Bearer $TOK"}, "trust": true,
        "includeTools": ["get"], "excludeTools": ["rm"], "timeout": 5000},
  "b": {"command": "x", "env": {"TOKEN": "$TOK", "PRICE": "$5"}}}}"""
CODEX = """
model = "m"
[mcp_servers.files]
command = "npx"
args = ["-y", "files"]
enabled_tools = ["get"]
disabled_tools = ["rm"]
[mcp_servers.files.env]
K = "v"
[mcp_servers.web]
url = "https://example.com/mcp"
bearer_token_env_var = "TOK"
http_headers = { "X-Client" = "c" }
env_http_headers = { "X-Key" = "TOK" }
[mcp_servers.off]
enabled = false
command = "x"
"""
WEB = "https://example.com/mcp"


def test_a_file_of_vs_code_is_read() -> None:
    assert read_config(VS_CODE, {"TOK": "t"}, folder="/w") == {
        "files": ServerEntry(Command(("npx", "-y", "files", "/w//data", "/*no comment*/"), {"TOKEN": "t"})),
        "web": ServerEntry(Url(WEB, {"Authorization": "Bearer t"}, transport="http")),
    }


def test_a_file_of_zed_is_read() -> None:
    assert read_config(ZED, {}) == {
        "new": ServerEntry(Command(("x", "a"), {"K": "v"})),
        "old": ServerEntry(Command(("y", "b"), {"K": "v"})),
        "web": ServerEntry(Url(WEB)),
    }


def test_a_file_of_gemini_is_read() -> None:
    assert read_config(GEMINI, {"TOK": "t"}) == {
        "a": ServerEntry(Url(WEB, {"Authorization": "Bearer t"}, transport="http"), allow=("get",), deny=("rm",)),
        "b": ServerEntry(Command(("x",), {"TOKEN": "t", "PRICE": "$5"})),
    }
    with pytest.raises(ConfigError, match="\"headers\", 'Authorization': the environment has no TOK"):
        read_config(GEMINI, {})


def test_a_file_of_windsurf_is_read() -> None:
    servers = {"a": {"serverUrl": "https://${env:HOST}/mcp", "disabledTools": ["rm"], "disabled": False},
               "b": {"serverUrl": WEB, "disabled": True}}  # fmt: skip
    assert read(servers, HOST="example.com") == {"a": ServerEntry(Url(WEB), deny=("rm",))}


@pytest.mark.skipif(sys.version_info < (3, 11), reason="no reader of TOML")
def test_a_file_of_codex_is_read() -> None:
    headers = {"X-Client": "c", "X-Key": "t", "Authorization": "Bearer t"}
    assert read_config(CODEX, {"TOK": "t"}, toml=True) == {
        "files": ServerEntry(Command(("npx", "-y", "files"), {"K": "v"}), allow=("get",), deny=("rm",)),
        "web": ServerEntry(Url(WEB, headers)),
    }
    for wrong, says in (("x", "not TOML"), ("mcp_servers = 1", "mcp_servers"), (CODEX, "no 'TOK'")):
        with pytest.raises(ConfigError, match=says):
            read_config(wrong, {}, toml=True)


def test_a_file_with_two_lists_of_servers_is_refused() -> None:
    with pytest.raises(ConfigError, match='both "mcpServers" and "servers"'):
        read_config('{"servers": {}, "mcpServers": {}}', {})


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("${A}", "a"), ("${env:A}", "a"), ("${env:N:-d}", "d"), ("${N:-}", ""), ("${workspaceFolder}", "/w/here"),
        ("${workspaceFolderBasename}", "here"), ("${userHome}", "/home/me"), ("a${/}b${pathSeparator}", "a/b/"),
        ("$A $$ {A} $", "$A $$ {A} $"), ("${A}${A}", "aa"), ("${userHome:-d}", "d"),
    ],
)  # fmt: skip
def test_what_is_known_is_filled_in(text: str, filled: str) -> None:
    environ = {"A": "a", "HOME": "/home/me"}
    found = read_config(json.dumps({"mcpServers": {"a": {"command": "x", "args": [text]}}}), environ, folder="/w/here")
    assert found["a"].spec == Command(("x", filled))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("${input:key}", "${input:key} asks a person"), ("${command:x}", "${command:x} is not known"),
        ("${config:a.b}", "${config:a.b} is not known"), ("${file}", "has no file"), ("${}", "${} is not known"),
        ("${N}", "the environment has no N"), ("${env:N}", "the environment has no N"), ("${env:}", "not known"),
        ("${A", "${A} has no end"), ("${N:-${A}}", "${N} holds another reference"),
        ("${A-hush}", "is not known"), ("${A:?hush}", "is not known"), ("${1}", "${1} is not known"),
        ("${workspaceFolder}", "there is no such folder"), ("${userHome}", "there is no such folder"),
        ("${\n}", "is not known"), ("${env:N\ud800}", "the environment has no"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("member", ["args", "env", "headers", "url", "cwd", "envFile"])
def test_what_is_not_known_is_named_and_never_sent(member: str, text: str, says: str) -> None:
    server: dict[str, Any] = {"url": "http://h/"} if member in ("headers", "url") else {"command": "x"}
    server[member] = {"args": [text], "env": {"K": text}, "headers": {"K": text}, "url": f"http://h/{text}"}.get(
        member, text
    )
    with pytest.raises(ConfigError) as raised:
        read({"a": server}, A="a")
    assert says in str(raised.value) and f'"{member}"' in str(raised.value) and "\n" not in str(raised.value)


def test_an_env_file_is_read_below_what_the_file_itself_says() -> None:
    asked = []

    def read_file(path: str) -> str:
        asked.append(path)
        return "# c\n\nexport A=1\nB = \"two words\" \nC='x # y'\nD=v # c\nE=#v\nF=\n"

    text = json.dumps({"mcpServers": {"a": {"command": "x", "envFile": "${DIR}/.env", "env": {"A": "mine"}}}})
    found = read_config(text, {"DIR": "conf"}, folder="/w", read_file=read_file)
    values = {"A": "mine", "B": "two words", "C": "x # y", "D": "v", "E": "#v", "F": ""}
    assert found["a"].spec == Command(("x",), values) and asked == ["/w/conf/.env"]


@pytest.mark.parametrize(
    ("raised", "says"), [(OSError(2, "No such file"), "No such file"), (ConfigError("it is not UTF-8"), "not UTF-8"),
                         (ValueError("embedded null byte"), "null byte"), (None, "line 2 is not NAME=value")],
)  # fmt: skip
def test_an_env_file_that_cannot_be_used_is_named(raised: Exception | None, says: str) -> None:
    def read_file(path: str) -> str:
        if raised is not None:
            raise raised
        return "A=1\nhush\n"

    with pytest.raises(ConfigError, match=f'a: "envFile": .*{says}') as caught:
        read_config('{"servers": {"a": {"command": "x", "envFile": "e"}}}', {}, read_file=read_file)
    assert "hush" not in str(caught.value)


def test_an_env_file_has_the_limit_of_a_file() -> None:
    assert env_file("#" * MAX_CONFIG) == {}
    with pytest.raises(ConfigError, match="longer"):
        env_file("#" * (MAX_CONFIG + 1))


def test_a_mistake_behind_comments_is_named_where_it_stands() -> None:
    with pytest.raises(ConfigError, match="line 3 column 4"):
        parsed('{ // "a": 1\n /* x\n*/ ?}')
    for text in ('{"a": 1 /* no end', '{"a": "no end // x', "{,,}", "[1,,]", "/"):
        with pytest.raises(ConfigError, match="not JSON"):
            parsed(text)


@pytest.mark.long
def test_a_long_file_of_comments_that_never_end_is_read_in_one_pass() -> None:
    # In a reader that searches for each end anew, the time for these texts grows with the square of their length.
    for text in (
        "/*" * (MAX_CONFIG // 2),
        '"\\' * (MAX_CONFIG // 2),
        "${" * (MAX_CONFIG // 2),
        ", " * (MAX_CONFIG // 2),
    ):
        with pytest.raises(ConfigError):
            parsed(text)


@given(ANY_JSON, st.sampled_from([None, 0, 2]))
def test_what_is_strict_json_is_read_as_that(value: Any, indent: int | None) -> None:
    text = json.dumps({"//": value, "/*": "*/,]"}, indent=indent)
    assert json.dumps(parsed(text)) == json.dumps(json.loads(text))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_file_is_read_in_the_encodings_that_editors_write(encoding: str) -> None:
    assert decoded("{\u00e9}".encode(encoding)) == "{\u00e9}"
    with pytest.raises(ConfigError, match="UTF-8"):
        decoded(b"\xff")


def test_a_workspace_is_the_folder_above_a_programs_own(tmp_path: Path) -> None:
    assert proxycli._workspace(tmp_path / ".vscode" / "mcp.json") == str(tmp_path)
    assert proxycli._workspace(tmp_path / "servers.json") == str(tmp_path)
