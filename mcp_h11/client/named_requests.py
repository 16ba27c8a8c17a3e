# SPDX-License-Identifier: MIT
"""The requests of a `Client` that have a method of their own: lists, reads, prompts and completions.

`tasks` has the calls.

Each is `Client.request` with the name of the request, and a result of a known shape.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from .conversation.conversation import Conversation
from .conversation.pending import Progress
from .lists import all_pages
from .options import Options
from .transports.errors import InvalidAnswer

if TYPE_CHECKING:
    from ..protocol import types as wire

# The default of `timeout` in methods: the timeout of the client.
AS_CONFIGURED = -1.0


class NamedRequests:
    """The part of `Client` that sends requests by their names."""

    _conversation: Conversation
    _options: Options

    async def request(
        self,
        method: str,
        params: Mapping[str, Any] | None = None,
        *,
        progress: Progress | None = None,
        timeout: float | None = AS_CONFIGURED,
    ) -> dict[str, Any]:
        """Any request; `Client.request` has more options."""
        raise NotImplementedError

    async def list_tools(self, *, timeout: float | None = AS_CONFIGURED) -> list[wire.Tool]:
        """All pages, within `timeout` together.

        Tools whose `x-mcp-header` annotations are wrong are left out where they would be used.
        """
        return await self._all_pages("tools/list", "tools", timeout)

    async def list_resources(self, *, timeout: float | None = AS_CONFIGURED) -> list[wire.Resource]:
        """All pages, within `timeout` together."""
        return await self._all_pages("resources/list", "resources", timeout)

    async def list_resource_templates(self, *, timeout: float | None = AS_CONFIGURED) -> list[wire.ResourceTemplate]:
        """All pages, within `timeout` together."""
        return await self._all_pages("resources/templates/list", "resourceTemplates", timeout)

    async def list_prompts(self, *, timeout: float | None = AS_CONFIGURED) -> list[wire.Prompt]:
        """All pages, within `timeout` together."""
        return await self._all_pages("prompts/list", "prompts", timeout)

    async def _all_pages(self, method: str, member: str, timeout: float | None) -> list[Any]:
        async def send(method: str, params: dict[str, Any], seconds: float | None) -> dict[str, Any]:
            return await self.request(method, params, timeout=seconds)

        # One budget for the walk: a server must not gain time by sending more pages.
        seconds = self._options.timeout if timeout == AS_CONFIGURED else timeout
        return await all_pages(send, self._conversation.json, method, member, seconds)

    async def read_resource(self, uri: str) -> wire.ReadResourceResult:
        """``{"contents": [...]}`` of the resource `uri`.  Raises ResourceNotFound in either era."""
        return cast("wire.ReadResourceResult", await self.request("resources/read", {"uri": uri}))

    async def get_prompt(self, name: str, arguments: Mapping[str, str] | None = None) -> wire.GetPromptResult:
        """``{"messages": [...]}`` of the prompt `name`; its `arguments` are texts."""
        params: dict[str, Any] = {"name": name}
        # Left out where there are none: the member is optional on the wire.
        if arguments is not None:
            params["arguments"] = dict(arguments)
        return cast("wire.GetPromptResult", await self.request("prompts/get", params))

    async def complete(
        self, ref: Mapping[str, Any], argument: Mapping[str, str], context: Mapping[str, Any] | None = None
    ) -> wire.Completion:
        """``{"values": [...], "total": ..., "hasMore": ...}``, the `completion` of the result.

        Args:
            ref: ``{"type": "ref/prompt", "name": ...}`` or ``{"type": "ref/resource", "uri": ...}``.
            argument: ``{"name": ..., "value": ...}``.
            context: ``{"arguments": {...}}`` that are known already.
        """
        params: dict[str, Any] = {"ref": dict(ref), "argument": dict(argument)}
        if context is not None:
            params["context"] = dict(context)
        result = await self.request("completion/complete", params)
        # Checked, since users take members of it.
        completion = result.get("completion")
        if not isinstance(completion, dict):
            raise InvalidAnswer("completion/complete was answered without a completion")
        return cast("wire.Completion", completion)
