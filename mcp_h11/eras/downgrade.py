# SPDX-License-Identifier: MIT
"""Results and requests of the newest form, rewritten for a client of an older revision.

Handlers write the newest form.  This module removes the members that the client's revision does not have, and replaces
content of unknown types by text.  Its functions are pure functions over JSON values.  They validate nothing, and add
nothing that an older form would require.  They keep members that no revision defines, because the author added those.

Rules:
- The input is never changed, because calls and clients share results.
- Where nothing has to change, a function returns the same object.  For the two newest revisions this is the usual case,
  and the check for it is cheap.

The rules of each revision come from its `changelog` page and from the definitions in its schema.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from operator import is_
from typing import Any

from ..protocol.finite import not_finite
from ..protocol.methods import METHODS, PROGRESS, QUESTIONS, SERVER_METHODS
from ..protocol.revisions import REVISIONS, Revision

Object = dict[str, Any]

# 2026-07-28: "resultType", caching hints and input rounds.  Earlier revisions leave result objects open, so these
# members would be legal there.  They are removed all the same, because those revisions do not define them.
_MODERN_FIELDS = frozenset({"resultType", "ttlMs", "cacheScope", "inputRequests", "requestState"})
_CALL_FIELDS = _MODERN_FIELDS | {"structuredContent"}
# The one member removed from the result of a method that no revision defines: the author of such a method may use the
# names of the other members for purposes of the method.
_RESULT_TYPE = frozenset({"resultType"})
_METHODS = SERVER_METHODS.union(METHODS)


@dataclass(frozen=True)
class _Plan:
    """The members that one revision does not have: a set of names for each kind of object."""

    revision: Revision
    entity: frozenset[str]  # resources, templates, prompts, resource links
    tool: frozenset[str]
    prompt_argument: frozenset[str]
    block: frozenset[str]  # content blocks other than links, and the contents of resources
    implementation: frozenset[str]
    capabilities: frozenset[str]
    rewrites: Mapping[str, Callable[[_Plan, Object], Object]] = field(repr=False)


def server_fields(revision: Revision, method: str, result: Object) -> Object:
    """The result of `method` in the form of `revision`; the same object where nothing changes.

    Structured content that is not an object becomes ``{"result": value}`` where the revision allows objects only, and
    the tool's output schema is rewritten to match.  Audio and resource links become text where the revision has none.
    """
    if method == "tools/call" and revision.icons and _CALL_FIELDS.isdisjoint(result):
        return result  # most results have no member that the two newest revisions treat differently
    plan = _PLANS[revision.name]
    if not revision.result_type and not _MODERN_FIELDS.isdisjoint(result):
        result = _without(result, _MODERN_FIELDS if method in _METHODS else _RESULT_TYPE)
    rewrite = plan.rewrites.get(method)
    return result if rewrite is None else rewrite(plan, result)


def notification_params(revision: Revision, method: str, params: Object) -> Object:
    """The params of a notification to the client in the form of `revision`; the same object where nothing changes."""
    if method == PROGRESS and not revision.progress_message:
        return _without(params, frozenset({"message"}))
    return params


def client_request(revision: Revision, method: str, params: Object) -> Object:
    """The params of a question to the client (`elicitation/create`, `sampling/createMessage`, `roots/list`).

    Raises:
        ValueError: the revision has no such question; the message names the missing feature.
    """
    if revision.input_required and method not in QUESTIONS:
        raise ValueError(f"revision {revision.name} has no {method} from server to client")
    if method == "elicitation/create":
        return _elicitation(revision, params)
    if method == "sampling/createMessage":
        return _sampling(_PLANS[revision.name], params)
    return params


# -- helpers that keep identity --


def _without(value: Object, names: frozenset[str]) -> Object:
    if names.isdisjoint(value):
        return value
    return {k: v for k, v in value.items() if k not in names}


def _replaced(value: Object, key: str, new: Any) -> Object:
    return value if new is value.get(key) else {**value, key: new}


# The same list where no element changes.  An element that is not an object is kept: this module does not validate.
def _each(plan: _Plan, items: Any, change: Callable[[_Plan, Object], Object]) -> Any:
    if not isinstance(items, list):
        return items
    changed = [change(plan, item) if isinstance(item, dict) else item for item in items]
    return items if all(map(is_, changed, items)) else changed


def _list_of(key: str, change: Callable[[_Plan, Object], Object]) -> Callable[[_Plan, Object], Object]:
    return lambda plan, result: _replaced(result, key, _each(plan, result.get(key), change))


# -- elements of lists --


def _annotations(plan: _Plan, value: Object) -> Object:
    annotations = value.get("annotations")
    if plan.revision.last_modified or not isinstance(annotations, dict):
        return value
    return _replaced(value, "annotations", _without(annotations, frozenset({"lastModified"})))


def _entity(plan: _Plan, value: Object) -> Object:
    return _annotations(plan, _without(value, plan.entity))


def _prompt(plan: _Plan, prompt: Object) -> Object:
    prompt = _without(prompt, plan.entity)
    return _replaced(prompt, "arguments", _each(plan, prompt.get("arguments"), _prompt_argument))


def _prompt_argument(plan: _Plan, argument: Object) -> Object:
    return _without(argument, plan.prompt_argument)


def _tool(plan: _Plan, tool: Object) -> Object:
    tool = _without(tool, plan.tool)
    if plan.revision.structured == "object" and "outputSchema" in tool:
        tool = _replaced(tool, "outputSchema", _object_schema(tool["outputSchema"]))
    return tool


def _server(plan: _Plan, result: Object) -> Object:
    for key, names in (("serverInfo", plan.implementation), ("capabilities", plan.capabilities)):
        value = result.get(key)
        if isinstance(value, dict):
            result = _replaced(result, key, _without(value, names))
    return result


# -- output schemas: the counterpart of `_call`, which wraps values that are not objects --


def _object_schema(schema: Any) -> Any:
    if not isinstance(schema, dict) or schema.get("type") == "object":
        return schema
    inner = _without(schema, frozenset({"$schema"}))
    wrapped: Object = {"$schema": schema["$schema"]} if "$schema" in schema else {}
    wrapped["type"] = "object"
    if not _admits_objects(schema):
        wrapped["properties"] = {"result": _moved(inner, "#/properties/result")}
        wrapped["required"] = ["result"]
        return wrapped
    # The schema admits objects and other values.  `_call` does not see the schema: it sends an object unchanged and
    # wraps any other value.  So the rewritten schema has to admit both forms.
    wrapped["$defs"] = {"value": _moved(inner, "#/$defs/value")}
    value = {"$ref": "#/$defs/value"}
    wrapped["anyOf"] = [{"properties": {"result": value}, "required": ["result"]}, value]
    return wrapped


# False only where no object can be valid.  True in case of doubt, because the schema only becomes longer then.
def _admits_objects(schema: Any) -> bool:
    if not isinstance(schema, dict):
        return schema is not False
    kind = schema.get("type", "object")
    if kind != "object" and not (isinstance(kind, list) and "object" in kind):
        return False
    if "const" in schema:
        return isinstance(schema["const"], dict)
    if isinstance(schema.get("enum"), list):
        return any(isinstance(value, dict) for value in schema["enum"])
    for key in ("anyOf", "oneOf"):
        if isinstance(schema.get(key), list):
            return any(_admits_objects(choice) for choice in schema[key])
    return True


_DATA_KEYWORDS = frozenset({"const", "enum", "default", "examples"})


# "#" and "#/..." point from the root of the schema resource.  They are rewritten, because the schema is not the root
# any more.  A schema with an `$id` is a resource of its own, so its references stay valid.
def _moved(schema: Any, root: str) -> Any:
    if isinstance(schema, list):
        return [_moved(item, root) for item in schema]
    if not isinstance(schema, dict) or isinstance(schema.get("$id"), str):
        return schema
    moved: Object = {}
    for key, value in schema.items():
        if key in ("$ref", "$dynamicRef") and isinstance(value, str) and (value == "#" or value.startswith("#/")):
            moved[key] = root + value[1:]
        else:
            moved[key] = value if key in _DATA_KEYWORDS else _moved(value, root)
    return moved


# -- content --


def _call(plan: _Plan, result: Object) -> Object:
    if "structuredContent" in result:
        value = result["structuredContent"]
        if not plan.revision.structured:
            result = _unstructured(result)
        elif not isinstance(value, dict):
            result = {**result, "structuredContent": {"result": value}}
    if plan.revision.icons:  # the newest legacy revision has every kind of content block
        return result
    return _replaced(result, "content", _each(plan, result.get("content"), _block))


# 2025-06-18 server/tools, Structured Content: "SHOULD also return the serialized JSON in a TextContent block".  A tool
# that returned no such block gets one here, because its result would be empty without the structured content.
def _unstructured(result: Object) -> Object:
    plain = _without(result, frozenset({"structuredContent"}))
    if not plain.get("content"):
        # NaN is refused, as in the revisions that have structured content: JSON has no NaN.
        try:
            text = json.dumps(result["structuredContent"], ensure_ascii=False, allow_nan=False)
        except ValueError as error:
            raise not_finite({"structuredContent": result["structuredContent"]}) or error from None
        plain["content"] = [_text(text, {})]
    return plain


def _messages(plan: _Plan, result: Object) -> Object:
    return _replaced(result, "messages", _each(plan, result.get("messages"), _message))


def _message(plan: _Plan, message: Object) -> Object:
    content = message.get("content")
    return _replaced(message, "content", _block(plan, content)) if isinstance(content, dict) else message


def _block(plan: _Plan, block: Object) -> Object:
    revision = plan.revision
    kind = block.get("type")
    if kind == "audio" and not revision.audio:
        block = _text(f"[{block.get('mimeType', 'audio')}, {len(block.get('data') or '')} bytes of base64]", block)
    elif kind == "resource_link":
        if revision.resource_links:
            return _entity(plan, block)
        block = _text(f"[resource {block.get('name', '')}: {block.get('uri', '')}]", block)
    elif kind == "resource" and isinstance(block.get("resource"), dict):
        block = _replaced(block, "resource", _without(block["resource"], plan.block))
    return _annotations(plan, _without(block, plan.block))


def _text(text: str, instead_of: Object) -> Object:
    block: Object = {"type": "text", "text": text}
    if "annotations" in instead_of:  # the text has the same audience as the block that it replaces
        block["annotations"] = instead_of["annotations"]
    return block


def _contents(plan: _Plan, contents: Object) -> Object:
    return _without(contents, plan.block)


# -- questions to the client --


def _elicitation(revision: Revision, params: Object) -> Object:
    if not revision.elicitation:
        raise ValueError(f"revision {revision.name} has no elicitation")
    names = set() if revision.task_support else {"task"}
    if revision.input_required:
        names.add("_meta")
    if not revision.elicitation_id:
        names.add("elicitationId")
    if revision.elicitation == "full":
        return _without(params, frozenset(names))
    if params.get("mode", "form") != "form":
        raise ValueError(f"revision {revision.name} has no elicitation by {params['mode']}")
    params = _without(params, frozenset(names | {"mode"}))
    return _replaced(params, "requestedSchema", _plain_form(revision, params.get("requestedSchema")))


def _plain_form(revision: Revision, schema: Any) -> Any:
    if not isinstance(schema, dict):
        return schema
    schema = _without(schema, frozenset({"$schema"}))
    properties = schema.get("properties")
    if not isinstance(properties, dict):
        return schema
    plain = {name: _plain_field(revision, name, value) for name, value in properties.items()}
    if all(plain[name] is properties[name] for name in properties):
        return schema
    return {**schema, "properties": plain}


# 2025-06-18 client/elicitation, Requested Schema: four primitives, a default for booleans only.
def _plain_field(revision: Revision, name: str, schema: Any) -> Any:
    if not isinstance(schema, dict):
        return schema
    if schema.get("type") == "array":
        raise ValueError(f"revision {revision.name} has no multiple choice: {name}")
    if schema.get("type") != "boolean":
        schema = _without(schema, frozenset({"default"}))
    choices = schema.get("oneOf")
    if isinstance(choices, list):
        if not all(isinstance(choice, dict) and "const" in choice for choice in choices):
            raise ValueError(f"revision {revision.name} has no oneOf but for a titled choice: {name}")
        schema = _without(schema, frozenset({"oneOf"}))
        schema["enum"] = [choice["const"] for choice in choices]
        schema["enumNames"] = [choice.get("title", choice["const"]) for choice in choices]
    return schema


def _sampling(plan: _Plan, params: Object) -> Object:
    revision = plan.revision
    if not revision.sampling_tools and ("tools" in params or "toolChoice" in params):
        raise ValueError(f"revision {revision.name} has no tools in sampling")
    names = set() if revision.task_support else {"task"}
    if revision.input_required:
        names.add("_meta")
    params = _without(params, frozenset(names))
    params = _replaced(params, "tools", _each(plan, params.get("tools"), _tool))
    messages = params.get("messages")
    if revision.sampling_tools or not isinstance(messages, list):
        return params
    plain = [new for old in messages for new in _plain_messages(plan, old)]
    same = len(plain) == len(messages) and all(map(is_, plain, messages))
    return params if same else {**params, "messages": plain}


# Before 2025-11-25 a sampling message holds one block.  So each block becomes a message of the same role, in order.
def _plain_messages(plan: _Plan, message: Any) -> list[Any]:
    if not isinstance(message, dict):
        return [message]
    message = _without(message, frozenset({"_meta"}))
    content = message.get("content")
    if not isinstance(content, list):
        return [_plain_message(plan, message)]
    return [_plain_message(plan, {**message, "content": block}) for block in content]


def _plain_message(plan: _Plan, message: Object) -> Object:
    content = message.get("content")
    if not isinstance(content, dict):
        return message
    if content.get("type") in ("tool_use", "tool_result"):
        raise ValueError(f"revision {plan.revision.name} has no tools in sampling")
    return _replaced(message, "content", _block(plan, content))


# -- the plan of each revision, made once --


def _plan(revision: Revision) -> _Plan:
    def missing(*facts: tuple[object, tuple[str, ...]]) -> frozenset[str]:
        return frozenset(name for present, names in facts if not present for name in names)

    titles = (revision.titles, ("title", "_meta"))
    icons = (revision.icons, ("icons",))
    rewrites: dict[str, Callable[[_Plan, Object], Object]] = {
        "initialize": _server,
        "server/discover": _server,
        "tools/list": _list_of("tools", _tool),
    }
    if revision.structured != "any":
        rewrites["tools/call"] = _call
    if not revision.icons:
        rewrites["prompts/list"] = _list_of("prompts", _prompt)
        rewrites["resources/list"] = _list_of("resources", _entity)
        rewrites["resources/templates/list"] = _list_of("resourceTemplates", _entity)
        rewrites["prompts/get"] = _messages
        rewrites["resources/read"] = _list_of("contents", _contents)
    return _Plan(
        revision=revision,
        entity=missing(titles, icons),
        tool=missing(
            titles,
            icons,
            (revision.tool_annotations, ("annotations",)),
            (revision.structured, ("outputSchema",)),
            (revision.task_support, ("execution",)),
        ),
        prompt_argument=missing((revision.titles, ("title",))),
        block=missing((revision.titles, ("_meta",))),
        implementation=missing((revision.titles, ("title",)), (revision.icons, ("icons", "description", "websiteUrl"))),
        capabilities=missing(
            (revision.completions_capability, ("completions",)),
            (revision.task_support, ("tasks",)),
        ),
        rewrites=rewrites,
    )


_PLANS = {name: _plan(revision) for name, revision in REVISIONS.items()}
