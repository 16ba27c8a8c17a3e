# SPDX-License-Identifier: MIT
"""Results lose the members that a revision does not have, and keep all others; the input is never changed."""

from __future__ import annotations

import copy
import json
from typing import Any

import jsonschema
import pytest
import wire
from wire import ALL, A, B, C, D, E

from mcp_h11.eras.downgrade import client_request, notification_params, server_fields
from mcp_h11.protocol.revisions import REVISIONS

ICONS = [{"src": "https://example.com/i.png", "mimeType": "image/png", "sizes": ["48x48"], "theme": "dark"}]
ANNOTATIONS = {"audience": ["user"], "priority": 0.5, "lastModified": "2025-01-12T15:00:58Z"}
META = {"example.com/key": 1}
CACHE = {"ttlMs": 0, "cacheScope": "private"}
SERVER_META = {"io.modelcontextprotocol/serverInfo": {"name": "s", "version": "1"}}
DONE: dict[str, Any] = {"resultType": "complete", "_meta": SERVER_META}
NAMED = {"name": "n", "title": "N", "description": "d", "icons": ICONS, "_meta": META}

TEXT = {"type": "text", "text": "t", "annotations": ANNOTATIONS, "_meta": META}
IMAGE = {"type": "image", "data": "AAAA", "mimeType": "image/png", "annotations": ANNOTATIONS, "_meta": META}
AUDIO = {"type": "audio", "data": "AAAA", "mimeType": "audio/wav", "annotations": ANNOTATIONS, "_meta": META}
LINK = {
    "type": "resource_link",
    "uri": "x://1",
    "mimeType": "text/plain",
    "size": 3,
    "annotations": ANNOTATIONS,
    **NAMED,
}
CONTENTS = {"uri": "x://1", "mimeType": "text/plain", "text": "t", "_meta": META}
BLOB = {"uri": "x://2", "mimeType": "image/png", "blob": "AAAA", "_meta": META}
EMBEDDED = {"type": "resource", "resource": CONTENTS, "annotations": ANNOTATIONS, "_meta": META}
BLOCKS = [TEXT, IMAGE, AUDIO, LINK, EMBEDDED]

TOOL = {
    "inputSchema": {"type": "object", "properties": {"a": {"type": "string"}}, "additionalProperties": False},
    "outputSchema": {"type": "array", "items": {"type": "integer"}},
    "annotations": {"title": "N", "readOnlyHint": True},
    "execution": {"taskSupport": "optional"},
    **NAMED,
}
CAPABILITIES = {
    "completions": {},
    "experimental": {"e": {}},
    "extensions": {"example.com/x": {}},
    "logging": {},
    "prompts": {"listChanged": True},
    "resources": {"listChanged": True, "subscribe": True},
    "tasks": {"list": {}},
    "tools": {"listChanged": True},
}
INFO = {
    "name": "s",
    "version": "1",
    "title": "S",
    "description": "d",
    "icons": ICONS,
    "websiteUrl": "https://e.example",
}

# Every member that any revision has, at once.
RICH: dict[str, dict[str, Any]] = {
    "initialize": {"capabilities": CAPABILITIES, "serverInfo": INFO, "instructions": "i", **DONE},
    "server/discover": {"capabilities": CAPABILITIES, "supportedVersions": [E], "instructions": "i", **CACHE, **DONE},
    "tools/list": {
        "tools": [TOOL, {"name": "m", "inputSchema": {"type": "object"}}],
        "nextCursor": "c",
        **CACHE,
        **DONE,
    },
    "tools/call": {"content": BLOCKS, "structuredContent": [1, 2], "isError": False, **DONE},
    "resources/list": {
        "resources": [{"uri": "x://1", "mimeType": "text/plain", "size": 3, "annotations": ANNOTATIONS, **NAMED}],
        **CACHE,
        **DONE,
    },
    "resources/templates/list": {
        "resourceTemplates": [{"uriTemplate": "x://{a}", "mimeType": "t/p", "annotations": ANNOTATIONS, **NAMED}],
        **CACHE,
        **DONE,
    },
    "resources/read": {"contents": [CONTENTS, BLOB], **CACHE, **DONE},
    "prompts/list": {
        "prompts": [
            {"arguments": [{"name": "a", "title": "A", "description": "d", "required": True}], **NAMED},
            {"name": "bare"},
        ],
        **CACHE,
        **DONE,
    },
    "prompts/get": {"description": "d", "messages": [{"role": "user", "content": b} for b in BLOCKS], **DONE},
    "completion/complete": {"completion": {"values": ["a"], "total": 1, "hasMore": False}, **DONE},
    "ping": dict(DONE),
    "logging/setLevel": dict(DONE),
    "resources/subscribe": dict(DONE),
    "resources/unsubscribe": dict(DONE),
    "subscriptions/listen": {"resultType": "complete", "_meta": {wire.SUBSCRIPTION_ID: 1}},
}
ABSENT = {
    **dict.fromkeys((A, B, C, D), ("server/discover", "subscriptions/listen")),
    E: ("initialize", "ping", "logging/setLevel", "resources/subscribe", "resources/unsubscribe"),
}
PAIRS = [(revision, method) for revision in ALL for method in RICH if method not in ABSENT[revision]]


