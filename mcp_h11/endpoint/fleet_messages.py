# SPDX-License-Identifier: MIT
"""The messages of one POST as a letter to another worker, and back."""

from __future__ import annotations

from typing import Any

from ..protocol.errors import InvalidRequest, MCPError
from ..protocol.jsonrpc import JSON, Batch, Message, Notification, Request, Response

TOO_MANY = "Too many messages wait for the worker of this session"  # for the client, where the inbox is full


def letter_of(json_: JSON, message: Message | Batch) -> dict[str, Any]:
    """The messages as texts, and the errors for the parts of a batch that are no messages."""
    parts: Batch = message if isinstance(message, list) else [message]
    texts, errors = [], []
    for one in parts:
        if isinstance(one, InvalidRequest):
            errors.append(json_.error(one.request_id, one).decode())
        else:
            texts.append(_text(json_, one).decode())
    return {"batch": isinstance(message, list), "messages": texts, "errors": errors}


def messages_of(json_: JSON, body: dict[str, Any]) -> list[Any]:
    """The messages of a letter that `letter_of` made."""
    return [json_.decode(text.encode()) for text in body["messages"]]


def _text(json_: JSON, message: Message) -> bytes:
    if isinstance(message, Request):
        return json_.request(message.id, message.method, message.params)
    if isinstance(message, Notification):
        return json_.notification(message.method, message.params)
    if isinstance(message, Response):
        return json_.result(message.id, message.result)
    error = message.error
    return json_.error(message.id, MCPError(error["code"], error["message"], error.get("data")))
