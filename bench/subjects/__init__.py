# SPDX-License-Identifier: MIT
"""Who is measured: one server each of the same four tools, pinned, installed on demand into `.cache/bench`.

A subject says what it needs; `prepare` makes that, once, and raises `Missing` with the reason where this machine
cannot.  Nothing is skipped in silence: whoever cannot run is named in the table with that reason.
"""

from __future__ import annotations

import atexit
import compileall
import functools
import hashlib
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.append(str(ROOT / "tests" / "support"))

from made_once import made_once

CACHE = ROOT / ".cache" / "bench"
INSTALL_LIMIT = 1200  # seconds; a cold cargo build takes minutes


class Missing(Exception):
    """This machine cannot run a subject."""


@dataclass(frozen=True)
class Subject:
    """A server and what it can be asked."""

    name: str
    title: str
    kind: str  # python, node, go, rust
    program: str
    words: tuple[str, ...] = ()
    pins: str = ""  # python: the file in pins/
    legacy: bool = True
    modern: bool = False
    sessions: bool = True  # the session scenario and idle sessions
    streams: bool = True  # events before the answer
    resume: bool = False  # with a replay store that ships
    only: tuple[str, ...] = ()  # the scenarios that this variant is for; empty: all it can
    listing: tuple[str, ...] = ()  # words that add the hundred tools, where registering them costs each call
    imports: str = ""  # python: what a user of it imports
    quick: bool = True  # part of --quick
    notes: str = ""  # why it cannot resume
    interpreter: str = ""  # python: another one than that of this process, as "3.13"
    redis: bool = False  # its last word is the URL of a Redis that the run starts

    def why_not(self, scenario: str) -> str | None:
        """Why it has no figure in a scenario, or None where it has one."""
        if self.only and scenario not in self.only:
            return "measured in another variant"
        if scenario == "sleep" and self.name in FLOORS:
            return "has no tasks that could wait"
        if scenario == "modern":
            return None if self.modern else "does not speak 2026-07-28"
        if scenario in ("session", "idle") and not self.sessions:
            return "has no sessions"
        if scenario in ("stream", "resume") and not self.streams:
            return "sends no events"
        if scenario == "resume" and not self.resume:
            return self.notes or "ships no replay store"
        return None

    def command(self, python: str, scenario: str = "") -> list[str]:
        """How it is started; {port} stands for the port."""
        words = [*self.words, *(self.listing if scenario == "list" else ())]
        if self.kind == "python":
            return [python, str(HERE / self.program), "{port}", *words]
        if self.kind == "node":
            return ["node", str(CACHE / "node" / self.program), "{port}", *words]
        return [str(CACHE / self.kind / "subject"), "{port}", *words]

    def version(self) -> str:
        """What is measured, as its package manager names it."""
        if self.name in FLOORS:
            return "h11 0.16.0" if self.name == FLOOR else "asyncio"
        return VERSIONS.get(self.pins or self.program, "")


VERSIONS = {
    "ours.txt": "this clone, h11 0.16.0",
    "ours-speed.txt": "this clone, h11 0.16.0, uvloop 0.23.0, orjson 3.13.0",
    "ours-asgi.txt": "this clone, h11 0.16.0, uvicorn 0.54.0",
    "ours-granian.txt": "this clone, granian 2.8.9, uvloop 0.23.0",
    "ours-redis.txt": "this clone, h11 0.16.0, redis 8.1.0",
    "mcp.txt": "mcp 2.3.0",
    "fastmcp.txt": "fastmcp 4.2.3 (with mcp 2.3.0)",
    "zeromcp.txt": "zeromcp 1.10.3",
    "sdk.mjs": "@modelcontextprotocol/sdk 1.32.2",
    "server.mjs": "@modelcontextprotocol/server 2.4.0",
    "go": "go-sdk 1.8.0",
    "rust": "rmcp 3.11.0",
    "mcp-proxy.txt": "mcp-proxy 0.13.0 (with mcp 1.30.0)",
    "supergateway": "supergateway 4.0.0",
}

OURS = "mcp_h11"
FLOOR = "h11"
FLOORS = (FLOOR, "asyncio")
ELSEWHERE = ("call", "call-new-head", "behind-proxy", "modern", "session", "list", "stream", "echo-64k")
STORED = ("call", "session", "stream", "resume")

