# SPDX-License-Identifier: MIT
"""The fixture that the official conformance suite and the client battery call, written with the public API alone.

    python tests/everything_server.py --port 3001       http://127.0.0.1:3001/mcp, and HTTP+SSE at /sse
    python tests/everything_server.py --stdio

It refuses nothing and knows nothing of the wire: whatever is in here, a user of the package can write.  Names,
texts and schemas of `test_*` are the suite's, and so are those of the section on tasks; `battery_*` is what
`tests/interop` drives with real clients.  The skills are those of the folder `everything_skills` beside it.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import logging
import tempfile
from pathlib import Path
from typing import Annotated, Any, TypedDict

from mcp_h11 import (
    Audio,
    Context,
    Elicit,
    Image,
    InputRequired,
    ListRoots,
    MCPError,
    MCPServer,
    MissingClientCapability,
    ParamHeader,
    Sample,
    ToolError,
    run,
    run_stdio,
)
from mcp_h11.extensions.skills import Skills

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8DwHwAFBQIAX8jx0gAAAABJRU5ErkJggg=="
)
WAV = base64.b64decode("UklGRiYAAABXQVZFZm10IBAAAAABAAEAQB8AAAB9AAACABAAZGF0YQIAAAA=")
RETRY = 100  # milliseconds; test_reconnection is over after 200
STEP = 0.05  # seconds between two notifications; the suite wants to see them apart
LAST_STEP = 0.25  # before the answer: the official client of TypeScript passes over progress that it reads with it

server = MCPServer(
    "everything",
    version="1.0",
    instructions="Every feature of the protocol, for tests.",
    extensions=[Skills(Path(__file__).parent / "everything_skills")],
)


def text(value: str) -> dict[str, Any]:
    return {"type": "text", "text": value}


def embedded(uri: str, mime_type: str, value: str) -> dict[str, Any]:
    return {"type": "resource", "resource": {"uri": uri, "mimeType": mime_type, "text": value}}


def user(content: dict[str, Any]) -> dict[str, Any]:
    return {"role": "user", "content": content}


def form(**properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}


def written(content: Any) -> str:
    return json.dumps(content or {}, sort_keys=True)


# ------------------------------------------------------------------ content


@server.tool
def test_simple_text() -> str:
    """Answers with one text."""
    return "This is a simple text response for testing."


@server.tool
def test_image_content() -> Image:
    """Answers with one image."""
    return Image(data=PNG, format="png")


@server.tool
def test_audio_content() -> Audio:
    """Answers with one sound."""
    return Audio(data=WAV, format="wav")


@server.tool
async def test_embedded_resource() -> dict[str, Any]:
    """Answers with an embedded resource."""
    return {"content": [embedded("test://embedded-resource", "text/plain", "This is an embedded resource content.")]}


@server.tool(structured_output=False)
async def test_multiple_content_types() -> list[Any]:
    """Answers with a text, an image and a resource."""
    return [
        text("Multiple content types test:"),
        Image(data=PNG, format="png"),
        embedded("test://mixed-content-resource", "application/json", '{"test":"data","value":123}'),
    ]


@server.tool
async def test_error_handling() -> str:
    """Fails, always."""
    raise ToolError("This tool intentionally returns an error for testing")


# ------------------------------------------------------------------ what a call sends while it runs


@server.tool
async def test_tool_with_progress(ctx: Context) -> str:
    """Reports progress three times."""
    for done in (0, 50, 100):
        await ctx.report_progress(done, 100, f"Completed step {done} of 100")
        await asyncio.sleep(STEP if done < 100 else LAST_STEP)
    return "Progress reported"


@server.tool
async def test_tool_with_logging(ctx: Context) -> str:
    """Logs three times."""
    for line in ("Tool execution started", "Tool processing data", "Tool execution completed"):
        await ctx.info(line)
        await asyncio.sleep(STEP)
    return "Logged"


@server.tool
async def test_logging_tool(ctx: Context) -> str:
    """Logs once, which a 2026-07-28 client sees only if it asked for a level."""
    await ctx.info("A line of the log")
    return "Logged"


@server.tool
async def test_reconnection(ctx: Context) -> str:
    """Closes its own stream; the answer is there when the client comes back for it."""
    await ctx.close_sse_stream()
    await asyncio.sleep(0.2)
    return "Reconnection test completed"


# ------------------------------------------------------------------ questions to the client, either era


@server.tool
async def test_sampling(prompt: str, ctx: Context) -> str:
    """Asks the client's model."""
    answer = await ctx.sample(prompt, max_tokens=100)
    return f"LLM response: {answer.text}"


