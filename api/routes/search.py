"""Search: a question to one knowledge base, or to several."""

from collections.abc import Sequence

from fastapi import APIRouter, Request, Response

from api import answers
from api.answers import respond
from api.deps import Direct, body, search_thread, service_of
from api.openapi import described
from api.schemas import SearchRequest, SearchSeveralRequest
from kb.search.filters import parse_filter

routes = APIRouter(prefix="/v1", tags=["search"], route_class=Direct)


@routes.post("/knowledge_bases/{kb}/search", **described(answers.SearchAnswer, takes=SearchRequest))
async def search_knowledge_base(kb: str, request: Request) -> Response:
    """The passages of a knowledge base, by id or name, that answer best."""
    return await _searched(request, await body(request, SearchRequest), [kb])


@routes.post("/search", **described(answers.SearchAnswer, takes=SearchSeveralRequest))
async def search_several(request: Request) -> Response:
    """The passages of several knowledge bases that answer best; these must share an embedder."""
    asked = await body(request, SearchSeveralRequest)
    return await _searched(request, asked, asked.knowledge_base_ids)


async def _searched(request: Request, asked: SearchRequest, kbs: Sequence[str]) -> Response:
    def work() -> Response:
        where = None if asked.filters is None else parse_filter(asked.filters)
        result = service_of(request).search(
            asked.query,
            kbs,
            top_k=asked.top_k,
            mode=asked.mode,
            where=where,
            score_threshold=asked.score_threshold,
            rerank=asked.reranking(),
        )
        request.app.state.metrics.observe_search(result.timings_ms)
        return respond(result)

    return await search_thread(request, work)
