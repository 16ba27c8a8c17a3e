# SPDX-License-Identifier: MIT
"""Skills on the wire: lists, entries, files, folders, pages, and a folder that changes or lies."""

from __future__ import annotations

import base64
import hashlib
import logging
import os
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from pipes_support import piped
from rawclient import LIMIT, Legacy, Modern
from wire import A, D

from mcp_h11 import MCPServer, ServerHandler, listening
from mcp_h11.extensions import safe_folder, skill_folder, skills
from mcp_h11.extensions.skill_folder import MAX_SKILL_BYTES, MAX_SKILL_FILES, SkillFolder
from mcp_h11.extensions.skills import SKILLS, Skills
from mcp_h11.handler.extension import Extension

pytestmark = pytest.mark.anyio


def skill(root: Path, path: str, front: str = "", **files: str | bytes) -> Path:
    folder = root / path
    folder.mkdir(parents=True, exist_ok=True)
    text = f"---\nname: {folder.name}\ndescription: About {folder.name}\n{front}---\n# {folder.name}\n"
    (folder / "SKILL.md").write_text(text, "utf-8")
    for name, data in files.items():
        file = folder / name.replace("__", "/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data.encode() if isinstance(data, str) else data)
    return folder


@asynccontextmanager
async def served(root: Path, **options: Any) -> AsyncIterator[tuple[Modern, MCPServer]]:
    server = MCPServer("s", extensions=[Skills(root, **{"watch_every": None, **options})])
    async with listening(server, port=0) as running:
        yield Modern(running.port), server


async def entries(client: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    cursor: dict[str, Any] = {}
    while True:
        result = (await client.call("skills/list", cursor)).result
        for entry in result["skills"]:
            assert entry["uri"] not in found
            found[entry["uri"]] = entry
        if "nextCursor" not in result:
            return found
        cursor = {"cursor": result["nextCursor"]}


async def text_of(client: Any, uri: str) -> Any:
    [contents] = (await client.call("resources/read", {"uri": uri})).result["contents"]
    return contents


# -- what is served --


async def test_a_skill_is_listed_with_its_front_matter_and_every_file(tmp_path: Path) -> None:
    folder = skill(tmp_path, "pdf", 'license: MIT\nmetadata:\n  version: "2.1"\n', references__FORMS_md="forms", a="x")
    async with served(tmp_path) as (client, _):
        discovered = (await client.call("server/discover")).result["capabilities"]
        assert discovered["extensions"] == {SKILLS: {"directoryRead": True}}
        result = (await client.call("skills/list")).result
        assert (result["resultType"], result["ttlMs"], result["cacheScope"]) == ("complete", 0, "public")
        [entry] = result["skills"]
        assert entry["uri"] == "skill://pdf/SKILL.md"
        assert entry["frontmatter"] == {
            "name": "pdf", "description": "About pdf", "license": "MIT", "metadata": {"version": "2.1"},
        }  # fmt: skip
        for one in entry["resources"]:
            data = (folder / one["uri"].removeprefix("skill://pdf/")).read_bytes()
            assert one["size"] == len(data)
            assert one["digest"] == f"sha256:{hashlib.sha256(data).hexdigest()}"
        uris = [one["uri"] for one in entry["resources"]]
        assert uris == ["skill://pdf/SKILL.md", "skill://pdf/a", "skill://pdf/references/FORMS_md"]
        got = (await client.call("skills/get", {"uri": entry["uri"]})).result
        assert got["skill"] == entry
        assert "nextCursor" not in got
        assert got["cacheScope"] == "public"


async def test_its_files_are_resources(tmp_path: Path) -> None:
    folder = skill(tmp_path, "pdf", **{"a.py": "print(1)\r\n", "b.bin": b"\x00\xff", "c": "\ufeffx", "d.svg": b"\xff"})
    async with served(tmp_path) as (client, _):
        [listed] = (await client.call("resources/list")).result["resources"]
        size = (folder / "SKILL.md").stat().st_size
        assert listed == {
            "uri": "skill://pdf/SKILL.md", "name": "pdf", "description": "About pdf", "mimeType": "text/markdown",
            "size": size,
        }  # fmt: skip
        manifest = await text_of(client, "skill://pdf/SKILL.md")
        assert manifest["text"] == (folder / "SKILL.md").read_text("utf-8")
        assert manifest["mimeType"] == "text/markdown"
        assert await text_of(client, "skill://pdf/a.py") == {
            "uri": "skill://pdf/a.py", "mimeType": "text/x-python", "text": "print(1)\r\n",
        }  # fmt: skip
        binary = await text_of(client, "skill://pdf/b.bin")
        assert (base64.b64decode(binary["blob"]), binary["mimeType"]) == (b"\x00\xff", "application/octet-stream")
        assert (await text_of(client, "skill://pdf/c"))["text"] == "\ufeffx"
        assert (await text_of(client, "skill://pdf/d.svg"))["blob"] == "/w=="


async def test_names_of_every_kind_are_found_by_their_uris(tmp_path: Path) -> None:
    folder = skill(tmp_path, "Team A/pdf", **{"x y.txt": "1", "100%.txt": "2", "q#.txt": "3", "\u00e9.txt": "4"})
    assert folder.is_dir()
    async with served(tmp_path) as (client, _):
        [entry] = (await client.call("skills/list")).result["skills"]
        assert entry["uri"] == "skill://Team%20A/pdf/SKILL.md"
        texts: dict[str, str] = {}
        for one in entry["resources"]:
            texts[one["uri"].rpartition("/")[2]] = (await text_of(client, one["uri"]))["text"]
        assert (texts["x%20y.txt"], texts["100%25.txt"], texts["q%23.txt"], texts["%C3%A9.txt"]) == ("1", "2", "3", "4")
        assert (await text_of(client, "skill://Team%20A/pdf/\u00e9.txt"))["text"] == "4"
        children = (await client.call("resources/directory/read", {"uri": "skill://Team%20A"})).result["resources"]
        assert children == [{"uri": "skill://Team%20A/pdf", "name": "pdf", "mimeType": "inode/directory"}]


async def test_nested_skills_are_skills_and_files_of_the_outer_one(tmp_path: Path) -> None:
    skill(tmp_path, "outer", a="x")
    skill(tmp_path, "outer/deep/inner", b="y")
    skill(tmp_path, "team/inner")
    (tmp_path / "team" / "notes.txt").write_text("of no skill")
    async with served(tmp_path) as (client, _):
        found = await entries(client)
        assert list(found) == [
            "skill://outer/SKILL.md", "skill://outer/deep/inner/SKILL.md", "skill://team/inner/SKILL.md",
        ]  # fmt: skip
        outer = [one["uri"] for one in found["skill://outer/SKILL.md"]["resources"]]
        assert outer == [
            "skill://outer/SKILL.md", "skill://outer/a", "skill://outer/deep/inner/SKILL.md",
            "skill://outer/deep/inner/b",
        ]  # fmt: skip
        # What belongs to no skill is not there.
        assert (await client.call("resources/read", {"uri": "skill://team/notes.txt"})).error["code"] == -32602
        team = (await client.call("resources/directory/read", {"uri": "skill://team"})).result["resources"]
        assert [child["name"] for child in team] == ["inner"]
        root = (await client.call("resources/directory/read", {"uri": "skill://"})).result["resources"]
        assert [child["uri"] for child in root] == ["skill://outer", "skill://team"]


async def test_a_folder_that_is_a_skill_itself(tmp_path: Path) -> None:
    folder = skill(tmp_path, "one", references__x_txt="x")
    async with served(folder) as (client, _):
        assert list(await entries(client)) == ["skill://one/SKILL.md"]
        assert (await text_of(client, "skill://one/references/x_txt"))["text"] == "x"


async def test_a_folder_without_skills_serves_an_empty_list(tmp_path: Path) -> None:
    async with served(tmp_path) as (client, _):
        assert await entries(client) == {}


@pytest.mark.parametrize("revision", [A, D])
async def test_sessions_have_skills_without_members_that_they_do_not_know(tmp_path: Path, revision: str) -> None:
    skill(tmp_path, "pdf", a="x")
    server = MCPServer("s", extensions=[Skills(tmp_path, watch_every=None)])
    async with listening(server, port=0) as running, Legacy(running.port, revision) as client:
        assert client.initialized["capabilities"]["extensions"] == {SKILLS: {"directoryRead": True}}
        assert set((await client.call("skills/list")).result) == {"skills"}
        assert (await client.call("skills/get", {"uri": "skill://pdf/SKILL.md"})).result["skill"]["uri"]
        assert len((await client.call("resources/directory/read", {"uri": "skill://pdf"})).result["resources"]) == 2


async def test_pipes_have_skills(tmp_path: Path) -> None:
    skill(tmp_path, "pdf")
    async with piped(MCPServer("s", extensions=[Skills(tmp_path)])) as wire:
        wire.request(1, "skills/list")
        assert (await wire.result(1))["skills"][0]["uri"] == "skill://pdf/SKILL.md"


# -- folders and pages --


async def test_a_directory_has_its_direct_children(tmp_path: Path) -> None:
    folder = skill(tmp_path, "pdf", templates__a_md="a", templates__regional__eu_md="b")
    (folder / "empty").mkdir()
    async with served(tmp_path) as (client, _):
        result = (await client.call("resources/directory/read", {"uri": "skill://pdf"})).result
        assert "ttlMs" not in result
        assert [(one["uri"], one["mimeType"]) for one in result["resources"]] == [
            ("skill://pdf/SKILL.md", "text/markdown"),
            ("skill://pdf/empty", "inode/directory"),
            ("skill://pdf/templates", "inode/directory"),
        ]
        assert result["resources"][0]["description"] == "About pdf"
        inner = (await client.call("resources/directory/read", {"uri": "skill://pdf/templates/"})).result["resources"]
        assert inner[0] == {"uri": "skill://pdf/templates/a_md", "name": "a_md", "mimeType": "text/plain", "size": 1}
        assert inner[1]["name"] == "regional"
        assert (await client.call("resources/directory/read", {"uri": "skill://pdf/empty"})).result["resources"] == []


@pytest.mark.parametrize(
    "uri", ["skill://pdf/SKILL.md", "skill://none", "skill://", "skill:", "pdf", "", "skill://pdf/..", "skill://pdf//"]
)
async def test_what_is_no_directory_is_refused(tmp_path: Path, uri: str) -> None:
    skill(tmp_path, "pdf")
    async with served(tmp_path / "pdf") as (client, _):
        answer = await client.call("resources/directory/read", {"uri": uri})
    if uri == "skill://":  # the folder above the skill
        assert len(answer.result["resources"]) == 1
    else:
        assert (answer.status, answer.error["code"]) == (400, -32602)


@pytest.mark.parametrize("uri", ["skill://none/SKILL.md", "skill://pdf", "skill://pdf/a", "x", None, 5])
async def test_what_is_no_skill_is_refused(tmp_path: Path, uri: Any) -> None:
    skill(tmp_path, "pdf", a="x")
    async with served(tmp_path) as (client, _):
        answer = await client.call("skills/get", {"uri": uri})
    assert (answer.status, answer.error["code"]) == (400, -32602)


async def test_lists_have_pages_that_neither_skip_nor_repeat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(skills, "PAGE_SKILLS", 3)
    monkeypatch.setattr(skills, "PAGE_NAMES", 2)
    for number in range(7):
        skill(tmp_path, f"s{number}", a="x", b="y")
    async with served(tmp_path) as (client, _):
        assert len(await entries(client)) == 7
        first = (await client.call("skills/list")).result
        skill(tmp_path, "s00")
        (tmp_path / "s3" / "SKILL.md").unlink()
        second = (await client.call("skills/list", {"cursor": first["nextCursor"]})).result
        assert [one["frontmatter"]["name"] for one in second["skills"]] == ["s4", "s5", "s6"]
        names: list[str] = []
        cursor: dict[str, Any] = {}
        while True:
            page = (await client.call("resources/directory/read", {"uri": "skill://s1", **cursor})).result
            names += [one["name"] for one in page["resources"]]
            if "nextCursor" not in page:
                break
            cursor = {"cursor": page["nextCursor"]}
        assert names == ["s1", "a", "b"]


async def test_a_page_has_a_bounded_number_of_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(skills, "PAGE_FILES", 4)
    for number in range(3):
        skill(tmp_path, f"s{number}", a="x")
    skill(tmp_path, "s9", **dict.fromkeys("abcdef", "x"))  # more than a page may have: a page of its own
    async with served(tmp_path) as (client, _):
        assert len((await client.call("skills/list")).result["skills"]) == 2
        assert len(await entries(client)) == 4


def encoded(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode()


@pytest.mark.parametrize("cursor", ["x", "\u00e9", "====", 5, encoded("skills"), encoded("prompts\nx"), "/w=="])
async def test_a_cursor_that_was_not_issued_is_refused(tmp_path: Path, cursor: Any) -> None:
    async with served(tmp_path) as (client, _):
        answer = await client.call("skills/list", {"cursor": cursor})
    assert (answer.status, answer.error["code"]) == (400, -32602)


# -- a folder that changes --


async def test_changes_are_seen_at_once(tmp_path: Path) -> None:
    folder = skill(tmp_path, "pdf", a="one")
    async with served(tmp_path) as (client, _):
        before = (await entries(client))["skill://pdf/SKILL.md"]
        (folder / "a").write_text("two")  # of the same size, and perhaps at the same time
        after = (await entries(client))["skill://pdf/SKILL.md"]
        assert before["resources"][0] == after["resources"][0]
        assert before["resources"][1]["digest"] != after["resources"][1]["digest"]
        assert (await text_of(client, "skill://pdf/a"))["text"] == "two"
        (folder / "b").write_text("new")
        assert (await text_of(client, "skill://pdf/b"))["text"] == "new"
        skill(tmp_path, "new")
        (folder / "SKILL.md").unlink()
        assert list(await entries(client)) == ["skill://new/SKILL.md"]
        assert [one["name"] for one in (await client.call("resources/list")).result["resources"]] == ["new"]
        assert (await client.call("resources/read", {"uri": "skill://pdf/a"})).error["code"] == -32602


async def test_a_file_that_is_gone_after_the_look_is_not_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = skill(tmp_path, "pdf", a="one", b="two")
    monkeypatch.setattr(skills, "READ_AGE", 1e9)
    async with served(tmp_path) as (client, _):
        (folder / "a").unlink()
        assert (await client.call("resources/read", {"uri": "skill://pdf/a"})).error["code"] == -32602
        (folder / "b").write_bytes(b"\xff")  # as it is now: the host finds that the digest differs
        assert (await text_of(client, "skill://pdf/b"))["blob"] == "/w=="


async def test_clients_that_listen_are_told_of_changes_that_nobody_asked_for(tmp_path: Path) -> None:
    folder = skill(tmp_path, "pdf", a="one")
    async with served(tmp_path, watch_every=0.01) as (client, _):
        with anyio.fail_after(LIMIT):
            async with client.listen(resourcesListChanged=True, resourceSubscriptions=["skill://pdf/a"]) as stream:
                await stream.next_message()
                (folder / "a").write_text("other")
                heard = await stream.next_message()
                assert heard["method"] == "notifications/resources/updated"
                assert heard["params"]["uri"] == "skill://pdf/a"
                skill(tmp_path, "new")
                assert (await stream.next_message())["method"] == "notifications/resources/list_changed"


async def test_a_watch_that_fails_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    looks = anyio.Event()
    failed: list[int] = []

    def look(self: Any, max_age: float = 0.0) -> Any:
        failed.append(1)
        if len(failed) > 2:
            looks.set()
        raise ValueError("broken")

    extension = Skills(tmp_path, watch_every=0.01)
    server = MCPServer("s", extensions=[extension])
    monkeypatch.setattr(SkillFolder, "look", look)
    with anyio.fail_after(LIMIT):
        async with listening(server, port=0):
            await looks.wait()
    assert "the folder of skills could not be looked at" in caplog.text


# -- a folder that lies --


LEADING_OUT = (
    "pdf/passwd", "pdf/folder/passwd", "secret/a", "pdf/.env", "pdf/../../outside/passwd", "../outside/passwd",
    "pdf/..%2F..%2Foutside%2Fpasswd", "/etc/passwd", "%2Fetc%2Fpasswd",
)  # fmt: skip


async def test_links_and_hidden_files_are_not_served(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    outside = tmp_path / "outside"
    skill(outside, "secret", a="secret")
    (outside / "passwd").write_text("secret")
    root = tmp_path / "root"
    folder = skill(root, "pdf", **{".env": "secret", ".git__config": "secret", "a": "x"})
    (folder / "passwd").symlink_to(outside / "passwd")
    (folder / "inside").symlink_to(folder / "a")
    (folder / "folder").symlink_to(outside)
    (root / "secret").symlink_to(outside / "secret")
    (root / "loop").symlink_to(root)
    with caplog.at_level(logging.WARNING):
        async with served(root) as (client, _):
            found = await entries(client)
            assert list(found) == ["skill://pdf/SKILL.md"]
            assert len(found["skill://pdf/SKILL.md"]["resources"]) == 2
            for path in LEADING_OUT:
                answer = await client.call("resources/read", {"uri": f"skill://{path}"})
                assert answer.error["code"] == -32602, path
                answer = await client.call("resources/directory/read", {"uri": f"skill://{path}"})
                assert answer.error["code"] == -32602, path
    told = [record.getMessage() for record in caplog.records if "link" in record.getMessage()]
    assert sorted(told) == [
        f"skills: {name}: is a link, or no regular file, and is left out"
        for name in ("loop", "pdf/folder", "pdf/inside", "pdf/passwd", "secret")
    ]


async def test_a_link_that_takes_the_place_of_a_file_is_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "passwd").write_text("secret")
    folder = skill(tmp_path / "root", "pdf", a="x", sub__b="x")
    monkeypatch.setattr(skills, "READ_AGE", 1e9)
    async with served(tmp_path / "root") as (client, _):
        (folder / "a").unlink()
        (folder / "a").symlink_to(tmp_path / "passwd")
        (folder / "sub" / "b").unlink()
        (folder / "sub").rmdir()
        (folder / "sub").symlink_to(tmp_path)
        (tmp_path / "b").write_text("secret")
        for name in ("a", "sub/b"):
            assert (await client.call("resources/read", {"uri": f"skill://pdf/{name}"})).error["code"] == -32602


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
async def test_a_pipe_holds_nothing_up(tmp_path: Path) -> None:
    folder = skill(tmp_path, "pdf")
    os.mkfifo(folder / "pipe")
    with anyio.fail_after(LIMIT):
        async with served(tmp_path) as (client, _):
            assert len((await entries(client))["skill://pdf/SKILL.md"]["resources"]) == 1
    with safe_folder.SafeFolder.at(str(folder)) as opened, pytest.raises(OSError, match="no regular file"):
        opened.open("pipe")


def test_a_system_that_opens_by_whole_paths_follows_no_link_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(safe_folder, "RELATIVE", False)
    monkeypatch.setattr(safe_folder, "_FILE", os.O_RDONLY)
    folder = skill(tmp_path / "root", "pdf", a="x", sub__b="y")
    (folder / "link").symlink_to(tmp_path)
    folders = SkillFolder(tmp_path / "root")
    found = folders.look()
    assert list(found.files) == ["skill://pdf/SKILL.md", "skill://pdf/a", "skill://pdf/sub/b"]
    assert folders.read(found.files["skill://pdf/sub/b"]) == b"y"
    (folder / "a").unlink()
    (folder / "a").symlink_to(folder / "SKILL.md")
    with pytest.raises(OSError, match="a link"):
        folders.read(found.files["skill://pdf/a"])
    with safe_folder.SafeFolder.at(str(folder)) as opened, pytest.raises(OSError, match="a link"):
        with opened.folder("link"):
            pass


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"# no front matter", "pdf/SKILL.md: is not served: line 1: front matter begins with"),
        (b"---\nname: pdf\n---\n", "`description` is a text of 1 to 1024 characters"),
        (b"---\nname: pdf\ndescription: 5\n---\n", "`description` is a text"),
        (b"---\nname: pdf\ndescription: ''\n---\n", "`description` is a text"),
        (b"---\nname: pdf\ndescription: " + b"x" * 1025 + b"\n---\n", "`description` is a text"),
        (b"---\nname: other\ndescription: x\n---\n", "its `name` is 'other', and the name of its folder is 'pdf'"),
        (b"---\nname: PDF\ndescription: x\n---\n", "`name` is 1 to 64"),
        (b"---\nname: a--b\ndescription: x\n---\n", "`name` is 1 to 64"),
        (b"---\nname: -a\ndescription: x\n---\n", "`name` is 1 to 64"),
        (b"---\nname: " + b"a" * 65 + b"\ndescription: x\n---\n", "`name` is 1 to 64"),
        (b"---\ndescription: x\n---\n", "`name` is 1 to 64"),
        (b"---\nname: \xff\ndescription: x\n---\n", "a SKILL.md is UTF-8"),
        (b"---\nname: *x\n---\n", "line 2: an alias is not read here"),
    ],
)
async def test_a_skill_that_breaks_a_rule_is_not_served_and_the_log_says_which(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, text: bytes, said: str
) -> None:
    folder = skill(tmp_path, "pdf")
    (folder / "SKILL.md").write_bytes(text)
    skill(tmp_path, "good")
    with caplog.at_level(logging.WARNING):
        async with served(tmp_path) as (client, server):
            for _ in range(3):  # it is told once
                assert list(await entries(client)) == ["skill://good/SKILL.md"]
            [extension] = server.extensions()
            assert isinstance(extension, Skills)
            [problem] = extension.problems
    assert said in problem
    assert [record.getMessage() for record in caplog.records].count(f"skills: {problem}") == 1


