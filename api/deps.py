"""What the routes ask of a request: the service, a checked body, a thread to work in."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Path, Request, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel, TypeAdapter, ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.types import Message, Receive

from api.errors import ApiError, invalid
from kb.agent.core import Agent
from kb.agent.keeping import Keeping
from kb.service import Service

MAX_JSON = 2_000_000
"""Bytes of a JSON body that carries no documents."""

# JSON up to this size is read on the event loop, where it costs less than changing threads.
_SMALL = 65_536

_object = TypeAdapter(dict[str, Any])

Kb = Annotated[str, Path(description="Its name or id.", examples=["kb_0199f3c2a7de7b2f9a4c1d2e3f405162"])]
"""The knowledge base that a path is about."""

M = TypeVar("M", bound=BaseModel)
T = TypeVar("T")


class Direct(APIRoute):
    """A route that calls its function with the request and the strings of its path, and nothing else.

    For a search, which has no dependencies to solve: it saves a third of the framework's time.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """As FastAPI asks for it."""

        async def handle(request: Request) -> Response:
            answer: Response = await self.endpoint(request=request, **request.path_params)
            return answer

        return handle


def service_of(request: Request) -> Service:
    """The open service of this application."""
    service: Service = request.app.state.service
    return service


def caller_key(request: Request) -> str | None:
    """The id of the key that a request came with; None for one that needed none."""
    key_id: str | None = request.state.key_id
    return key_id


def agent_of(request: Request) -> Agent:
    """What prepares answers of language models."""
    agent: Agent = request.app.state.agent
    return agent


def keeping_of(request: Request) -> Keeping:
    """What makes and keeps them."""
    keeping: Keeping = request.app.state.keeping
    return keeping


async def _opened(request: Request) -> Service:
    # A plain function would be given a thread of those that may all be at work.
    return service_of(request)


Opened = Annotated[Service, Depends(_opened)]


def media_type(request: Request) -> str:
    """What the body claims to be, without its parameters."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def body(request: Request, model: type[M], *, limit: int = MAX_JSON) -> M:
    """The JSON body as a `model`. Raises ApiError: 415 for another type, 413 over `limit` bytes, else 422."""
    raw = await _json(request, limit)
    try:
        if len(raw) <= _SMALL:
            return model.model_validate_json(raw)
        return await run_in_threadpool(model.model_validate_json, raw)
    except ValidationError as error:
        raise invalid(error) from None


async def json_object(request: Request) -> dict[str, Any]:
    """The JSON body as it is. Raises ApiError: 415 for another type, 413 when it is too large, else 422."""
    try:
        return _object.validate_json(await _json(request, MAX_JSON))
    except ValidationError as error:
        raise invalid(error) from None


async def _json(request: Request, limit: int) -> bytes:
    if media_type(request) != "application/json":
        raise unsupported("application/json")
    return await limited(request, limit).body()


def limited(request: Request, limit: int) -> Request:
    """The same request, refusing with 413 once its body is found to be longer than `limit` bytes, and at
    once with 429 while the bodies of others leave it no room."""
    message = f"the body is larger than {limit:,} bytes; send less at a time"
    refusal = ApiError(413, "too_large", message)
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > limit:
        raise refusal
    if declared.isdecimal():
        request.state.body.expect(int(declared))
    return Request(request.scope, _counted(request.receive, limit, refusal))


def unsupported(*accepted: str) -> ApiError:
    """The refusal of a body of another type."""
    message = f"send the body as {' or '.join(accepted)}, and say so in the content-type header"
    return ApiError(415, "unsupported_media_type", message, param="content-type")


async def search_thread(request: Request, work: Callable[[], T]) -> T:
    """Run a search in one of the threads kept for them, so that uploads and deletions never hold one up.

    Raises ApiError 429 when too many wait already, and ClientDisconnect when the client leaves the line.
    """
    async with request.app.state.admission.searches.place(request.receive):
        return await asyncio.get_running_loop().run_in_executor(request.app.state.search_threads, work)


def _counted(receive: Receive, limit: int, refusal: ApiError) -> Receive:
    seen = 0

    async def counted() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > limit:
            raise refusal
        return message

    return counted
