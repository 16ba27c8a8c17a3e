# SPDX-License-Identifier: MIT
"""The everything server inside the server of another project: `python hosted_server.py --by uvicorn --port 9000`.

`--mounted` puts it into an application of a framework below `/tools`, beside a page of that application's own.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from everything_server import RETRY, server

MOUNT = "/tools"
SERVERS = ("uvicorn", "hypercorn", "granian")
FRAMEWORKS = ("starlette", "fastapi", "django")


def in_starlette(mcp: Any) -> Any:
    from starlette.applications import Starlette
    from starlette.responses import PlainTextResponse
    from starlette.routing import Mount, Route

    routes = [Route("/own", lambda request: PlainTextResponse("a page of its own")), Mount(MOUNT, mcp)]
    return Starlette(routes=routes, lifespan=mcp.lifespan)


def in_fastapi(mcp: Any) -> Any:
    from fastapi import FastAPI
    from fastapi.responses import PlainTextResponse

    app = FastAPI(lifespan=mcp.lifespan)
    app.get("/own", response_class=PlainTextResponse)(lambda: "a page of its own")
    app.mount(MOUNT, mcp)
    return app


def in_django(mcp: Any) -> Any:
    from django.conf import settings
    from django.core.asgi import get_asgi_application
    from django.http import HttpResponse
    from django.urls import path

    settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], SECRET_KEY="of a test")
    globals()["urlpatterns"] = [path("own", lambda request: HttpResponse("a page of its own"))]
    django = get_asgi_application()

    # Django has no mounting: its documentation has an application choose by the path.
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await mcp(scope, receive, send)
        elif scope["path"].startswith(MOUNT):
            await mcp({**scope, "root_path": scope.get("root_path", "") + MOUNT}, receive, send)
        else:
            await django(scope, receive, send)

    return app


def by_uvicorn(app: Any, port: int) -> None:
    import uvicorn

    uvicorn.run(app, port=port, log_level="warning")


def by_hypercorn(app: Any, port: int) -> None:
    from hypercorn.asyncio import serve
    from hypercorn.config import Config

    config = Config()
    config.bind, config.graceful_timeout = [f"127.0.0.1:{port}"], 1.0
    asyncio.run(serve(app, config))


def by_granian(app: Any, port: int) -> None:
    from granian.constants import Interfaces
    from granian.server import Server

    # It loads the application in a process of its own.
    Server(f"{Path(__file__).stem}:application", port=port, interface=Interfaces.ASGI, factory=True).serve()


def application() -> Any:
    """The application of these arguments."""
    args = arguments()
    app: Any = server.asgi(response=args.response, legacy_sse=True, retry=RETRY, store=args.store)
    return globals()[f"in_{args.mounted}"](app) if args.mounted else app


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--by", choices=SERVERS, default="uvicorn")
    parser.add_argument("--mounted", choices=FRAMEWORKS)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--response", choices=("auto", "json", "sse"), default="sse")
    parser.add_argument("--store")
    return parser.parse_args()


def main() -> None:
    args = arguments()
    logging.basicConfig(level=logging.WARNING)
    # uvicorn ends in order at SIGTERM, and then raises the signal again for the handler of before.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    globals()[f"by_{args.by}"](application(), args.port)


if __name__ == "__main__":
    main()