@server.tool
async def test_elicitation(message: str, ctx: Context) -> str:
    """Asks the user for a name and an address."""
    answer = await ctx.elicit(message, form(username={"type": "string"}, email={"type": "string"}))
    return f"User response: action={answer.action}, content={written(answer.content)}"


@server.tool
async def test_streaming_elicitation(ctx: Context) -> str:
    """Asks the user, however the era does that."""
    answer = await ctx.elicit("Shall we go on?", form(ok={"type": "boolean"}))
    return f"action={answer.action}"


@server.tool
async def test_elicitation_sep1034_defaults(ctx: Context) -> str:
    """Asks with a default for each primitive type."""
    schema = form(
        name={"type": "string", "default": "John Doe"},
        age={"type": "integer", "default": 30},
        score={"type": "number", "default": 95.5},
        status={"type": "string", "enum": ["active", "inactive", "pending"], "default": "active"},
        verified={"type": "boolean", "default": True},
    )
    answer = await ctx.elicit("Please check these values", {**schema, "required": []})
    return f"Elicitation completed: action={answer.action}, content={written(answer.content)}"


@server.tool
async def test_elicitation_sep1330_enums(ctx: Context) -> str:
    """Asks with each form of an enumeration."""
    options = [{"const": f"value{n}", "title": f"Option {n}"} for n in (1, 2, 3)]
    schema = form(
        untitledSingle={"type": "string", "enum": ["option1", "option2", "option3"]},
        titledSingle={"type": "string", "oneOf": options},
        legacyEnum={"type": "string", "enum": ["opt1", "opt2"], "enumNames": ["Option One", "Option Two"]},
        untitledMulti={"type": "array", "items": {"type": "string", "enum": ["option1", "option2", "option3"]}},
        titledMulti={"type": "array", "items": {"anyOf": options}},
    )
    answer = await ctx.elicit("Please choose", {**schema, "required": []})
    return f"Elicitation completed: action={answer.action}, content={written(answer.content)}"


@server.tool
async def test_missing_capability(ctx: Context) -> str:
    """Needs a client that offers sampling."""
    if "sampling" not in (ctx.client_capabilities or {}):
        raise MissingClientCapability({"sampling": {}})
    return "The client offers sampling."


# ------------------------------------------------------------------ input rounds of 2026-07-28

NAME = form(name={"type": "string"})
OK = form(ok={"type": "boolean"})


def given(ctx: Context, *keys: str) -> bool:
    """Whether the client has answered all of these, with something that can be an answer."""
    responses = ctx.input_responses or {}
    return all(isinstance(responses.get(key), dict) for key in keys)


@server.tool
async def test_input_required_result_elicitation(ctx: Context) -> str:
    """Asks under a key of its own choice; an answer that came before it was asked for is as good."""
    answers = await ctx.ask(user_name=Elicit("What is your name?", NAME))
    return f"Hello, {answers['user_name'].content['name']}!"


@server.tool
async def test_input_required_result_sampling(ctx: Context) -> str:
    """Asks the client's model, in one round."""
    answer = await ctx.sample("What is the capital of France?", max_tokens=100)
    return f"The model said: {answer.text}"


@server.tool
async def test_input_required_result_list_roots(ctx: Context) -> str:
    """Asks for the roots, in one round."""
    return f"The client has {len(await ctx.list_roots())} roots."


@server.tool
async def test_input_required_result_request_state(ctx: Context) -> Any:
    """Asks, and wants its own state back with the answer."""
    if ctx.request_state == "nonce" and given(ctx, "confirm"):
        return "state-ok"
    return InputRequired({"confirm": Elicit("Please confirm", OK)}, state="nonce")


@server.tool
async def test_input_required_result_multiple_inputs(ctx: Context) -> str:
    """Asks the user, the model and for the roots at once."""
    answers = await ctx.ask(
        user_name=Elicit("What is your name?", NAME), greeting=Sample("Say hello", max_tokens=50), roots=ListRoots()
    )
    return f"{answers['greeting'].text}, {answers['user_name'].content['name']} of {len(answers['roots'])} roots."


@server.tool
async def test_input_required_result_multi_round(ctx: Context) -> Any:
    """Asks twice, one question after the other."""
    responses = ctx.input_responses or {}
    if ctx.request_state == "colour" and given(ctx, "colour"):
        return f"The colour is {responses['colour'].get('content', {}).get('colour')}."
    if ctx.request_state == "name" and given(ctx, "name"):
        return InputRequired({"colour": Elicit("Which colour?", form(colour={"type": "string"}))}, state="colour")
    return InputRequired({"name": Elicit("What is your name?", NAME)}, state="name")