def cut(revision: str, method: str, result: dict[str, Any]) -> dict[str, Any]:
    before = copy.deepcopy(result)
    changed = server_fields(REVISIONS[revision], method, result)
    assert result == before, "the input was changed"
    return changed


@pytest.mark.usefixtures("schemas")
@pytest.mark.parametrize(("revision", "method"), PAIRS)
def test_a_result_with_every_member_is_cut_to_what_the_revision_has(revision: str, method: str) -> None:
    result = cut(revision, method, RICH[method])
    if method == "initialize":
        result = {"protocolVersion": revision, **result}
    wire.check_message(revision, {"jsonrpc": "2.0", "id": 1, "result": result}, in_reply_to=method)


@pytest.mark.parametrize(("revision", "method"), PAIRS)
def test_cutting_twice_is_cutting_once_and_the_second_time_is_the_same_object(revision: str, method: str) -> None:
    once = cut(revision, method, RICH[method])
    assert cut(revision, method, once) is once


# The members that are left for each revision.  The schema check does not notice that too many are removed.
KEPT: list[tuple[str, str, list[Any], dict[str, set[str]]]] = [
    (
        "tools/list",
        "tool",
        ["tools", 0],
        {
            A: {"name", "description", "inputSchema"},
            B: {"name", "description", "inputSchema", "annotations"},
            C: {"name", "description", "inputSchema", "annotations", "title", "_meta", "outputSchema"},
            D: set(TOOL),
            E: set(TOOL) - {"execution"},
        },
    ),
    (
        "resources/list",
        "resource",
        ["resources", 0],
        {
            A: {"uri", "name", "description", "mimeType", "size", "annotations"},
            B: {"uri", "name", "description", "mimeType", "size", "annotations"},
            C: {"uri", "name", "description", "mimeType", "size", "annotations", "title", "_meta"},
            D: {"uri", "name", "description", "mimeType", "size", "annotations", "title", "_meta", "icons"},
            E: {"uri", "name", "description", "mimeType", "size", "annotations", "title", "_meta", "icons"},
        },
    ),
    (
        "prompts/list",
        "argument",
        ["prompts", 0, "arguments", 0],
        {A: {"name", "description", "required"}, B: {"name", "description", "required"}}
        | dict.fromkeys((C, D, E), {"name", "title", "description", "required"}),
    ),
    (
        "initialize",
        "implementation",
        ["serverInfo"],
        {A: {"name", "version"}, B: {"name", "version"}, C: {"name", "version", "title"}, D: set(INFO)},
    ),
    (
        "initialize",
        "capabilities",
        ["capabilities"],
        {
            # Extensions are announced in each revision: SEP-2133 and SEP-1865 show them in an `initialize` of 2024.
            A: set(CAPABILITIES) - {"completions", "tasks"},
            B: set(CAPABILITIES) - {"tasks"},
            C: set(CAPABILITIES) - {"tasks"},
            D: set(CAPABILITIES),
        },
    ),
    ("server/discover", "capabilities", ["capabilities"], {E: set(CAPABILITIES) - {"tasks"}}),
    (
        "tools/call",
        "link annotations",
        ["content", 3, "annotations"],
        dict.fromkeys((A, B), {"audience", "priority"}) | dict.fromkeys((C, D, E), set(ANNOTATIONS)),
    ),
    (
        "tools/call",
        "result",
        [],
        {
            **dict.fromkeys((A, B), {"content", "isError", "_meta"}),
            **dict.fromkeys((C, D), {"content", "isError", "_meta", "structuredContent"}),
            E: {"content", "isError", "_meta", "structuredContent", "resultType"},
        },
    ),
    ("resources/read", "contents", ["contents", 0], {B: {"uri", "mimeType", "text"}, C: set(CONTENTS)}),
]