SUBJECTS = {
    one.name: one
    for one in (
        Subject("h11", "plain h11 loop (the floor)", "python", "h11_loop.py", pins="ours.txt", modern=True,
                sessions=False),
        Subject("asyncio", "raw asyncio (no HTTP to speak of)", "python", "raw_asyncio.py", pins="ours.txt",
                modern=True, sessions=False, quick=False),
        Subject("ours", "mcp_h11", "python", "ours.py", pins="ours.txt", modern=True, resume=True, imports=OURS),
        Subject("ours-speed", "mcp_h11, speed extra", "python", "ours.py", ("speed",), pins="ours-speed.txt",
                modern=True, resume=True),
        Subject("ours-orjson", "mcp_h11, orjson without uvloop", "python", "ours.py", ("orjson",),
                pins="ours-speed.txt", modern=True, resume=True, quick=False),
        Subject("ours-stateless", "mcp_h11, stateless", "python", "ours.py", ("stateless",), pins="ours.txt",
                sessions=False, quick=False),
        Subject("ours-sse", "mcp_h11, SSE", "python", "ours.py", ("sse",), pins="ours.txt", modern=True, resume=True),
        Subject("ours-asgi", "mcp_h11 as an ASGI application, in uvicorn", "python", "ours.py", ("asgi",),
                pins="ours-asgi.txt", modern=True, resume=True, only=ELSEWHERE, quick=False),
        Subject("ours-granian", "mcp_h11 as an ASGI application, in granian", "python", "ours.py", ("granian",),
                pins="ours-granian.txt", modern=True, resume=True, only=ELSEWHERE, quick=False),
        Subject("ours-sqlite", "mcp_h11, sessions in SQLite", "python", "ours.py", ("store=sqlite",),
                pins="ours.txt", modern=True, resume=True, only=STORED, quick=False),
        Subject("ours-redis", "mcp_h11, sessions in Redis", "python", "ours.py", pins="ours-redis.txt", modern=True,
                resume=True, only=STORED, quick=False, redis=True),
        Subject("ours-313", "mcp_h11, Python 3.13", "python", "ours.py", pins="ours.txt", modern=True, resume=True,
                only=ELSEWHERE, quick=False, interpreter="3.13"),
        Subject("ours-313-speed", "mcp_h11, speed extra, Python 3.13", "python", "ours.py", ("speed",),
                pins="ours-speed.txt", modern=True, resume=True, only=ELSEWHERE, quick=False, interpreter="3.13"),
        Subject("mcp", "mcp (Python SDK), SSE", "python", "python_sdk.py", pins="mcp.txt",
                imports="mcp.server.mcpserver"),
        Subject("mcp-json", "mcp (Python SDK), JSON", "python", "python_sdk.py", ("json",), pins="mcp.txt",
                modern=True, streams=False),
        Subject("mcp-stateless", "mcp (Python SDK), stateless, JSON", "python", "python_sdk.py",
                ("json", "stateless"), pins="mcp.txt", sessions=False, streams=False, quick=False),
        Subject("fastmcp", "fastmcp, SSE", "python", "fast_mcp.py", pins="fastmcp.txt", imports="fastmcp", quick=False),
        Subject("fastmcp-json", "fastmcp, JSON", "python", "fast_mcp.py", ("json",), pins="fastmcp.txt", modern=True,
                streams=False),
        Subject("zeromcp", "zeromcp, JSON", "python", "zero_mcp.py", pins="zeromcp.txt", sessions=False,
                streams=False, imports="zeromcp"),
        Subject("ts-sdk", "@modelcontextprotocol/sdk, SSE", "node", "sdk.mjs", listing=("tools",), quick=False),
        Subject("ts-sdk-json", "@modelcontextprotocol/sdk, JSON", "node", "sdk.mjs", ("json",), listing=("tools",),
                streams=False),
        Subject("ts-server", "@modelcontextprotocol/server", "node", "server.mjs", listing=("tools",), modern=True,
                sessions=False),
        Subject("go", "Go SDK, SSE", "go", "go", quick=False),
        Subject("go-json", "Go SDK, JSON", "go", "go", ("json",), streams=False),
        Subject("go-stateless", "Go SDK, stateless, JSON", "go", "go", ("json", "stateless"), modern=True,
                sessions=False, streams=False, quick=False),
        Subject("go-store", "Go SDK, SSE, replay store", "go", "go", ("store",), resume=True,
                only=("stream", "resume"), quick=False),
        Subject("rmcp", "rmcp (Rust SDK), SSE", "rust", "rust", modern=True, quick=False,
                notes="keeps 16 events of a stream"),
        Subject("rmcp-stateless", "rmcp (Rust SDK), stateless, JSON", "rust", "rust", ("stateless", "json"),
                modern=True, sessions=False),
    )
}  # fmt: skip


# ------------------------------------------------------------------ installing


def prepare(subject: Subject, say: Callable[[str], None] = print) -> str:
    """Make what it needs; the interpreter for Python subjects, else an empty string.  Raises Missing."""
    if subject.redis:
        tool("redis-server")
    if subject.kind == "python":
        return python_with(subject.pins, say, subject.interpreter)
    {"node": node, "go": go, "rust": rust}[subject.kind](say)
    return ""