async def test_a_description_of_1024_characters_and_a_name_of_64_are_served(tmp_path: Path) -> None:
    folder = skill(tmp_path, "a" * 64)
    (folder / "SKILL.md").write_text(f"---\nname: {'a' * 64}\ndescription: {'x' * 1024}\n---\n")
    async with served(tmp_path) as (client, _):
        assert len(await entries(client)) == 1


@pytest.mark.parametrize(("more", "is_served"), [(0, True), (1, False)])
def test_the_files_of_a_skill_are_bounded(tmp_path: Path, more: int, is_served: bool) -> None:
    folder = skill(tmp_path, "pdf")
    for number in range(MAX_SKILL_FILES - 1 + more):
        (folder / str(number)).touch()
    found = SkillFolder(tmp_path).look()
    assert bool(found.skills) is is_served
    assert bool(found.problems) is not is_served


@pytest.mark.parametrize(("more", "is_served"), [(0, True), (1, False)])
def test_the_bytes_of_a_skill_are_bounded(tmp_path: Path, more: int, is_served: bool) -> None:
    folder = skill(tmp_path, "pdf")
    with open(folder / "big", "wb") as file:
        file.truncate(MAX_SKILL_BYTES - (folder / "SKILL.md").stat().st_size + more)
    found = SkillFolder(tmp_path).look()
    assert bool(found.skills) is is_served
    if is_served:  # and it is not read whole where it grows later
        with open(folder / "big", "r+b") as file:
            file.truncate(MAX_SKILL_BYTES + 1)
        with pytest.raises(OSError, match="too large"):
            SkillFolder(tmp_path).read(found.files["skill://pdf/big"])


