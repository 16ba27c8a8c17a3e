# SPDX-License-Identifier: MIT
"""`vendor`: what a copy holds, how it is checked and renewed, and what is refused.

What copies do when they run is in `test_vendored`, and one file in `test_pyz`.
"""

from __future__ import annotations

import base64
import errno
import hashlib
import json
import shutil
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

import mcp_h11
from mcp_h11 import __version__
from mcp_h11.cli import main as cli_main
from mcp_h11.cli.parser import UsageError
from mcp_h11.cli.vendoring import copying as vendor_copy
from mcp_h11.cli.vendoring import files as vendor_files
from mcp_h11.cli.vendoring import imports as vendor_imports
from mcp_h11.cli.vendoring import record as vendor_record
from mcp_h11.cli.vendoring import vendor

pytestmark = pytest.mark.long

PACKAGE = Path(mcp_h11.__file__).parent


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without the measurement, which starts processes; in a folder of its own."""
    monkeypatch.setattr(vendor, "import_time", lambda *_: 0.05)
    monkeypatch.chdir(tmp_path)


def run(*arguments: str) -> int:
    return cli_main.main(["vendor", *arguments])


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line on stderr of a command that is refused, after what is the same in all of them."""
    capsys.readouterr()
    assert run(*arguments) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    return err.removeprefix("python -m mcp_h11: error: ").rstrip("\n")


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, list[str]]:
    """The exit code, and the lines on stdout."""
    capsys.readouterr()
    code = run(*arguments)
    return code, capsys.readouterr().out.splitlines()


