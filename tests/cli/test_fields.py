# SPDX-License-Identifier: MIT
"""Every setting of a server by `--set` and by its variable: how its text is read, and what is refused."""

from __future__ import annotations

import json
import os
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

import mcp_h11
from mcp_h11 import Limits, Settings
from mcp_h11.cli import fields as setting_texts
from mcp_h11.cli import serving
from mcp_h11.cli.main import main
from mcp_h11.cli.options import UsageError, read_options

ROOT = Path(mcp_h11.__file__).resolve().parents[1]
KEY, OTHER = "k" * 16, "o" * 32


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("MCP_H11_")]:
        monkeypatch.delenv(name)


def settings(*arguments: str, **environ: str) -> Settings:
    """The settings that a command line and these variables (without their prefix) make."""
    given = serving.parser_of().parse_args([*arguments])
    options = read_options(given, {f"MCP_H11_{name}": value for name, value in environ.items()})
    assert options.warnings == []
    return serving.make_settings(options)


def value_of(made: Settings, name: str) -> Any:
    return getattr(made.limits, name[7:]) if name.startswith("limits.") else getattr(made, name)


# Each setting: a text, and the value that it stands for.
TEXTS: dict[str, tuple[str, Any]] = {
    "path": ("/x", "/x"),
    "response": ("sse", "sse"),
    "stateless": ("yes", True),
    "legacy_sse": ("off", False),
    "page": ("off", False),
    "card": ("com.example/x", "com.example/x"),
    "sse_path": ("/events", "/events"),
    "messages_path": ("/post", "/post"),
    "root_path": ("/under", "/under"),
    "strict_accept": ("on", True),
    "allowed_hosts": ("a.example,b.example", ["a.example", "b.example"]),
    "allowed_origins": ("any", ["*"]),
    "cors": ("https://a.example", ("https://a.example",)),
    "trusted_proxies": ("10.0.0.1", ("10.0.0.1",)),
    "resource": ("https://a.example/mcp", "https://a.example/mcp"),
    "scopes_supported": ("a, b", ["a", "b"]),
    "rate_limit": ("100/60", (100, 60.0)),
    "rate_burst": ("5", 5),
    "uds_mode": ("660", 0o660),
    "json": ("json", json),
    "access_log": ("json", "json"),
    "health": ("1", True),
    "metrics": ("1", True),
    "tracing": ("off", False),
    "health_path": ("/live", "/live"),
    "ready_path": ("/well", "/well"),
    "metrics_path": ("/numbers", "/numbers"),
    "ops_port": ("0", 0),
    "ops_host": ("::1", "::1"),
    "ops_hosts": ("a.example, b.example", ["a.example", "b.example"]),
    "ops_uds": ("ops.sock", "ops.sock"),
    "ops_token": ("hush", "hush"),
    "ready_lag": ("none", None),
    "max_threads": ("3", 3),
    "eager": ("0", False),
    "max_values": ("1000", 1000),
    "max_connections": ("none", None),
    "backlog": ("9", 9),
    "read_ahead": ("1024", 1024),
    "write_high": ("1024", 1024),
    "handshake_timeout": ("1.5", 1.5),
    "first_byte_timeout": ("1.5", 1.5),
    "head_timeout": ("1.5", 1.5),
    "body_timeout": ("1.5", 1.5),
    "min_body_rate": ("NONE", None),
    "idle_timeout": ("1.5", 1.5),
    "max_requests": ("7", 7),
    "write_timeout": ("none", None),
    "grace": ("0", 0.0),
    "drain_delay": ("1.5", 1.5),
    "max_running": ("7", 7),
    "max_running_session": ("7", 7),
    "max_waiting": ("7", 7),
    "max_client_memory": ("1000000", 1_000_000),
    "call_timeout": ("2.5", 2.5),
    "call_ceiling": ("none", None),
    "lag_warning": ("0.5", 0.5),
    "patience": ("0.5", 0.5),
    "keep_alive": ("0.5", 0.5),
    "retry": ("50", 50),
    "ask_timeout": ("50", 50.0),
    "session_idle": ("50", 50.0),
    "session_initialize": ("50", 50.0),
    "max_sessions": ("50", 50),
    "max_sessions_peer": ("50", 50),
    "max_listeners": ("50", 50),
    "max_subscriptions": ("50", 50),
    "replay": ("no", False),
    "state_ttl": ("50", 50.0),
    "limits.max_request_line": ("5000", 5000),
    "limits.max_head": ("5000", 5000),
    "limits.max_fields": ("50", 50),
    "limits.max_body": ("none", None),
    "limits.max_chunk_overhead": ("5000", 5000),
}
SECRETS = {"token": ("s3cret", "s3cret"), "store": ("sqlite:x.db", "sqlite:x.db"), "state_keys": (KEY, [KEY.encode()])}
OBJECTS = {"authorize", "verifier", "scope_includes", "ssl", "call_in", "session_manager", "event_store"}
NEED_A_VERIFIER = {"required_scopes": "required_scopes needs", "authorization_servers": "authorization_servers needs"}