def test_one_manifest_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = skill(tmp_path, "pdf")
    size = (folder / "SKILL.md").stat().st_size
    monkeypatch.setattr(skill_folder, "MAX_MANIFEST_BYTES", size)
    assert SkillFolder(tmp_path).look().skills
    monkeypatch.setattr(skill_folder, "MAX_MANIFEST_BYTES", size - 1)
    assert not SkillFolder(tmp_path).look().skills


@pytest.mark.parametrize(("limit", "count"), [(8, 2), (7, 1), (6, 1), (3, 0)])
def test_the_walk_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int, count: int) -> None:
    skill(tmp_path, "a", x="1", y="2")
    skill(tmp_path, "b", x="1", y="2")
    monkeypatch.setattr(skill_folder, "MAX_WALKED", limit)
    found = SkillFolder(tmp_path).look()
    assert len(found.skills) == count
    assert bool(found.problems) is (count < 2)


@pytest.mark.parametrize(("levels", "is_served"), [(3, True), (4, False)])
def test_the_levels_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, levels: int, is_served: bool) -> None:
    monkeypatch.setattr(skill_folder, "MAX_LEVELS", 3)
    skill(tmp_path, "/".join("abcd"[:levels]))
    assert bool(SkillFolder(tmp_path).look().skills) is is_served


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="the superuser reads every file")
def test_what_cannot_be_read_is_told(tmp_path: Path) -> None:
    folder = skill(tmp_path, "pdf", a="x")
    (folder / "a").chmod(0)
    found = SkillFolder(tmp_path).look()
    assert "pdf/a: cannot be read" in found.problems[0]


