# SPDX-License-Identifier: MIT
"""KeyringTokenStore: logins in a keyring, with small entries, no list and no lock; the keyring is in memory."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

import anyio
import keyring
import pytest
from keyring.backend import KeyringBackend
from keyring.backends import fail, null
from keyring.errors import PasswordDeleteError

from mcp_h11.client.oauth import keyring as ours
from mcp_h11.client.oauth.errors import TokenStoreError
from mcp_h11.client.oauth.files import MAX_PIECES, FileTokenStore
from mcp_h11.client.oauth.keyring import MAX_PIECE, KeyringTokenStore, default_store, system_keyring
from mcp_h11.client.oauth.store import Login, Registration, Tokens

pytestmark = pytest.mark.anyio
KEY = "https://mcp.example/mcp"


def login(access: str = "secret-access") -> Login:
    return Login(KEY, "https://issuer.example", Registration("app", "secret-client"), Tokens(access))


class Small(KeyringBackend):
    """A keyring as that of Windows: an entry has a limit, and one that is not there cannot be removed."""

    priority = 1.0  # type: ignore[assignment]

    def __init__(self) -> None:
        super().__init__()
        self.entries: dict[tuple[str, str], str] = {}
        self.room = 1_000_000

    def get_password(self, service: str, username: str) -> str | None:
        return self.entries.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        if len(password.encode("utf-16-le")) > 2560 or len(self.entries) >= self.room:
            raise OSError(f"cannot keep {password}")
        self.entries[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        if self.entries.pop((service, username), None) is None:
            raise PasswordDeleteError("not there")


@pytest.fixture
def backend() -> Small:
    return Small()


@pytest.fixture
def store(tmp_path: Path, backend: Small) -> KeyringTokenStore:
    return KeyringTokenStore(tmp_path / "logins", backend=backend)


def written(folder: Path) -> str:
    return "".join(path.read_text() for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("size", [1, MAX_PIECE, 20 * MAX_PIECE])
async def test_a_login_of_any_size_is_there_in_the_next_process(
    store: KeyringTokenStore, backend: Small, tmp_path: Path, size: int
) -> None:
    wanted = login("secret-access" + "a" * size)
    async with store.locked(KEY):
        await store.save(KEY, wanted)
    again = KeyringTokenStore(tmp_path / "logins", backend=backend)
    assert await again.load(KEY) == wanted
    assert await again.load("https://other.example") is None
    assert await again.keys() == [KEY]
    assert "secret" not in written(tmp_path)
    assert {service for service, _ in backend.entries} == {"mcp_h11"}


async def test_nothing_is_left_of_a_login_that_was_replaced_or_removed(
    store: KeyringTokenStore, backend: Small, tmp_path: Path
) -> None:
    await store.save(KEY, login("a" * 5000))
    await store.save(KEY, login("b"))
    assert len(backend.entries) == 1 and "b" in next(iter(backend.entries.values()))
    await store.delete(KEY)
    await store.delete(KEY)
    assert backend.entries == {} and await store.load(KEY) is None and await store.keys() == []


async def test_a_save_that_fails_leaves_the_login_before_it(
    store: KeyringTokenStore, backend: Small, tmp_path: Path
) -> None:
    await store.save(KEY, login())
    backend.room = 2
    with pytest.raises(
        TokenStoreError, match="^the keyring of this system refuses: OSError$"
    ):  # which quotes no secret
        await store.save(KEY, login("a" * 5000))
    assert await store.load(KEY) == login()


async def test_pieces_that_are_gone_count_as_no_login(
    store: KeyringTokenStore, backend: Small, caplog: pytest.LogCaptureFixture
) -> None:
    await store.save(KEY, login("a" * 5000))
    backend.entries.popitem()
    assert await store.load(KEY) is None
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "the keyring has no whole login for https://mcp.example/mcp, which counts as none" in record.getMessage()
    await store.save(KEY, login())
    assert await store.load(KEY) == login()
    await store.delete(KEY)
    assert backend.entries == {}


async def test_the_size_of_a_login_has_a_limit(store: KeyringTokenStore, backend: Small) -> None:
    spare = MAX_PIECE * MAX_PIECES - len(login("").to_json())
    with pytest.raises(TokenStoreError, match="characters is not kept"):
        await store.save(KEY, login("a" * (spare + 1)))
    assert backend.entries == {}


async def test_a_login_of_a_file_moves_to_the_keyring(store: KeyringTokenStore, tmp_path: Path) -> None:
    await FileTokenStore(tmp_path / "logins").save(KEY, login())
    assert await store.load(KEY) == login()
    await store.save(KEY, login("secret-new"))
    assert await store.load(KEY) == login("secret-new")
    assert "secret" not in written(tmp_path)


async def test_a_program_without_the_keyring_is_told_where_the_login_is(
    store: KeyringTokenStore, tmp_path: Path
) -> None:
    await store.save(KEY, login())
    files = FileTokenStore(tmp_path / "logins")
    with pytest.raises(TokenStoreError, match=f"is in the keyring of this system.*remove {files.path_of(KEY)}"):
        await files.load(KEY)
    assert await files.keys() == [KEY]


async def test_a_keyring_that_does_not_answer_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = threading.Event()

    class Stuck(Small):
        def set_password(self, service: str, username: str, password: str) -> None:
            free.wait(30)

    monkeypatch.setattr(ours, "KEYRING_LIMIT", 0.05)
    store = KeyringTokenStore(tmp_path, backend=Stuck())
    try:
        with anyio.fail_after(30), pytest.raises(TokenStoreError, match="has not answered for 0.05 s"):
            await store.save(KEY, login())
    finally:
        free.set()


# --- which one --------------------------------------------------------------------------------------------------------


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Small:
    found = Small()
    monkeypatch.setattr(keyring, "get_keyring", lambda: found)
    return found


async def test_the_keyring_is_used_where_one_works(installed: Small, tmp_path: Path) -> None:
    assert system_keyring() is installed
    store = default_store({"XDG_CONFIG_HOME": str(tmp_path)})
    assert isinstance(store, KeyringTokenStore)
    await store.save(KEY, login())
    assert len(installed.entries) == 1 and "secret" not in written(tmp_path)


async def test_a_program_that_finds_no_login_looks_for_no_keyring(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keyring, "get_keyring", lambda: pytest.fail("it was looked for"))
    store = default_store({"XDG_CONFIG_HOME": str(tmp_path)})
    async with store.locked(KEY):
        assert await store.load(KEY) is None and await store.keys() == []
        await store.delete(KEY)


async def test_a_login_whose_keyring_is_gone_says_where_it_was(
    installed: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await default_store({"XDG_CONFIG_HOME": str(tmp_path)}).save(KEY, login())
    monkeypatch.setattr(keyring, "get_keyring", fail.Keyring)
    store = default_store({"XDG_CONFIG_HOME": str(tmp_path)})
    with pytest.raises(TokenStoreError, match="is in the keyring of this system, which cannot be used here"):
        await store.load(KEY)
    await store.delete(KEY)
    assert await store.load(KEY) is None


async def test_a_folder_that_is_named_is_for_files(installed: Small, tmp_path: Path) -> None:
    store = default_store({"MCP_H11_LOGINS": str(tmp_path)})
    assert isinstance(store, FileTokenStore) and store.folder == tmp_path


@pytest.mark.parametrize("kind", [fail.Keyring, null.Keyring, None])
async def test_files_are_used_where_no_keyring_works(
    kind: type[KeyringBackend] | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = Small() if kind is None else kind()
    if kind is None:
        found.priority = 0  # type: ignore[misc, assignment]
    monkeypatch.setattr(keyring, "get_keyring", lambda: found)
    store = default_store({"XDG_CONFIG_HOME": str(tmp_path)})
    await store.save(KEY, login())
    assert await store.load(KEY) == login() and "secret-access" in written(tmp_path)
    await store.delete(KEY)
    assert await store.load(KEY) is None and written(tmp_path) == ""
    with pytest.raises(TokenStoreError, match=r"there is no keyring: install 'mcp_h11\[keyring\]'"):
        KeyringTokenStore(tmp_path)


async def test_files_are_used_where_the_package_is_not_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "keyring", None)
    assert system_keyring() is None
    assert isinstance(default_store({"XDG_CONFIG_HOME": str(tmp_path)}), FileTokenStore)
