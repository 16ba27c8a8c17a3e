# SPDX-License-Identifier: MIT
"""The snippets of docs/deploy.md for systemd, Docker and Kubernetes are run as far as one machine can.

Units are checked by `systemd-analyze`, and the server is started by `systemd-socket-activate`, which passes the socket
as systemd does.  The commands of the image and of the pod run as process 1 of a namespace where the kernel lets us make
one, and their probes ask them.  Ports are other ones, since those of the page may be in use.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from pages import ROOT, blocks
from provision import everything_required, free_port

from mcp_h11 import Settings
from mcp_h11.cli.commands import parser_of
from mcp_h11.cli.options import read_options

pytestmark = pytest.mark.long  # real processes, several seconds each

PAGE = ROOT / "docs" / "deploy.md"
LIMIT = 60.0  # seconds: interpreters start slowly on a busy machine
SLACK = 3  # seconds that a shutdown takes beside `drain_delay` and `grace`, as the page says
TOOLS = 'from mcp_h11 import MCPServer\nserver = MCPServer("deployed")\n'
PING = json.dumps(
    {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
        "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}}
)  # fmt: skip


def program(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        reason = f"needs {name} (apt-get install systemd)"
        pytest.fail(reason) if everything_required() else pytest.skip(reason)
    return path


def unit(name: str) -> str:
    (text,) = [block for block in blocks(PAGE, "ini") if block.startswith(f"# {name}\n")]
    return text


def section_of(text: str, name: str) -> dict[str, list[str]]:
    """The lines of one section of a unit: names may come twice."""
    found: dict[str, list[str]] = {}
    body = text.split(f"[{name}]\n")[1].split("\n[")[0]
    for line in filter(None, body.splitlines()):
        key, _, value = line.partition("=")
        found.setdefault(key, []).append(value)
    return found


def time_to_end(fields: dict[str, Any]) -> float:
    settings = Settings(**{name: fields[name] for name in ("grace", "drain_delay") if name in fields})
    return (settings.drain_delay or 0) + settings.grace + SLACK


def options_of(command: Sequence[str], environ: dict[str, str]) -> Any:
    """The options of a command `python -m mcp_h11 ...`, read as the command line reads them."""
    assert Path(command[0]).name == "python" and command[1:3] == ["-m", "mcp_h11"]
    options = read_options(parser_of("").parse_args(command[3:]), environ)
    assert options.warnings == []
    return options


def get(port: int, path: str, host: str | None = None, method: str = "GET", body: str | None = None) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=LIMIT)
    try:
        headers = {"Host": host or f"127.0.0.1:{port}", "Accept": "application/json, text/event-stream"}
        connection.request(method, path, body, {**headers, **({"Content-Type": "application/json"} if body else {})})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def wait_for(port: int, path: str, process: subprocess.Popen[Any]) -> None:
    limit = time.monotonic() + LIMIT
    while True:
        assert process.poll() is None and time.monotonic() < limit, f"nothing answers at port {port}"
        with contextlib.suppress(OSError):
            if get(port, path)[0] == 200:
                return
        time.sleep(0.05)


@contextlib.contextmanager
def process(command: Sequence[str], folder: Path, pass_fds: tuple[int, ...] = (), **environ: str) -> Iterator[Any]:
    """A process that is dead afterwards; its output is in `folder`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MCP_H11_", "LISTEN_"))}
    (folder / "tools.py").write_text(TOOLS)
    with open(folder / "output", "ab") as output:
        started = subprocess.Popen(
            command, cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
            pass_fds=pass_fds, env={**kept, "PYTHONPATH": str(ROOT), **environ},
        )  # fmt: skip
    try:
        yield started
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(started.pid, signal.SIGKILL)
        started.wait()
        print((folder / "output").read_text())


# --- systemd ---------------------------------------------------------------------------------------------------------


