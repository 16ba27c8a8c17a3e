#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Run the official conformance suite against tests/everything_server.py and hold it to the score.

    python tests/conformance/run.py [--keep DIR] [--store URL | --hosted SERVER | --url URL]

The same again through a bridge, `python -m mcp_h11 proxy`, onto the fixture on pipes.  With a store, the fixture is a
fleet of three processes instead, behind a proxy that gives each request to the next one; hosted, it is an ASGI
application in uvicorn or hypercorn; with a URL, it runs already, behind a proxy for instance.

Fetches the suite and the node it needs from npm into `.cache/` of the clone (or takes the folder that
MCP_H11_CONFORMANCE names), starts the fixture once for each way of answering, runs the requirement set of each
revision, and prints a line a scenario and a last line `N passed, N failed of N scored checks`.

Exit status: 0 every check passed and as many as there have to be; 1 something failed; 2 it could not be measured;
3 the suite is not on this machine and could not be fetched.

Stricter than the suite's own verdict: a warning counts as a failure, a scenario that ran no check is a failure, the
number of checks is held (a scenario that gives up early has fewer), and the scenarios that the suite runs without
scoring them have to pass too.

Where the working copy lies beside a shared scorer (`../shared/run_conformance.py`), that one does the scored sets as
well, so that two readings of the same results have to agree.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

from provision import (
    EVERYTHING,
    ROOT,
    Running,
    Unavailable,
    everything_bridge,
    everything_fleet,
    everything_hosted,
    everything_server,
    npm_folder,
    server_environment,
)

VERSION = "0.2.0-alpha.12"
NODE = "node@22"  # the suite imports fs.globSync, which came with 22
# How the fixture answers -> revision -> scored checks of a complete server, and scored scenarios.  One check looks at
# the event streams of concurrent calls: it only exists where there are any.
SCORED = {
    "auto": {"2025-11-25": (69, 30), "2026-07-28": (120, 37)},
    "sse": {"2025-11-25": (70, 30), "2026-07-28": (121, 37)},
}
# Of the extension of tasks: the newest set runs them and does not score them; with the number of their checks.
TASKS = {
    "tasks-capability-negotiation": 5,
    "tasks-dispatch-and-envelope": 9,
    "tasks-lifecycle": 9,
    "tasks-mrtr-composition": 2,
    "tasks-mrtr-input": 4,
    "tasks-request-headers": 5,
    "tasks-request-state-removal": 3,
    "tasks-required-task-error": 3,
    "tasks-wire-fields": 4,
}
SKIPPED = {"tasks-status-notifications"}  # by the suite itself: it looks for them in the wrong place
# Of extensions, in no requirement set, with the number of their checks.
EXTENSIONS = {"sep-2640-skills-enumeration": 32, "sep-2640-skills-directory": 7, "sep-2640-skills-manifest": 6}
# No requirement set negotiates an older revision; this scenario does, where it is told to.
EXTRA = [("server-session-lifecycle", "2025-06-18"), ("server-session-lifecycle", "2025-03-26")]
# Run with a requirement set but not scored by it; they have to have run, and to have passed.
WANTED = {
    "2025-11-25": {"server-session-lifecycle", "server-sse-polling", "json-schema-2020-12"},
    "2026-07-28": {
        "json-schema-2020-12", "http-header-validation", "http-custom-header-server-validation", *TASKS,
    },
}  # fmt: skip
STAMP = re.compile(r"-\d{4}-\d\d-\d\dT[\d-]+Z$")
LIST_LIMIT = 60  # seconds
RUN_LIMIT = 300  # seconds for one requirement set; it takes about ten
SHARED = ROOT.parent / "shared" / "run_conformance.py"

Checks = list[dict[str, Any]]


