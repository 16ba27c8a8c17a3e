# SPDX-License-Identifier: MIT
"""Resources, prompts and completions of an `MCPServer`: functions that are registered by decorators.

`mcpserver` adds the tools, and the server itself.

Rule: as in `mcpserver`, a mistake in a function is an error when it is registered.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, overload

from ..protocol.uris import normal, normal_template
from ..schema.tojson import as_plain
from ..schema.wirewords import in_wire_words
from .answers import CatalogueHandler
from .functions import (
    Entry,
    Function,
    Reading,
    ResourceEntry,
    check_variables,
    decorated,
    defined,
    name_of,
    prompt_arguments,
)

if TYPE_CHECKING:
    from ..protocol.uritemplate import URITemplate

F = TypeVar("F", bound=Callable[..., Any])

# RFC 3986, 3: a scheme, a colon, and neither blanks nor controls after it
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[^\x00-\x20\x7f]+")


class Publisher(CatalogueHandler):
    """The part of `MCPServer` that registers resources, prompts and completions."""

    _reading: Reading

    def resource(
        self,
        uri: str,
        *,
        name: str | None = None,
        title: str | None = None,
        description: str | None = None,
        mime_type: str | None = None,
        icons: list[Any] | None = None,
        annotations: Mapping[str, Any] | None = None,
        meta: Mapping[str, Any] | None = None,
        size: int | None = None,
        scopes: Sequence[str] = (),
        thread: bool = True,
        any_path: bool = False,
    ) -> Callable[[F], F]:
        """Register a function as the resource of a URI, or of a template (RFC 6570); arguments as `add_resource`."""
        if not isinstance(uri, str):
            raise TypeError("a resource needs its URI: @server.resource('scheme://path')")

        def decorate(fn: F) -> F:
            self.add_resource(
                uri, fn, name=name, title=title, description=description, mime_type=mime_type, icons=icons,
                annotations=annotations, meta=meta, size=size, scopes=scopes, thread=thread, any_path=any_path,
            )  # fmt: skip
            return fn

        return decorate

    def add_resource(
        self,
        uri: str,
        fn: Callable[..., Any],
        *,
        name: str | None = None,
        title: str | None = None,
        description: str | None = None,
        mime_type: str | None = None,
        icons: list[Any] | None = None,
        annotations: Mapping[str, Any] | None = None,
        meta: Mapping[str, Any] | None = None,
        size: int | None = None,
        scopes: Sequence[str] = (),
        thread: bool = True,
        any_path: bool = False,
    ) -> None:
        """Add the resource or the template `uri`, from any thread.

        `fn` takes the template's variables by name and returns text, bytes, anything JSON can say, or a list of
        contents; None means that there is no such resource.  Variables that would climb out of a folder ("..", an
        absolute path) do not match, unless `any_path` says that `fn` checks for itself.  `scopes` as for `add_tool`:
        for reading, subscribing and completing.  `name`, `title`, `description`, `mime_type`, `icons`, `annotations`,
        `size` and `meta` are listed, and `thread` is as for `add_tool`.  A client may spell the URI in any way that RFC
        3986, 6.2.2, calls equal: `caf%c3%a9`, `caf%C3%A9` and `café`; segments "." and ".." are not resolved.

        Raises:
            ValueError: the URI is taken, or is neither a URI nor a template, or a template has a size.
            TypeError: `fn` does not take the template's variables.
        """
        name = name or name_of(fn)
        function = Function(fn, name, thread=thread, reading=self._reading.but(False, None))
        # A brace may stand in no URI (RFC 3986, 2), so it begins a template.
        template = _template(uri) if "{" in uri else None
        if template is None and not _URI.fullmatch(uri):
            raise ValueError(f"a resource's URI has a scheme, as in notes://today, and no blanks: {uri!r}")
        # One template stands for many resources, each of a size of its own.
        if template is not None and size is not None:
            raise ValueError(f"{uri}: a template has no size")
        check_variables(uri, function, template)
        definition = defined(
            name=name,
            title=title,
            description=description or function.signature.description or None,
            mimeType=mime_type,
            icons=in_wire_words(as_plain(icons)),
            annotations=in_wire_words(as_plain(annotations)),
            size=size,
            _meta=dict(meta) if meta else None,
        )
        known = self._catalogue
        entries, member = (known.resources, "uri") if template is None else (known.templates, "uriTemplate")
        resource = ResourceEntry(function, {member: uri, **definition}, template, any_path)
        known.add("resource", entries, normal(uri) if template is None else template.template, resource, scopes)
        self.notify_resources_changed()

    def remove_resource(self, uri: str) -> None:
        """Remove the resource or template `uri`, from any thread.  Raises KeyError where there is none."""
        known = self._catalogue
        template = normal_template(uri)
        # The two tables have their own spelling of a URI: a template keeps its braces.
        if template in known.templates:
            known.remove(known.templates, template)
        else:
            known.remove(known.resources, normal(uri))
        self.notify_resources_changed()

    @overload
    def prompt(self, fn: F, /) -> F: ...

    @overload
    def prompt(
        self,
        name: str | None = None,
        title: str | None = None,
        description: str | None = None,
        icons: list[Any] | None = None,
        *,
        meta: Mapping[str, Any] | None = None,
        scopes: Sequence[str] = (),
        thread: bool = True,
    ) -> Callable[[F], F]: ...

    def prompt(self, name: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Register a function as a prompt: ``@server.prompt`` or ``@server.prompt(title=...)``; see `add_prompt`."""
        return decorated(self.add_prompt, name, args, kwargs)

    def add_prompt(
        self,
        fn: Callable[..., Any],
        name: str | None = None,
        title: str | None = None,
        description: str | None = None,
        icons: list[Any] | None = None,
        *,
        meta: Mapping[str, Any] | None = None,
        scopes: Sequence[str] = (),
        thread: bool = True,
    ) -> None:
        """Add a prompt, from any thread.

        `fn` returns text, a message (``{"role": "user", "content": {...}}``), or a list of those.  Arguments arrive
        as text; a parameter of another type gets the value in the text, read as JSON.  `name`, `title`, `description`,
        `icons` and `meta` are listed; `scopes` and `thread` are as for `add_tool`.

        Raises:
            ValueError: the name is taken; TypeError: the signature cannot be expressed.
        """
        name = name or name_of(fn)
        function = Function(fn, name, thread=thread, reading=self._reading.but(False, None))
        definition = defined(
            name=name,
            title=title,
            description=description or function.signature.description or name,
            arguments=prompt_arguments(function.signature) or None,
            icons=in_wire_words(as_plain(icons)),
            _meta=dict(meta) if meta else None,
        )
        self._catalogue.add("prompt", self._catalogue.prompts, name, Entry(function, definition), scopes)
        self.notify_prompts_changed()

    def remove_prompt(self, name: str) -> None:
        """Remove a prompt, from any thread.  Raises KeyError where there is none of that name."""
        self._catalogue.remove(self._catalogue.prompts, name)
        self.notify_prompts_changed()

    @overload
    def completion(self, fn: F, /) -> F: ...

    @overload
    def completion(self, *, thread: bool = True) -> Callable[[F], F]: ...

    def completion(self, fn: Any = None, *, thread: bool = True) -> Any:
        """Register the function that completes arguments: ``fn(ref, argument, context)``.

        `ref` names the prompt or template, `argument` is ``{"name", "value"}``, and `context` has the values chosen
        already, or is None.  It returns a list of texts, best first, or ``{"values", "total", "hasMore"}``.  `thread`
        is as for `add_tool`.
        """

        # One function completes all arguments; the last one that is registered holds.
        def decorate(function: Any) -> Any:
            self._completion = Function(function, "completion", thread=thread)
            return function

        return decorate if fn is None else decorate(fn)


def _template(uri: str) -> URITemplate:
    from ..protocol.uritemplate import URITemplate  # with `urllib.parse`, for servers that have templates

    return URITemplate(normal_template(uri))