@pytest.mark.parametrize(
    ("method", "path", "revision", "kept"),
    [pytest.param(m, path, r, kept, id=f"{what}-{r}") for m, what, path, by in KEPT for r, kept in by.items()],
)
def test_no_more_is_left_out_than_the_revision_lacks(
    method: str, path: list[Any], revision: str, kept: set[str]
) -> None:
    value: Any = cut(revision, method, RICH[method])
    for step in path:
        value = value[step]
    assert set(value) == kept


PLAIN_CALL = {"content": [{"type": "text", "text": "t"}], "structuredContent": {"a": 1}}


@pytest.mark.parametrize("revision", (C, D, E))
def test_a_plain_call_result_comes_back_as_the_same_object(revision: str) -> None:
    assert server_fields(REVISIONS[revision], "tools/call", PLAIN_CALL) is PLAIN_CALL


@pytest.mark.parametrize("revision", (D, E))
def test_the_newest_revisions_do_not_look_into_content(revision: str) -> None:
    class Unread(list[Any]):
        def __iter__(self) -> Any:
            raise AssertionError("content was read")

    result = {"content": Unread([TEXT])}
    assert server_fields(REVISIONS[revision], "tools/call", result) is result


def test_what_no_revision_knows_is_the_authors_and_stays() -> None:
    tools = {"tools": [{"name": "n", "inputSchema": {"type": "object"}, "x-mine": 1}]}
    blocks = {"content": [{"type": "x-mine", "icons": 1}]}
    assert cut(A, "tools/list", tools) is tools
    assert cut(A, "tools/call", blocks) is blocks


def test_the_result_of_an_unknown_method_loses_only_its_result_type() -> None:
    result = {"resultType": "complete", "ttlMs": 5, "requestState": "mine", "tools": [{"title": "mine"}]}
    assert cut(A, "example/get", result) == {"ttlMs": 5, "requestState": "mine", "tools": [{"title": "mine"}]}
    assert cut(E, "example/get", result) is result


def test_input_rounds_never_reach_a_legacy_client() -> None:
    asked = {"resultType": "input_required", "inputRequests": {}, "requestState": "s"}
    for revision in (A, B, C, D):
        assert cut(revision, "tools/call", asked) == {}
    assert cut(E, "tools/call", asked) is asked


@pytest.mark.parametrize("broken", [None, 1, "x", [1, None], {}])
@pytest.mark.parametrize("revision", ALL)
def test_results_of_the_wrong_shape_are_passed_on_unjudged(revision: str, broken: Any) -> None:
    for method, key in [
        ("tools/list", "tools"),
        ("tools/call", "content"),
        ("prompts/list", "prompts"),
        ("prompts/get", "messages"),
        ("resources/read", "contents"),
        ("initialize", "capabilities"),
    ]:
        result = {key: broken}
        assert cut(revision, method, result) is result


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("elicitation/create", {"message": "m"}),
        ("elicitation/create", {"message": "m", "requestedSchema": {}}),
        ("elicitation/create", {"message": "m", "requestedSchema": {"properties": {"a": True}}}),
        ("sampling/createMessage", {"maxTokens": 1}),
        ("sampling/createMessage", {"messages": [1, {"content": "x"}]}),
    ],
)
def test_questions_of_the_wrong_shape_are_passed_on_unjudged(method: str, params: dict[str, Any]) -> None:
    assert asked(C, method, params) is params


