# SPDX-License-Identifier: MIT
"""Edits of files that people wrote: the bytes that stay, the bytes that come, and what is refused."""

from __future__ import annotations

import copy
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_h11.bridge.configtext import ConfigError, parsed
from mcp_h11.cli.installing import jsonedit, tomledit
from mcp_h11.cli.installing.configfile import ConfigFile

NEW = {"command": "py", "args": ["a"]}

COMMENTED = """\
{
\t// the servers of this machine
\t"mcpServers": {
\t\t"x": {"command": "y"}, // mine
\t\t// "old": {}
\t\t"z": {
\t\t\t"url": "http://a/b", // not a comment: "//"
\t\t},
\t},
\t"other": [1, 2]
}
"""


def test_a_new_server_comes_last_and_every_other_byte_stays() -> None:
    wanted = COMMENTED.replace(
        "\t\t},\n\t},\n",
        '\t\t},\n\t\t"new": {\n\t\t\t"command": "py",\n\t\t\t"args": [\n\t\t\t\t"a"\n\t\t\t]\n\t\t}\n\t},\n',
    )
    assert jsonedit.with_value(COMMENTED, ("mcpServers", "new"), NEW) == wanted


def test_a_server_is_removed_with_its_line_and_the_comment_on_it() -> None:
    wanted = COMMENTED.replace('\t\t"x": {"command": "y"}, // mine\n', "")
    assert jsonedit.without_value(COMMENTED, ("mcpServers", "x")) == wanted


def test_one_member_of_a_server_is_replaced_in_its_place() -> None:
    wanted = COMMENTED.replace('"y"', '"q"')
    assert jsonedit.with_value(COMMENTED, ("mcpServers", "x", "command"), "q") == wanted


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("{}\n", '{\n  "s": {\n    "n": 1\n  }\n}\n'),
        ('{\r\n    "a": 1\r\n}', '{\r\n    "a": 1,\r\n    "s": {\r\n        "n": 1\r\n    }\r\n}'),
        ('{"a":1}', '{"a":1, "s": {"n": 1}}'),
        ('{"s":{}}', '{"s":{"n": 1}}'),
        ('{"s": {"a": 1,}}', '{"s": {"a": 1, "n": 1}}'),
        ("{\n  // none yet\n}", '{\n  // none yet\n  "s": {\n    "n": 1\n  }\n}'),
        ('{\n  "s": {"a": 1}\n}', '{\n  "s": {"a": 1, "n": 1}\n}'),
        ('{\n  "s": {\n    "a": 1 // one\n  }\n}', '{\n  "s": {\n    "a": 1, // one\n    "n": 1\n  }\n}'),
    ],
)
def test_the_form_of_the_surroundings_is_kept(before: str, after: str) -> None:
    assert jsonedit.with_value(before, ("s", "n"), 1) == after


def test_what_is_no_object_is_not_replaced_by_one() -> None:
    for text in ('{"s": []}', '{"s": 1}', '{"s": null}', "[]"):
        with pytest.raises(ConfigError, match="is no object"):
            jsonedit.with_value(text, ("s", "n"), 1)
    with pytest.raises(ConfigError, match="inputs is no list"):
        jsonedit.with_value('{"inputs": {}}', ("inputs", 0), 1)


