"""Search: a question to one knowledge base, or to several; and why a document is or is not found."""

from collections.abc import Sequence

from fastapi import APIRouter, Request, Response

from api import answers
from api.answers import respond
from api.deps import Direct, Kb, body, search_thread, service_of
from api.openapi import described
from api.schemas import ExplainRequest, SearchRequest, SearchSeveralRequest

routes = APIRouter(prefix="/v1", tags=["search"], route_class=Direct)


@routes.post("/knowledge_bases/{kb}/search", **described(answers.SearchAnswer, takes=SearchRequest))
async def search_knowledge_base(kb: Kb, request: Request) -> Response:
    """The passages of a knowledge base, by id or name, that answer best."""
    return await _searched(request, await body(request, SearchRequest), [kb])


@routes.post("/search", **described(answers.SearchAnswer, takes=SearchSeveralRequest))
async def search_several(request: Request) -> Response:
    """The passages of several knowledge bases that answer best; these must share an embedder."""
    asked = await body(request, SearchSeveralRequest)
    return await _searched(request, asked, asked.knowledge_base_ids)


@routes.post("/knowledge_bases/{kb}/explain", **described(answers.Explanation, takes=ExplainRequest))
async def explain(kb: Kb, request: Request) -> Response:
    """Why a document is in the results of a search, or which stage dropped it."""
    asked = await body(request, ExplainRequest)

    def work() -> Response:
        told = service_of(request).explain(asked.query, asked.content_id, kb, **asked.choices())
        return respond(told)

    return await search_thread(request, work)


async def _searched(request: Request, asked: SearchRequest, kbs: Sequence[str]) -> Response:
    def work() -> Response:
        result = service_of(request).search(asked.query, kbs, **asked.options())
        request.app.state.metrics.observe_search(result.timings_ms)
        return respond(result)

    return await search_thread(request, work)