def made(name: str, recipe: Sequence[Path], make: Callable[[Path], None]) -> Path:
    """`.cache/bench/<name>`, made by `make` unless it was made from the very same files."""
    digest = hashlib.sha256(b"\0".join(path.read_bytes() for path in recipe)).hexdigest()
    folder = CACHE / name
    made_once(folder, digest, make)
    return folder


def run(command: Sequence[str], cwd: Path, say: Callable[[str], None]) -> None:
    say(f"installing: {Path(command[0]).name} {' '.join(command[1:])}")
    try:
        done = subprocess.run(
            command, cwd=cwd, timeout=INSTALL_LIMIT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Missing(f"{Path(command[0]).name} did not run: {error}") from None
    if done.returncode:
        lines = done.stdout.strip().splitlines() or ["it failed"]
        raise Missing(f"{Path(command[0]).name}: {lines[-1][-200:]}")


def tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise Missing(f"{name} is not installed")
    return found


def interpreter_of(version: str) -> str:
    """The program of a Python, from the path or from pyenv.  Raises Missing."""
    found = shutil.which(f"python{version}")
    kept = sorted((Path.home() / ".pyenv" / "versions").glob(f"{version}.*/bin/python"))
    if found is not None and works(found):
        return found
    if kept:
        return str(kept[-1])
    raise Missing(f"no Python {version} is installed")


@functools.cache
def works(program: str) -> bool:
    """A shim of pyenv is there for each version, and fails for one that is not chosen."""
    try:
        return subprocess.run([program, "-c", ""], capture_output=True, timeout=30).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def files_of(recipe: Path) -> list[Path]:
    """A file of pins/ and those that it names with `-r`."""
    named = [line[3:].strip() for line in recipe.read_text().splitlines() if line.startswith("-r ")]
    return [recipe, *(path for name in named for path in files_of(recipe.parent / name))]


def python_with(pins: str, say: Callable[[str], None], version: str = "") -> str:
    """An interpreter that has exactly what a file of pins/ names; of another Python where `version` names one."""
    recipe = HERE / "pins" / pins
    program = interpreter_of(version) if version else sys.executable

    def make(folder: Path) -> None:
        run([program, "-m", "venv", str(folder)], folder, say)
        run([str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "-r", str(recipe)], folder, say)

    tag = version or platform.python_version()  # builds of one version may differ in speed, those of two Pythons do
    return str(made(f"py{tag}-{recipe.stem}", files_of(recipe), make) / "bin" / "python")


def node(say: Callable[[str], None], name: str = "node") -> Path:
    """The packages that the lock file of a folder here names, beside what else is in that folder."""
    npm = tool("npm")
    tool("node")
    recipe = sorted(path for path in (HERE / name).iterdir() if path.suffix in (".json", ".mjs"))

    def make(folder: Path) -> None:
        for path in recipe:
            shutil.copy(path, folder)
        run([npm, "ci", "--no-audit", "--no-fund"], folder, say)

    return made(name, recipe, make)


def go(say: Callable[[str], None], name: str = "go") -> Path:
    program = tool("go")
    source = HERE / name
    recipe = sorted(source.glob("*.go")) + [source / "go.mod", source / "go.sum"]

    def make(folder: Path) -> None:
        run([program, "build", "-o", str(folder / "subject"), "."], source, say)

    return made(name, recipe, make)


def rust(say: Callable[[str], None], name: str = "rust", package: str = "subject") -> Path:
    program = tool("cargo")
    source = HERE / name
    recipe = [source / "Cargo.toml", source / "src" / "main.rs"]

    def make(folder: Path) -> None:
        # The lock file that cargo writes would land beside the manifest: build a copy.
        shutil.copytree(source, folder / "source")
        target = CACHE / "rust-target"
        run([program, "build", "--release", "--target-dir", str(target)], folder / "source", say)
        shutil.copy(target / "release" / package, folder / "subject")

    return made(name, recipe, make)


@functools.cache
def frozen() -> Path:
    """A folder with a copy of the package for this process, which takes it away when it ends.

    So a long run measures one state of the package even where its files change meanwhile.  The bytecode is written, as
    an installer writes that of the peers.
    """
    CACHE.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="frozen-", dir=CACHE))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    shutil.copytree(ROOT / OURS, folder / OURS, ignore=shutil.ignore_patterns("__pycache__"))
    compileall.compile_dir(folder / OURS, quiet=1)
    return folder


def environment(subject: Subject) -> dict[str, str]:
    """The variables that its process needs to find the package."""
    return {"PYTHONPATH": str(frozen())} if subject.kind == "python" else {}
