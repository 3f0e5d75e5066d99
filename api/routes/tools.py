"""The tools that models are given, each at a path of its own; for programs that call them for a model."""

from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool

from api import answers, tool_shapes
from api.answers import respond
from api.deps import Direct, json_object, search_thread, service_of
from api.openapi import described
from kb import tools
from kb.tools import Tool

routes = APIRouter(prefix="/v1/tools", tags=["tools"])
calls = APIRouter(prefix="/v1/tools", tags=["tools"], route_class=Direct)


@routes.get("", **described(answers.Tools, errors=()))
async def list_tools() -> Response:
    """Every tool: what it is for, JSON Schemas of what it takes and gives, and as an OpenAI function."""
    return respond({"data": [tool_shapes.shown(tool) for tool in tools.TOOLS.values()]})


def _caller(tool: Tool) -> Callable[..., Coroutine[Any, Any, Response]]:
    async def call(request: Request) -> Response:
        given = await json_object(request)
        work = partial(_called, request, tool.name, given)
        # What embeds goes where searches go, the rest must not hold those up.
        if tool.name == "search_knowledge_base":
            return await search_thread(request, work)
        return await run_in_threadpool(work)

    call.__doc__ = tool.description
    return call


for one in tools.TOOLS.values():
    calls.post(f"/{one.name}", name=one.name, **tool_shapes.described(one))(_caller(one))


@calls.post("/{name}", include_in_schema=False)
async def call_unknown(request: Request, name: str) -> Response:
    """Names the nearest tool there is."""
    tools.tool(name)
    raise AssertionError(f"{name} has a path of its own")


def _called(request: Request, name: str, given: dict[str, Any]) -> Response:
    return respond(tools.call(service_of(request), name, given))
