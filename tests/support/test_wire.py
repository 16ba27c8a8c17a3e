# SPDX-License-Identifier: MIT
"""The judge can be trusted: it lets good messages of each revision pass, and it fails bad ones for the right reason."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import wire
from wire import ALL, A, B, C, D, E

pytestmark = pytest.mark.usefixtures("schemas")

LEGACY = (A, B, C, D)
TEXT = {"type": "text", "text": "t"}
TOOL = {"name": "n", "inputSchema": {"type": "object", "properties": {"a": {"type": "string"}}, "x": {}}}
CACHE = {"ttlMs": 0, "cacheScope": "private"}
INFO = {"name": "s", "version": "1"}
SUBSCRIBED = {"_meta": {wire.SUBSCRIPTION_ID: 7}}


def result(revision: str, **members: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 1, "result": {"resultType": "complete", **members} if revision == E else members}


def error(code: int, data: Any = None, **members: Any) -> dict[str, Any]:
    body = {"code": code, "message": "m"} if data is None else {"code": code, "message": "m", "data": data}
    return {"jsonrpc": "2.0", "id": 1, "error": body, **members}


def note(method: str, params: Any = None) -> dict[str, Any]:
    message = {"jsonrpc": "2.0", "method": f"notifications/{method}"}
    return message if params is None else {**message, "params": params}


def ask(method: str, params: Any = None) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": "s1", "method": method, **({} if params is None else {"params": params})}


def cacheable(revision: str, **members: Any) -> dict[str, Any]:
    return result(revision, **members, **(CACHE if revision == E else {}))


def initialized(revision: str, **members: Any) -> dict[str, Any]:
    return result(revision, protocolVersion=revision, capabilities={"tools": {}}, serverInfo=INFO, **members)


Case = tuple[str, "str | None", Any]  # revision, in reply to, message

GOOD: list[Case] = [
    *((r, "initialize", initialized(r)) for r in LEGACY),
    *((r, "initialize", initialized(r, instructions="i", _meta={"a": 1})) for r in LEGACY),
    *((r, "ping", result(r)) for r in LEGACY),
    *((r, "ping", result(r, _meta={"a": 1})) for r in LEGACY),
    *((r, "logging/setLevel", result(r)) for r in LEGACY),
    *((r, "tools/list", cacheable(r, tools=[TOOL], nextCursor="")) for r in ALL),
    *((r, "tools/call", result(r, content=[TEXT], isError=True)) for r in ALL),
    *((r, "tools/call", result(r, content=[{"type": "image", "data": "AA==", "mimeType": "i/p"}])) for r in ALL),
    *((r, "tools/call", result(r, content=[{"type": "audio", "data": "", "mimeType": "a/w"}])) for r in (B, C, D, E)),
    *((r, "tools/call", result(r, content=[], structuredContent={"a": None})) for r in (C, D, E)),
    *((r, "tools/call", result(r, content=[{"type": "resource_link", "uri": "x:1", "name": "n"}])) for r in (C, D, E)),
    (E, "tools/call", result(E, content=[], structuredContent=[1.5, None])),
    *((r, "resources/list", cacheable(r, resources=[{"uri": "x://1", "name": "n", "size": 1}])) for r in ALL),
    *((r, "resources/templates/list", cacheable(r, resourceTemplates=[])) for r in ALL),
    *((r, "resources/read", cacheable(r, contents=[{"uri": "x://1", "blob": "AAAA"}])) for r in ALL),
    *((r, "prompts/list", cacheable(r, prompts=[{"name": "n", "arguments": [{"name": "a"}]}])) for r in ALL),
    *((r, "prompts/get", result(r, messages=[{"role": "user", "content": TEXT}])) for r in ALL),
    *((r, "completion/complete", result(r, completion={"values": ["a"] * 100, "total": 200})) for r in ALL),
    *((r, "example/custom", result(r, anything={"goes": 1})) for r in ALL),
    *((r, None, result(r, anything={"goes": 1})) for r in ALL),
    (E, "server/discover", cacheable(E, supportedVersions=[E], capabilities={"experimental": {"x": {"y": 0.5}}})),
    *((r, "initialize", result(r, protocolVersion=r, capabilities={"extensions": {"x/y": {}}}, serverInfo=INFO))
      for r in LEGACY),
    (E, "server/discover", cacheable(E, supportedVersions=[E], capabilities={"extensions": {"x": {"y": None}}})),
    (E, "tools/call", result(E, content=[], _meta={"io.modelcontextprotocol/serverInfo": INFO})),
    (E, "subscriptions/listen", result(E, **SUBSCRIBED)),
    (E, "tools/call", result(E, resultType="input_required", requestState="s")),
    (E, "prompts/get", result(E, resultType="input_required", inputRequests={"a": {"method": "roots/list"}})),
    (E, "tools/call", result(E, resultType="task", taskId="1", status="working")),
    (D, "tasks/list", result(D, tasks=[])),
    *((r, "tools/call", error(-32603)) for r in ALL),
    *((r, "tools/call", error(-32602, {"any": ["data"]})) for r in ALL),
    *((r, None, {k: v for k, v in error(-32700).items() if k != "id"}) for r in ALL),
    *((r, "resources/read", error(-32002, {"uri": "x://1"})) for r in LEGACY),
    *((r, "no/such", error(-32601)) for r in ALL),
    *((r, "tools/call", error(-31999)) for r in ALL),
    (D, "tools/call", error(-32042, {"elicitations": [
        {"mode": "url", "elicitationId": "1", "url": "https://e.example", "message": "m"}]})),
    (E, "tools/list", error(-32020)),
    (E, "tools/list", error(-32021, {"requiredCapabilities": {"elicitation": {"form": {}}}})),
    (E, "tools/list", error(-32022, {"supported": [E, D], "requested": "v999.0.0"})),
    *((r, "tools/call", note("progress", {"progressToken": "t", "progress": 0.5, "total": 2})) for r in ALL),
    *((r, "tools/call", note("progress", {"progressToken": 0, "progress": 1, "message": "m"})) for r in (B, C, D, E)),
    *((r, "tools/call", note("message", {"level": "info", "data": [1], "logger": "l"})) for r in ALL),
    *((r, None, note("tools/list_changed")) for r in ALL),
    *((r, None, note("prompts/list_changed", {"_meta": {}})) for r in ALL),
    *((r, None, note("resources/updated", {"uri": "x://1"})) for r in ALL),
    *((r, None, note("resources/updated", {"uri": "x://1", "_meta": {"a": 1}})) for r in ALL),
    *((r, None, note("example/mine", {"a": 1})) for r in ALL),
    (D, None, note("elicitation/complete", {"elicitationId": "1"})),
    (E, "subscriptions/listen", note("subscriptions/acknowledged", {"notifications": {}, **SUBSCRIBED})),
    (E, "subscriptions/listen", note("resources/updated", {"uri": "x://1", **SUBSCRIBED})),
    *((r, None, ask("ping")) for r in LEGACY),
    *((r, None, ask("roots/list", {})) for r in LEGACY),
    *((r, None, ask("sampling/createMessage", {"messages": [], "maxTokens": 1, "_meta": {"progressToken": 1}}))
      for r in LEGACY),
    *((r, None, ask("elicitation/create", {"message": "m", "requestedSchema": {
        "type": "object", "properties": {"a": {"type": "string", "enum": ["x"], "enumNames": ["X"]}}}}))
      for r in (C, D)),
]  # fmt: skip

BAD: list[tuple[str, str | None, Any, str]] = [
    # the envelope
    *((r, None, [result(r)], "a message is an object, not list") for r in ALL),
    *((r, "ping", {"jsonrpc": "1.0", "id": 1, "result": {}}, r"\$.jsonrpc: '2.0' was expected") for r in LEGACY),
    *((r, "ping", {"id": 1, "result": {}}, "'jsonrpc' is a required") for r in LEGACY),
    *((r, "tools/call", {**result(r, content=[]), "id": None}, r"\$.id: None") for r in ALL),
    *((r, "tools/call", {**result(r, content=[]), "id": 1.5}, r"\$.id: 1.5") for r in ALL),
    *((r, "tools/call", {"jsonrpc": "2.0", "result": result(r, content=[])["result"]}, "'id' is a req") for r in ALL),
    *((r, "tools/call", {**result(r, content=[]), "error": {"code": 1, "message": "m"}}, "'result'") for r in ALL),
    *((r, "tools/call", {**result(r, content=[]), "extra": 1}, "'extra' was unexpected") for r in ALL),
    *((r, None, {"jsonrpc": "2.0", "id": 1}, "'result' is a required") for r in ALL),
    *((r, None, {"jsonrpc": "2.0", "id": 1, "result": []}, r"\$.result: \[\]") for r in ALL),
    # errors
    *((r, None, error(-32700, id=None), r"\$.id: None") for r in ALL),
    *((r, None, {"jsonrpc": "2.0", "id": 1, "error": {"code": "x", "message": "m"}}, r"\$.error.code") for r in ALL),
    *((r, None, {"jsonrpc": "2.0", "id": 1, "error": {"code": 1}}, "'message' is a required") for r in ALL),
    *((r, None, {"jsonrpc": "2.0", "id": 1, "error": {"code": 1, "message": "m", "x": 1}}, "'x'") for r in ALL),
    *((r, "tools/call", error(-32042), "has no -32042") for r in (A, B, C, E)),
    (D, "tools/call", error(-32042, {"elicitations": [{"mode": "url"}]}), "'url' is a required"),
    (E, "resources/read", error(-32002, {"uri": "x://1"}), "has no -32002"),
    (E, "tools/call", error(-32099), "has no -32099"),
    (E, "tools/call", error(-32021), "'data' is a required"),
    (E, "tools/call", error(-32021, {"requiredCapabilities": ["sampling"]}), "requiredCapabilities"),
    (E, "tools/call", error(-32022, {"supported": [E]}), "'requested' is a required"),
    (E, "tools/call", {k: v for k, v in error(-32603).items() if k != "id"}, "without the id"),
    # members that came later, or went
    *((r, "tools/list", cacheable(r, tools=[{**TOOL, "icons": []}]), "'icons' was unexpected") for r in (A, B, C)),
    *((r, "tools/list", cacheable(r, tools=[{**TOOL, "title": "T"}]), "'title' was unexpected") for r in (A, B)),
    *((r, "tools/list", cacheable(r, tools=[{**TOOL, "_meta": {}}]), "'_meta' was unexpected") for r in (A, B)),
    *((r, "tools/list", cacheable(r, tools=[{**TOOL, "execution": {}}]), "'execution' was unex") for r in (A, B, C, E)),
    *((r, "tools/list", cacheable(r, tools=[{**TOOL, "made_up": 1}]), "'made_up' was unexpected") for r in ALL),
    (A, "tools/list", cacheable(A, tools=[{**TOOL, "annotations": {}}]), "'annotations' was unexpected"),
    *((r, "tools/list", cacheable(r, tools=[{**TOOL, "annotations": {"hint": 1}}]), "'hint'") for r in (B, C, D, E)),
    *((r, "tools/list", cacheable(r, tools=[{**TOOL, "outputSchema": {"type": "array"}}]), "outputSchema")
      for r in (A, B, C, D)),
    *((r, "tools/list", cacheable(r, tools=[{"name": "n"}]), "'inputSchema' is a required") for r in ALL),
    *((r, "tools/list", cacheable(r, tools=[{"name": "n", "inputSchema": {}}]), "'type' is a required") for r in ALL),
    *((r, "tools/list", cacheable(r, tools=[TOOL], x=1), "'x' was unexpected") for r in ALL),
    *((r, "tools/list", cacheable(r, tools=[TOOL], nextCursor=None), "nextCursor: None") for r in ALL),
    *((r, "tools/list", {**result(r, tools=[], ttlMs=0)}, "'ttlMs' was unexpected") for r in LEGACY),
    *((r, "resources/list", cacheable(r, resources=[{"uri": "x:1", "name": "n", "y": 1}]), "'y'") for r in ALL),
    *((r, "resources/list", cacheable(r, resources=[{"uri": "no uri", "name": "n"}]), "not a 'uri'") for r in ALL),
    *((r, "resources/list", cacheable(r, resources=[{"uri": "x:1", "name": "n", "annotations": {"lastModified": ""}}]),
       "'lastModified' was unexpected") for r in (A, B)),
    *((r, "resources/templates/list", cacheable(r, resourceTemplates=[{"uriTemplate": "x", "name": "n", "size": 1}]),
       "'size' was unexpected") for r in ALL),
    *((r, "resources/read", cacheable(r, contents=[{"uri": "x://1"}]), "is a required") for r in ALL),
    *((r, "resources/read", cacheable(r, contents=[{"uri": "x://1", "blob": "a b"}]), "not a 'byte'") for r in ALL),
    *((r, "resources/read", cacheable(r, contents=[{"uri": "x:1", "text": "", "_meta": {}}]), "'_me") for r in (A, B)),
    *((r, "prompts/list", cacheable(r, prompts=[{"name": "n", "arguments": [{"name": "a", "icons": []}]}]), "'icons'")
      for r in ALL),
    *((r, "prompts/get", result(r, messages=[{"role": "system", "content": TEXT}]), "'system'") for r in ALL),
    *((r, "prompts/get", result(r, messages=[{"role": "user", "content": [TEXT]}]), "type 'object'") for r in ALL),
    *((r, "tools/call", result(r, content=[{**TEXT, "x": 1}]), r"content\[0\].*'x' was unexpected") for r in ALL),
    *((r, "tools/call", result(r, content=[{**TEXT, "_meta": {}}]), "'_meta' was unexpected") for r in (A, B)),
    *((r, "tools/call", result(r, content=[{"type": "zzz"}]), "type: '.*' was expected") for r in ALL),
    *((r, "tools/call", result(r, content=[{"type": "image", "data": "AA", "mimeType": "i/p"}]), "byte'") for r in ALL),
    *((r, "tools/call", result(r), "'content' is a required") for r in ALL),
    (A, "tools/call", result(A, content=[{"type": "audio", "data": "", "mimeType": "a/w"}]), "type: '.*' was expected"),
    *((r, "tools/call", result(r, content=[], structuredContent={}), "'structuredContent' was un") for r in (A, B)),
    *((r, "tools/call", result(r, content=[], structuredContent=[]), "not of type 'object'") for r in (C, D)),
    *((r, "tools/call", result(r, content=[], resultType="complete"), "'resultType' was unexpected") for r in LEGACY),
    *((r, "completion/complete", result(r, completion={"values": ["a"] * 101}), "too long") for r in ALL),
    *((r, "initialize", initialized(r, resultType="complete"), "'resultType' was unexpected") for r in LEGACY),
    *((r, "initialize", {**initialized(r), "result": {**initialized(r)["result"], "serverInfo": {**INFO, "icons": []}}},
       "'icons' was unexpected") for r in (A, B, C)),
    *((r, "initialize", result(r, protocolVersion=r, capabilities={"extensions": 5}, serverInfo=INFO), "'object'")
      for r in LEGACY),
    (A, "initialize", result(A, protocolVersion=A, capabilities={"completions": {}}, serverInfo=INFO), "'completions'"),
    (E, "server/discover", cacheable(E, supportedVersions=[E], capabilities={"tasks": {}}), "'tasks' was unexpected"),
    *((r, m, result(r, x=1), "'x' was unexpected")
      for r in LEGACY for m in ("ping", "logging/setLevel", "resources/subscribe", "resources/unsubscribe")),
    # methods that the revision does not have
    (E, "initialize", initialized(E), "has no initialize"),
    *((E, m, result(E), f"has no {m}") for m in ("ping", "logging/setLevel", "resources/subscribe")),
    *((r, "server/discover", result(r, supportedVersions=[E], capabilities={}), "has no server/disc") for r in LEGACY),
    *((r, "subscriptions/listen", result(r), "has no subscriptions/listen") for r in LEGACY),
    # 2026-07-28 results
    (E, "tools/list", {"jsonrpc": "2.0", "id": 1, "result": {"tools": [], **CACHE}}, "'resultType' is a required"),
    (E, "tools/call", result(E, resultType="done", content=[]), "resultType: 'done' is none"),
    (E, "prompts/get", result(E, resultType="task", messages=[]), "resultType: 'task' is none"),
    *((E, m, result(E, **{k: []}), "'ttlMs' is a required") for m, k in [
        ("tools/list", "tools"), ("resources/list", "resources"), ("prompts/list", "prompts"),
        ("resources/templates/list", "resourceTemplates"), ("resources/read", "contents")]),
    (E, "tools/list", result(E, tools=[], ttlMs=-1, cacheScope="public"), "-1 is less than the minimum"),
    (E, "tools/list", result(E, tools=[], ttlMs=1, cacheScope="shared"), "'shared' is not one of"),
    (E, "tools/call", result(E, content=[], **CACHE), "'cacheScope', 'ttlMs' were unexpected"),
    (E, "tools/call", result(E, content=[], _meta={"io.modelcontextprotocol/serverInfo": {}}), "'name' is a required"),
    (E, "tools/call", result(E, resultType="input_required"), "without inputRequests and requestState"),
    (E, "tools/list", result(E, resultType="input_required", requestState="s"), "tools/list may not answer"),
    (E, "tools/call", result(E, resultType="input_required", requestState="s", ttlMs=0), "'ttlMs' was unexpected"),
    (E, "tools/call", result(E, resultType="input_required", inputRequests={"a": ask("roots/list")}), "'id', 'json"),
    (E, "tools/call", result(E, resultType="input_required", inputRequests={"a": {"method": "ping"}}), "method"),
    (E, "subscriptions/listen", result(E), "'_meta' is a required"),
    # notifications
    (A, None, note("progress", {"progressToken": 1, "progress": 1, "message": "m"}), "'message' was unexpected"),
    *((r, None, note("progress", {"progress": 1}), "'progressToken' is a required") for r in ALL),
    *((r, None, note("message", {"level": "loud", "data": 1}), "'loud' is not one of") for r in ALL),
    *((r, None, note("message", {"level": "info"}), "'data' is a required") for r in ALL),
    *((r, None, note("resources/updated", {"uri": "x:1", "title": "t"}), "'title' was unexpected") for r in ALL),
    *((r, None, note("tools/list_changed", []), r"\$.params: \[\]") for r in ALL),
    *((r, None, {**note("tools/list_changed"), "x": 1}, "'x' was unexpected") for r in ALL),
    *((r, None, note("initialized"), "has no notifications/initialized from") for r in ALL),
    *((r, None, note("elicitation/complete", {"elicitationId": "1"}), "has no notif") for r in (A, B, C, E)),
    *((r, None, note("subscriptions/acknowledged", {"notifications": {}}), "has no notif") for r in LEGACY),
    (E, "subscriptions/listen", note("tools/list_changed"), "on a listen stream without"),
    (E, "subscriptions/listen", note("message", {"level": "info", "data": 1, **SUBSCRIBED}), "on a listen stream$"),
    (E, "tools/call", note("tools/list_changed"), "on the stream of tools/call"),
    # requests
    *((E, None, ask(m), f"has no {m} from server") for m in ("ping", "roots/list", "sampling/createMessage")),
    *((r, None, ask("elicitation/create"), "has no elicitation/create from server") for r in (A, B)),
    *((r, None, ask("tools/list"), "has no tools/list from server") for r in ALL),
    *((r, None, {**ask("ping"), "id": None}, r"\$.id: None") for r in LEGACY),
    *((r, None, ask("sampling/createMessage", {"messages": []}), "'maxTokens' is a required") for r in LEGACY),
    *((r, None, ask("sampling/createMessage", {"messages": [], "maxTokens": 1, "tools": []}), "'tools' was unexpected")
      for r in (A, B, C)),
    (C, None, ask("elicitation/create", {"mode": "form", "message": "m", "requestedSchema": {
        "type": "object", "properties": {}}}), "'mode' was unexpected"),
    (C, None, ask("elicitation/create", {"message": "m", "requestedSchema": {
        "type": "object", "properties": {"a": {"type": "string", "default": "x"}}}}), "'default' was unexpected"),
    (D, None, ask("elicitation/create", {"mode": "url", "message": "m", "url": "https://e.example"}),
     "'elicitationId' is a required"),
]  # fmt: skip


# What the models of mcp-types leave out of the schema: formats, and what the `_meta` of a result holds.
UNSEEN = ("not a 'uri'", "not a 'byte'", "byte'", "'name' is a required")


@pytest.mark.parametrize(("revision", "in_reply_to", "message"), GOOD)
def test_a_good_message_passes(revision: str, in_reply_to: str | None, message: Any) -> None:
    wire.check_message(revision, message, in_reply_to=in_reply_to)


@pytest.mark.parametrize(("revision", "in_reply_to", "message", "reason"), BAD)
def test_a_bad_message_is_refused_for_the_right_reason(
    revision: str, in_reply_to: str | None, message: Any, reason: str
) -> None:
    if wire.published(revision) is None and reason in UNSEEN:
        pytest.skip("the models of mcp-types do not see this")
    with pytest.raises(wire.WireError, match=f"(?m){reason}"):
        wire.check_message(revision, message, in_reply_to=in_reply_to)


def test_each_definition_that_a_method_is_judged_by_exists_and_every_method_has_one() -> None:
    for revision in ALL:
        judge = wire.validator(revision)
        assert len(judge.methods) >= 10
        for method in judge.methods:
            assert judge.definition(wire.RESULTS.get(method, "Result"), 1), method  # unknown definitions raise


# -- streams --


def progress(value: float, token: Any = 1) -> dict[str, Any]:
    return note("progress", {"progressToken": token, "progress": value})


@pytest.mark.parametrize("revision", ALL)
def test_a_stream_is_notifications_and_then_one_answer(revision: str) -> None:
    answer = result(revision, content=[])
    stream = [progress(0), progress(0, "1"), progress(1), note("message", {"level": "info", "data": 1})]
    wire.check_stream(revision, [], in_reply_to="tools/call")
    wire.check_stream(revision, stream, in_reply_to="tools/call")
    wire.check_stream(revision, [*stream, answer], in_reply_to="tools/call")
    for late in (progress(2), answer):
        with pytest.raises(wire.WireError, match="messages after the answer"):
            wire.check_stream(revision, [*stream, answer, late], in_reply_to="tools/call")
    with pytest.raises(wire.WireError, match="'content' is a required"):
        wire.check_stream(revision, [*stream, result(revision)], in_reply_to="tools/call")


@pytest.mark.parametrize("revision", ALL)
def test_progress_that_does_not_increase_is_refused(revision: str) -> None:
    with pytest.raises(wire.WireError, match="progress 1 after 1 for the token 1"):
        wire.check_stream(revision, [progress(1), progress(1)])


def test_a_listen_stream_begins_with_its_acknowledgement() -> None:
    acknowledged = note("subscriptions/acknowledged", {"notifications": {}, **SUBSCRIBED})
    changed = note("tools/list_changed", SUBSCRIBED)
    end = result(E, **SUBSCRIBED)
    wire.check_stream(E, [acknowledged, changed, end], in_reply_to="subscriptions/listen")
    wire.check_stream(E, [error(-32602)], in_reply_to="subscriptions/listen")
    with pytest.raises(wire.WireError, match="begins with notifications/tools/list_changed"):
        wire.check_stream(E, [changed, acknowledged], in_reply_to="subscriptions/listen")


# -- without the published schemas --


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv(wire.VARIABLE, str(tmp_path))
    return tmp_path


def test_the_directory_is_the_one_that_the_environment_names(elsewhere: Path) -> None:
    (elsewhere / f"{A}.json").write_text('{"definitions": {}}')
    assert wire.load_schema(A) == {"definitions": {}}


@pytest.mark.parametrize("revision", (D, E))
def test_the_models_of_mcp_types_stand_in_for_the_schema(elsewhere: Path, revision: str) -> None:
    pytest.importorskip("mcp_types")
    judge = wire.Validator(revision)
    for name, in_reply_to, message in GOOD:
        if name == revision:
            assert judge.problems(message, in_reply_to) == []
    mine = [(message, in_reply_to, why) for name, in_reply_to, message, why in BAD if name == revision]
    assert [m for m, in_reply_to, why in mine if not judge.problems(m, in_reply_to) and why not in UNSEEN] == []


def test_where_there_is_neither_it_is_said_and_never_passed_over(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "validator", wire.Validator)
    with pytest.raises(wire.Unavailable, match=f"no {A}.json in .*set {wire.VARIABLE}"):
        wire.check_message(A, {})
    assert f"no {A}.json in " in wire.unavailable()[A]
    with warnings.catch_warnings(record=True) as seen:
        assert wire.checked(A, {}) is False
    assert [w.category for w in seen] == [wire.SchemaUnavailable]
    assert f"messages of {A} go by unchecked" in str(seen[0].message)


def test_a_helper_that_checks_where_it_can_does_check() -> None:
    assert wire.checked(D, result(D), in_reply_to="ping") is True
    with pytest.raises(wire.WireError):
        wire.checked(D, result(D, x=1), in_reply_to="ping")
