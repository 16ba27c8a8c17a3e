# SPDX-License-Identifier: MIT
"""A Model Context Protocol server on h11 and anyio: every published revision on one endpoint.

Ten lines to a server::

    from mcp_h11 import MCPServer

    server = MCPServer("demo")

    @server.tool
    def add(a: int, b: int) -> int:
        "Add two numbers."
        return a + b

    server.run()  # http://127.0.0.1:8000/mcp

What `__all__` lists is public; everything else may change.
"""

from typing import TYPE_CHECKING, Any

from .app import MCPServer
from .auth import AccessToken, Principal, TokenVerifier, canonical_uri
from .context import Context
from .embed import ServerThread, start_in_thread
from .errors import (
    EventsExpired,
    HeaderMismatch,
    InternalError,
    InvalidParams,
    InvalidRequest,
    MCPError,
    MethodNotFound,
    MissingClientCapability,
    Refusal,
    ResourceNotFound,
    ToolError,
    UnsupportedProtocolVersion,
)
from .handler import ServerHandler
from .http11 import Limits
from .questions import Elicit, Elicited, ElicitURL, InputRequired, ListRoots, Sample, Sampled
from .revisions import REVISIONS, Revision
from .schema import (
    Audio,
    Image,
    ParamHeader,
    assistant,
    audio,
    embedded,
    image,
    resource_link,
    text,
    user,
)
from .server import Server, listening, run, serve
from .settings import Settings
from .stdio import run_stdio, serve_stdio
from .storage import EventStore, MemoryEventStore, MemorySessionManager, SessionManager, SessionState
from .tls import tls_context

if TYPE_CHECKING:  # loaded when one of them is used: see `__getattr__`
    from .client import Client
    from .detection import Detected, detect
    from .era import EraMemory
    from .failures import (
        AuthorizationRequired,
        ConnectionLost,
        HTTPStatusError,
        InvalidAnswer,
        RequestTimeout,
        SessionLost,
    )
    from .httpclient import HTTPAnswer, HTTPCall
    from .middleware import BearerToken, CircuitBreaker, CircuitOpen, Token, extra_headers, log_calls
    from .proxy import ProxyHandler
    from .resultcache import ResultCache
    from .specs import Command, Url
    from .subscriptions import ChangeStream

__version__ = "0.1.0"

__all__ = (
    # a server of functions, or of your own handler
    "MCPServer",
    "ServerHandler",
    "Context",
    # serving
    "Principal",
    "Server",
    "ServerThread",
    "Settings",
    "Limits",
    "listening",
    "run",
    "run_stdio",
    "serve",
    "serve_stdio",
    "start_in_thread",
    "tls_context",
    # who asks
    "AccessToken",
    "TokenVerifier",
    "canonical_uri",
    # what functions take and return
    "Audio",
    "Image",
    "ParamHeader",
    "assistant",
    "audio",
    "embedded",
    "image",
    "resource_link",
    "text",
    "user",
    # asking the client
    "Elicit",
    "ElicitURL",
    "Elicited",
    "InputRequired",
    "ListRoots",
    "Sample",
    "Sampled",
    # errors
    "EventsExpired",
    "HeaderMismatch",
    "InternalError",
    "InvalidParams",
    "InvalidRequest",
    "MCPError",
    "MethodNotFound",
    "MissingClientCapability",
    "Refusal",
    "ResourceNotFound",
    "ToolError",
    "UnsupportedProtocolVersion",
    # storage
    "EventStore",
    "MemoryEventStore",
    "MemorySessionManager",
    "SessionManager",
    "SessionState",
    # a client
    "Client",
    "ChangeStream",
    "Detected",
    "EraMemory",
    "ResultCache",
    "detect",
    # a bridge to another server
    "Command",
    "ProxyHandler",
    "Url",
    # what goes wrong there
    "AuthorizationRequired",
    "ConnectionLost",
    "HTTPStatusError",
    "InvalidAnswer",
    "RequestTimeout",
    "SessionLost",
    # what stands before its requests
    "BearerToken",
    "CircuitBreaker",
    "CircuitOpen",
    "HTTPAnswer",
    "HTTPCall",
    "Token",
    "extra_headers",
    "log_calls",
    # the table of revisions
    "REVISIONS",
    "Revision",
)


def __getattr__(name: str) -> Any:
    """The names of client and bridge, loaded when one is used first: a server has no use for them (PEP 562)."""
    if name in __all__:
        from importlib import import_module

        for module in (
            "failures",
            "era",
            "resultcache",
            "httpclient",
            "middleware",
            "subscriptions",
            "client",
            "detection",
            "specs",
            "proxy",
        ):
            found = import_module(f".{module}", __name__)
            if name in vars(found):
                globals()[name] = value = vars(found)[name]
                return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
