"""The application: `create_app(settings)` wires it, uvicorn calls `from_environment`."""

import asyncio
import gc
import logging
import os
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

from anyio import CapacityLimiter, to_thread
from fastapi import FastAPI

import kb
from api import docs, errors, mcp, openapi, tool_shapes
from api.admission import SEARCHES_AT_ONCE, WAITING, Admission, Door
from api.auth import Gate, Keyring, Visitors, is_loopback
from api.metrics import Metrics
from api.process import end_with_parent, heeding_stops, share_arenas
from api.routes import (
    chat,
    contents,
    context,
    documents,
    embeddings,
    files,
    health,
    jobs,
    knowledge_bases,
    models,
    responses,
    runs,
    search,
    tools,
    usage,
    vector_store_files,
    vector_stores,
)
from api.trace import Trace
from kb.agent.core import Agent
from kb.agent.keeping import Keeping
from kb.errors import KbError
from kb.service import Service

_DESCRIPTION = """Exact, cited search over your own documents.

Offsets are half-open, in Unicode code points of one version's immutable text. Times are UTC. Every answer
carries `x-request-id`; every error is `{"error": {"message", "type", "param", "code"}}`.
On loopback no key is needed until one is made; send it as `Authorization: Bearer` or `X-API-Key`."""

log = logging.getLogger(__name__)


def create_app(settings: kb.Settings, *, open_to: str = "127.0.0.1") -> FastAPI:
    """The HTTP service over a data folder.

    open_to: the address it will listen on; on any but loopback every call needs a key. The folder is
    opened, its models and indexes loaded and its waiting jobs begun when the application starts.
    """
    visitors = Visitors.of(settings, open_to)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        with (
            Service(settings) as service,
            ThreadPoolExecutor(SEARCHES_AT_ONCE, thread_name_prefix="kb-search") as search_threads,
        ):
            app.state.service = service
            app.state.search_threads = search_threads
            app.state.keyring = Keyring(service.catalog.keys)
            app.state.metrics = Metrics(service.knowledge_bases)
            app.state.accepting = CapacityLimiter(documents.ACCEPTING)
            app.state.admission = Admission(app.state.metrics.observe_refusal)
            app.state.waiting = CapacityLimiter(WAITING)
            app.state.probing = CapacityLimiter(1)
            app.state.embedding = CapacityLimiter(1)
            app.state.cold = _is_cold(service)
            if not gc.isenabled():
                # `kb serve` turned it off to load. What is loaded stays: looking through it again and
                # again would stop every search for it.
                gc.freeze()
                gc.enable()
            app.state.agent = Agent(service)
            app.state.keeping = Keeping(app.state.agent, service.catalog.responses)
            app.state.conversations = mcp.Conversations(service, visitors)
            service.jobs.start()
            conversing = asyncio.create_task(app.state.conversations.run())
            try:
                with heeding_stops(service.jobs.stop_soon, app.state.conversations.stop_soon):
                    yield
            finally:
                await app.state.keeping.close()
                await service.gateway.close()
                conversing.cancel()
                await asyncio.wait((conversing,))
                await to_thread.run_sync(service.jobs.stop)

    app = FastAPI(
        title="Knowledge base",
        version=kb.__version__,
        description=_DESCRIPTION,
        lifespan=lifespan,
        # Both pages that FastAPI has load scripts of others; api/docs.py needs none.
        docs_url=None,
        redoc_url=None,
    )
    # Routes are tried in this order: the one that is asked most comes first.
    first = (
        search.routes,
        vector_stores.searches,
        tools.calls,
        responses.creation,
        chat.routes,
        context.routes,
    )
    for routes in (*first, knowledge_bases.routes, documents.routes, contents.routes):
        app.include_router(routes)
    for noun in (
        responses,
        runs,
        tools,
        models,
        usage,
        files,
        vector_stores,
        vector_store_files,
        embeddings,
        jobs,
        health,
        docs,
    ):
        app.include_router(noun.routes)
    mcp.mount(app, visitors)
    app.state.keyless = is_loopback(open_to)
    app.state.reranks = settings.reranker is not None
    app.openapi = lambda: openapi.document(app, tool_shapes.definitions())  # type: ignore[method-assign]
    errors.install(app)
    # The last one added is the outermost.
    app.add_middleware(Door)
    app.add_middleware(Gate, open_to=open_to, visitors=visitors)
    app.add_middleware(Trace)
    return app


def from_environment() -> FastAPI:
    """The application of this process's environment: `kb.Settings.read`, and KB_HOST as `open_to`."""
    share_arenas()
    end_with_parent()
    return create_app(kb.Settings.read(), open_to=os.environ.get("KB_HOST", "127.0.0.1"))


def _is_cold(service: Service) -> bool:
    try:
        service.warm()
    except KbError as error:
        # The other knowledge bases can be served, and this one deleted; /readyz tells until then.
        log.error("not everything could be loaded: %s", error)
        return True
    return False