def exec_start(folder: Path) -> tuple[list[str], dict[str, str]]:
    """The command and the variables of the service, with this interpreter, a free port and a store here."""
    service = section_of(unit("mcp-h11.service"), "Service")
    command = service["ExecStart"][0].split()
    command[0] = sys.executable
    command[command.index("9100")] = str(free_port())
    environ = dict(value.split("=", 1) for value in service["Environment"])
    assert environ["MCP_H11_STORE"].startswith(f"sqlite:///var/lib/{service['StateDirectory'][0]}/")
    return command, {**environ, "MCP_H11_STORE": f"sqlite://{folder}/sessions.db"}


def test_systemd_takes_the_units(tmp_path: Path) -> None:
    analyze = program("systemd-analyze")
    text = unit("mcp-h11.service")
    command = section_of(text, "Service")["ExecStart"][0].split()[0]
    (tmp_path / "mcp-h11.service").write_text(text.replace(command, sys.executable).replace("/opt/mcp-h11", "/"))
    (tmp_path / "mcp-h11.socket").write_text(unit("mcp-h11.socket"))
    units = [str(tmp_path / "mcp-h11.service"), str(tmp_path / "mcp-h11.socket")]
    checked = subprocess.run(
        [analyze, "verify", "--man=no", "--recursive-errors=no", *units], capture_output=True, text=True, timeout=LIMIT
    )
    assert checked.returncode == 0, checked.stderr
    assert [line for line in checked.stderr.splitlines() if "mcp-h11" in line] == []  # others are the machine's own
    # 0 is a service that may do nothing, and 10 one that may do everything.
    exposure = ["security", "--offline=yes", "--threshold=20", "--no-pager", units[0]]
    judged = subprocess.run([analyze, *exposure], capture_output=True, text=True, timeout=LIMIT)
    assert judged.returncode == 0, judged.stdout


def test_the_service_has_time_to_end() -> None:
    service = section_of(unit("mcp-h11.service"), "Service")
    environ = dict(value.split("=", 1) for value in service["Environment"])
    options = options_of(service["ExecStart"][0].split(), environ)
    assert options.fd == 3  # the first that systemd passes
    assert options.workers  # ExecReload sends SIGHUP, which ends a server without workers
    assert int(service["TimeoutStopSec"][0]) > time_to_end(options.fields)
    assert service["KillMode"] == ["mixed"] and service["Type"] == ["exec"]


def test_the_service_serves_on_the_socket_that_systemd_passes(tmp_path: Path) -> None:
    activate = program("systemd-socket-activate")
    command, environ = exec_start(tmp_path)
    port = free_port()
    passed = [f"--setenv={name}={value}" for name, value in environ.items()]
    passed += [f"--setenv=PYTHONPATH={ROOT}"]
    with process([activate, f"--listen=127.0.0.1:{port}", *passed, *command], tmp_path) as server:
        limit = time.monotonic() + LIMIT
        status = 0
        while status != 200 and time.monotonic() < limit:  # refused until systemd-socket-activate listens itself
            with contextlib.suppress(ConnectionRefusedError):
                status, _ = get(port, "/mcp", "mcp.example.com", "POST", PING)
        assert status == 200
        assert get(port, "/mcp", "elsewhere.example", "POST", PING)[0] == 403
        server.send_signal(signal.SIGHUP)  # as ExecReload does
        output = tmp_path / "output"
        while output.read_text().count("is ready and replaces worker") < 2 and time.monotonic() < limit:
            assert get(port, "/mcp", "mcp.example.com", "POST", PING)[0] == 200
            time.sleep(0.1)  # each is a session, of which one client has a thousand
        assert output.read_text().count("is ready and replaces worker") == 2
        assert get(port, "/mcp", "mcp.example.com", "POST", PING)[0] == 200
        server.send_signal(signal.SIGTERM)
        assert server.wait(LIMIT) == 0


# Passes the socket as descriptor 3, with the variables by which systemd tells of it.
LAUNCHER = """\
import os, sys
os.dup2(int(sys.argv[1]), 3, inheritable=True)
os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()), LISTEN_FDNAMES="mcp-h11.socket")
os.execv(sys.argv[2], sys.argv[2:])
"""


