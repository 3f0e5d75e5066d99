"""The server of one client, over standard input and output."""

import logging
import threading
from collections.abc import Callable
from typing import Any, TypeVar

import anyio
from anyio import CapacityLimiter, to_thread
from mcp.server.lowlevel.server import NotificationOptions, Server
from mcp.server.stdio import stdio_server

from kb.errors import KbError
from kb.mcp.server import Context, build
from kb.mcp.watch import Watch
from kb.service import Service

T = TypeVar("T")

log = logging.getLogger(__name__)

# One client's; what is more waits for a thread.
_AT_ONCE = 8


def serve(service: Service) -> None:
    """Answer until the input ends. Meanwhile whatever else writes to the output goes to standard error.

    Models and indexes are loaded in the background: the tools are listed at once, and a search that comes
    before all is there waits for it.
    """
    warming = threading.Thread(target=_warm, args=(service,), name="kb-warm")
    warming.start()
    try:
        anyio.run(_serve, service)
    finally:
        # What it loads must not be closed under it.
        warming.join()


def _warm(service: Service) -> None:
    try:
        service.warm()
    except KbError as error:
        # Texts are read all the same; a search says it again.
        log.error("not everything could be loaded: %s", error)


async def _serve(service: Service) -> None:
    server = standing(service)
    options = server.create_initialization_options(NotificationOptions(resources_changed=True))
    async with stdio_server() as (incoming, outgoing):
        await server.run(incoming, outgoing, options)


def standing(service: Service) -> Server[Any]:
    """A server for one connection that stays open, over whatever it goes."""
    threads = CapacityLimiter(_AT_ONCE)

    async def work(_: Context, do: Callable[[], T], /, *, search: bool = False) -> T:
        return await to_thread.run_sync(do, limiter=threads)

    watch = Watch(service)
    server = build(service, work, watch)
    watch.serve_handshake(server)
    return server
