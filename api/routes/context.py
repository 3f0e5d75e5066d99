"""Contexts: what was found, packed to a model's window; with a receipt, and a quote before it is spent."""

from typing import Any

from fastapi import APIRouter, Request, Response

from api import answers
from api.answers import respond
from api.deps import Direct, body, search_thread, service_of
from api.openapi import described
from api.schemas import ContextRequest
from kb.context.pack import Place
from kb.context.receipt import receipt_of
from kb.context.window import tokens_of, window_of
from kb.search.filters import parse_filter
from kb.service import Service

routes = APIRouter(prefix="/v1", tags=["context"], route_class=Direct)


@routes.post("/context", **described(answers.Context, takes=ContextRequest))
async def pack_context(request: Request) -> Response:
    """The passages that answer a question, packed to what a model's window leaves for them."""
    asked = await body(request, ContextRequest)
    return await search_thread(request, lambda: respond(_packed(service_of(request), asked)))


def _packed(service: Service, asked: ContextRequest) -> dict[str, Any]:
    model = service.language_models.get(asked.model)
    window = window_of(
        model,
        instructions=asked.instructions,
        history=tokens_of([one.model_dump() for one in asked.history]),
        tools=asked.tools,
        max_output_tokens=asked.max_output_tokens,
        most=asked.max_tokens,
    )
    made = service.pack(
        asked.query,
        asked.knowledge_base_ids,
        window.context,
        top_k=asked.top_k,
        mode=asked.mode,
        where=None if asked.filters is None else parse_filter(asked.filters),
        before=[Place(one.content_version_id, one.start, one.end) for one in asked.before],
    )
    return {"text": made.packed.text, **receipt_of(model, window, made)}
