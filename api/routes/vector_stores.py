"""Vector stores, as the `openai` SDK has them: knowledge bases under another name."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from starlette.concurrency import run_in_threadpool
from uuid6 import uuid7

from api import openai_answers as told
from api import openai_shapes as shapes
from api.answers import respond
from api.deps import Direct, Opened, body, search_thread, service_of
from api.openai_bodies import NewVectorStore, VectorStoreChange, VectorStoreSearch
from api.openapi import described
from api.routes.files import After, Order
from kb.catalog.attachments import Attachment
from kb.catalog.paging import Page
from kb.errors import NotFound
from kb.ingest.chunk import fitting
from kb.service import Service
from kb.types import KnowledgeBase

Before = Annotated[str | None, Query(description="The first id of the page behind.")]

routes = APIRouter(prefix="/v1/vector_stores", tags=["vector stores"])
searches = APIRouter(prefix="/v1/vector_stores", tags=["vector stores"], route_class=Direct)


@searches.post("/{vector_store_id}/search", **described(shapes.Results, takes=VectorStoreSearch))
async def search_vector_store(vector_store_id: str, request: Request) -> Response:
    """The passages that answer best, the most relevant first."""
    asked = await body(request, VectorStoreSearch)

    def work() -> Response:
        service = service_of(request)
        found = service.search(asked.query, [vector_store_id], **asked.options())
        request.app.state.metrics.observe_search(found.timings_ms)
        made_of = service.catalog.holdings.names(list({hit.content_id for hit in found.hits}))
        return respond(
            {
                "object": "vector_store.search_results.page",
                "search_query": asked.query,
                "data": [told.result(hit, made_of) for hit in found.hits],
                "has_more": False,
                "next_page": None,
            }
        )

    return await search_thread(request, work)


@routes.post("", **described(shapes.VectorStore, takes=NewVectorStore, errors=(404, 409, 422)))
async def create_vector_store(request: Request, service: Opened) -> Response:
    """Make a vector store, and attach files to it. Without a name it gets one that nothing else has."""
    new = await body(request, NewVectorStore)
    return respond(await run_in_threadpool(_made, service, new))


@routes.get("", **described(shapes.VectorStores, errors=(422,)))
def list_vector_stores(
    service: Opened,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    order: Order = "desc",
    after: After = None,
    before: Before = None,
) -> Response:
    """A page of vector stores, the newest first unless asked otherwise."""
    listed = service.catalog.knowledge_bases.page(Page(limit, after, before, order == "desc"))
    counts = service.catalog.holdings.counts([kb.id for kb in listed.items])
    return respond(told.page(listed, [told.vector_store(kb, counts[kb.id]) for kb in listed.items]))


@routes.get("/{vector_store_id}", **described(shapes.VectorStore, errors=(404,)))
def show_vector_store(vector_store_id: str, service: Opened) -> Response:
    """A vector store, by id or name."""
    return respond(_shown(service, service.catalog.knowledge_bases.get(vector_store_id)))


@routes.post(
    "/{vector_store_id}",
    **described(shapes.VectorStore, takes=VectorStoreChange, errors=(404, 409, 422)),
)
async def change_vector_store(vector_store_id: str, request: Request, service: Opened) -> Response:
    """Rename a vector store, or set its metadata."""
    change = await body(request, VectorStoreChange)
    cleared = "metadata" in change.model_fields_set and change.metadata is None
    changed = await run_in_threadpool(
        service.change_knowledge_base,
        vector_store_id,
        name=change.name,
        metadata={} if cleared else change.metadata,
    )
    return respond(await run_in_threadpool(_shown, service, changed))


@routes.delete("/{vector_store_id}", **described(shapes.VectorStoreDeleted, errors=(404,)))
def delete_vector_store(vector_store_id: str, service: Opened) -> Response:
    """Delete a vector store with all its documents, texts and vectors; the files stay."""
    gone = service.delete_knowledge_base(vector_store_id)
    return respond({"id": gone.id, "object": "vector_store.deleted", "deleted": True})


def _made(service: Service, new: NewVectorStore) -> dict[str, object]:
    policy = new.chunking_strategy.policy() if new.chunking_strategy else None
    if policy is not None:
        policy = fitting(policy, service.embedder(service.settings.model).max_tokens)
    kb = service.create_knowledge_base(
        new.name or f"vector-store-{uuid7().hex}",
        description=new.description or "",
        chunking=policy,
        metadata=new.metadata,
    )
    if new.file_ids:
        try:
            service.attach(kb.id, [Attachment(file_id) for file_id in dict.fromkeys(new.file_ids)])
        except NotFound:
            # All of it or nothing.
            service.delete_knowledge_base(kb.id)
            raise
    return _shown(service, kb)


def _shown(service: Service, kb: KnowledgeBase) -> dict[str, object]:
    return told.vector_store(kb, service.catalog.holdings.counts([kb.id])[kb.id])