def test_what_cannot_be_opened_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    skill(tmp_path, "pdf", a="x", sub__b="y")
    skill(tmp_path, "good")
    opened = safe_folder.SafeFolder.open

    def refuse(self: Any, name: str) -> int:
        if name == "a":
            raise PermissionError(13, "Permission denied")
        return opened(self, name)

    monkeypatch.setattr(safe_folder.SafeFolder, "open", refuse)
    found = SkillFolder(tmp_path).look()
    assert found.problems == ("pdf/a: cannot be read: Permission denied",)
    # It is not among the files of the skill, which are all that are served.
    assert "skill://pdf/a" not in found.files


def test_a_file_that_goes_between_two_looks_at_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = skill(tmp_path, "pdf", a="x", sub__b="y")
    taken = SkillFolder._take_skill

    def take(self: Any, *arguments: Any) -> None:
        (folder / "a").unlink(missing_ok=True)
        taken(self, *arguments)

    monkeypatch.setattr(SkillFolder, "_take_skill", take)
    found = SkillFolder(tmp_path).look()
    assert not found.skills
    assert "pdf/a cannot be read" in found.problems[0]


def test_a_file_that_grows_between_two_looks_at_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = skill(tmp_path, "pdf", a="x")
    taken = SkillFolder._take_skill

    def take(self: Any, *arguments: Any) -> None:
        with open(folder / "a", "r+b") as file:
            file.truncate(MAX_SKILL_BYTES + 1)
        taken(self, *arguments)

    monkeypatch.setattr(SkillFolder, "_take_skill", take)
    found = SkillFolder(tmp_path).look()
    assert not found.skills
    assert "it has become too large" in found.problems[0]