# -- content --


def test_audio_is_said_in_words_where_there_is_none() -> None:
    audio = {"type": "audio", "data": "A" * 1234, "mimeType": "audio/wav", "annotations": ANNOTATIONS}
    text = {
        "type": "text",
        "text": "[audio/wav, 1234 bytes of base64]",
        "annotations": {"audience": ["user"], "priority": 0.5},
    }
    assert cut(A, "tools/call", {"content": [audio]}) == {"content": [text]}
    assert cut(A, "prompts/get", {"messages": [{"role": "user", "content": audio}]})["messages"][0]["content"] == text


@pytest.mark.parametrize("revision", (A, B))
def test_a_resource_link_is_said_in_words_where_there_is_none(revision: str) -> None:
    link = {"type": "resource_link", "uri": "file:///a.txt", "name": "a.txt", "title": "A"}
    assert cut(revision, "tools/call", {"content": [link]})["content"] == [
        {"type": "text", "text": "[resource a.txt: file:///a.txt]"}
    ]


@pytest.mark.parametrize("revision", (A, B))
def test_structured_content_alone_becomes_text_where_it_cannot_be_sent(revision: str) -> None:
    result = cut(revision, "tools/call", {"content": [], "structuredContent": {"ü": [1]}})
    assert result == {"content": [{"type": "text", "text": '{"ü": [1]}'}]}


@pytest.mark.parametrize("revision", (A, B))
def test_structured_content_beside_text_is_just_left_out(revision: str) -> None:
    assert cut(revision, "tools/call", PLAIN_CALL) == {"content": PLAIN_CALL["content"]}


# -- output schemas and their values --

TREE = {
    "type": ["array", "null"],
    "items": {"$ref": "#"},
    "$schema": "https://json-schema.org/draft/2020-12/schema",
}
SCHEMAS: list[tuple[dict[str, Any], list[Any], list[Any]]] = [
    # schema, values it admits, values it refuses (none where a wrapped object looks like one that is not wrapped)
    ({"type": "array", "items": {"type": "integer"}}, [[], [1]], [["x"], 1]),
    ({"type": "string"}, ["", "x"], [1, None]),
    ({"const": None}, [None], [0]),
    ({"enum": ["a", 1]}, ["a", 1], ["b"]),
    ({"anyOf": [{"type": "string"}, {"type": "null"}]}, ["x", None], [1]),
    ({"anyOf": [{"type": "string"}, {"type": "object", "required": ["a"]}]}, ["x", {"a": 1}], [1, {"b": 1}]),
    ({"oneOf": [True]}, [1, {"a": 1}, None], []),
    ({"enum": [{"a": 1}, 2]}, [{"a": 1}, 2], [{"a": 2}, 3]),
    ({"type": ["object", "integer"], "maxProperties": 1}, [{}, {"result": 1}, 1], [{"a": 1, "b": 2}]),
    ({"$ref": "#/$defs/x", "$defs": {"x": {"type": ["integer", "object"]}}}, [1, {}], []),
    (TREE, [[], [[], [None]], None], [[1], 1]),
    ({"$id": "https://e.example", "type": "array", "items": {"$ref": "#/$defs/i"}, "$defs": {"i": {"type": "integer"}}},
     [[1]], [["x"]]),
    ({"type": "array", "items": {"const": {"$ref": "#"}}}, [[{"$ref": "#"}]], [[{"$ref": "#/properties/result"}]]),
    ({"type": "object", "required": ["a"]}, [{"a": 1}], [{}]),
]  # fmt: skip


@pytest.mark.parametrize("schema", [s for s, _, _ in SCHEMAS], ids=lambda s: json.dumps(s)[:40])
@pytest.mark.parametrize("revision", (C, D, E))
def test_what_is_sent_as_structured_content_is_valid_by_the_schema_that_was_sent(
    revision: str, schema: dict[str, Any]
) -> None:
    valid, invalid = next((v, i) for s, v, i in SCHEMAS if s is schema)
    tools = {"tools": [{"name": "t", "inputSchema": {"type": "object"}, "outputSchema": schema}]}
    sent = cut(revision, "tools/list", tools)["tools"][0]["outputSchema"]
    judge = jsonschema.Draft202012Validator(sent)
    judge.check_schema(sent)
    if revision != E:
        assert sent["type"] == "object"
    for values, expected in ((valid, True), (invalid, False)):
        for value in values:
            content = cut(revision, "tools/call", {"content": [], "structuredContent": value})["structuredContent"]
            assert judge.is_valid(content) is expected, (value, content, sent)


