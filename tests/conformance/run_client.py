#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Run the client scenarios of the official conformance suite on tests/everything_client.py and hold it to the score.

    python tests/conformance/run_client.py [--keep DIR]

The suite starts a server of its own for each scenario; what it fetches, and what exit statuses mean, is as in `run.py`.
A warning counts as a failure, and each scenario has to have as many passed checks as it had when this was written.

It holds all that the suite scores (18 and 32 scenarios), the extensions that the suite runs beside them (client
credentials, enterprise, workload identity, proofs of possession), the two scenarios of 2025-03-26, and those of skills.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from provision import ROOT, Unavailable, server_environment
from run import STAMP, Score, Suite

CLIENT = ROOT / "tests" / "everything_client.py"
TIMEOUT_MS = 300_000  # all scenarios of a revision start at once: thirty interpreters
RUN_LIMIT = 400  # seconds
# Revision -> scenario -> checks that pass.
WANTED = {
    "2025-11-25": {
        "initialize": 1,
        "tools_call": 2,
        "elicitation-sep1034-client-defaults": 5,
        "sse-retry": 3,
        "json-schema-2020-12-preservation": 9,
        **{f"auth/metadata-{one}": 18 for one in ("default", "var1", "var2", "var3")},
        "auth/basic-cimd": 13,
        "auth/scope-from-www-authenticate": 14,
        "auth/scope-from-scopes-supported": 14,
        "auth/scope-omitted-when-undefined": 14,
        "auth/scope-step-up": 22,
        "auth/scope-retry-limit": 10,
        **{f"auth/token-endpoint-auth-{one}": 19 for one in ("basic", "post", "none")},
        "auth/pre-registration": 13,
        "auth/client-credentials-jwt": 8,
        "auth/client-credentials-basic": 8,
        "auth/enterprise-managed-authorization": 9,
        "auth/dpop": 12,
        "auth/dpop-nonce": 14,
        "auth/wif-jwt-bearer": 8,
    },
    "2026-07-28": {
        "tools_call": 2,
        "request-metadata": 6,
        "sep-2322-client-request-state": 5,
        "http-standard-headers": 9,
        "http-custom-headers": 18,
        "http-invalid-tool-headers": 12,
        "json-schema-ref-no-deref": 1,
        "json-schema-2020-12-preservation": 9,
        **{f"auth/metadata-{one}": 18 for one in ("default", "var1", "var2", "var3")},
        "auth/basic-cimd": 12,
        "auth/scope-from-www-authenticate": 14,
        "auth/scope-from-scopes-supported": 14,
        "auth/scope-omitted-when-undefined": 14,
        "auth/scope-step-up": 25,
        "auth/scope-retry-limit": 11,
        **{f"auth/token-endpoint-auth-{one}": 19 for one in ("basic", "post", "none")},
        "auth/pre-registration": 12,
        "auth/resource-mismatch": 2,
        "auth/offline-access-scope": 12,
        "auth/offline-access-not-supported": 14,
        "auth/authorization-server-migration": 27,
        "auth/iss-supported": 14,
        "auth/iss-not-advertised": 14,
        **{f"auth/iss-{one}": 8 for one in ("supported-missing", "wrong-issuer", "unexpected", "normalized")},
        "auth/metadata-issuer-mismatch": 3,
        "auth/client-credentials-jwt": 7,
        "auth/client-credentials-basic": 7,
        "auth/enterprise-managed-authorization": 8,
        "auth/dpop": 13,
        "auth/dpop-nonce": 15,
        "auth/wif-jwt-bearer": 7,
    },
}

# Scenarios of an older revision, which no requirement set has: servers without metadata of their own.
OLDER = {"auth/2025-03-26-oauth-metadata-backcompat": 12, "auth/2025-03-26-oauth-endpoint-fallback": 7}
# The client as a host of skills: no requirement set has these either.
SKILLS = {f"sep-2640-client-{one}": 1 for one in ("no-prefetch", "verify-digest", "verify-size", "verify-frontmatter")}


def play(suite: Suite, score: Score, label: str, what: list[str], wanted: dict[str, int], out: Path) -> None:
    out.mkdir(parents=True)
    log = suite.call(
        "client", "--command", f"{sys.executable} {CLIENT}", *what,
        "--timeout", str(TIMEOUT_MS), "--output-dir", str(out), limit=RUN_LIMIT,
    )  # fmt: skip
    (out / "suite.log").write_text(log)
    results = {
        STAMP.sub("", path.parent.relative_to(out).as_posix()): json.loads(path.read_text())
        for path in sorted(out.rglob("checks.json"))
    }
    for name, due in wanted.items():
        passed = score.scenario(label, name, results.get(name), scored=True)
        if passed < due:
            score.complain(f"[{label}] {name}: {passed} checks passed, where {due} are due")


def main() -> int:
    parser = argparse.ArgumentParser(description="Run the client scenarios of the official conformance suite.")
    parser.add_argument("--keep", type=Path, help="leave the suite's own results in this folder, which must not exist")
    options = parser.parse_args()
    score = Score()
    os.environ.update(server_environment())  # the suite hands it on to the client
    try:
        suite = Suite()
        with tempfile.TemporaryDirectory() as scratch:
            folder = options.keep or Path(scratch)
            for revision, wanted in WANTED.items():
                play(suite, score, f"{revision} client", ["--requirements", revision], wanted, folder / revision)
            for name, due in OLDER.items():
                play(suite, score, "older client", ["--scenario", name], {name: due}, folder / Path(name).name)
            for name, due in SKILLS.items():
                play(suite, score, "skills", ["--scenario", name], {name: due}, folder / name)
    except Unavailable as error:
        print(f"not available: {error}")
        return 3
    print(f"{score.passed} passed, {score.failed} failed of {score.passed + score.failed} scored checks")
    return 1 if score.complaints else 0


if __name__ == "__main__":
    sys.exit(main())