def test_a_folder_that_cannot_be_opened_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    skill(tmp_path, "pdf", sub__b="y")
    opened = safe_folder.SafeFolder.folder

    def refuse(self: Any, name: str) -> Any:
        if name == "sub":
            raise PermissionError(13, "Permission denied")
        return opened(self, name)

    monkeypatch.setattr(safe_folder.SafeFolder, "folder", refuse)
    found = SkillFolder(tmp_path).look()
    assert found.problems == ("pdf/sub: cannot be read: Permission denied",)
    assert list(found.files) == ["skill://pdf/SKILL.md"]


def test_a_folder_that_goes_is_told(tmp_path: Path) -> None:
    folder = skill(tmp_path, "pdf")
    root = SkillFolder(folder)
    assert root.look().skills
    (folder / "SKILL.md").unlink()
    folder.rmdir()
    assert "cannot be read" in root.look().problems[0]
    assert not root.look().skills


def test_files_that_did_not_change_are_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = skill(tmp_path, "pdf", a="x")
    os.utime(folder / "a", (1e9, 1e9))
    os.utime(folder / "SKILL.md", (1e9, 1e9))
    root = SkillFolder(tmp_path)
    first = root.look()
    read: list[Any] = []
    monkeypatch.setattr(skill_folder.hashlib, "sha256", lambda data: read.append(data) or hashlib.md5(data))
    assert root.look() == first
    assert read == []
    (folder / "a").write_text("y")
    root.look()
    assert read == [b"y"]