def test_every_setting_is_here() -> None:
    settable = {field.name for field in fields(Settings)} - {"limits"} | {
        f"limits.{field.name}" for field in fields(Limits)
    }
    assert {*TEXTS, *SECRETS, *OBJECTS, *NEED_A_VERIFIER} == settable, (
        "a new setting needs a text and its value in TEXTS"
    )


@pytest.mark.parametrize("name", TEXTS)
def test_each_setting_is_read_from_the_command_line_and_from_its_variable(name: str) -> None:
    text, value = TEXTS[name]
    found = value_of(settings("--set", f"{name}={text}"), name)
    assert found == value and type(found) is type(value)
    assert value_of(settings("--set", f"{name.replace('_', '-')}={text}"), name) == value
    if name == "access_log":  # whose form is an option of its own
        assert settings(ACCESS_LOG="1", ACCESS_LOG_FORMAT=text).access_log == value
    else:
        assert value_of(settings(**{name.replace(".", "_").upper(): text}), name) == value
    # A test that the default passes too would show nothing.
    assert value_of(settings(), name) != value or name == "json"


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_is_a_variable_and_not_shown_to_other_users(name: str) -> None:
    text, value = SECRETS[name]
    assert value_of(settings(**{name.upper(): text}), name) == value
    with pytest.raises(
        UsageError, match=f"^--set {name}: this may be a secret.* set MCP_H11_{name.upper()}$"
    ) as refused:
        settings("--set", f"{name}={text}")
    assert text not in str(refused.value)


@pytest.mark.parametrize("name", sorted(OBJECTS))
def test_an_object_of_python_is_given_in_code(name: str) -> None:
    with pytest.raises(UsageError, match=f"^--set {name}: this is an object of Python, so give it in code"):
        settings("--set", f"{name}=x")
    with pytest.raises(UsageError, match=f"^environment variable MCP_H11_{name.upper()}: this is an object of Python"):
        settings(**{name.upper(): "x"})


@pytest.mark.parametrize("name", NEED_A_VERIFIER)
def test_what_goes_with_an_object_says_so(name: str) -> None:
    with pytest.raises(UsageError, match=f"^{NEED_A_VERIFIER[name]}"):
        settings("--set", f"{name}=https://a.example")


