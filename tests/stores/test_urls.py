# SPDX-License-Identifier: MIT
"""Which store a URL names."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from stores_support import run

from mcp_h11.stores.base import StoreError
from mcp_h11.stores.memory import MemoryStore
from mcp_h11.stores.redis import RedisStore
from mcp_h11.stores.sqlite import SQLiteStore
from mcp_h11.stores.urls import KNOWN_STORES, MIN_FILE_BYTES, open_store


@pytest.mark.parametrize(
    "url, path",
    [
        ("sqlite:///var/lib/mcp.db", "/var/lib/mcp.db"),
        ("sqlite:////var/lib/mcp.db", "/var/lib/mcp.db"),
        ("sqlite:/var/lib/mcp.db", "/var/lib/mcp.db"),
        ("sqlite:mcp.db", "{cwd}/mcp.db"),
        ("sqlite:./a/mcp.db", "{cwd}/a/mcp.db"),
        ("sqlite:../mcp.db", "{above}/mcp.db"),
        ("sqlite:///a%20b%3Fc/100%25.db", "/a b?c/100%.db"),
        ("sqlite:///a@b:c#d.db", "/a@b:c#d.db"),
    ],
)
def test_a_url_of_sqlite_names_a_file(url: str, path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = open_store(url)
    assert isinstance(store, SQLiteStore)
    assert store.path == path.format(cwd=os.path.realpath(tmp_path), above=os.path.realpath(tmp_path.parent))
    assert [*tmp_path.iterdir()] == []  # it is not opened yet


def test_the_other_schemes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(open_store("memory:"), MemoryStore)
    for url in (
        "redis://127.0.0.1:6379/0?prefix=x",
        "rediss://user:word@127.0.0.1",
        "redis+sentinel://127.0.0.1:26379/service",
        "redis+cluster://127.0.0.1:7000,127.0.0.1:7001",
    ):
        assert isinstance(open_store(url), RedisStore)


def test_redis_without_its_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "redis"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(ImportError, match=r"pip install 'mcp_h11\[redis\]'") as error:
        open_store("redis://user:secret@127.0.0.1")
    assert "secret" not in str(error.value)


@pytest.mark.parametrize("missing, error", [("redis", ImportError), ("redis_link", ModuleNotFoundError)])
def test_a_copy_that_was_vendored_without_redis_says_so_and_no_other_fault_is_taken_for_it(
    missing: str, error: type[ImportError], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "mcp_h11.stores.redis")
    monkeypatch.setitem(sys.modules, f"mcp_h11.stores.{missing}", None)
    with pytest.raises(ImportError) as raised:
        open_store("redis://user:secret@127.0.0.1")
    assert raised.type is error
    assert ("vendored without stores/redis" in str(raised.value)) is (missing == "redis")
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    "url",
    [
        "", "mcp.db", "/var/lib/mcp.db", "postgres://user:secret@host/db", "user:secret@host", "secret", "SQLITE:x",
        "redis:secret", "redis://user:secret@host:port", "rediss+nothing://user:secret@host", "file:///secret",
    ],
)  # fmt: skip
def test_what_names_no_store_is_an_error_without_the_secret(url: str) -> None:
    with pytest.raises(ValueError) as error:
        open_store(url)
    assert "secret" not in str(error.value)
    if not url.startswith("redis:"):
        assert all(known in str(error.value) for known in KNOWN_STORES)


@pytest.mark.parametrize(
    "url, words",
    [
        ("sqlite:", "needs the path of a file"),
        ("sqlite:///", "needs the path of a file"),
        ("sqlite::memory:", "write memory:"),
        ("sqlite:a%00b", "needs the path of a file"),
        ("sqlite://", "names no host"),
        ("sqlite://host/path", "names no host"),
        ("sqlite:x?mode=ro", "takes ?max_bytes="),
        ("sqlite:x?max_bytes=", "takes ?max_bytes="),
        ("sqlite:x?max_bytes=-1", "takes ?max_bytes="),
        ("sqlite:x?max_bytes=\u0661", "takes ?max_bytes="),
        (f"sqlite:x?max_bytes={MIN_FILE_BYTES - 1}", "takes ?max_bytes="),
        (f"sqlite:x?max_bytes={MIN_FILE_BYTES}&x=", "takes ?max_bytes="),
        ("memory:x", "nothing after the colon"),
        ("memory://", "nothing after the colon"),
    ],
)
def test_a_wrong_url_says_what_is_wrong(url: str, words: str) -> None:
    with pytest.raises(ValueError) as error:
        open_store(url)
    assert words in str(error.value)


def test_the_file_has_at_most_its_bytes(tmp_path: Path) -> None:
    path = tmp_path / "store.db"

    async def test() -> None:
        store = open_store(f"sqlite://{path}?max_bytes={MIN_FILE_BYTES}")
        await store.open("w")
        try:
            with pytest.raises(StoreError, match="full"):
                for n in range(MIN_FILE_BYTES // 4096):
                    await store.records.create("s", f"k{n}", b"x" * 4096, None)
        finally:
            await store.close()

    run(test)
    assert MIN_FILE_BYTES // 2 < path.stat().st_size <= MIN_FILE_BYTES