def content(folder: Path) -> dict[str, bytes]:
    """All files of a folder, by path."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def digest(data: bytes) -> str:
    """As in the RECORD of a wheel (PyPA's specification of recording installed projects)."""
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().removesuffix("=")


def record(folder: Path) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((folder / "vendored.json").read_bytes())
    return read


# --- what it holds ---------------------------------------------------------------------------------------------------


def test_a_copy_has_each_file_of_the_package_as_it_is_and_the_licence() -> None:
    assert run("to/here") == 0  # both folders are made
    files = content(Path("to/here/mcp_h11"))
    license_, said = files.pop("LICENSE"), json.loads(files.pop("vendored.json"))
    assert files == {name: data for name, data in content(PACKAGE).items() if "__pycache__" not in name}
    assert license_.startswith(b"MIT License\n") and b"Copyright" in license_
    assert {key: said[key] for key in ("package", "version", "server_only", "with_deps", "dependencies")} == {
        "package": "mcp_h11", "version": __version__, "server_only": False, "with_deps": False, "dependencies": {},
    }  # fmt: skip
    hashes = {name: digest(data) for name, data in {**files, "LICENSE": license_}.items()}
    assert said["files"] == hashes
    assert [path.name for path in Path("to/here").iterdir()] == ["mcp_h11"]  # nothing of the work is left


def test_a_copy_of_the_server_has_less() -> None:
    run("whole")
    run("part", "--server-only")
    whole, part = content(Path("whole/mcp_h11")), content(Path("part/mcp_h11"))
    left_out = {name for name in {*whole} - {*part} if not name.startswith("stores/")}
    parts = {name.partition("/")[0] for name in left_out}
    assert parts == {"bench", "client", "bridge", "cli", "__main__.py", "http", "server"}
    assert {name for name in left_out if name.startswith("http/")} == {"http/client.py"}
    assert {"server/workers.py", "server/worker.py"} <= left_out  # of the command line alone
    stores = {name for name in part if name.startswith("stores/")}
    assert "stores/sqlite.py" in stores and "stores/memory.py" in stores
    assert {name for name in stores if "redis" in name or "suite" in name or "testing" in name} == {
        "stores/redis_url.py"
    }
    assert {name for name, data in part.items() if whole[name] != data} == {"vendored.json"}


def test_copies_with_dependencies_have_their_licences_and_versions() -> None:
    run("all", "--with-deps")
    run("server", "--with-deps", "--server-only")
    for dest, names in (("all", {"anyio", "h11", "idna", "typing_extensions"}), ("server", {"h11"})):
        copy = Path(dest, "mcp_h11")
        versions = record(copy)["dependencies"]
        assert {*versions} - {"exceptiongroup", "sniffio"} == names
        for name, version in versions.items():
            assert version == metadata.version(name)
            licences = [path.read_text("utf-8") for path in (copy / "_deps").glob(f"{name}.LICENSE*")]
            assert len(licences) == 1 and "ermission" in licences[0]  # permission is hereby granted; with permission
            assert f"- {name} {version} (" in (copy / "_deps" / "__init__.py").read_text("utf-8")
    assert not [*Path("all").rglob("_trio.py")] and not [*Path("all").rglob("pytest_plugin.py")]


def test_the_same_options_give_the_same_bytes() -> None:
    run("one", "--server-only", "--with-deps")
    run("two", "--server-only", "--with-deps")
    assert content(Path("one")) == content(Path("two"))


# Bytes: what a release may grow to before the growth is looked at.  Today 3.1, 1.6, 4.2, 1.7 million.
@pytest.mark.parametrize(
    ("options", "most"),
    [
        ((), 3_300_000),
        (("--server-only",), 1_750_000),
        (("--with-deps",), 4_500_000),
        (("--server-only", "--with-deps"), 1_850_000),
    ],
)
def test_sizes_are_said_and_stay_small(capsys: pytest.CaptureFixture[str], options: tuple[str, ...], most: int) -> None:
    code, lines = said(capsys, "dest", *options)
    files = content(Path("dest/mcp_h11"))
    del files["vendored.json"]
    size = sum(map(len, files.values()))
    assert code == 0 and size < most
    assert lines[0].startswith(f"copied mcp_h11 {__version__} into dest/mcp_h11")
    assert lines[1].startswith(f"  {len(files)} files, {size:,} bytes")
    assert lines[2] == "  import: 50 ms of processor time"


def test_where_the_interpreter_cannot_be_started_no_time_is_said(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vendor, "import_time", lambda *_: None)
    _, lines = said(capsys, "dest", "--server-only")
    assert lines[2] == "  import: not measured: this Python cannot start another one"


# --- dependencies that are not as they should be ---------------------------------------------------------------------


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of distributions that goes before the installed ones."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    for name in ("h11", "anyio", "odd"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setattr(vendor, "ROOTS", ("odd",))
    return folder


def distribution(site: Path, *, modules: dict[str, str], about: str = "", licence: str | None = "Permission") -> None:
    for name, text in modules.items():
        (site / name).parent.mkdir(parents=True, exist_ok=True)
        (site / name).write_text(text)
    info = site / "odd-1.0.dist-info"
    info.mkdir()
    stated = "License-File: LICENSE\n" if licence is not None else ""
    (info / "METADATA").write_text(f"Metadata-Version: 2.4\nName: odd\nVersion: 1.0\n{stated}{about}\n")
    if licence is not None:
        (info / "LICENSE").write_text(licence)


def test_a_dependency_without_its_licence_is_not_copied(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    distribution(site, modules={"odd.py": ""}, licence=None)
    assert (
        refused(capsys, "dest", "--with-deps") == "odd is here without its licence: install it from its wheel with pip"
    )
    assert not Path("dest").exists()


def test_a_dependency_that_is_compiled_is_not_copied(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    distribution(site, modules={"odd/__init__.py": "", "odd/_fast.so": ""})
    assert refused(capsys, "dest", "--with-deps") == "odd/_fast.so is compiled: copies hold pure Python alone"


def test_a_dependency_without_metadata_is_not_copied(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (site / "odd.py").touch()
    assert refused(capsys, "dest", "--with-deps").startswith("odd is here without its metadata")


def test_a_dependency_that_is_missing_is_named(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    distribution(site, modules={"odd.py": ""}, about="Requires-Dist: not-here>=1")
    assert refused(capsys, "dest", "--with-deps") == "not_here, which odd needs, is not installed"


def test_what_other_pythons_and_systems_would_need_is_said(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    about = 'Requires-Dist: older; python_version < "3.99"\nRequires-Dist: elsewhere; sys_platform == "beos"\n'
    distribution(site, modules={"odd.py": ""}, about=about + 'Requires-Dist: more; extra == "more"')
    assert run("dest", "--with-deps") == 0
    assert capsys.readouterr().err.splitlines() == [
        "warning: it runs on Python 3.99 and later; install older before, and it runs on older ones too",
        'warning: some systems need what is not installed here, and not copied: elsewhere (sys_platform == "beos")',
    ]
    copy = Path("dest/mcp_h11")
    assert record(copy)["python"] == "3.99"
    with pytest.raises(ImportError, match=r"this copy runs on Python 3\.99 and later: for older ones it needs older"):
        exec((copy / "_deps" / "__init__.py").read_text())  # as the import of the copy does


# --- imports that become relative ------------------------------------------------------------------------------------

FORMS = [
    ("http/server.py", "import h11\n", "from .._deps import h11\n"),
    ("top.py", "import h11 as h\n", "from ._deps import h11 as h\n"),
    ("a/b/c.py", "import sys, h11  # why\n", "import sys; from ..._deps import h11  # why\n"),
    ("a/b.py", "import anyio.abc\n", "from .._deps import anyio; from .._deps.anyio import abc as _anyio_abc\n"),
    ("a/b.py", "import anyio.abc as abc\n", "from .._deps.anyio import abc as abc\n"),
    ("a/b.py", "from anyio import (\n    abc,\n    run,\n)\n", "from .._deps.anyio import (\n    abc,\n    run,\n)\n"),
    ("a/b.py", "if x:\n\tfrom anyio.abc import A; y = 'é'; from h11 import B\n",
     "if x:\n\tfrom .._deps.anyio.abc import A; y = 'é'; from .._deps.h11 import B\n"),
    ("_deps/anyio/_core/x.py", "import h11\n", "from ... import h11\n"),
    ("_deps/anyio/x.py", "from anyio._core.y import Z\n", "from ..anyio._core.y import Z\n"),
    ("_deps/typing_extensions.py", "import h11\n", "from . import h11\n"),
    ("_deps/anyio/x.py", "import_module(f'anyio._b._{n}')\n", "import_module(f'..anyio._b._{n}', __package__)\n"),
    ("_deps/anyio/x.py", 'm = i.import_module("anyio.abc")\n', 'm = i.import_module("..anyio.abc", __package__)\n'),
    ("a/b.py", "from . import h11\nimport h11x, sys\nimport_module(name)\n'import h11'\n", None),
    ("a/b.py", "from .anyio import x\n# import anyio\n", None),
]  # fmt: skip


@pytest.mark.parametrize(("path", "before", "after"), FORMS)
def test_imports_become_relative(path: str, before: str, after: str | None) -> None:
    for ends in ("\n", "\r\n"):
        given = before.replace("\n", ends).encode()
        expected = given if after is None else after.replace("\n", ends).encode()
        assert vendor_imports.relative(given, path, ["h11", "anyio"]) == expected


@pytest.mark.parametrize(
    "source",
    ["x = 1\n__import__('anyio')\n", "\nimport_module('h11.x', p)\n", "\nfind_spec('h11')\n", "\nimport h11 (\n"],
)
def test_an_import_that_cannot_become_relative_is_an_error(source: str) -> None:
    with pytest.raises(UsageError, match=r"^a/b\.py, line 2: "):
        vendor_imports.relative(source.encode(), "a/b.py", ["h11", "anyio"])


# --- check -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def copy(monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the server below `dest`, as if the package had a few of its files: most tests want many copies."""
    few = {
        name: data
        for name, data in vendor_files.package_files().items()
        if name.startswith(("http/", "server/"))
        or name in ("__init__.py", "version.py", "client/__init__.py", "LICENSE")
    }
    monkeypatch.setattr(vendor, "package_files", lambda: {**few})
    assert run("dest", "--server-only") == 0
    return Path("dest/mcp_h11")


MEND = "to mend it: python -m mcp_h11 vendor --update dest"


@pytest.mark.parametrize("named", ["dest", "dest/mcp_h11"])
def test_a_copy_as_it_was_made_is_in_order(copy: Path, capsys: pytest.CaptureFixture[str], named: str) -> None:
    (copy / "__pycache__").mkdir()
    (copy / "__pycache__" / "version.cpython-311.pyc").touch()
    (copy / "http" / ".DS_Store").touch()
    # As git writes it on Windows.
    (copy / "version.py").write_bytes((copy / "version.py").read_bytes().replace(b"\n", b"\r\n"))
    assert said(capsys, "--check", named) == (
        0, [f"dest/mcp_h11: mcp_h11 {__version__}, {len(record(copy)['files'])} files as recorded"]
    )  # fmt: skip


def test_each_change_is_found(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (copy / "version.py").write_text("# edited")
    (copy / "tls.py").write_text("# a stranger")
    (copy / "server" / "tls.py").unlink()
    (copy / "http" / "sse.py").unlink()
    (copy / "http" / "sse.py").symlink_to(PACKAGE / "http" / "sse.py")
    assert said(capsys, "--check", "dest") == (1, [
        "dest/mcp_h11: edited: http/sse.py, version.py",
        "dest/mcp_h11: missing: server/tls.py",
        "dest/mcp_h11: not of it: tls.py",
        "to mend it: python -m mcp_h11 vendor --update dest --force",
    ])  # fmt: skip


def test_long_lists_are_cut(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(vendor_copy.SHOWN_PATHS + 1):
        (copy / f"x{number:02}.py").touch()
    _, [line, _] = said(capsys, "--check", "dest")
    assert line.endswith("x08.py, x09.py and 1 more")


def test_names_of_files_do_not_command_the_terminal(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (copy / "a\x1b[2Jb.py").touch()
    _, [line, _] = said(capsys, "--check", "dest")
    assert line == "dest/mcp_h11: not of it: a\\x1b[2Jb.py"


def test_another_version_is_found(
    copy: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vendor, "__version__", "99.1")
    assert said(capsys, "--check", "dest") == (1, [
        f"dest/mcp_h11: it has version {__version__}, this is 99.1", MEND,
    ])  # fmt: skip


def test_the_same_version_with_other_files_is_found(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # As a copy of an older checkout is: its record fits its files.
    (copy / "version.py").write_text("# older")
    rewrite(copy, files={**record(copy)["files"], "version.py": digest(b"# older")})
    assert said(capsys, "--check", "dest") == (1, [
        f"dest/mcp_h11: this mcp_h11 {__version__} has other files", MEND,
    ])  # fmt: skip


def test_other_versions_of_dependencies_are_said_and_are_no_fault(capsys: pytest.CaptureFixture[str]) -> None:
    run("dest", "--server-only", "--with-deps")
    copy = Path("dest/mcp_h11")
    (copy / "_deps" / "h11" / "_version.py").write_text("# 0.1")
    older = {"_deps/h11/_version.py": digest(b"# 0.1")}
    rewrite(copy, dependencies={"h11": "0.1"}, files={**record(copy)["files"], **older})
    capsys.readouterr()
    assert run("--check", "dest") == 0
    here = metadata.version("h11")
    assert capsys.readouterr().err == f"warning: it has h11 0.1, and {here} is installed here: --update takes that\n"
    assert run("--update", "dest") == 0
    assert record(copy)["dependencies"] == {"h11": here}


def rewrite(copy: Path, **changed: Any) -> None:
    (copy / "vendored.json").write_text(json.dumps({**record(copy), **changed}))


DAMAGED = [
    b"", b"[]", b"{", b"[" * 100_000, b"\xff", b'{"form": 2}', b"null",
    b" " * (vendor_record.MAX_RECORD + 1),
]  # fmt: skip


@pytest.mark.parametrize("data", DAMAGED, ids=range(len(DAMAGED)))
def test_a_damaged_record_is_said(copy: Path, capsys: pytest.CaptureFixture[str], data: bytes) -> None:
    (copy / "vendored.json").write_bytes(data)
    line = "dest/mcp_h11/vendored.json is damaged: restore it, or remove the folder and vendor again"
    for option in ("--check", "--update"):
        assert refused(capsys, option, "dest") == line


@pytest.mark.parametrize("path", ["../x", "/etc/passwd", "a/../../x", "a//b", "c:x", "a\\b", ".", ""])
def test_a_record_names_no_file_outside_of_the_folder(
    copy: Path, capsys: pytest.CaptureFixture[str], path: str
) -> None:
    rewrite(copy, files={path: ""})
    assert "is damaged" in refused(capsys, "--check", "dest")


@pytest.mark.parametrize("changed", [{"form": 1}, {"package": "other"}, {"version": 1}, {"files": []}, {"target": 1}])
def test_a_record_of_another_form_is_refused(
    copy: Path, capsys: pytest.CaptureFixture[str], changed: dict[str, Any]
) -> None:
    rewrite(copy, **changed)
    assert "is damaged" in refused(capsys, "--check", "dest")


# --- update ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def older(copy: Path) -> Path:
    """A copy of version 0.0.9: one of its files was different, and one is there no more."""
    old = {"version.py": b"# 0.0.9", "gone.py": b"# gone"}
    for name, data in old.items():
        (copy / name).write_bytes(data)
    hashes = {name: digest(data) for name, data in old.items()}
    rewrite(copy, version="0.0.9", files={**record(copy)["files"], **hashes})
    return copy


def test_an_update_brings_this_version_with_the_same_options(older: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (older / "server" / "tls.py").unlink()  # missing files are no work of somebody's
    code, lines = said(capsys, "--update", "dest")
    assert (code, lines[0]) == (
        0, f"updated dest/mcp_h11 from mcp_h11 0.0.9 to {__version__} (server only)"
    )  # fmt: skip
    run("fresh", "--server-only")
    assert content(Path("dest")) == content(Path("fresh"))
    assert said(capsys, "--update", "dest") == (0, [f"dest/mcp_h11 is mcp_h11 {__version__} already"])


def test_an_update_of_an_edited_copy_is_refused(older: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (older / "server" / "tls.py").write_text("# mine")
    (older / "extra.py").write_text("# mine too")
    before = content(Path("dest"))
    assert refused(capsys, "--update", "dest") == (
        "dest/mcp_h11 was edited: extra.py, server/tls.py; --force updates it, and keeps these files aside"
    )
    assert content(Path("dest")) == before


def test_a_forced_update_keeps_what_was_edited(older: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("dest/mcp_h11.edited").mkdir()  # of an earlier time
    (older / "server" / "tls.py").write_text("# mine")
    (older / "extra.py").symlink_to("nowhere")
    code, lines = said(capsys, "--update", "dest", "--force")
    assert (code, lines[1]) == (0, "  kept in dest/mcp_h11.edited-2: extra.py, server/tls.py")
    kept = Path("dest/mcp_h11.edited-2")
    assert content(kept) == {"server/tls.py": b"# mine"} and (kept / "extra.py").is_symlink()
    assert run("--check", "dest") == 0


def test_a_newer_copy_is_not_made_older_by_mistake(
    copy: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for newer in ("99.0", f"{__version__}.1", "1.rc1"):
        rewrite(copy, version=newer)
        assert refused(capsys, "--update", "dest") == (
            f"dest/mcp_h11 has version {newer}, newer than this {__version__}; --force goes back"
        )
    assert run("--update", "dest", "--force") == 0
    assert record(copy)["version"] == __version__


def fail_at(monkeypatch: pytest.MonkeyPatch, method: str, turn: int) -> None:
    """The disk is full when this method of a path is called so often."""
    whole, left = getattr(Path, method), [turn]

    def failing(self: Path, *arguments: Any, **options: Any) -> Any:
        left[0] -= 1
        if not left[0]:
            raise OSError(errno.ENOSPC, "No space left on device", str(self))
        return whole(self, *arguments, **options)

    monkeypatch.setattr(Path, method, failing)


@pytest.mark.parametrize(("method", "turn"), [("write_bytes", 1), ("write_bytes", 20), ("rename", 1), ("rename", 2)])
def test_an_update_that_fails_leaves_the_old_copy_whole(
    older: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, method: str, turn: int
) -> None:
    before = content(Path("dest"))
    with monkeypatch.context() as patched:
        fail_at(patched, method, turn)
        assert refused(capsys, "--update", "dest").endswith(": No space left on device")
    assert content(Path("dest")) == before


def test_where_the_old_copy_cannot_be_put_back_it_is_not_removed(older: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(self: Path, target: Path) -> None:
        if self.name != "mcp_h11":
            raise OSError(errno.EIO, "Input/output error", str(self))
        shutil.move(self, target)

    before = content(Path("dest"))
    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", failing)
        assert run("--update", "dest") == 2
    [old] = Path("dest").glob(".mcp_h11-*/old")
    assert {f"mcp_h11/{name}": data for name, data in content(old).items()} == before


# --- what is refused -------------------------------------------------------------------------------------------------


def test_a_folder_that_is_not_ours_is_not_touched(capsys: pytest.CaptureFixture[str]) -> None:
    Path("dest/mcp_h11").mkdir(parents=True)
    Path("dest/mcp_h11/mine.py").write_text("mine")
    line = "dest/mcp_h11 exists and was not made by this command: remove it, or take another folder"
    assert refused(capsys, "dest") == line
    assert refused(capsys, "--update", "dest").startswith("no copy in dest: ")
    assert refused(capsys, "--check", "nowhere") == (
        "no copy in nowhere: neither it nor nowhere/mcp_h11 has a vendored.json"
    )
    assert content(Path("dest")) == {"mcp_h11/mine.py": b"mine"}
    Path("link").mkdir()
    Path("link/mcp_h11").symlink_to("nowhere")
    assert "exists" in refused(capsys, "link")


def test_a_copy_is_not_made_twice(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = content(copy)
    assert refused(capsys, "dest") == "dest/mcp_h11 is a copy already: use --update dest, or remove the folder"
    assert content(copy) == before


def test_a_copy_behind_a_link_is_named_by_its_own_folder(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("link").symlink_to("dest/mcp_h11")
    assert refused(capsys, "--update", "link") == "link is a link: name the folder that it leads to"


def test_the_package_is_not_copied_into_itself(capsys: pytest.CaptureFixture[str]) -> None:
    for dest in (PACKAGE, PACKAGE / "server"):
        assert refused(capsys, str(dest)) == f"{dest} is in the folder of mcp_h11 itself"


def test_a_folder_that_cannot_be_made_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    Path("file").touch()
    assert refused(capsys, "file/dest") == "cannot write file/dest: Not a directory"


WRONG = {
    (): "vendor needs one folder, DEST; python -m mcp_h11 vendor --help has examples",
    ("a", "b"): "vendor needs one folder, DEST; python -m mcp_h11 vendor --help has examples",
    ("--check",): "vendor needs one folder, DEST; python -m mcp_h11 vendor --help has examples",
    ("a", "--force"): "--force goes with --update",
    ("a", "--bytecode"): "--bytecode goes with --pyz",
    ("--update", "a", "--with-deps"): "a copy keeps its options: to change them, remove its folder and vendor again",
    ("--pyz", "a", "--with-deps"): "--pyz always has the dependencies: leave --with-deps out",
}


@pytest.mark.parametrize("arguments", WRONG)
def test_options_that_do_not_go_together(capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]) -> None:
    assert refused(capsys, *arguments) == WRONG[arguments]


@pytest.mark.parametrize("arguments", [("--check", "--update", "a"), ("--pyz", "f", "--check", "a"), ("--nonsense",)])
def test_what_argparse_refuses_is_one_line_too(capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]) -> None:
    assert refused(capsys, *arguments)


# --- from a copy -----------------------------------------------------------------------------------------------------


def test_a_package_without_its_client_is_not_copied_as_a_whole(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = vendor_files.package_files()
    part = {name: data for name, data in whole.items() if not name.startswith("client/")}
    monkeypatch.setattr(vendor, "package_files", lambda: {**part})
    assert refused(capsys, "dest").startswith("this mcp_h11 was made without its client: add --server-only")
    assert run("dest", "--server-only") == 0