def test_a_connection_of_the_time_between_waits_for_the_next_server(tmp_path: Path) -> None:
    command, environ = exec_start(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        launch = [sys.executable, "-c", LAUNCHER, str(listening.fileno()), *command]
        fds = (listening.fileno(),)
        with process(launch, tmp_path, fds, **environ) as server:
            assert get(port, "/mcp", "mcp.example.com", "POST", PING)[0] == 200
            server.send_signal(signal.SIGTERM)
            assert server.wait(LIMIT) == 0
        early = http.client.HTTPConnection("127.0.0.1", port, timeout=LIMIT)
        with contextlib.closing(early):
            headers = {"Host": "localhost", "Accept": "application/json, text/event-stream"}
            early.request("POST", "/mcp", PING, {**headers, "Content-Type": "application/json"})
            with process(launch, tmp_path, fds, **environ) as server:
                assert early.getresponse().status == 200
                server.send_signal(signal.SIGTERM)
                assert server.wait(LIMIT) == 0


# --- containers ------------------------------------------------------------------------------------------------------


def instructions() -> dict[str, list[str]]:
    """The instructions of the Dockerfile, by name."""
    (text,) = blocks(PAGE, "dockerfile")
    found: dict[str, list[str]] = {}
    for line in text.replace("\\\n", " ").splitlines():
        name, _, value = line.partition(" ")
        found.setdefault(name, []).append(value)
    return found


def pod() -> tuple[dict[str, Any], dict[str, Any]]:
    """The specification of the pod and of its container."""
    spec = objects()["Deployment"]["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    return spec, container


def objects() -> dict[str, Any]:
    (text,) = [block for block in blocks(PAGE, "yaml") if "kind:" in block]
    return {one["kind"]: one for one in yaml.safe_load_all(text)}


def of_pod(container: dict[str, Any]) -> dict[str, str]:
    """The variables of the container; a secret is the URL of no Redis."""
    return {one["name"]: one.get("value", "redis://127.0.0.1:1/0") for one in container["env"]}


def process_1(command: Sequence[str]) -> list[str]:
    """The command as process 1 of a namespace, if the kernel lets us make one."""
    unshare = shutil.which("unshare")
    prefix = [unshare or "", "--pid", "--fork", "--kill-child"]
    if unshare and subprocess.run([*prefix, "true"], capture_output=True).returncode == 0:
        return [*prefix, *command]
    return [*command]


def main_pid(started: subprocess.Popen[Any]) -> int:
    """The process that got the command, seen from outside of its namespace."""
    children = Path(f"/proc/{started.pid}/task/{started.pid}/children")
    is_namespace = b"unshare" in Path(f"/proc/{started.pid}/cmdline").read_bytes().split(b"\0")[0]
    return int(children.read_text().split()[0]) if is_namespace else started.pid


def with_ports(words: Sequence[str], ports: dict[str, int]) -> list[str]:
    return [re.sub(r"\b(8000|9100)\b", lambda match: str(ports[match[1]]), word) for word in words]


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_the_image_is_well_and_ends_when_docker_stops_it(tmp_path: Path) -> None:
    found = instructions()
    known = {"FROM", "RUN", "WORKDIR", "COPY", "USER", "ENV", "EXPOSE", "HEALTHCHECK", "CMD"}
    assert known == set(found) and found["USER"] == ["10001"]
    ports = {"8000": free_port(), "9100": free_port()}
    command = json.loads(found["CMD"][0])  # the form with brackets: no shell is process 1
    options = options_of(command, {"MCP_H11_ALLOWED_HOSTS": "any"})
    assert time_to_end(options.fields) <= 10  # the seconds of `docker stop`
    command = with_ports(command, ports)
    if "--port" not in command:
        command += ["--port", str(ports["8000"])]
    check = with_ports(json.loads(found["HEALTHCHECK"][0].split(" CMD ")[1]), ports)
    assert command[0] == check[0] == "python"
    command[0] = check[0] = sys.executable
    assert subprocess.run(check, capture_output=True, timeout=LIMIT).returncode != 0  # nothing is there yet
    with process(process_1(command), tmp_path, MCP_H11_ALLOWED_HOSTS="mcp.example.com") as server:
        wait_for(ports["9100"], "/health", server)
        assert subprocess.run(check, capture_output=True, timeout=LIMIT).returncode == 0
        assert get(ports["8000"], "/mcp", "mcp.example.com", "POST", PING)[0] == 200
        os.kill(main_pid(server), signal.SIGTERM)
        assert server.wait(LIMIT) == 0
    assert subprocess.run(check, capture_output=True, timeout=LIMIT).returncode != 0


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_the_pod_answers_its_probes_by_number(tmp_path: Path) -> None:
    spec, container = pod()
    environ = of_pod(container)
    options = options_of(container["args"], environ)
    assert spec["terminationGracePeriodSeconds"] > time_to_end(options.fields)
    assert {one["name"]: one["containerPort"] for one in container["ports"]} == {
        "http": options.port, "ops": options.ops_port,
    }  # fmt: skip
    ports = {"8000": free_port(), "9100": free_port()}
    command = [sys.executable, *with_ports(container["args"], ports)[1:]]
    # In this test there is no Redis, and its end does not wait for load balancers.
    del environ["MCP_H11_STORE"]
    command[command.index("drain_delay=10")] = "drain_delay=0.1"
    with process(process_1(command), tmp_path, **environ) as server:
        wait_for(ports["9100"], "/health", server)
        for name in ("startupProbe", "readinessProbe", "livenessProbe"):
            probe = container[name]["httpGet"]
            assert probe["port"] == "ops"
            assert get(ports["9100"], probe["path"], "10.42.0.7:9100")[0] == 200, name
        assert get(ports["9100"], "/ready", "rebound.example")[0] == 403
        for host in environ["MCP_H11_ALLOWED_HOSTS"].split(","):
            assert get(ports["8000"], "/mcp", host, "POST", PING)[0] == 200, host
        os.kill(main_pid(server), signal.SIGTERM)
        assert server.wait(LIMIT) == 0


def test_the_service_leads_to_the_pods() -> None:
    deployment, service = objects()["Deployment"], objects()["Service"]
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert deployment["spec"]["selector"]["matchLabels"] == labels == service["spec"]["selector"]
    _, container = pod()
    assert [port["targetPort"] for port in service["spec"]["ports"]] == ["http"]  # not the one for operators
    name = service["metadata"]["name"]
    assert {name, f"{name}.default.svc"} <= set(of_pod(container)["MCP_H11_ALLOWED_HOSTS"].split(","))


# --- a bridge --------------------------------------------------------------------------------------------------------


def test_the_bridge_has_a_readiness_and_a_swap_for_each_backend(tmp_path: Path) -> None:
    (text,) = [block for block in blocks(PAGE, "sh") if "/swap/" in block]
    lines = text.splitlines()
    (command,) = [line.split() for line in lines if line.startswith("python -m mcp_h11 proxy")]
    (variable,) = re.findall(r"^export (\w+)=", text, re.M)
    paths = re.findall(r"http://127\.0\.0\.1:9100(/\S+)", text)
    ops = free_port()
    command[0] = sys.executable
    command[command.index("9100")] = str(ops)
    backend = {"command": sys.executable, "args": ["-m", "mcp_h11", "tools.py", "--stdio"]}
    (tmp_path / "servers.json").write_text(json.dumps({"mcpServers": {"files": backend}}))
    token = "a-token-of-32-characters-0123456789"
    with process([*command, "--port", "0"], tmp_path, **{variable: token}) as server:
        ready, swap = paths
        wait_for(ops, ready, server)
        assert get(ops, "/ready")[0] == 200
        connection = http.client.HTTPConnection("127.0.0.1", ops, timeout=LIMIT)
        with contextlib.closing(connection):
            connection.request("POST", swap, headers={"Authorization": f"Bearer {token}"})
            answer = connection.getresponse()
            assert answer.status == 200 and json.loads(answer.read())["backends"]["files"]["swapped"] is True
        assert 'mcp_h11_backend_swaps_total{mcp_h11_backend="files"} 1' in get(ops, "/metrics")[1]
        server.send_signal(signal.SIGTERM)
        assert server.wait(LIMIT) == 0
