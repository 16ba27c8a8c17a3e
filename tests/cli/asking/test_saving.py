# SPDX-License-Identifier: MIT
"""What is no text in a result: on a terminal, on a pipe, and in files."""

from __future__ import annotations

import base64
import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mcp_h11 import ServerHandler, start_in_thread
from mcp_h11.cli.asking import saving
from mcp_h11.cli.asking.ask import OK, PROTOCOL_ERROR, TOOL_ERROR, main_of
from mcp_h11.cli.asking.saving import MAX_FILE_NAME, part_of
from mcp_h11.cli.parser import UsageError

BYTES = bytes(range(256))


def coded(data: bytes) -> str:
    return base64.b64encode(data).decode()


IMAGE = {"type": "image", "mimeType": "image/png", "data": coded(BYTES)}
FILE = {"type": "resource", "resource": {"uri": "a://dir/notes.txt", "text": "a note"}}
TEXT = {"type": "text", "text": "words"}
LINK = {"type": "resource_link", "uri": "a://c", "name": "c"}
RESULTS = {
    "image": [TEXT, IMAGE],
    "both": [TEXT, IMAGE, FILE, LINK],
    "text": [TEXT],
    "nothing": [],
    "broken": [{**IMAGE, "data": "%%%"}],
}
CONTENTS = {
    "a://image.png": [{"uri": "a://image.png", "mimeType": "image/png", "blob": coded(BYTES)}],
    "a://text": [{"uri": "a://text", "mimeType": "text/plain", "text": "caf\u00e9\x1b"}],
    "a://two": [
        {"uri": "a://x/one", "text": "one"},
        {"uri": "a://x/two", "text": "two\n"},
        {"uri": "a://z", "blob": "AAA="},
    ],
    "a://none": [],
    "a://odd": [{"uri": "a://x/../../.bashrc?x#y", "blob": "AAA="}, "words", {"uri": "a://x/.bashrc", "text": "2"}],
}


class Files(ServerHandler):
    async def list_tools(self, params: Any, ctx: Any) -> Any:
        return {"tools": [{"name": name, "inputSchema": {"type": "object"}} for name in (*RESULTS, "fail")]}

    async def call_tool(self, params: Any, ctx: Any) -> Any:
        if params["name"] == "fail":
            return {"content": [TEXT, IMAGE], "isError": True}
        return {"content": RESULTS[params["name"]]}

    async def read_resource(self, params: Any, ctx: Any) -> Any:
        return {"contents": CONTENTS[params["uri"]]}


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with start_in_thread(Files(), port=0) as running:
        yield f"http://127.0.0.1:{running.port}/mcp"


def run(capsysbinary: Any, *words: str) -> tuple[int, bytes, str]:
    code = main_of(words[0], words[1:])
    out, err = capsysbinary.readouterr()
    return code, out, err.decode()


# --- stdout ---------------------------------------------------------------------------------------------------


def test_a_pipe_gets_the_bytes_of_a_resource_and_nothing_else(url, capsysbinary):
    assert run(capsysbinary, "read", url, "a://image.png") == (OK, BYTES, "")
    assert run(capsysbinary, "read", url, "a://text") == (OK, "caf\u00e9\x1b".encode(), "")
    assert run(capsysbinary, "read", url, "a://none") == (OK, b"", "")
    # Of several contents each text ends its line.
    assert run(capsysbinary, "read", url, "a://two") == (OK, b"one\ntwo\n\0\0", "")