class Arrivals:
    """A lock that counts how many came to it; `more` is notified of each."""

    def __init__(self, lock: Any) -> None:
        self.lock = lock
        self.count = 0
        self.more = threading.Condition()

    def __enter__(self) -> None:
        with self.more:
            self.count += 1
            self.more.notify_all()
        self.lock.acquire()

    def __exit__(self, *error: object) -> None:
        self.lock.release()


def test_one_look_is_enough_for_all_that_waited_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    skill(tmp_path, "one")
    served_skills = Skills(tmp_path)
    lock = served_skills._lock = Arrivals(served_skills._lock)  # type: ignore[assignment]
    looks: list[int] = []
    real = SkillFolder._look

    def counted(folder: SkillFolder) -> Any:
        looks.append(lock.count)
        if len(looks) == 1:
            with lock.more:
                assert lock.more.wait_for(lambda: lock.count == 8, LIMIT)
        return real(folder)

    monkeypatch.setattr(SkillFolder, "_look", counted)
    threads = [threading.Thread(target=served_skills._look) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT)
    assert len(looks) == 2


@pytest.mark.skipif(sys.platform in ("darwin", "win32"), reason="names are Unicode there")
def test_a_name_that_is_no_text_is_left_out(tmp_path: Path) -> None:
    folder = skill(tmp_path, "pdf")
    (Path(os.fsdecode(os.fsencode(folder) + b"/\xff"))).write_text("x")
    found = SkillFolder(tmp_path).look()
    assert list(found.files) == ["skill://pdf/SKILL.md"]
    assert "is no UTF-8" in found.problems[0]


