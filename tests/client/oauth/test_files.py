# SPDX-License-Identifier: MIT
"""FileTokenStore: logins in files of one user, that several processes share, and that no other user can read."""

from __future__ import annotations

import json
import logging
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest
from provision import server_environment

from mcp_h11.client.oauth import files
from mcp_h11.client.oauth.errors import TokenStoreError
from mcp_h11.client.oauth.files import FileTokenStore, logins_folder
from mcp_h11.client.oauth.private import MAX_LOGIN_FILE
from mcp_h11.client.oauth.store import Login, Registration, Tokens

pytestmark = pytest.mark.anyio
LIMIT = 60.0  # seconds: interpreters start slowly on a busy machine
KEY = "https://mcp.example/mcp"
posix = pytest.mark.skipif(os.name == "nt", reason="the rights of POSIX")


def login(access: str = "secret-access", key: str = KEY) -> Login:
    tokens = Tokens(access, "Bearer", "secret-refresh", 2000.5, "read write")
    client = Registration("app", "secret-client", "registered", "client_secret_post", ("http://127.0.0.1:1/callback",))
    return Login(key, "https://issuer.example", client, tokens, "https://issuer.example/token")


@pytest.fixture
def store(tmp_path: Path) -> FileTokenStore:
    return FileTokenStore(tmp_path / "config" / "logins")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


# --- one process ------------------------------------------------------------------------------------------------------


async def test_a_login_is_there_in_the_next_process(store: FileTokenStore) -> None:
    assert await store.load(KEY) is None
    async with store.locked(KEY):
        await store.save(KEY, login())
    again = FileTokenStore(store.folder)
    assert await again.load(KEY) == login()
    assert await again.load(f"{KEY}/") is None
    await again.save(KEY, login("another"))
    assert await store.load(KEY) == login("another")
    await again.delete(KEY)
    await again.delete(KEY)
    assert await store.load(KEY) is None


async def test_a_login_may_be_for_a_resource_above_the_server(store: FileTokenStore) -> None:
    await store.save(KEY, login(key="https://mcp.example"))
    assert await store.load(KEY) == login(key="https://mcp.example")
    assert await store.keys() == [KEY]


async def test_the_servers_are_listed_without_their_tokens(
    store: FileTokenStore, caplog: pytest.LogCaptureFixture
) -> None:
    assert await store.keys() == []
    for name in ("b", "a"):
        await store.save(f"https://{name}.example/mcp", login())
    (store.folder / "broken.json").touch(0o600)
    assert await store.keys() == ["https://a.example/mcp", "https://b.example/mcp"]
    assert "broken.json is left out of the list: it is not JSON" in caplog.text
    assert "secret" not in caplog.text


async def test_a_list_has_an_end(store: FileTokenStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MAX_LOGINS", 3)
    await store.save(KEY, login())
    data = store.path_of(KEY).read_bytes()
    store.path_of(KEY).unlink()
    for number in range(4):
        path = store.folder / f"{number:04}.json"
        path.touch(0o600)
        path.write_bytes(data.replace(KEY.encode(), f"https://{number:04}.example".encode()))
        assert len(await store.keys()) == min(number + 1, 3)


@posix
async def test_files_and_folders_are_for_the_user_alone(store: FileTokenStore) -> None:
    before = os.umask(0)
    try:
        async with store.locked(KEY):
            await store.save(KEY, login())
    finally:
        os.umask(before)
    assert [mode(folder) for folder in (store.folder, store.folder.parent)] == [0o700, 0o700]
    found = sorted(store.folder.iterdir())
    assert [path.suffix for path in found] == [".json", ".lock"]
    assert [mode(path) for path in found] == [0o600, 0o600]
    assert "mcp.example" not in "".join(path.name for path in found)


@posix
@pytest.mark.parametrize("rights", [0o640, 0o604, 0o620, 0o602])
async def test_a_file_that_others_can_read_is_refused(store: FileTokenStore, rights: int) -> None:
    await store.save(KEY, login())
    path = store.path_of(KEY)
    path.chmod(rights)
    with pytest.raises(TokenStoreError) as refused:
        await store.load(KEY)
    assert str(refused.value) == f"others can read or change {path}; make it yours alone: chmod 600 {path}"
    path.chmod(0o600)  # as it says
    assert await store.load(KEY) == login()


@posix
@pytest.mark.parametrize("rights", [0o770, 0o707, 0o777])
async def test_a_folder_that_others_can_write_to_is_refused(store: FileTokenStore, rights: int) -> None:
    await store.save(KEY, login())
    store.folder.chmod(rights)
    for attempt in (store.load(KEY), store.save(KEY, login())):
        with pytest.raises(TokenStoreError, match=f"others can put files into {store.folder}; .*chmod 700"):
            await attempt
    store.folder.chmod(0o755)  # others see the names, which are hashes
    assert await store.load(KEY) == login()


@posix
async def test_a_link_is_refused_and_nothing_is_written_through_it(store: FileTokenStore, tmp_path: Path) -> None:
    await store.save(KEY, login())
    path, elsewhere = store.path_of(KEY), tmp_path / "elsewhere"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)
    with pytest.raises(TokenStoreError, match=f"{path} is a link.*rm {path}"):
        await store.load(KEY)
    before = elsewhere.read_bytes()
    await store.save(KEY, login("new"))
    assert elsewhere.read_bytes() == before
    assert await store.load(KEY) == login("new")


