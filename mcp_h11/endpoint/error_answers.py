# SPDX-License-Identifier: MIT
"""Answers a request with an error, where no caller is left that could catch it."""

from __future__ import annotations

from ..http.headers import JSON_HEADERS
from ..http.reply import Reply
from ..protocol.errors import InvalidRequest, MCPError, Refusal
from ..protocol.jsonrpc import JSON


def answer_error(reply: Reply, json: JSON, error: MCPError) -> None:
    """Answer with the JSON-RPC error, and the status and headers of a `Refusal`; the status of another error is 400."""
    status, headers = (error.status, error.headers) if isinstance(error, Refusal) else (400, ())
    request_id = error.request_id if isinstance(error, InvalidRequest) else None
    reply.answer(status, json.error(request_id, error), JSON_HEADERS + headers)
