# SPDX-License-Identifier: MIT
"""A real nginx with the configuration of docs/deploy.md, as one more process of a test.

The text is the page's; only names, ports and files are those of the test.  A machine without nginx skips these tests;
where MCP_H11_REQUIRE_ALL=1 says that nothing may be missing, they fail.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import pytest
import trustme
from provision import ROOT, Running, everything_required, free_port, wait_until_it_listens

END_LIMIT = 30.0  # seconds until it has ended
MAIN = """daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
{site}
}}
"""


def needs_nginx() -> str:
    """The path of `nginx`; skips or fails the test where there is none."""
    path = shutil.which("nginx", path="/usr/local/sbin:/usr/sbin:/usr/local/bin:/usr/bin:/opt/homebrew/bin")
    if path is None:
        reason = "needs nginx (apt-get install nginx, brew install nginx)"
        pytest.fail(reason) if everything_required() else pytest.skip(reason)
    return path


def site_of_the_page() -> str:
    """The configuration that docs/deploy.md shows."""
    found = re.search(r"```nginx\n(.*?)```", (ROOT / "docs" / "deploy.md").read_text("utf-8"), re.S)
    assert found is not None
    return found[1]


def replaced(text: str, pattern: str, value: str) -> str:
    changed, count = re.subn(pattern, lambda _: value, text, flags=re.S)
    assert count, f"the page has no {pattern}"
    return changed


@contextlib.contextmanager
def nginx(
    backends: Sequence[int], *, tls: bool = True, changed: Mapping[str, str] = MappingProxyType({})
) -> Iterator[tuple[Running, trustme.CA]]:
    """nginx before servers on these ports, at `/tools/`; `Running` has the addresses for clients.

    `changed`: other values for directives of the page; "" leaves one out, so that nginx has its default.
    """
    program, ca, port = needs_nginx(), trustme.CA(), free_port()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        certificate = ca.issue_cert("localhost", "127.0.0.1")
        certificate.private_key_pem.write_to_path(str(folder / "key"))
        for part in certificate.cert_chain_pems:
            part.write_to_path(str(folder / "chain"), append=True)
        site = site_of_the_page()
        servers = "".join(f"    server 127.0.0.1:{one} max_fails=0;\n" for one in backends)
        site = replaced(site, r"(?:    server 127\.0\.0\.1:\d+ max_fails=0;[^\n]*\n)+", servers)
        site = replaced(site, r"listen 443 ssl;", f"listen 127.0.0.1:{port}{' ssl' if tls else ''};")
        site = replaced(site, r"server_name tools\.example;", "server_name localhost 127.0.0.1;")
        site = replaced(site, r"/etc/ssl/tools\.pem", str(folder / "chain"))
        site = replaced(site, r"/etc/ssl/tools\.key", str(folder / "key"))
        for name, value in changed.items():
            line = f"        {name} {value};\n" if value else ""
            site = replaced(site, rf"        {name} [^;]*;[^\n]*\n", line)
        (folder / "nginx.conf").write_text(MAIN.format(folder=folder, site=site))
        with open(folder / "log", "w+b") as log:
            command = [program, "-p", str(folder), "-e", "stderr", "-c", str(folder / "nginx.conf")]
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            try:
                wait_until_it_listens(process, port)
                running = Running(port)
                root = f"{'https' if tls else 'http'}://localhost:{port}/tools"
                running.url, running.sse_url = f"{root}/mcp", f"{root}/sse"
                yield running, ca
            finally:
                process.terminate()
                process.wait(END_LIMIT)
                running_log = (folder / "log").read_text("utf-8", "replace")
        assert "[emerg]" not in running_log and "[alert]" not in running_log, running_log