def test_the_command_line_goes_before_the_environment_and_that_before_the_default() -> None:
    assert settings("--set", "max_running=1", MAX_RUNNING="2").max_running == 1
    assert settings("--set", "max_running=1", MAX_RUNNING="many").max_running == 1  # it is not read
    assert settings("--set", "path=/a", PATH="/b").path == "/a"
    assert settings(MAX_RUNNING="2").max_running == 2
    assert settings(MAX_RUNNING="").max_running == Settings().max_running  # as compose files say "not set"
    assert settings("--set", "legacy_sse=0").legacy_sse is False and settings().legacy_sse is True


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["max_runing=3"], "--set max_runing: there is no such setting; did you mean max_running?"),
        (["qqqq=3"], "--set qqqq: there is no such setting"),
        (["limits=3"], None),
        (["max_running"], "--set max_running wants a value: --set NAME=VALUE"),
        (["max_running=x"], "--set max_running has to be a whole number, not 'x'"),
        (["max_running=1_000"], "--set max_running has to be a whole number, not '1_000'"),
        (["max_running="], "--set max_running has to be a whole number, not ''"),
        (["max_running=0"], "max_running must be greater than 0 (None switches a limit off), not 0"),
        (["grace=none"], "--set grace has to be a number, not 'none'"),
        (["grace=nan"], "--set grace has to be a number, not 'nan'"),
        (["eager=maybe"], "--set eager has to be one of 1, true, yes, on, 0, false, no, off, not 'maybe'"),
        (["response=xml"], "--set response has to be one of auto, json, sse, not 'xml'"),
        (["rate_limit=100"], "--set rate_limit has to be requests/seconds such as 100/60, not '100'"),
        (["rate_limit=0/60"], "rate_limit is (requests, seconds), both greater than 0, not (0, 60.0)"),
        (["scopes_supported=a,,b"], "--set scopes_supported has to be a comma-separated list without empty items"),
        (["json=no_such_module"], None),
        (["json=math"], "--set json has to be a module with loads and dumps, which math has not"),
        (["max_running=1", "--set", "max-running=2"], "--set max_running is given twice"),
        (["port=1"], "--set port: this is no setting of the server, but an option: --port"),
        (["path=/a", "--path", "/a"], "--path and --set path are the same setting: give one of them"),
        (["cors=a", "--cors", "b"], "--cors and --set cors are the same setting: give one of them"),
        (["path=/a", "--stdio"], "--stdio and --set path cannot be used together"),
        (["limits.max_body=0"], None),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_one_line(words: list[str], said: str | None, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--port", "0", "--set", *words] if "--stdio" not in words else ["--set", *words]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and err.startswith("python -m mcp_h11: error: ")
    assert said is None or err == f"python -m mcp_h11: error: {said}\n"


def test_a_bad_variable_is_named(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MCP_H11_LIMITS_MAX_BODY", "big")
    assert main([]) == 2
    said = "environment variable MCP_H11_LIMITS_MAX_BODY has to be a whole number, not 'big'\n"
    assert capsys.readouterr().err.endswith(said)


def test_pipes_have_settings_too(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Settings] = []
    monkeypatch.setattr(serving, "run_stdio", lambda handler, settings: seen.append(settings))
    monkeypatch.setenv("MCP_H11_MAX_WAITING", "4")
    monkeypatch.setenv("MCP_H11_STATE_KEYS", KEY)
    assert main(["--stdio", "--set", "max_running=3"]) == 0
    (made,) = seen
    assert (made.max_running, made.max_waiting, made.state_keys) == (3, 4, [KEY.encode()])


# --- keys ------------------------------------------------------------------------------------------------------------


def test_keys_come_from_a_file_or_a_variable() -> None:
    Path("keys").write_text(f"{KEY}\n{OTHER}\n")
    for made in (
        settings("--state-keys", "@keys"),
        settings(STATE_KEYS=f"{KEY}, {OTHER}"),
        settings(STATE_KEYS="@keys"),
    ):
        assert made.state_keys == [KEY.encode(), OTHER.encode()]


@pytest.mark.parametrize("text", ["", "short", f"{KEY},short-s3cret", "@gone", "@empty", "@long", f"{KEY},"])
def test_keys_that_cannot_be_are_refused_and_not_shown(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("empty").touch()
    Path("long").write_text("k" * 64 * 1024 + "k")
    assert main([f"--state-keys={text}"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("python -m mcp_h11: error: argument --state-keys: ") and err.count("\n") == 1
    assert "s3cret" not in err and KEY not in err


def test_a_file_of_keys_may_be_as_long_as_the_limit() -> None:
    Path("long").write_text("k" * 64 * 1024)
    assert settings("--state-keys", "@long").state_keys == [b"k" * 64 * 1024]


# --- variables that are unknown ---------------------------------------------------------------------------------------


def warned(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, **environ: str) -> list[str]:
    found: list[str] = []
    monkeypatch.setattr(serving.logger, "warning", lambda form, *values: found.append(form % values))
    monkeypatch.setattr(serving, "run_stdio", lambda handler, settings: None)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    assert main(["--stdio"]) == 0
    return found


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("MCP_H11_PROT", "; did you mean MCP_H11_PORT?"),
        ("MCP_H11_MAX_RUNING", "; did you mean MCP_H11_MAX_RUNNING?"),
        ("MCP_H11_LIMIT_MAX_BODY", "; did you mean MCP_H11_LIMITS_MAX_BODY?"),
        ("MCP_H11_CLIENT_TOKN", "; did you mean MCP_H11_CLIENT_TOKEN?"),
    ],
)
def test_an_unknown_variable_is_named_with_the_nearest(
    name: str, meant: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert warned(capsys, monkeypatch, **{name: "1"}) == [f"the environment variable {name} is unknown{meant}"]


def test_a_variable_that_any_part_of_the_project_reads_is_known(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    named: set[str] = set()
    here = {Path(__file__).resolve()}
    pages = [*ROOT.glob("docs/*.md"), ROOT / "README.md", *ROOT.glob("tests/**/*.py"), *ROOT.glob("mcp_h11/**/*.py")]
    for path in {path.resolve() for path in pages} - here:
        named.update(re.findall(r"\bMCP_H11_[A-Z0-9]+(?:_[A-Z0-9]+)*\b(?!_)", path.read_text("utf-8")))
    assert {"MCP_H11_CLIENT_TOKEN", "MCP_H11_REQUIRE_ALL", "MCP_H11_PORT"} <= named
    readable = {setting_texts.variable_of(name) for name in setting_texts.readers()}
    others = {name: "1" for name in named - readable if name not in ("MCP_H11_PORT",)}
    options = {option.variable for option in serving.OPTIONS}
    assert warned(capsys, monkeypatch, **{name: value for name, value in others.items() if name not in options}) == []


def test_a_secret_in_an_unknown_variable_is_not_shown(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (said,) = warned(capsys, monkeypatch, MCP_H11_TOKN="s3cret")
    assert "s3cret" not in said and said.endswith("did you mean MCP_H11_TOKEN?")