def test_an_array_schema_is_wrapped_as_the_result_is() -> None:
    tools = {"tools": [{"name": "t", "inputSchema": {"type": "object"}, "outputSchema": {"type": "array"}}]}
    assert cut(D, "tools/list", tools)["tools"][0]["outputSchema"] == {
        "type": "object",
        "properties": {"result": {"type": "array"}},
        "required": ["result"],
    }
    assert cut(D, "tools/call", {"structuredContent": [1]}) == {"structuredContent": {"result": [1]}}
    assert cut(D, "tools/call", {"structuredContent": None}) == {"structuredContent": {"result": None}}


def test_references_into_a_wrapped_schema_follow_it() -> None:
    tools = {"tools": [{"name": "t", "inputSchema": {"type": "object"}, "outputSchema": TREE}]}
    assert cut(C, "tools/list", tools)["tools"][0]["outputSchema"] == {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": {"result": {"type": ["array", "null"], "items": {"$ref": "#/properties/result"}}},
        "required": ["result"],
    }


# -- notifications --


def test_progress_loses_its_message_in_the_first_revision_only() -> None:
    params = {"progressToken": 1, "progress": 1, "message": "m"}
    assert notification_params(REVISIONS[A], "notifications/progress", params) == {"progressToken": 1, "progress": 1}
    assert params["message"] == "m"
    for revision in (B, C, D, E):
        assert notification_params(REVISIONS[revision], "notifications/progress", params) is params
    log = {"level": "info", "data": 1, "message": "mine"}
    assert notification_params(REVISIONS[A], "notifications/message", log) is log


# -- questions --

RICH_FORM: dict[str, Any] = {
    "mode": "form",
    "message": "m",
    "requestedSchema": {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": {
            "text": {"type": "string", "title": "T", "description": "d", "default": "x", "minLength": 1},
            "number": {"type": "number", "default": 1, "minimum": 0},
            "flag": {"type": "boolean", "default": True},
            "plain": {"type": "string", "enum": ["a", "b"], "default": "a"},
            "old": {"type": "string", "enum": ["a"], "enumNames": ["A"]},
            "titled": {"type": "string", "oneOf": [{"const": "a", "title": "A"}, {"const": "b", "title": "B"}]},
        },
        "required": ["text"],
    },
}
RICH_SAMPLING: dict[str, Any] = {
    "messages": [
        {"role": "user", "content": {"type": "text", "text": "t", "annotations": ANNOTATIONS}},
        {"role": "user", "content": [IMAGE, AUDIO], "_meta": META},
    ],
    "maxTokens": 5,
    "systemPrompt": "s",
    "includeContext": "none",
    "temperature": 0.5,
    "stopSequences": ["x"],
    "metadata": {},
    "modelPreferences": {"hints": [{"name": "n"}], "speedPriority": 1},
    "_meta": {"progressToken": 1},
}


def asked(revision: str, method: str, params: dict[str, Any]) -> dict[str, Any]:
    before = copy.deepcopy(params)
    changed = client_request(REVISIONS[revision], method, params)
    assert params == before, "the input was changed"
    assert client_request(REVISIONS[revision], method, changed) is changed, "asking twice changes something"
    return changed


