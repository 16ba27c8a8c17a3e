# SPDX-License-Identifier: MIT
"""Passwords and TLS of a store in Redis."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest
import trustme
from ports import free_port
from redis_servers import redis_server
from redis_stores import fails, opened, works_again

from mcp_h11.stores.base import StoreError
from mcp_h11.stores.redis import RedisStore


def test_a_password_opens_and_is_never_shown(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with redis_server("--requirepass", "right-secret", started=False) as server:
        server.launch()

        def ready() -> bool:
            with server.control(password="right-secret") as client:
                return bool(client.ping())

        server.wait_until(ready)

        async def main() -> None:
            where = f"{server.socket}?prefix=x"
            async with opened(f"redis+unix://:right-secret@{where}") as store:
                await works_again(store)
                assert "secret" not in repr(store) + repr(vars(store)["_place"])
            for login, reason in (("", "wants a password"), (":wrong-secret@", "refuses this user or password")):
                with pytest.raises(StoreError, match=reason) as refused:
                    await RedisStore.from_url(f"redis+unix://{login}{where}").open("w")
                assert "secret" not in "".join(str(error) for error in causes(refused.value))
            with server.control(password="right-secret") as client:
                client.acl_setuser("reader", enabled=True, passwords=["+pw"], keys=["*"], commands=["+get", "+hello"])
                client.acl_setuser("deaf", enabled=True, passwords=["+pw"], keys=["*"], categories=["+@all"])
            with pytest.raises(StoreError, match="does not allow this user"):
                await RedisStore.from_url(f"redis+unix://reader:pw@{where}").open("w")
            with pytest.raises(StoreError, match="refuses to subscribe"):
                await RedisStore.from_url(f"redis+unix://deaf:pw@{where}").open("w")

        asyncio.run(main())
    assert "secret" not in caplog.text


def causes(error: BaseException | None) -> list[BaseException]:
    found = []
    while error is not None:
        found.append(error)
        error = error.__cause__ or error.__context__
    return found


def test_tls_is_checked(tmp_path: Path) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    certificate.cert_chain_pems[0].write_to_path(str(tmp_path / "cert.pem"))
    certificate.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    tls = free_port()
    options = ("--tls-port", f"{tls}", "--tls-cert-file", f"{tmp_path}/cert.pem")
    with redis_server(
        *options, "--tls-key-file", f"{tmp_path}/key.pem", "--tls-auth-clients", "no", port=True
    ) as server:

        async def main() -> None:
            async with opened(f"rediss://127.0.0.1:{tls}?ca={tmp_path}/ca.pem") as store:
                await works_again(store)
            await fails(RedisStore.from_url(f"rediss://127.0.0.1:{tls}").open("w"), "TLS")
            await fails(RedisStore.from_url(f"rediss://127.0.0.1:{server.port}").open("w"), "TLS|no answer|broke|away")
            await fails(RedisStore.from_url(f"redis://127.0.0.1:{tls}").open("w"), "no answer|broke|away")

        asyncio.run(main())