# Documents as people write them: any layout, comments and trailing commas between any two tokens.
GAPS = st.sampled_from(["", " ", "\n", "\n\t", "\r\n  ", " // c, }\n", " /* { */ ", "\n  // x\n  "])
VALUES = st.recursive(
    st.sampled_from([1, "a // b", "é}", None, True]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abcd"), inner, max_size=3),
    max_leaves=8,
)


def written(value: Any, draw: Any) -> str:
    def gap() -> str:
        return str(draw(GAPS))

    if isinstance(value, dict):
        parts = [f"{gap()}{json.dumps(key)}{gap()}:{gap()}{written(one, draw)}{gap()}" for key, one in value.items()]
    elif isinstance(value, list):
        parts = [f"{gap()}{written(one, draw)}{gap()}" for one in value]
    else:
        return json.dumps(value, ensure_ascii=draw(st.booleans()))
    comma = "," + gap() if parts and draw(st.booleans()) else ""
    opening, closing = "{}" if isinstance(value, dict) else "[]"
    return opening + (",".join(parts) + comma or gap()) + closing


@given(st.dictionaries(st.sampled_from("abcd"), VALUES, max_size=3), VALUES, st.data())
def test_an_edit_of_any_document_changes_the_one_value(document: Any, value: Any, data: st.DataObject) -> None:
    servers = document.setdefault("s", {})
    text = written(document, data.draw)
    if not isinstance(servers, dict):
        return
    for name in ("a", "new"):
        wanted = copy.deepcopy(document)
        wanted["s"][name] = value
        text_with = jsonedit.with_value(text, ("s", name), value)
        assert parsed(text_with) == wanted
        del wanted["s"][name]
        assert parsed(jsonedit.without_value(text_with, ("s", name))) == wanted


needs_toml = pytest.mark.skipif(sys.version_info < (3, 11), reason="Python reads TOML from 3.11 on")

TOML = """\
model = "o"  # the model

[mcp_servers.a]
command = "x"
args = [
  "one",
]

[mcp_servers.a.env]
KEY = "v"

# of b
[mcp_servers."b"]
url = "http://b"
"""


@needs_toml
def test_a_table_is_replaced_with_the_tables_in_it_and_comments_of_the_next_one_stay() -> None:
    text = tomledit.with_table(TOML, ("mcp_servers", "a"), {"url": "http://n", "env": {"a.b": 'q"\\'}})
    new = '[mcp_servers.a]\nurl = "http://n"\n\n[mcp_servers.a.env]\n"a.b" = "q\\"\\\\"\n'
    assert text == f'model = "o"  # the model\n\n{new}\n# of b\n[mcp_servers."b"]\nurl = "http://b"\n'


@needs_toml
def test_a_table_is_added_at_the_end_and_its_removal_gives_the_bytes_of_before() -> None:
    for text in (TOML, TOML.replace("\n", "\r\n"), "", "a = 1"):
        newline = "\r\n" if "\r" in text else "\n"
        added = tomledit.with_table(text, ("mcp_servers", "new"), {"command": "p", "args": [], "on": True, "n": 1.5})
        assert added.startswith(text)
        assert added.endswith(
            newline.join(["[mcp_servers.new]", 'command = "p"', "args = []", "on = true", "n = 1.5", ""])
        )
        removed = tomledit.without_table(added, ("mcp_servers", "new"))
        assert removed == text or (removed.strip("\r\n") == text.strip("\r\n"))


@needs_toml
@pytest.mark.parametrize(
    "text",
    [
        "[mcp_servers]\nnew = { command = 'x' }\n",
        "mcp_servers.new.command = 'x'\n",
        "a = '''\n[mcp_servers.new]\n'''\n",
    ],
)
def test_a_server_in_another_form_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match="in another form"):
        ConfigFile(path, "mcp_servers", toml=True).with_entry("new", NEW)


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff"])
def test_the_encoding_stays(tmp_path: Path, mark: bytes) -> None:
    encoding = {b"\xff\xfe": "utf-16-le", b"\xfe\xff": "utf-16-be"}.get(mark, "utf-8")
    path = tmp_path / "mcp.json"
    path.write_bytes(mark + '{"é": 1}'.encode(encoding))
    file = ConfigFile(path, "mcpServers", toml=False)
    file.write(file.with_entry("n", {"command": "p"}), private=True)
    assert path.read_bytes() == mark + '{"é": 1, "mcpServers": {"n": {"command": "p"}}}'.encode(encoding)


@pytest.mark.skipif(os.name != "posix", reason="permissions and links of POSIX")
def test_permissions_and_links_stay_and_a_new_private_file_is_for_the_user_alone(tmp_path: Path) -> None:
    real = tmp_path / "dotfiles" / "real.json"
    real.parent.mkdir()
    real.write_text('{"a": 1}')
    real.chmod(0o640)
    link = tmp_path / "mcp.json"
    link.symlink_to(real)
    file = ConfigFile(link, "mcpServers", toml=False)
    backup = file.write(file.with_entry("n", NEW), private=True)
    assert link.is_symlink() and "mcpServers" in real.read_text()
    assert backup is not None and backup.parent == real.parent and backup.read_text() == '{"a": 1}'
    assert [one.stat().st_mode & 0o777 for one in (real, backup)] == [0o640, 0o640]
    new = ConfigFile(tmp_path / "deep" / "new.json", "mcpServers", toml=False)
    assert new.write(new.with_entry("n", NEW), private=True) is None
    assert new.path.stat().st_mode & 0o777 == 0o600
    assert sorted(one.name for one in real.parent.iterdir()) == ["real.json", backup.name]


def test_a_file_that_changed_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "mcp.json"
    path.write_text("{}")
    file = ConfigFile(path, "mcpServers", toml=False)
    text = file.with_entry("n", NEW)
    path.write_text('{"theirs": 1}')
    with pytest.raises(ConfigError, match="changed meanwhile"):
        file.write(text, private=True)
    assert path.read_text() == '{"theirs": 1}' and [one.name for one in tmp_path.iterdir()] == ["mcp.json"]


def test_what_the_user_added_to_an_entry_stays(tmp_path: Path) -> None:
    path = tmp_path / "mcp.json"
    path.write_text('{"mcpServers": {"n": {"type": "stdio", "command": "x", "env": {"A": "1"}, "timeout": 9}}}')
    file = ConfigFile(path, "mcpServers", toml=False)
    assert parsed(file.with_entry("n", {"command": "y", "args": [], "env": {"B": "2"}}))["mcpServers"]["n"] == {
        "command": "y", "env": {"A": "1", "B": "2"}, "timeout": 9, "args": [],
    }  # fmt: skip
    assert parsed(file.with_entry("n", {"url": "http://a"}))["mcpServers"]["n"] == {"timeout": 9, "url": "http://a"}