@pytest.mark.usefixtures("schemas")
@pytest.mark.parametrize(
    ("revision", "method", "params"),
    [
        *((r, "elicitation/create", RICH_FORM) for r in (C, D, E)),
        *((r, "sampling/createMessage", RICH_SAMPLING) for r in ALL),
        *((r, "roots/list", {}) for r in ALL),
        *((r, "elicitation/create", {"mode": "url", "message": "m", "url": "https://e.example", "elicitationId": "1"})
          for r in (D, E)),
        *((r, "sampling/createMessage", {**RICH_SAMPLING, "tools": [TOOL], "toolChoice": {"mode": "auto"}})
          for r in (D, E)),
    ],
)  # fmt: skip
def test_a_question_with_every_member_is_cut_to_what_the_revision_has(
    revision: str, method: str, params: dict[str, Any]
) -> None:
    question = {"method": method, "params": asked(revision, method, params)}
    if revision == E:
        result = {"resultType": "input_required", "inputRequests": {"q": question}}
        wire.check_message(revision, {"jsonrpc": "2.0", "id": 1, "result": result}, in_reply_to="tools/call")
    else:
        wire.check_message(revision, {"jsonrpc": "2.0", "id": 1, **question})


def test_a_form_for_the_first_revision_that_has_them_is_put_in_its_words() -> None:
    assert asked(C, "elicitation/create", RICH_FORM) == {
        "message": "m",
        "requestedSchema": {
            "type": "object",
            "properties": {
                "text": {"type": "string", "title": "T", "description": "d", "minLength": 1},
                "number": {"type": "number", "minimum": 0},
                "flag": {"type": "boolean", "default": True},
                "plain": {"type": "string", "enum": ["a", "b"]},
                "old": {"type": "string", "enum": ["a"], "enumNames": ["A"]},
                "titled": {"type": "string", "enum": ["a", "b"], "enumNames": ["A", "B"]},
            },
            "required": ["text"],
        },
    }
    assert asked(D, "elicitation/create", RICH_FORM) is RICH_FORM


def test_the_id_of_an_elicitation_by_url_is_for_the_one_revision_that_has_it() -> None:
    params = {"mode": "url", "message": "m", "url": "https://e.example", "elicitationId": "1"}
    assert asked(D, "elicitation/create", params) is params
    assert asked(E, "elicitation/create", params) == {"mode": "url", "message": "m", "url": "https://e.example"}


def test_several_blocks_of_one_message_become_several_messages_where_it_holds_one() -> None:
    two = {"messages": [{"role": "user", "content": [IMAGE, {"type": "text", "text": "t"}]}], "maxTokens": 1}
    plain = {key: value for key, value in IMAGE.items() if key != "_meta"}
    assert asked(B, "sampling/createMessage", two)["messages"] == [
        {"role": "user", "content": {**plain, "annotations": {"audience": ["user"], "priority": 0.5}}},
        {"role": "user", "content": {"type": "text", "text": "t"}},
    ]
    assert asked(D, "sampling/createMessage", two) is two


MULTIPLE = {"type": "array", "items": {"type": "string", "enum": ["a"]}}
TOOL_USE = {"type": "tool_use", "id": "1", "name": "n", "input": {}}


@pytest.mark.parametrize(
    ("revision", "method", "params", "reason"),
    [
        *((r, "elicitation/create", {"message": "m", "requestedSchema": {}}, "no elicitation") for r in (A, B)),
        (C, "elicitation/create", {"mode": "url", "message": "m", "url": "https://e.example"}, "by url"),
        (C, "elicitation/create", {"message": "m", "requestedSchema": {"properties": {"f": MULTIPLE}}}, "choice: f"),
        (C, "elicitation/create", {"message": "m", "requestedSchema": {"properties": {"f": {"oneOf": [{}]}}}}, "oneOf"),
        *((r, "sampling/createMessage", {"messages": [], "tools": []}, "no tools") for r in (A, B, C)),
        *((r, "sampling/createMessage", {"messages": [], "toolChoice": {}}, "no tools") for r in (A, B, C)),
        (C, "sampling/createMessage", {"messages": [{"role": "assistant", "content": TOOL_USE}]}, "no tools"),
        (C, "sampling/createMessage", {"messages": [{"role": "assistant", "content": [TOOL_USE]}]}, "no tools"),
        (E, "ping", {}, "no ping"),
    ],
)
def test_a_question_that_the_revision_cannot_ask_is_refused(
    revision: str, method: str, params: dict[str, Any], reason: str
) -> None:
    with pytest.raises(ValueError, match=f"^revision {revision} has .*{reason}"):
        client_request(REVISIONS[revision], method, params)