@posix
async def test_what_is_no_file_is_refused_at_once(store: FileTokenStore) -> None:
    await store.save(KEY, login())
    path = store.path_of(KEY)
    path.unlink()
    os.mkfifo(path, 0o600)
    with anyio.fail_after(LIMIT):  # a reader of a pipe would wait for its writer
        with pytest.raises(TokenStoreError, match="is no file; remove it"):
            await store.load(KEY)


@posix
async def test_a_file_of_another_user_is_refused(store: FileTokenStore, monkeypatch: pytest.MonkeyPatch) -> None:
    await store.save(KEY, login())
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(TokenStoreError, match="belongs to another user; .*MCP_H11_LOGINS"):
        await store.load(KEY)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[" * 100_000,
        b"\xff\xfe",
        b"null",
        b"{}",
        b'{"server": 1}',
        b'{"server": "https://mcp.example/mcp"}',
        b'{"server": "https://mcp.example/mcp", "version": 99}',
        b'{"server": "https://mcp.example/mcp", "keyring": {"id": 1, "pieces": 1}}',
        b'{"server": "https://mcp.example/mcp", "keyring": {"id": "a", "pieces": 0}}',
        b'{"server": "https://mcp.example/mcp", "keyring": {"id": "a", "pieces": 1001}}',
        b'{"server": "https://mcp.example/mcp", "keyring": [1]}',
    ],
)
async def test_a_broken_file_counts_as_no_login_and_is_replaced(
    store: FileTokenStore, data: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    await store.save(KEY, login())
    store.path_of(KEY).write_bytes(data)
    assert await store.load(KEY) is None
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert f"{store.path_of(KEY)} is no login, and counts as none: " in record.getMessage()
    await store.save(KEY, login())
    assert await store.load(KEY) == login()


async def test_a_file_that_was_put_in_the_place_of_another_is_not_used(
    store: FileTokenStore, caplog: pytest.LogCaptureFixture
) -> None:
    await store.save("https://evil.example/mcp", login())
    store.path_of("https://evil.example/mcp").rename(store.path_of(KEY))
    assert await store.load(KEY) is None
    assert "it is for another server" in caplog.text


async def test_the_size_of_a_login_has_a_limit(store: FileTokenStore, caplog: pytest.LogCaptureFixture) -> None:
    await store.save(KEY, login())
    spare = MAX_LOGIN_FILE - store.path_of(KEY).stat().st_size
    store.path_of(KEY).write_bytes(store.path_of(KEY).read_bytes() + b" " * (spare + 1))
    assert await store.load(KEY) is None
    assert f"it has more than {MAX_LOGIN_FILE} bytes" in caplog.text
    with pytest.raises(
        TokenStoreError, match=f"a login of {MAX_LOGIN_FILE + 1} bytes is not kept, and {MAX_LOGIN_FILE} are the most"
    ):
        await store.save(KEY, login("secret-access" + "a" * (spare + 1)))
    assert await store.load(KEY) is None
    await store.save(KEY, login("secret-access" + "a" * spare))


@posix
async def test_a_file_that_cannot_be_opened_is_named(store: FileTokenStore, monkeypatch: pytest.MonkeyPatch) -> None:
    await store.save(KEY, login())
    monkeypatch.setattr(os, "open", _refused)
    with pytest.raises(TokenStoreError, match=f"^{store.path_of(KEY)}: Permission denied$"):
        await store.load(KEY)


def _refused(path: object, flags: int) -> int:
    raise PermissionError(13, "Permission denied", str(path))


async def test_an_error_of_the_disk_names_the_file_and_the_reason(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    store = FileTokenStore(tmp_path / "a" / "b")
    with pytest.raises(TokenStoreError, match=f"{tmp_path}/a.*: (Not a directory|File exists)"):
        await store.save(KEY, login())
    assert await store.load(KEY) is None


async def test_a_write_that_fails_leaves_the_login_before_it_and_nothing_else(
    store: FileTokenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.save(KEY, login())
    before = sorted(store.folder.iterdir())

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(TokenStoreError, match="^a login: No space left on device$"):
        await store.save(KEY, login("new"))
    assert await store.load(KEY) == login()
    assert sorted(store.folder.iterdir()) == before


@posix
async def test_a_file_system_without_locks_is_told_of(store: FileTokenStore, monkeypatch: pytest.MonkeyPatch) -> None:
    import fcntl

    def none(descriptor: int, operation: int) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", none)
    with pytest.raises(TokenStoreError, match="No locks available"):
        async with store.locked(KEY):
            raise AssertionError("it has no lock")


async def test_old_files_of_writers_that_were_killed_are_removed(store: FileTokenStore) -> None:
    await store.save(KEY, login())
    old = store.folder / f".{store.path_of(KEY).stem}.1.aa.part"
    new = old.with_name(old.name.replace("aa", "bb"))
    for path in (old, new):
        path.touch()
    os.utime(old, (1, 1))
    await store.save(KEY, login())
    assert new.exists() and not old.exists()


# --- where it is ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environ", "system", "folder"),
    [
        ({}, "linux", "/home/ann/.config/mcp_h11/logins"),
        ({"XDG_CONFIG_HOME": "/etc/ann"}, "linux", "/etc/ann/mcp_h11/logins"),
        ({"XDG_CONFIG_HOME": "relative"}, "linux", "/home/ann/.config/mcp_h11/logins"),
        ({"XDG_CONFIG_HOME": "/etc/ann"}, "darwin", "/home/ann/Library/Application Support/mcp_h11/logins"),
        ({"APPDATA": "/profile/Roaming"}, "win32", "/profile/Roaming/mcp_h11/logins"),
        ({}, "win32", "/home/ann/AppData/Roaming/mcp_h11/logins"),
        ({"MCP_H11_LOGINS": "/keys", "XDG_CONFIG_HOME": "/etc/ann"}, "linux", "/keys"),
        ({"MCP_H11_LOGINS": "", "XDG_CONFIG_HOME": "/etc/ann"}, "linux", "/etc/ann/mcp_h11/logins"),
    ],
)
async def test_the_folder_is_where_the_system_keeps_configurations(
    environ: dict[str, str], system: str, folder: str
) -> None:
    assert logins_folder(environ, system, Path("/home/ann")) == Path(folder)


async def test_a_user_without_a_home_is_told_of_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", none)
    with pytest.raises(TokenStoreError, match="set MCP_H11_LOGINS to a folder"):
        logins_folder({}, "linux")


# --- several tasks and processes --------------------------------------------------------------------------------------


async def test_a_lock_is_held_by_one_task_of_one_store_for_each_server(store: FileTokenStore) -> None:
    inside = 0
    most = 0

    async def refresh(one: FileTokenStore) -> None:
        nonlocal inside, most
        async with one.locked(KEY):
            inside += 1
            most = max(most, inside)
            async with one.locked("https://other.example"):
                await anyio.sleep(0)
            inside -= 1

    with anyio.fail_after(LIMIT):
        async with anyio.create_task_group() as tasks:
            for one in (store, store, FileTokenStore(store.folder)):
                tasks.start_soon(refresh, one)
    assert most == 1


async def test_waiting_for_a_lock_has_an_end(store: FileTokenStore) -> None:
    quick = FileTokenStore(store.folder, lock_timeout=0.05)
    async with store.locked(KEY):
        with pytest.raises(TokenStoreError, match="another program logs in or renews the login, for more than 0.05 s"):
            async with quick.locked(KEY):
                raise AssertionError("it is held")
    async with quick.locked(KEY):
        await quick.save(KEY, login())


async def test_a_lock_is_let_go_by_a_task_that_is_cancelled(store: FileTokenStore) -> None:
    held = anyio.Event()

    async def hold() -> None:
        async with store.locked(KEY):
            held.set()
            await anyio.sleep_forever()

    with anyio.fail_after(LIMIT):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(hold)
            await held.wait()
            tasks.cancel_scope.cancel()
        async with store.locked(KEY):
            pass


# Each process takes the lock, and "refreshes" only where the login is not the new one.  The authorization server is a
# file in which each refresh is a line.
REFRESHER = """
import asyncio, os, sys
from dataclasses import replace
from mcp_h11.client.oauth.errors import TokenStoreError
from mcp_h11.client.oauth.files import FileTokenStore

folder, key, server = sys.argv[1:]

async def main():
    store = FileTokenStore(folder)
    print("ready", flush=True)
    sys.stdin.readline()
    async with store.locked(key):
        login = await store.load(key)
        if login.tokens.access_token == "old":
            with open(server, "a") as file:
                file.write("refresh\\n")
            await asyncio.sleep(0.2)  # the answer takes a while, in which the others come to the lock
            await store.save(key, replace(login, tokens=replace(login.tokens, access_token="new")))
    print((await store.load(key)).tokens.access_token, flush=True)

asyncio.run(main())
"""


def started(program: str, *arguments: str | os.PathLike[str]) -> subprocess.Popen[str]:
    command: list[Any] = [sys.executable, "-c", program, *arguments]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=server_environment())


@pytest.mark.long
async def test_processes_that_refresh_at_the_same_time_refresh_once(store: FileTokenStore, tmp_path: Path) -> None:
    await store.save(KEY, login("old"))
    server = tmp_path / "server"
    processes = [started(REFRESHER, store.folder, KEY, server) for _ in range(3)]
    try:
        for one in processes:
            assert one.stdout is not None and one.stdout.readline() == "ready\n"
        said = []
        for one in processes:
            assert one.stdin is not None
            one.stdin.write("go\n")
            one.stdin.flush()
        for one in processes:
            out, _ = one.communicate(timeout=LIMIT)
            said.append(out)
    finally:
        for one in processes:
            one.kill()
            one.communicate()
    assert said == ["new\n"] * 3
    assert server.read_text() == "refresh\n"


HOLDER = """
import asyncio, sys
from mcp_h11.client.oauth.errors import TokenStoreError
from mcp_h11.client.oauth.files import FileTokenStore

async def main():
    async with FileTokenStore(sys.argv[1]).locked(sys.argv[2]):
        print("held", flush=True)
        await asyncio.sleep(600)

asyncio.run(main())
"""


async def test_a_process_that_is_killed_lets_go_of_its_lock(store: FileTokenStore) -> None:
    holder = started(HOLDER, store.folder, KEY)
    try:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        with pytest.raises(TokenStoreError):
            async with FileTokenStore(store.folder, lock_timeout=0.01).locked(KEY):
                raise AssertionError("it is held")
        holder.kill()
        with anyio.fail_after(LIMIT):
            async with store.locked(KEY):
                pass
    finally:
        holder.kill()
        holder.communicate()


# Saves two logins in turn, each much larger than what one write of a disk takes, until it is killed.
WRITER = """
import asyncio, sys
from dataclasses import replace
from mcp_h11.client.oauth.errors import TokenStoreError
from mcp_h11.client.oauth.files import FileTokenStore

async def main():
    store = FileTokenStore(sys.argv[1])
    login = await store.load(sys.argv[2])
    print("writing", flush=True)
    for number in range(1_000_000):
        token = "ab"[number % 2] * 100_000
        await store.save(sys.argv[2], replace(login, tokens=replace(login.tokens, access_token=token)))
        if number == 3:
            print("busy", flush=True)

asyncio.run(main())
"""


@pytest.mark.long
@posix
async def test_a_process_that_is_killed_while_it_writes_leaves_a_whole_login(store: FileTokenStore) -> None:
    await store.save(KEY, login())
    for _ in range(3):
        writer = started(WRITER, store.folder, KEY)
        try:
            assert writer.stdout is not None
            assert [writer.stdout.readline() for _ in range(2)] == ["writing\n", "busy\n"]
            # Read while it writes, then kill it: wherever it is, a whole login is there.
            for _ in range(20):
                found = await store.load(KEY)
                assert found is not None and found.tokens is not None
                assert found.tokens.access_token in ("a" * 100_000, "b" * 100_000)
            writer.send_signal(signal.SIGKILL)
        finally:
            writer.kill()
            writer.communicate()
        found = await store.load(KEY)
        assert found is not None and found.tokens is not None
        assert found.tokens.access_token in ("a" * 100_000, "b" * 100_000)
        assert json.loads(store.path_of(KEY).read_bytes())["server"] == KEY