def test_a_terminal_gets_text_and_is_told_how_to_save_the_rest(url, capsysbinary, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert run(capsysbinary, "read", url, "a://text") == (OK, "caf\u00e9\\x1b\n".encode(), "")
    with pytest.raises(UsageError, match=r"^\[resource a://image.png image/png, 256 bytes\] .* --output FILE saves it"):
        main_of("read", [url, "a://image.png"])
    assert capsysbinary.readouterr().out == b""
    with pytest.raises(UsageError, match=r"^\[resource a://z, 2 bytes\] cannot be shown"):
        main_of("read", [url, "a://two"])
    assert capsysbinary.readouterr().out == b"one\ntwo\n\n"
    assert run(capsysbinary, "read", url, "a://image.png", "--output", "-") == (OK, BYTES, "")


def test_what_a_tool_returns_is_named_with_its_size(url, capsysbinary, monkeypatch):
    assert run(capsysbinary, "call", url, "image") == (OK, b"words\n[image image/png, 256 bytes]\n", "")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    _, out, _ = run(capsysbinary, "call", url, "both")
    assert out == b"words\n[image image/png, 256 bytes] (--output FILE saves it)\na note\n[resource_link a://c]\n"


def test_data_that_is_no_base64_is_a_fault_of_the_server(url, capsysbinary, tmp_path):
    for options in ([], ["--output", str(tmp_path / "f")]):
        code, out, err = run(capsysbinary, "call", url, "broken", *options)
        assert (code, out) == (PROTOCOL_ERROR, b"") and "the data of image image/png is no base64" in err
    assert list(tmp_path.iterdir()) == []


# --- files ----------------------------------------------------------------------------------------------------


def test_one_content_is_saved_where_the_user_says(url, capsysbinary, tmp_path):
    file = tmp_path / "logo"
    file.write_text("before, and longer than a picture" * 100)
    file.chmod(0o640)
    code, out, err = run(capsysbinary, "read", url, "a://image.png", "-o", str(file))
    assert (code, out) == (OK, b"") and err == f"saved {file}: resource a://image.png image/png, 256 bytes\n"
    assert file.read_bytes() == BYTES and stat.S_IMODE(file.stat().st_mode) == 0o640
    code, out, _ = run(capsysbinary, "call", url, "image", "-o", str(file))
    assert (code, out, file.read_bytes()) == (OK, b"words\n", BYTES)  # the text is for the person
    code, out, _ = run(capsysbinary, "call", url, "text", "-o", str(file))
    assert (code, out, file.read_bytes()) == (OK, b"", b"words")  # where there is nothing else
    assert list(tmp_path.iterdir()) == [file]


def test_several_contents_need_a_folder_and_take_their_names_from_their_uris(url, capsysbinary, tmp_path):
    file, folder = tmp_path / "file", tmp_path / "deep" / "folder"
    with pytest.raises(UsageError, match="there are 3 contents; a folder takes them: --output .*/file/"):
        main_of("read", [url, "a://two", "-o", str(file)])
    assert not file.exists()
    assert run(capsysbinary, "read", url, "a://two", "-o", f"{folder}/")[0] == OK
    assert {one.name: one.read_bytes() for one in folder.iterdir()} == {
        "one.txt": b"one", "two.txt": b"two\n", "z.bin": b"\0\0",
    }  # fmt: skip
    # Again: no file of the folder is written over, as the server has chosen the name.
    code, _, err = run(capsysbinary, "call", url, "both", "-o", str(folder))
    assert code == OK and "both.png: image image/png, 256 bytes\n" in err and "notes.txt: resource" in err
    (folder / "one.txt").write_text("mine")
    run(capsysbinary, "read", url, "a://two", "-o", str(folder))
    assert (folder / "one.txt").read_text() == "mine" and (folder / "one-2.txt").read_bytes() == b"one"


def test_a_name_of_a_server_stays_in_the_folder_and_is_not_hidden(url, capsysbinary, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    assert run(capsysbinary, "read", url, "a://odd", "-o", str(folder))[0] == OK
    assert sorted(one.name for one in folder.iterdir()) == ["bashrc.bin", "bashrc.txt", "content.txt"]
    assert list(tmp_path.iterdir()) == [folder]


@pytest.mark.parametrize(
    ("item", "name"),
    [
        ({"uri": "a://x/" + "n" * MAX_FILE_NAME, "text": ""}, "n" * MAX_FILE_NAME + ".txt"),
        ({"uri": "a://x/" + "n" * (MAX_FILE_NAME + 1), "text": ""}, "n" * MAX_FILE_NAME + ".txt"),
        ({"uri": "a://..", "text": ""}, "content.txt"),
        ({"uri": "a://x/a\\b\0c.d", "blob": ""}, "a-b-c.d"),
        ({"uri": "a://x/", "blob": "AAAA", "mimeType": "image/png; q=1"}, "x.png"),
        ({"uri": "", "blob": "AAAA", "mimeType": 7}, "given.bin"),
        ({"type": "audio", "data": "AAAA", "mimeType": "audio/x-wav"}, "given.wav"),
        ({"type": ["odd"], "uri": {}, "text": ["odd"], "data": ["odd"]}, "given.bin"),
    ],
)
def test_a_file_has_a_name_that_can_be_kept(item, name):
    assert part_of(item, "given").name == name


def test_a_link_stays_one_and_a_device_is_written_to(url, capsysbinary, tmp_path):
    file, link = tmp_path / "file", tmp_path / "link"
    file.write_text("before")
    try:
        link.symlink_to(file)
    except OSError:  # Windows lets few users make one
        pytest.skip("no links here")
    assert run(capsysbinary, "read", url, "a://image.png", "-o", str(link))[0] == OK
    assert link.is_symlink() and file.read_bytes() == BYTES
    assert run(capsysbinary, "read", url, "a://image.png", "-o", os.devnull)[0] == OK
    assert not stat.S_ISREG(os.stat(os.devnull).st_mode)


def test_a_file_is_whole_or_as_it_was(url, capsysbinary, tmp_path, monkeypatch):
    file = tmp_path / "file"
    file.write_text("before")

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(saving.os, "fsync", full)
    with pytest.raises(UsageError, match=f"--output {file}: No space left on device"):
        main_of("read", [url, "a://image.png", "-o", str(file)])
    assert file.read_text() == "before" and list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["read", "a://image.png", "-o", "/no/such/folder/file"], "--output /no/such/folder/file: No such file"),
        (["read", "a://none", "-o", "x"], "--output: the result has nothing that could be saved"),
        (["call", "nothing", "-o", "x"], "--output: the result has nothing that could be saved"),
        (["read", "a://image.png", "-o", "x", "--json"], "--json and --output cannot be used together"),
    ],
)
def test_what_cannot_be_saved(words, said, url):
    with pytest.raises(UsageError, match=said):
        main_of(words[0], [url, *words[1:]])


def test_a_result_that_is_an_error_is_shown_and_not_saved(url, capsysbinary, tmp_path):
    code, out, _ = run(capsysbinary, "call", url, "fail", "-o", str(tmp_path / "file"))
    assert (code, out) == (TOOL_ERROR, b"words\n[image image/png, 256 bytes]\n") and list(tmp_path.iterdir()) == []


def test_a_folder_holds_a_limited_number_of_one_name(tmp_path, monkeypatch):
    monkeypatch.setattr(saving, "MAX_SAME", 2)
    part = part_of({"uri": "a://x/one", "text": "1"}, "")
    assert len([saving.save([part], str(tmp_path)) for _ in range(2)]) == 2
    with pytest.raises(UsageError, match="there are 2 files one.txt"):
        saving.save([part], str(tmp_path))
    assert sorted(one.name for one in Path(tmp_path).iterdir()) == ["one-2.txt", "one.txt"]