class Suite:
    """The suite's command line."""

    def __init__(self) -> None:
        named = os.environ.get("MCP_H11_CONFORMANCE")
        package = f"@modelcontextprotocol/conformance@{VERSION}"
        self.folder = Path(named) if named else npm_folder(f"conformance-{VERSION}", package, NODE)
        modules = self.folder / "node_modules"
        self.script = modules / "@modelcontextprotocol" / "conformance" / "dist" / "index.js"
        self.node = modules / ".bin" / ("node.cmd" if os.name == "nt" else "node")
        if not self.script.exists() or not self.node.exists():
            raise Unavailable(f"{self.folder} holds no {package} with {NODE}")
        found = json.loads((self.script.parent.parent / "package.json").read_text())["version"]
        if found != VERSION:
            raise Unavailable(f"{self.folder} holds conformance {found}, not {VERSION}")

    def call(self, *arguments: str, limit: float) -> str:
        command = [str(self.node), str(self.script), *arguments]
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=limit
        )
        return re.sub(r"\x1b\[[0-9;]*m", "", done.stdout.decode("utf-8", "replace"))

    def scored(self, revision: str) -> list[str]:
        """The names of the server scenarios that a requirement set scores."""
        listing = self.call("list", "--requirements", revision, limit=LIST_LIMIT)
        section = re.search(r"^Server scenarios.*?$(.*?)^\S", listing, re.M | re.S)
        names = re.findall(r"^ +- (\S+)$", section.group(1), re.M) if section else []
        if not names:
            raise Unavailable(f"the suite lists no server scenarios for {revision}:\n{listing[:500]}")
        return names

    def run(self, url: str, out: Path, *selection: str) -> dict[str, Checks]:
        """Run a selection of scenarios; the checks of each by name."""
        out.mkdir(parents=True)
        log = self.call("server", "--url", url, *selection, "--output-dir", str(out), limit=RUN_LIMIT)
        (out / "suite.log").write_text(log)
        results: dict[str, Checks] = {}
        for path in sorted(out.rglob("checks.json")):
            folder = path.parent.relative_to(out).as_posix()
            name = STAMP.sub("", folder).removeprefix("server-")  # the leg, in front of every name
            results[name] = json.loads(path.read_text())
        # A scenario that throws writes no results, only its line in the summary.
        for name, failed in re.findall(r"^\u2717 (\S+): \d+ passed, (\d+) failed", log, re.M):
            threw = {"id": "scenario-threw", "status": "FAILURE", "errorMessage": f"{failed} failed"}
            results.setdefault(name, [threw])
        return results


class Score:
    """What was found; prints as it goes."""

    def __init__(self) -> None:
        self.passed = 0
        self.failed = 0
        self.complaints: list[str] = []

    def complain(self, text: str) -> None:
        self.complaints.append(text)
        print(f"FAIL {text}", flush=True)

    def scenario(self, label: str, name: str, checks: Checks | None, *, scored: bool) -> int:
        """Count one scenario's checks; how many passed."""
        good = [c for c in checks or () if c["status"] == "SUCCESS"]
        bad = [c for c in checks or () if c["status"] in ("FAILURE", "WARNING")]
        if scored:
            self.passed += len(good)
            self.failed += len(bad)
        for check in bad:
            text = check.get("errorMessage") or check.get("description") or ""
            self.complain(f"[{label}] {name}: {check['status']} {check['id']}: {text}")
        if not good and not bad:
            self.complain(f"[{label}] {name}: no check ran")
        elif not bad:
            print(f"[{label}] pass {name} {len(good)}{'' if scored else ' (not scored)'}", flush=True)
        return len(good)


def requirement_set(
    suite: Suite, score: Score, response: str, revision: str, url: str, out: Path, *, bridged: bool = False
) -> None:
    label = f"{revision} {response}{' bridged' if bridged else ''}"
    results = suite.run(url, out / label.replace(" ", "-"), "--requirements", revision)
    scored = suite.scored(revision)
    passed = sum(score.scenario(label, name, results.get(name), scored=True) for name in scored)
    print(f"[{label}] {passed} checks passed in {len(scored)} scored scenarios", flush=True)
    checks, scenarios = SCORED[response][revision]
    if passed < checks or len(scored) != scenarios:
        score.complain(f"[{label}] {passed} checks in {len(scored)} scenarios, where {checks} in {scenarios} are due")
    # A fixture on pipes has no stream to close, so that the suite has nothing to poll.
    unmeasured = {"server-sse-polling"} if bridged else set()
    others = (results.keys() | WANTED[revision]) - set(scored) - unmeasured - SKIPPED
    for name in sorted(others):
        passed = score.scenario(label, name, results.get(name), scored=False)
        if passed != TASKS.get(name, passed):
            score.complain(f"[{label}] {name}: {passed} checks passed, where {TASKS[name]} are due")


