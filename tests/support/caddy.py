# SPDX-License-Identifier: MIT
"""A real Caddy with the configuration of docs/deploy.md, as one more process of a test.

The text is the page's; only names and ports are those of the test, and the certificate is of an authority that Caddy
makes for itself.  A machine without Caddy skips these tests; where MCP_H11_REQUIRE_ALL=1 says that nothing may be
missing, they fail.
"""

from __future__ import annotations

import contextlib
import shutil
import socket
import ssl
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from pages import ROOT, blocks
from provision import Running, everything_required, free_port, server_environment, stop, wait_until_it_listens

LIMIT = 30.0  # seconds until the certificate is there
OPTIONS = """\
{{
	admin off
	auto_https disable_redirects
	skip_install_trust
	storage file_system {folder}
}}
"""


def needs_caddy() -> str:
    """The path of `caddy`; skips or fails the test where there is none."""
    path = shutil.which("caddy")
    if path is None:
        reason = "needs caddy (apt-get install caddy, brew install caddy)"
        pytest.fail(reason) if everything_required() else pytest.skip(reason)
    return path


def site(port: int, backends: Sequence[int]) -> str:
    """The configuration that docs/deploy.md shows, with these ports."""
    (text,) = blocks(ROOT / "docs" / "deploy.md", "caddyfile")
    for of_page, here in (
        ("tools.example {", f"localhost:{port} {{\n\ttls internal"),
        ("Host tools.example", "Host localhost"),
        ("127.0.0.1:8000 127.0.0.1:8001", " ".join(f"127.0.0.1:{one}" for one in backends)),
    ):
        assert text.count(of_page) == 1, of_page
        text = text.replace(of_page, here)
    return text


@contextlib.contextmanager
def caddy(backends: Sequence[int]) -> Iterator[tuple[Running, ssl.SSLContext]]:
    """Caddy before servers on these ports, at `/tools/`, and a context that trusts it."""
    program, port = needs_caddy(), free_port()
    with tempfile.TemporaryDirectory() as name, tempfile.TemporaryFile() as log:
        file = Path(name) / "Caddyfile"
        file.write_text(OPTIONS.format(folder=name) + site(port, backends))
        command = [program, "run", "--config", str(file), "--adapter", "caddyfile"]
        environment = {**server_environment(), "HOME": name, "XDG_CONFIG_HOME": name, "XDG_DATA_HOME": name}
        process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            wait_until_it_listens(process, port)
            running = Running(port)
            running.url, running.sse_url = (f"https://localhost:{port}/tools/{path}" for path in ("mcp", "sse"))
            yield running, _trusting(Path(name), port)
        finally:
            stop(process)
            log.seek(0)
            print(log.read().decode("utf-8", "replace"))


def _trusting(folder: Path, port: int) -> ssl.SSLContext:
    """A context that trusts its authority, once it has a certificate."""
    limit = time.monotonic() + LIMIT
    while True:
        with contextlib.suppress(OSError):  # no file yet, or no certificate yet
            context = ssl.create_default_context(cafile=str(folder / "pki" / "authorities" / "local" / "root.crt"))
            with socket.create_connection(("127.0.0.1", port), LIMIT) as plain:
                context.wrap_socket(plain, server_hostname="localhost").close()
            return context
        assert time.monotonic() < limit, "Caddy has made no certificate"
        time.sleep(0.02)