# -- mistakes of the author --


def test_what_is_no_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "none", tmp_path / "file"):
        with pytest.raises(ValueError, match="is no folder"):
            Skills(path)


@pytest.mark.parametrize("seconds", [0, -1, float("nan")])
def test_a_time_that_is_none_is_refused(tmp_path: Path, seconds: float) -> None:
    with pytest.raises(ValueError, match="watch_every is a number of seconds"):
        Skills(tmp_path, watch_every=seconds)


def test_one_object_is_for_one_server(tmp_path: Path) -> None:
    extension = Skills(tmp_path)
    MCPServer("a", extensions=[extension])
    with pytest.raises(ValueError, match="one Skills is for one server"):
        MCPServer("b", extensions=[extension])


async def test_a_program_may_have_a_resource_of_the_same_uri(tmp_path: Path) -> None:
    skill(tmp_path, "pdf")
    server = MCPServer("s")
    server.add_resource("skill://pdf/SKILL.md", lambda: "mine", name="mine")
    server.add_extension(Skills(tmp_path, watch_every=None))
    async with listening(server, port=0) as running:
        client = Modern(running.port)
        assert (await text_of(client, "skill://pdf/SKILL.md"))["text"] == "mine"
        server.remove_resource("skill://pdf/SKILL.md")
        (tmp_path / "pdf" / "SKILL.md").unlink()
        assert await entries(client) == {}


class Handwritten(ServerHandler):
    def __init__(self, extension: Extension) -> None:
        self.extension = extension

    def extensions(self) -> list[Extension]:
        return [self.extension]


async def test_a_handler_without_a_catalogue_lists_skills(tmp_path: Path) -> None:
    skill(tmp_path, "pdf")
    async with listening(Handwritten(Skills(tmp_path)), port=0) as running:
        assert len(await entries(Modern(running.port))) == 1


def test_an_extension_that_cannot_be_added_changes_nothing(tmp_path: Path) -> None:
    server = MCPServer("s")
    server.add_extension(Skills(tmp_path))
    with pytest.raises(ValueError, match="two extensions have the identifier"):
        server.add_extension(Skills(tmp_path))
    assert len(server.extensions()) == 1