@server.tool
async def test_input_required_result_tampered_state(ctx: Context) -> Any:
    """Asks; the state that comes back has to be the one that was sent."""
    if ctx.request_state == "untouched":
        return "state-ok"
    return InputRequired({"confirm": Elicit("Please confirm", OK)}, state="untouched")


@server.tool
async def test_input_required_result_capabilities(ctx: Context) -> Any:
    """Asks for nothing that the client did not declare."""
    declared = ctx.client_capabilities or {}
    questions: dict[str, Any] = {}
    if "sampling" in declared:
        questions["greeting"] = Sample("Say hello", max_tokens=50)
    if "elicitation" in declared:
        questions["user_name"] = Elicit("What is your name?", NAME)
    if not questions or given(ctx, *questions):
        return "Nothing more to ask."
    return InputRequired(questions, state="declared only")


# ------------------------------------------------------------------ changes


@server.tool
async def test_trigger_tool_change(ctx: Context) -> str:
    """Announces that the list of tools changed."""
    await ctx.notify_tools_changed()
    return "tools/list_changed sent"


@server.tool
async def test_trigger_prompt_change(ctx: Context) -> str:
    """Announces that the list of prompts changed."""
    await ctx.notify_prompts_changed()
    return "prompts/list_changed sent"


# ------------------------------------------------------------------ schemas


@server.tool
async def test_x_mcp_header(region: Annotated[str, ParamHeader("Region")]) -> str:
    """Takes an argument that the client repeats in a header."""
    return f"region={region}"


@server.tool(
    input_schema={
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "$defs": {
            "address": {
                "$anchor": "addressDef",
                "type": "object",
                "properties": {"street": {"type": "string"}, "city": {"type": "string"}},
            }
        },
        "properties": {
            "name": {"type": "string"},
            "address": {"$ref": "#/$defs/address"},
            "contactMethod": {"type": "string", "enum": ["phone", "email"]},
            "phone": {"type": "string"},
            "email": {"type": "string"},
        },
        "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
        "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
        "then": {"required": ["phone"]},
        "else": {"required": ["email"]},
        "additionalProperties": False,
    }
)
async def json_schema_2020_12_tool(
    name: str = "",
    address: dict[str, Any] | None = None,
    contactMethod: str = "",
    phone: str = "",
    email: str = "",
) -> str:
    """Has a schema that no signature expresses."""
    return f"{name}: {phone or email}"


# ------------------------------------------------------------------ tasks

CONFIRM = form(confirm={"type": "boolean"})


@server.tool
async def greet(name: str) -> str:
    """Answers at once; never a task."""
    return f"Hello, {name}!"


@server.tool(task="optional")
async def slow_compute(seconds: float, ctx: Context, label: str = "") -> str:
    """Sleeps, as a task for a client that has tasks."""
    await ctx.report_progress(0, 1, f"computing {label}")
    await asyncio.sleep(seconds)
    return f"Computed {label} in {seconds} s"


@server.tool(task="required")
async def failing_job() -> str:
    """A task that ends with an error of the tool."""
    await asyncio.sleep(1)
    raise ToolError("The job failed")


@server.tool(task="required")
async def protocol_error_job() -> str:
    """A task that ends with an error of the protocol."""
    raise MCPError(-32603, "The job broke the protocol")


@server.tool(task="required")
async def confirm_delete(filename: str, ctx: Context) -> str:
    """A task that asks once."""
    answer = await ctx.elicit(f"Delete {filename}?", CONFIRM)
    return f"Deleted {filename}" if answer.accepted else f"Kept {filename}"


@server.tool(task="required")
async def multi_input(ctx: Context) -> str:
    """A task with two open questions at once."""
    answers = await ctx.ask(first=Elicit("The first?", NAME), second=Elicit("The second?", NAME))
    return " and ".join(str((answer.content or {}).get("name")) for answer in answers.values())


@server.tool(task="later")
async def test_tool_with_task(ctx: Context) -> str:
    """Asks in a round of the call, and becomes a task with the answer."""
    answers = await ctx.ask(user_name=Elicit("What is your name?", NAME))
    await ctx.start_task("Greeting")
    await asyncio.sleep(STEP)
    return f"Hello, {answers['user_name'].content['name']}!"


# ------------------------------------------------------------------ the client battery

cancelled: list[None] = []  # one for each call of battery_slow that was cancelled
counts: Path | None = None  # the folder where several processes keep them together


def count_cancelled() -> None:
    cancelled.append(None)
    if counts is not None:
        tempfile.mkstemp(dir=counts)


class Weather(TypedDict):
    city: str
    celsius: float