def extensions(suite: Suite, score: Score, label: str, url: str, out: Path) -> None:
    """The scenarios of extensions, each of which has to run all its checks."""
    for name, due in EXTENSIONS.items():
        results = suite.run(url, out / f"{label}-{name}".replace(" ", "-"), "--scenario", name)
        passed = score.scenario(label, name, results.get(name), scored=False)
        if passed != due:
            score.complain(f"[{label}] {name}: {passed} checks passed, where {due} are due")


def shared_scorer(suite: Suite, score: Score, *subject: str) -> None:
    """The same sets, run and read by the scorer that all groups share; `subject` says how it finds the server."""
    command = [sys.executable, str(SHARED), "--harness", str(suite.folder), "--strict", "--min-scored", "190"]
    for revision in WANTED:
        command += ["--requirements", revision]
    command += subject
    done = subprocess.run(command, capture_output=True, text=True, timeout=2 * RUN_LIMIT, env=server_environment())
    last = (done.stdout.strip().splitlines() or ["nothing"])[-1]
    print(f"shared scorer: {last}", flush=True)
    if done.returncode != 0:
        score.complain(f"the shared scorer ends with status {done.returncode}: {last} {done.stderr.strip()[-1000:]}")


def measure(suite: Suite, out: Path) -> Score:
    score = Score()
    for response, revisions in SCORED.items():
        with everything_server("--response", response) as server:
            for revision in revisions:
                requirement_set(suite, score, response, revision, server.url, out)
            for name, revision in EXTRA:
                folder = out / response / f"{name}-{revision}"
                results = suite.run(server.url, folder, "--scenario", name, "--spec-version", revision)
                score.scenario(f"{revision} {response}", name, results.get(name), scored=False)
            if response == "auto":
                extensions(suite, score, "extensions", server.url, out)
        # Each scenario is another client: with one backend for all of them, no question and no log message would say
        # which of them it is for.  Those of 2026-07-28 have no sessions, and get each other's log messages.
        with everything_bridge("--response", response, "--per-session", "--share-logs") as server:
            for revision in revisions:
                requirement_set(suite, score, response, revision, server.url, out, bridged=True)
            if response == "sse":
                extensions(suite, score, "extensions bridged", server.url, out)
    if SHARED.exists():
        shared_scorer(suite, score, "--", sys.executable, str(EVERYTHING), "--port", "{port}")
    return score


def measure_one(suite: Suite, out: Path, subject: AbstractContextManager[Running]) -> Score:
    """One subject that answers by event streams; both sets."""
    score = Score()
    with subject as server:
        for revision in SCORED["sse"]:
            requirement_set(suite, score, "sse", revision, server.url, out)
        extensions(suite, score, "extensions", server.url, out)
        if SHARED.exists():
            shared_scorer(suite, score, "--url", server.url)
    return score


def main() -> int:
    parser = argparse.ArgumentParser(description="Run the official conformance suite against our fixture.")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="write the suite's results to this new folder")
    parser.add_argument("--store", metavar="URL", help="run a fleet of three that shares this store")
    parser.add_argument("--hosted", metavar="SERVER", help="run it as an ASGI application in uvicorn or hypercorn")
    parser.add_argument("--url", help="the fixture runs there, and answers by event streams")
    args = parser.parse_args()
    try:
        suite = Suite()
    except Unavailable as error:
        print(f"the conformance suite is not available: {error}", flush=True)
        return 3
    try:
        with tempfile.TemporaryDirectory() as scratch:
            out = args.keep or Path(scratch) / "results"
            if args.store:
                score = measure_one(suite, out, everything_fleet(args.store))
            elif args.url:
                running = Running(0)
                running.url = args.url
                score = measure_one(suite, out, nullcontext(running))
            elif args.hosted:
                score = measure_one(suite, out, everything_hosted(args.hosted))
            else:
                score = measure(suite, out)
    except (Unavailable, AssertionError, OSError, subprocess.TimeoutExpired) as error:
        print(f"conformance could not be measured: {error}", flush=True)
        return 2
    for complaint in score.complaints:
        print(f"FAIL {complaint}")
    print(f"{score.passed} passed, {score.failed} failed of {score.passed + score.failed} scored checks", flush=True)
    return 1 if score.complaints or score.failed else 0


if __name__ == "__main__":
    sys.exit(main())
