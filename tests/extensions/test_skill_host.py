# SPDX-License-Identifier: MIT
"""The skills of a server as a host reads them: entries and files that differ from what was said are refused."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from mcp_h11 import Client, InvalidParams, MCPServer, ServerHandler, Skills
from mcp_h11.client.skills import get_skill, list_skills, read_skill, read_skill_file
from mcp_h11.client.transports.errors import InvalidAnswer
from mcp_h11.extensions import skills
from mcp_h11.extensions.skill_folder import MAX_SKILL_BYTES, MAX_SKILL_FILES

pytestmark = pytest.mark.anyio

URI = "skill://pdf/SKILL.md"
TEXT = "---\nname: pdf\ndescription: x\n---\nbody\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "pdf").mkdir()
    (tmp_path / "pdf" / "SKILL.md").write_text(TEXT)
    (tmp_path / "pdf" / "b.bin").write_bytes(b"\x00\xff")
    return tmp_path


@asynccontextmanager
async def hosted(folder: Path, revision: str = "2026-07-28") -> AsyncIterator[Client]:
    server = MCPServer("s", extensions=[Skills(folder, watch_every=None)])
    async with Client(server, revision=revision) as client:
        yield client


@pytest.mark.parametrize("revision", ["2025-11-25", "2026-07-28"])
async def test_a_skill_is_listed_found_and_read(folder: Path, revision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(skills, "PAGE_SKILLS", 1)
    (folder / "other").mkdir()
    (folder / "other" / "SKILL.md").write_text("---\nname: other\ndescription: x\n---\n")
    async with hosted(folder, revision) as client:
        _, entry = await list_skills(client)
        assert await get_skill(client, URI) == entry
        assert await read_skill(client, entry) == TEXT
        assert await read_skill_file(client, entry, "skill://pdf/b.bin") == b"\x00\xff"
        with pytest.raises(InvalidParams):
            await get_skill(client, "skill://none/SKILL.md")
        with pytest.raises(InvalidAnswer, match="is no file of the skill"):
            await read_skill_file(client, entry, "skill://pdf/c")


async def test_a_file_that_changed_is_refused_until_the_entry_is_asked_for_anew(folder: Path) -> None:
    async with hosted(folder) as client:
        [entry] = await list_skills(client)
        (folder / "pdf" / "b.bin").write_bytes(b"\x00\xfe")
        with pytest.raises(InvalidAnswer, match="has another digest"):
            await read_skill_file(client, entry, "skill://pdf/b.bin")
        (folder / "pdf" / "b.bin").write_bytes(b"longer")
        with pytest.raises(InvalidAnswer, match="has 6 bytes, and its skill's entry says 2"):
            await read_skill_file(client, entry, "skill://pdf/b.bin")
        assert await read_skill_file(client, await get_skill(client, URI), "skill://pdf/b.bin") == b"longer"


class Liar(ServerHandler):
    """Answers as it is told."""

    def __init__(self, entry: Any, contents: Any = None) -> None:
        self.answers: dict[str, Any] = {
            "skills/list": {"skills": [entry]},
            "skills/get": {"skill": entry},
            "resources/read": {"contents": contents},
        }

    def capabilities(self) -> dict[str, Any]:
        return {"resources": {}}

    async def request(self, method: str, params: Any, ctx: Any) -> Any:
        return self.answers[method]


def an_entry(**changes: Any) -> dict[str, Any]:
    file = {"uri": URI, "digest": f"sha256:{'0' * 64}", "size": 1}
    return {"uri": URI, "frontmatter": {"name": "pdf", "description": "x"}, "resources": [file], **changes}


def a_file(**changes: Any) -> dict[str, Any]:
    return {"uri": "skill://pdf/a", "digest": "", "size": 1, **changes}


BAD: list[tuple[Any, str]] = [
    (5, "the URI of a SKILL.md"),
    (an_entry(uri=None), "the URI of a SKILL.md"),
    (an_entry(uri="skill://pdf/README.md"), "the URI of a SKILL.md"),
    (an_entry(frontmatter={"name": "pdf"}), "a name and a description"),
    (an_entry(frontmatter=[]), "a name and a description"),
    (an_entry(frontmatter={"name": "other", "description": "x"}), "is not that of its folder"),
    (an_entry(resources=None), "lists its files wrongly"),
    (an_entry(resources=[]), "lists its files wrongly"),
    (an_entry(resources=[a_file()]), "lists its files wrongly"),
    *(
        (an_entry(resources=[*an_entry()["resources"], bad]), "lists its files wrongly")
        for bad in (5, {}, a_file(uri="skill://other/a"), a_file(digest=5), a_file(size=True), a_file(size=-1),
                    a_file(uri=URI))
    ),
    (an_entry(resources=an_entry()["resources"] + [a_file(uri=f"skill://pdf/{n}") for n in range(MAX_SKILL_FILES)]),
     "has more than 512 files"),
    (an_entry(resources=an_entry()["resources"] + [a_file(size=MAX_SKILL_BYTES)]), "or 16777216 bytes"),
]  # fmt: skip


@pytest.mark.parametrize(("entry", "said"), BAD)
async def test_an_entry_that_is_not_sound_is_refused(entry: Any, said: str) -> None:
    async with Client(Liar(entry)) as client:
        with pytest.raises(InvalidAnswer, match=said):
            await list_skills(client)
        with pytest.raises(InvalidAnswer, match=said):
            await get_skill(client, URI)


async def test_the_largest_skill_is_taken() -> None:
    files = [a_file(uri=f"skill://pdf/{number}", size=0) for number in range(MAX_SKILL_FILES - 1)]
    files[0]["size"] = MAX_SKILL_BYTES - 1
    async with Client(Liar(an_entry(resources=an_entry()["resources"] + files))) as client:
        assert len(await list_skills(client)) == 1


async def test_another_skill_is_no_answer() -> None:
    async with Client(Liar(an_entry())) as client:
        with pytest.raises(InvalidAnswer, match="was answered with another skill"):
            await get_skill(client, "skill://x/pdf/SKILL.md")


@pytest.mark.parametrize(
    ("contents", "said"),
    [
        (None, "one content"),
        ([], "one content"),
        ([{"uri": URI, "text": TEXT}] * 2, "one content"),
        ([5], "one content"),
        ([{"uri": URI}], "neither a text nor bytes"),
        ([{"uri": URI, "blob": "*"}], "neither a text nor bytes"),
        ([{"uri": URI, "text": "# no front matter"}], "no front matter that can be compared: line 1"),
        ([{"uri": URI, "blob": "/w=="}], "no front matter that can be compared"),
        ([{"uri": URI, "text": TEXT.replace(": x", ": y z")}], "differs from that of the skill's entry"),
    ],
)
async def test_a_dynamic_skill_is_checked_by_its_front_matter(contents: Any, said: str) -> None:
    entry = an_entry(resources="dynamic")
    async with Client(Liar(entry, contents)) as client:
        [entry] = await list_skills(client)
        with pytest.raises(InvalidAnswer, match=said):
            await read_skill(client, entry)


async def test_a_dynamic_skill_is_read() -> None:
    async with Client(Liar(an_entry(resources="dynamic"), [{"uri": URI, "text": TEXT}])) as client:
        [entry] = await list_skills(client)
        assert await read_skill(client, entry) == TEXT


async def test_a_dynamic_file_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    from mcp_h11.client import skills as host

    async with Client(Liar(an_entry(resources="dynamic"), [{"uri": URI, "text": TEXT}])) as client:
        [entry] = await list_skills(client)
        monkeypatch.setattr(host, "MAX_SKILL_BYTES", len(TEXT))
        assert await read_skill(client, entry) == TEXT
        monkeypatch.setattr(host, "MAX_SKILL_BYTES", len(TEXT) - 1)
        with pytest.raises(InvalidAnswer, match="has more than"):
            await read_skill(client, entry)
