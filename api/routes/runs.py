"""Runs: a model that uses tools by itself, in the background, and stops for a person's yes.

A run is a response that is kept, under the same id: it can be gone on from and read as one.
"""

from dataclasses import replace
from typing import Annotated, Any

from anyio import to_thread
from fastapi import APIRouter, Query, Request, Response

from api import responses_shapes
from api import run_shapes as shapes
from api.answers import respond
from api.asked import asked_of
from api.continued import continued
from api.deps import body, caller_key, keeping_of, service_of
from api.openapi import described
from api.responses_bodies import McpTool, ResponseId
from api.routes.responses import CALL_ERRORS, MAX_BODY, prepared, streamed
from api.run_bodies import NewRun, Word
from api.unanswered import unanswered
from kb.agent.asked import Asked, Run
from kb.catalog.database import now
from kb.errors import AlreadyExists, NoEndpoint, NotFound

routes = APIRouter(prefix="/v1/runs", tags=["runs"])


@routes.post("", **described(shapes.Run, takes=NewRun, errors=CALL_ERRORS, streams=responses_shapes.STREAM))
async def create_run(request: Request) -> Response:
    """Begin a run; without `tools` it has those over this server's knowledge bases.

    With `stream` its events come as they do of a response.
    """
    sent = await body(request, NewRun, limit=MAX_BODY)
    if sent.tools is None:
        sent.tools = [McpTool.model_validate(McpTool.example)]
    service, key = service_of(request), caller_key(request)

    def asked() -> Asked:
        return replace(asked_of(service, sent, key), store=True, background=True)

    run = await prepared(request, asked)
    return await _begun(request, run, stream=bool(sent.stream))


@routes.get("/{run_id}", **described(shapes.Run))
async def show_run(run_id: ResponseId, request: Request) -> Response:
    """How far a run is: what it has called, what it waits for, and its answer."""
    return respond(await _shown(request, run_id))


@routes.get("/{run_id}/events", **described(shapes.Run, streams=responses_shapes.STREAM))
async def follow_run(
    run_id: ResponseId,
    request: Request,
    starting_after: Annotated[
        int | None, Query(ge=0, le=2**53, description="The last event that is known.")
    ] = None,
) -> Response:
    """The events of a run, to its end; of one that has ended all of them again."""
    after = -1 if starting_after is None else starting_after
    return await streamed(request, keeping_of(request).follow(run_id, caller_key(request), after))


@routes.post("/{run_id}/cancel", **described(shapes.Run))
async def cancel_run(run_id: ResponseId, request: Request) -> Response:
    """Stop a run; one that has ended stays as it is."""
    await keeping_of(request).cancel(run_id, caller_key(request))
    return respond(await _shown(request, run_id))


@routes.post(
    "/{run_id}/approvals/{approval_id}",
    **described(shapes.Run, takes=Word, errors=(*CALL_ERRORS, 409)),
)
async def decide(run_id: ResponseId, approval_id: ResponseId, request: Request) -> Response:
    """Say yes or no to a call that a run wants to make; with the last word it goes on, as a run of its own.

    The same word again is answered with the run that goes on, however often it comes; where that has failed,
    another one goes on, and makes no call that was begun. The other word is refused with 409.
    A server that was given with credentials has to be given again in `tools`: they are not kept.
    """
    sent = await body(request, Word)
    service, key, keeping = service_of(request), caller_key(request), keeping_of(request)
    catalog = service.catalog

    def decided() -> Asked | None:
        stored = catalog.responses.get(run_id, key)
        if catalog.approvals.get(approval_id, key).response_id != run_id:
            raise NotFound(f"no approval {approval_id!r} is asked for by {run_id}", param="approval_id")
        given = None if sent.tools is None else sent.model_dump(exclude_none=True)["tools"]
        asked = continued(service, stored, given, key)
        # Nothing is decided that nobody could act on.
        service.endpoints.of(stored.body["model"])
        catalog.responses.expire(now())
        said, waiting = catalog.approvals.decide(approval_id, key, approve=sent.approve, reason=sent.reason)
        if waiting:
            return None
        # With those of before; each once.
        return replace(asked, decided=(said, *catalog.approvals.decided(run_id)))

    try:
        asked = await to_thread.run_sync(decided)
        if asked is None:
            return respond(await _shown(request, run_id))
        run = await prepared(request, lambda: asked)
        await keeping.start(run)
        goes_on = run.id
    except AlreadyExists:
        said = await to_thread.run_sync(catalog.approvals.get, approval_id, key)
        if said.continued_by is None or (said.status == "approved") != sent.approve:
            raise
        goes_on = said.continued_by
    return respond(await _shown(request, goes_on))


async def _begun(request: Request, run: Run, *, stream: bool) -> Response:
    keeping = keeping_of(request)
    try:
        service_of(request).endpoints.of(run.model.id)
    except NoEndpoint as error:
        return unanswered(error, run)
    await keeping.start(run)
    if stream:
        return await streamed(request, keeping.follow(run.id, run.asked.caller.key_id))
    return respond(await _shown(request, run.id))


async def _shown(request: Request, run_id: str) -> dict[str, Any]:
    keeping, service, key = keeping_of(request), service_of(request), caller_key(request)

    def read() -> dict[str, Any]:
        response = keeping.show(run_id, key)
        return shapes.run(response, service.catalog.approvals.of(run_id), service.catalog.steps.of(run_id))

    return await to_thread.run_sync(read)
