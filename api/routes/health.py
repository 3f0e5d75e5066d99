"""Health: is it alive, is it ready, how does it do."""

from anyio import to_thread
from fastapi import APIRouter, Request, Response
from starlette.datastructures import State

from api import answers
from api.answers import respond
from api.deps import Opened
from api.openapi import content, described, refusal
from kb.errors import KbError
from kb.service import Service

routes = APIRouter(tags=["health"])


@routes.get("/healthz", **described(answers.Status, errors=(), needs_key=False))
async def alive() -> Response:
    """The process answers. Needs no key."""
    return respond({"status": "ok"})


_READY = described(answers.Status, errors=(), needs_key=False)
_READY["responses"][503] = {"description": "Not yet.", "content": content(answers.Status)}


@routes.get("/readyz", **_READY)
async def ready(request: Request, service: Opened) -> Response:
    """The catalog answers and every knowledge base is loaded; else 503. Needs no key."""
    state = request.app.state
    # A thread of its own: it must answer also while other work holds all the others.
    return await to_thread.run_sync(_ready, state, service, limiter=state.probing)


def _ready(state: State, service: Service) -> Response:
    if state.cold:
        # What kept it from loading may have been mended, or deleted, since.
        try:
            service.warm()
        except KbError:
            return respond({"status": "loading"}, 503)
        state.cold = False
    service.catalog.keys.exist()
    return respond({"status": "ready"})


@routes.get(
    "/metrics",
    response_class=Response,
    responses={
        200: {"description": "Prometheus text", "content": {"text/plain": {"example": "kb_documents 25.0"}}},
        401: refusal(401),
    },
)
def metrics(request: Request) -> Response:
    """Requests, latencies, search stages and sizes, for Prometheus."""
    return Response(
        request.app.state.metrics.exposition(), media_type="text/plain; version=0.0.4; charset=utf-8"
    )
