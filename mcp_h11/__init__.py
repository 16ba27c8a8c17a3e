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

The names in `__all__` are public.  All other names may change.
"""

from typing import TYPE_CHECKING, Any

from .handler.context import Context
from .handler.extension import Extension, ExtensionMethod
from .handler.handler import ServerHandler
from .handler.mcpserver import MCPServer
from .handler.questions import Elicit, Elicited, ElicitURL, InputRequired, ListRoots, Sample, Sampled
from .handler.sessions import ServerSession
from .http.auth import AccessToken, Principal, TokenVerifier, canonical_uri
from .http.messages import Limits
from .protocol.content import Audio, Image, ParamHeader, assistant, audio, embedded, image, resource_link, text, user
from .protocol.errors import (
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
from .protocol.revisions import REVISIONS, Revision
from .runtime.settings import Settings
from .runtime.storage import EventStore, MemoryEventStore, MemorySessionManager, SessionManager, SessionState
from .server.running import listening, run, serve
from .server.server import Server
from .server.tls import tls_context
from .version import __version__ as __version__

if TYPE_CHECKING:  # `__getattr__` loads these at their first use
    from .bridge.proxy import ProxyHandler
    from .client.client import Client
    from .client.conversation.cache import ResultCache
    from .client.detection import Detected, detect
    from .client.http.httpclient import HTTPCall
    from .client.http.middleware import BearerToken, CircuitBreaker, CircuitOpen, Token, extra_headers, log_calls
    from .client.http.wire import HTTPAnswer
    from .client.oauth.errors import TokenStoreError
    from .client.oauth.files import FileTokenStore
    from .client.oauth.grants import ClientCredentials, EnterpriseIdentity, JWTBearer
    from .client.oauth.keyring import KeyringTokenStore
    from .client.oauth.loopback import LoopbackRedirect, PastedRedirect
    from .client.oauth.oauth import OAuth
    from .client.oauth.redirect import AuthorizationResponse, Redirect
    from .client.oauth.store import Login, MemoryTokenStore, Registration, Tokens, TokenStore
    from .client.probe import EraMemory
    from .client.skills import get_skill, list_skills, read_skill, read_skill_file
    from .client.subscriptions import ChangeStream
    from .client.targets import Command, Url
    from .client.tasks import TaskCancelled, TaskHandle
    from .client.transports.errors import (
        AuthorizationRequired,
        ConnectionLost,
        HTTPStatusError,
        InvalidAnswer,
        LoginFailed,
        RequestTimeout,
        SessionLost,
    )
    from .extensions.apps import Apps
    from .extensions.skills import Skills
    from .extensions.tasks import Tasks
    from .hosted.asgi import ASGIApp, asgi
    from .server.stdio import run_stdio, serve_stdio
    from .server.thread import ServerThread, start_in_thread

__all__ = (
    # a server made of functions, or of a handler of your own
    "MCPServer",
    "ServerHandler",
    "Context",
    "ServerSession",
    # extensions of the protocol
    "Apps",
    "Extension",
    "ExtensionMethod",
    "Skills",
    "Tasks",
    # serving
    "Principal",
    "Server",
    "ServerThread",
    "Settings",
    "Limits",
    "ASGIApp",
    "asgi",
    "listening",
    "run",
    "run_stdio",
    "serve",
    "serve_stdio",
    "start_in_thread",
    "tls_context",
    # authorization
    "AccessToken",
    "TokenVerifier",
    "canonical_uri",
    # arguments and results of functions
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
    "TaskCancelled",
    "TaskHandle",
    "Detected",
    "EraMemory",
    "ResultCache",
    "detect",
    # logins of a client
    "OAuth",
    "AuthorizationResponse",
    "ClientCredentials",
    "EnterpriseIdentity",
    "FileTokenStore",
    "JWTBearer",
    "KeyringTokenStore",
    "Login",
    "LoopbackRedirect",
    "MemoryTokenStore",
    "PastedRedirect",
    "Redirect",
    "Registration",
    "TokenStore",
    "TokenStoreError",
    "Tokens",
    # the skills of a server
    "get_skill",
    "list_skills",
    "read_skill",
    "read_skill_file",
    # a bridge to another server
    "Command",
    "ProxyHandler",
    "Url",
    # errors of clients
    "AuthorizationRequired",
    "ConnectionLost",
    "HTTPStatusError",
    "InvalidAnswer",
    "LoginFailed",
    "RequestTimeout",
    "SessionLost",
    # middleware of clients
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


_ON_DEMAND = {
    "bridge.proxy": ("ProxyHandler",),
    "client.client": ("Client",),
    "client.conversation.cache": ("ResultCache",),
    "client.detection": (
        "Detected",
        "detect",
    ),
    "client.http.httpclient": ("HTTPCall",),
    "client.http.middleware": (
        "BearerToken",
        "CircuitBreaker",
        "CircuitOpen",
        "Token",
        "extra_headers",
        "log_calls",
    ),
    "client.http.wire": ("HTTPAnswer",),
    "client.oauth.errors": ("TokenStoreError",),
    "client.oauth.files": ("FileTokenStore",),
    "client.oauth.grants": (
        "ClientCredentials",
        "EnterpriseIdentity",
        "JWTBearer",
    ),
    "client.oauth.keyring": ("KeyringTokenStore",),
    "client.oauth.loopback": (
        "LoopbackRedirect",
        "PastedRedirect",
    ),
    "client.oauth.oauth": ("OAuth",),
    "client.oauth.redirect": (
        "AuthorizationResponse",
        "Redirect",
    ),
    "client.oauth.store": (
        "Login",
        "MemoryTokenStore",
        "Registration",
        "TokenStore",
        "Tokens",
    ),
    "client.probe": ("EraMemory",),
    "client.skills": (
        "get_skill",
        "list_skills",
        "read_skill",
        "read_skill_file",
    ),
    "client.subscriptions": ("ChangeStream",),
    "client.targets": (
        "Command",
        "Url",
    ),
    "client.tasks": (
        "TaskCancelled",
        "TaskHandle",
    ),
    "client.transports.errors": (
        "AuthorizationRequired",
        "ConnectionLost",
        "HTTPStatusError",
        "InvalidAnswer",
        "LoginFailed",
        "RequestTimeout",
        "SessionLost",
    ),
    "extensions.apps": ("Apps",),
    "extensions.skills": ("Skills",),
    "extensions.tasks": ("Tasks",),
    "hosted.asgi": (
        "ASGIApp",
        "asgi",
    ),
    "server.stdio": (
        "run_stdio",
        "serve_stdio",
    ),
    "server.thread": (
        "ServerThread",
        "start_in_thread",
    ),
}


def __getattr__(name: str) -> Any:
    """Load a name of the client, the bridge or the pipes at its first use, because a server on HTTP needs none of them.

    PEP 562.
    """
    for module, names in _ON_DEMAND.items():
        if name in names:
            from importlib import import_module

            try:
                globals()[name] = value = getattr(import_module(f".{module}", __name__), name)
            except ModuleNotFoundError as error:
                # A host may copy the package without the folders that a server does not need.
                left_out = module.partition(".")[0]
                if error.name != f"{__name__}.{left_out}":
                    raise
                # `from ... import NAME` keeps the text of an ImportError, and would replace that of an AttributeError.
                raise ImportError(f"{name} is not here: {__name__} was vendored without {left_out}/") from None
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