@server.tool
async def battery_echo(text: str) -> str:
    """Says it again."""
    return text


@server.tool
async def battery_big(size: int) -> str:
    """Answers with so many characters."""
    return "x" * size


@server.tool
async def battery_weather(city: str) -> Weather:
    """Answers with structured content."""
    return Weather(city=city, celsius=21.5)


@server.tool
async def battery_slow(seconds: float, ctx: Context) -> str:
    """Reports progress once, to show that it runs, then sleeps."""
    try:
        await ctx.report_progress(0, 1, "running")  # a client may cancel before this returns
        await asyncio.sleep(seconds)
    except asyncio.CancelledError:
        count_cancelled()
        raise
    return f"Slept {seconds} s"


@server.tool
async def battery_cancel_count() -> int:
    """How often battery_slow was cancelled."""
    return len(cancelled) if counts is None else len([*counts.iterdir()])


@server.tool
async def battery_roots(ctx: Context) -> str:
    """Asks for the roots and names them, one a line."""
    return "\n".join(root["uri"] for root in await ctx.list_roots())


@server.tool
async def battery_touch(uri: str, ctx: Context) -> str:
    """Announces that a resource was updated, to whoever subscribed to it in either era."""
    await ctx.notify_resource_updated(uri)
    return f"Touched {uri}"


# ------------------------------------------------------------------ prompts


@server.prompt
def test_simple_prompt() -> str:
    """A prompt without arguments."""
    return "This is a simple prompt for testing."


@server.prompt
def test_prompt_with_arguments(
    arg1: Annotated[str, "First test argument"], arg2: Annotated[str, "Second test argument"]
) -> str:
    """A prompt with two required arguments."""
    return f"Prompt with arguments: arg1='{arg1}', arg2='{arg2}'"


@server.prompt
def test_prompt_with_embedded_resource(resourceUri: Annotated[str, "URI of the resource to embed"]) -> list[Any]:
    """A prompt that holds a resource."""
    return [
        user(embedded(resourceUri, "text/plain", "Embedded resource content for testing.")),
        user(text("Please process the embedded resource above.")),
    ]


@server.prompt
def test_prompt_with_image() -> list[Any]:
    """A prompt that holds an image."""
    image = {"type": "image", "data": base64.b64encode(PNG).decode(), "mimeType": "image/png"}
    return [user(image), user(text("Please analyze the image above."))]


@server.prompt
async def test_input_required_result_prompt(ctx: Context) -> str:
    """A prompt that asks the user first."""
    answers = await ctx.ask(user_context=Elicit("Which context?", form(context={"type": "string"})))
    return f"Use this context: {answers['user_context'].content['context']}"


# ------------------------------------------------------------------ resources


@server.resource("test://static-text", name="static-text", description="A text", mime_type="text/plain")
def static_text() -> str:
    return "This is the content of the static text resource."


@server.resource("test://static-binary", name="static-binary", description="An image", mime_type="image/png")
def static_binary() -> bytes:
    return PNG


@server.resource(
    "test://watched-resource", name="watched-resource", description="Something to subscribe to", mime_type="text/plain"
)
def watched_resource() -> str:
    return "Watched resource content"


@server.resource("test://template/{id}/data", name="template", description="By id", mime_type="application/json")
def template(id: str) -> dict[str, Any]:
    return {"id": id, "templateTest": True, "data": f"Data for ID: {id}"}


# ------------------------------------------------------------------ completion


@server.completion
async def complete(ref: dict[str, Any], argument: dict[str, str], context: dict[str, Any] | None) -> list[str]:
    return [value for value in ("testValue1", "testValue2") if value.startswith(argument["value"])]


def main() -> None:
    global counts
    parser = argparse.ArgumentParser(description="The server that the conformance suite and the client battery call.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=3001)
    # "sse" by default: the suite has a check that only exists where answers are event streams.
    parser.add_argument("--response", choices=("auto", "json", "sse"), default="sse")
    parser.add_argument("--stdio", action="store_true", help="speak over stdin and stdout instead of HTTP")
    parser.add_argument("--store", help="the URL of the store that several of these processes share")
    parser.add_argument("--counts", type=Path, help="a folder that they share, for battery_cancel_count")
    parser.add_argument("--proxied", action="store_true", help="a proxy on this machine names its clients")
    args = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    counts = args.counts
    if args.stdio:
        run_stdio(server)
    else:
        options: dict[str, Any] = {"response": args.response, "legacy_sse": True, "retry": RETRY, "store": args.store}
        if args.proxied:
            options["trusted_proxies"] = ["127.0.0.1"]
        run(server, host=args.host, port=args.port, **options)


if __name__ == "__main__":
    main()
