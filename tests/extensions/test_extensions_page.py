# SPDX-License-Identifier: MIT
"""The programs of docs/extensions.md do what the page says."""

from __future__ import annotations

from pathlib import Path

import pytest
from pages import ROOT, program_with
from rawclient import Modern

from mcp_h11 import Client, InvalidParams, listening

pytestmark = pytest.mark.anyio

PAGE = ROOT / "docs" / "extensions.md"


async def test_an_extension_of_ones_own_and_its_client() -> None:
    server = program_with(PAGE, "class Glossary")["glossary"]
    meaning = program_with(PAGE, "async def meaning")["meaning"]
    async with listening(server, port=0) as running:
        url = f"http://127.0.0.1:{running.port}/mcp"
        assert await meaning(url, "fleet") == "all workers that share a store"
        with pytest.raises(InvalidParams, match="no such word"):
            await meaning(url, "flock")
        assert (
            await Modern(running.port).call("glossary/find", {"word": "x"}, headers={"Mcp-Name": "x"})
        ).status == 400
        async with Client(url) as client:
            assert client.server_extensions == {"com.example/glossary": {"words": 1}}
            assert "fleet" in str(await client.read_resource("glossary://all"))


async def test_a_host_loads_a_skill(tmp_path: Path) -> None:
    (tmp_path / "pdf").mkdir()
    (tmp_path / "pdf" / "SKILL.md").write_text("---\nname: pdf\ndescription: x\n---\n")
    (tmp_path / "pdf" / "a").write_text("b")
    server = program_with(PAGE, "def make")["make"](str(tmp_path))
    async with listening(server, port=0) as running:
        load = program_with(PAGE, "async def load")["load"]
        text, other = await load(f"http://127.0.0.1:{running.port}/mcp", "pdf")
    assert (text[:3], other) == (b"---", b"b")


async def test_the_app_tells_the_rest_a_text() -> None:
    async with Client(program_with(PAGE, "apps = Apps()")["shop"]) as client:
        result = await client.call_tool("stock", {"item": "tea"})
    assert result["content"] == [{"type": "text", "text": "3 of tea are left."}]
    assert result["structuredContent"] == {"item": "tea", "left": 3}
