# SPDX-License-Identifier: MIT
"""The files for PyPI: they build, PyPI takes their description, and they hold what a user and a tester need."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
import tarfile
import zipfile
from email.parser import Parser
from importlib.util import find_spec
from pathlib import Path

import pytest
from provision import everything_required

ROOT = Path(__file__).resolve().parent.parent
LIMIT = 240  # seconds on a busy machine


def require(*modules: str) -> None:
    missing = [module for module in modules if find_spec(module) is None]
    if missing:
        reason = f"{', '.join(missing)} not installed: pip install -e '.[release]'"
        pytest.fail(reason) if everything_required() else pytest.skip(reason)


def run(*command: str) -> str:
    ran = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, timeout=LIMIT)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a source distribution, and of a wheel that was built from it."""
    require("build", "hatchling", "twine")
    folder = tmp_path_factory.mktemp("dist")
    run("build", "--no-isolation", "--outdir", str(folder))
    return folder


@pytest.mark.interop
def test_pypi_takes_the_description(built: Path) -> None:
    files = sorted(map(str, built.iterdir()))
    assert len(files) == 2
    assert run("twine", "check", "--strict", *files).count("PASSED") == 2


@pytest.mark.interop
def test_the_wheel_has_the_package_and_nothing_else(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (metadata,) = (archive.read(name).decode() for name in names if name.endswith("/METADATA"))
    inside = {name for name in names if ".dist-info/" not in name}
    files = [file for file in (ROOT / "mcp_h11").rglob("*") if file.is_file() and "__pycache__" not in file.parts]
    assert inside == {file.relative_to(ROOT).as_posix() for file in files}
    assert any(name.endswith("/LICENSE") for name in names)
    described = Parser().parsestr(metadata)
    assert described["Author"] == "mcp_h11 contributors" and described["Description-Content-Type"] == "text/markdown"
    links = re.findall(r"\]\(([^)]+)\)", str(described.get_payload()))
    assert links and all(re.match(r"https?://|#", link) for link in links)
    runtime = [need for need in described.get_all("Requires-Dist", []) if "extra ==" not in need]
    assert sorted(re.split(r"[>=]", need)[0] for need in runtime) == ["anyio", "h11"]


@pytest.mark.interop
def test_the_source_distribution_has_everything_that_is_kept_under_version_control(built: Path) -> None:
    (source,) = built.glob("*.tar.gz")
    with tarfile.open(source) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    kept = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, timeout=LIMIT)
    if kept.returncode:
        pytest.skip("this is no clone")
    left_out = {".git-blame-ignore-revs", ".gitignore"}
    present = {name for name in kept.stdout.splitlines() if (ROOT / name).exists()}
    assert present - names - left_out == set()


def test_the_versions_of_python_are_those_that_ci_tests() -> None:
    text = (ROOT / "pyproject.toml").read_text("utf-8")
    claimed = re.findall(r'"Programming Language :: Python :: (3\.\d+)"', text)
    ci = re.search(r"^SERIES=\((.*)\)$", (ROOT / ".ci" / "run").read_text("utf-8"), re.M)
    assert ci is not None and claimed == ci[1].split()
    assert f'requires-python = ">={claimed[0]}"' in text


def test_links_of_the_description_lead_to_the_repository_once_it_has_an_address() -> None:
    require("hatchling")
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    text = "[a](docs/a.md#b), [c](https://c.example), [d](#e)"
    source = "https://forge.example/mcp_h11/"
    assert module.description(text, None, "1.2") == "a (`docs/a.md#b`), [c](https://c.example), [d](#e)"
    assert (
        module.description(text, source, "1.2")
        == "[a](https://forge.example/mcp_h11/blob/v1.2/docs/a.md#b), [c](https://c.example), [d](#e)"
    )
