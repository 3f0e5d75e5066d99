"""Responses of language models, as the `openai` SDK speaks to them."""

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from functools import partial
from typing import Annotated

from anyio import to_thread
from fastapi import APIRouter, Query, Request, Response

from api import responses_shapes as shapes
from api.answers import respond
from api.asked import asked_of
from api.deps import Direct, Opened, agent_of, body, caller_key, keeping_of, search_thread, service_of
from api.event_stream import EventStream, event, unless_left
from api.openai_answers import page
from api.openapi import described
from api.responses_bodies import NewResponse, ResponseId, ResponseParameters, TokenCount
from api.routes.files import After, Order
from api.unanswered import unanswered
from kb.agent.asked import Asked, Run
from kb.agent.output import Event
from kb.catalog.paging import Listed
from kb.errors import InvalidInput, NoEndpoint

routes = APIRouter(prefix="/v1/responses", tags=["responses"])
creation = APIRouter(prefix="/v1/responses", tags=["responses"], route_class=Direct)

MAX_BODY = 20_000_000
"""Bytes of a request: a million tokens of history, with the marks around them."""

CALL_ERRORS = (400, 402, 403, 404, 422, 502, 503, 504)
"""Statuses that a request to a language model may end in."""


@creation.post(
    "", **described(shapes.ModelResponse, takes=NewResponse, errors=CALL_ERRORS, streams=shapes.STREAM)
)
async def create_response(request: Request) -> Response:
    """An answer of a language model, which rests on knowledge bases where some are named.

    With `stream` it comes as server-sent events.
    """
    sent = await body(request, NewResponse, limit=MAX_BODY)
    if sent.background and sent.store is False:
        raise InvalidInput("what is answered in the background has to be stored", param="store")
    keeping, run = keeping_of(request), await _prepared(request, sent)
    try:
        if sent.background:
            # What nobody can answer is told at once.
            service_of(request).gateway.endpoints.of(run.model.id)
            started = await keeping.start(run)
            if sent.stream:
                return await streamed(request, keeping.follow(run.id, run.asked.caller.key_id))
            return respond(started)
        if sent.stream:
            return await streamed(request, keeping.answer(run))
        return respond(await unless_left(request.receive, keeping.respond(run)))
    except NoEndpoint as error:
        return unanswered(error, run)


@routes.post(
    "/input_tokens", **described(shapes.InputTokens, takes=TokenCount, errors=(400, 402, 403, 404, 422))
)
async def count_input_tokens(request: Request) -> Response:
    """The tokens of a request, without asking the model."""
    run = await _prepared(request, await body(request, TokenCount, limit=MAX_BODY))
    return respond({"object": "response.input_tokens", "input_tokens": run.call.input_tokens})


@routes.get("/{response_id}", **described(shapes.ModelResponse, streams=shapes.STREAM))
async def show_response(
    response_id: ResponseId,
    request: Request,
    stream: bool = False,
    starting_after: Annotated[
        int | None, Query(ge=0, le=2**53, description="With `stream`: the last event that is known.")
    ] = None,
) -> Response:
    """A response that is kept; with `stream` its events again, from behind one of them."""
    keeping, key = keeping_of(request), caller_key(request)
    if stream:
        after = -1 if starting_after is None else starting_after
        return await streamed(request, keeping.follow(response_id, key, after))
    return respond(await to_thread.run_sync(keeping.show, response_id, key))


@routes.post("/{response_id}/cancel", **described(shapes.ModelResponse))
async def cancel_response(response_id: ResponseId, request: Request) -> Response:
    """Stop a response that is answered in the background; one that has ended stays as it is."""
    return respond(await keeping_of(request).cancel(response_id, caller_key(request)))


@routes.delete("/{response_id}", **described(shapes.ResponseDeleted))
def delete_response(response_id: ResponseId, request: Request, service: Opened) -> Response:
    """Forget a response; others that go on from it stay, and cannot be gone on from."""
    service.catalog.responses.delete(response_id, caller_key(request))
    return respond({"id": response_id, "object": "response", "deleted": True})


@routes.get("/{response_id}/input_items", **described(shapes.InputItems))
def list_input_items(
    response_id: ResponseId,
    request: Request,
    service: Opened,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    order: Order = "desc",
    after: After = None,
) -> Response:
    """A page of what a response was given, the last first unless asked otherwise."""
    items = list(service.catalog.responses.get(response_id, caller_key(request)).input)
    if order == "desc":
        items.reverse()
    ids = [item.get("id") for item in items]
    begin = ids.index(after) + 1 if after in ids else 0
    shown = Listed(items[begin : begin + limit], begin + limit < len(items))
    return respond(page(shown, shown.items))


async def prepared(request: Request, asked: Callable[[], Asked]) -> Run:
    """The run of a request; where it has to search it stands in the line of those who do."""
    agent = agent_of(request)

    def prepare() -> Run | Asked:
        given = asked()
        return given if given.grounding else agent.prepare(given)

    made = await to_thread.run_sync(prepare)
    if isinstance(made, Run):
        return made
    return await search_thread(request, partial(agent.prepare, made))


async def _prepared(request: Request, sent: ResponseParameters) -> Run:
    service, key = service_of(request), caller_key(request)
    return await prepared(request, lambda: asked_of(service, sent, key))


async def streamed(request: Request, events: AsyncGenerator[Event, None]) -> Response:
    """The events as they are sent. The first is there when this returns: what fails before is an error."""

    async def pieces() -> AsyncGenerator[bytes, None]:
        async with aclosing(events):
            async for one in events:
                yield event(one["type"], one)

    return await EventStream(pieces()).begun(request.receive)
