"""The files of a vector store: attached one by one or in batches, described, read and detached."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from api import openai_answers as told
from api import openai_shapes as shapes
from api.answers import respond
from api.deps import Opened, body
from api.errors import ApiError
from api.openai_bodies import FileChange, NewFileBatch, NewVectorStoreFile
from api.openapi import described
from api.routes.files import After, Order
from api.routes.vector_stores import Before
from kb.catalog.attachments import Attachment
from kb.catalog.holdings import Holding, State
from kb.catalog.paging import Page
from kb.errors import NotFound
from kb.service import Service
from kb.types import Job, KnowledgeBase

Limit = Annotated[int, Query(ge=1, le=100)]
Filter = Annotated[State | None, Query(alias="filter", description="Only those that are so far.")]

routes = APIRouter(prefix="/v1/vector_stores/{vector_store_id}", tags=["vector store files"])


@routes.post("/files", **described(shapes.VectorStoreFile, takes=NewVectorStoreFile))
async def attach_file(vector_store_id: str, request: Request, service: Opened) -> Response:
    """Attach a file: it is accepted when this answers, and taken in in the background.

    To attach it once more takes it in anew.
    """
    new = await body(request, NewVectorStoreFile)

    def work() -> Response:
        service.attach(vector_store_id, [_attachment(new)])
        return _file(service, vector_store_id, new.file_id)

    return await run_in_threadpool(work)


@routes.get("/files", **described(shapes.VectorStoreFiles))
def list_vector_store_files(
    vector_store_id: str,
    service: Opened,
    limit: Limit = 20,
    order: Order = "desc",
    after: After = None,
    before: Before = None,
    state: Filter = None,
) -> Response:
    """A page of files, and of the documents that came otherwise, under their content ids."""
    return _page(service, vector_store_id, Page(limit, after, before, order == "desc"), state)


@routes.get("/files/{file_id}", **described(shapes.VectorStoreFile, errors=(404,)))
def show_vector_store_file(vector_store_id: str, file_id: str, service: Opened) -> Response:
    """A file, and how far it is."""
    return _file(service, vector_store_id, file_id)


@routes.post("/files/{file_id}", **described(shapes.VectorStoreFile, takes=FileChange))
async def change_vector_store_file(
    vector_store_id: str, file_id: str, request: Request, service: Opened
) -> Response:
    """Replace the attributes of a file."""
    change = await body(request, FileChange)

    def work() -> Response:
        kb = service.catalog.knowledge_bases.get(vector_store_id)
        service.catalog.attachments.describe(kb.id, file_id, change.attributes or {})
        return _file(service, kb.id, file_id)

    return await run_in_threadpool(work)


@routes.delete("/files/{file_id}", **described(shapes.VectorStoreFileDeleted, errors=(404,)))
def detach_file(vector_store_id: str, file_id: str, service: Opened) -> Response:
    """Delete the document that was made of a file; from here on no search finds it. The file stays."""
    service.catalog.attachments.detach(service.catalog.knowledge_bases.get(vector_store_id).id, file_id)
    return respond({"id": file_id, "object": "vector_store.file.deleted", "deleted": True})


@routes.get("/files/{file_id}/content", **described(shapes.FileContent, errors=(404, 409)))
def read_vector_store_file(vector_store_id: str, file_id: str, service: Opened) -> Response:
    """The text of a file as it was read; 409 where it is not in."""
    kb = service.catalog.knowledge_bases.get(vector_store_id)
    one = service.catalog.holdings.get(kb.id, file_id)
    if one.version_id is None:
        raise ApiError(409, "no_text", f"{file_id!r} has no text: it is {one.state}", param="file_id")
    return respond(
        {
            "object": "vector_store.file_content.page",
            "data": [{"type": "text", "text": service.text(one.version_id)}],
            "has_more": False,
            "next_page": None,
            "file_id": one.id,
            "filename": one.filename,
            "attributes": one.attributes,
        }
    )


@routes.post("/file_batches", **described(shapes.FileBatch, takes=NewFileBatch))
async def attach_batch(vector_store_id: str, request: Request, service: Opened) -> Response:
    """Attach files together: all are accepted when this answers, or none."""
    new = await body(request, NewFileBatch)

    def work() -> Response:
        job = service.attach(vector_store_id, [_attachment(one) for one in new.all()])
        return _batch(service, job)

    return await run_in_threadpool(work)


@routes.get("/file_batches/{batch_id}", **described(shapes.FileBatch, errors=(404,)))
def show_batch(vector_store_id: str, batch_id: str, service: Opened) -> Response:
    """A batch, and how far its files are."""
    return _batch(service, _job(service, vector_store_id, batch_id))


@routes.post("/file_batches/{batch_id}/cancel", **described(shapes.FileBatch, errors=(404,)))
def cancel_batch(vector_store_id: str, batch_id: str, service: Opened) -> Response:
    """Keep what is in, and see that nothing else of the batch comes in."""
    job = _job(service, vector_store_id, batch_id)
    return _batch(service, service.catalog.jobs.cancel(job.id))


@routes.get("/file_batches/{batch_id}/files", **described(shapes.VectorStoreFiles))
def list_batch_files(
    vector_store_id: str,
    batch_id: str,
    service: Opened,
    limit: Limit = 20,
    order: Order = "desc",
    after: After = None,
    before: Before = None,
    state: Filter = None,
) -> Response:
    """A page of the files of a batch."""
    job = _job(service, vector_store_id, batch_id)
    return _page(service, vector_store_id, Page(limit, after, before, order == "desc"), state, job.id)


def _attachment(new: NewVectorStoreFile) -> Attachment:
    strategy = new.chunking_strategy
    return Attachment(new.file_id, new.attributes or {}, strategy.policy() if strategy else None)


def _file(service: Service, vector_store_id: str, file_id: str) -> Response:
    kb = service.catalog.knowledge_bases.get(vector_store_id)
    one = service.catalog.holdings.get(kb.id, file_id)
    headers = told.POLL if one.state == "in_progress" else None
    return respond(told.vector_store_file(kb, one), headers=headers)


def _page(
    service: Service, vector_store_id: str, page: Page, state: State | None, job_id: str | None = None
) -> Response:
    kb: KnowledgeBase = service.catalog.knowledge_bases.get(vector_store_id)
    listed = service.catalog.holdings.page(kb.id, page, state, job_id)
    files: list[Holding] = list(listed.items)
    return respond(told.page(listed, [told.vector_store_file(kb, one) for one in files]))


def _job(service: Service, vector_store_id: str, batch_id: str) -> Job:
    """The job that a batch is. Raises NotFound."""
    kb = service.catalog.knowledge_bases.get(vector_store_id)
    with_suchlike = f"no batch {batch_id!r} in this vector store"
    try:
        job = service.catalog.jobs.get(batch_id)
    except NotFound:
        raise NotFound(with_suchlike, param="batch_id") from None
    if job.knowledge_base_id != kb.id:
        raise NotFound(with_suchlike, param="batch_id")
    return job


def _batch(service: Service, job: Job) -> Response:
    counts = service.catalog.holdings.counts_of(job.id)
    headers = told.POLL if counts.in_progress else None
    return respond(told.batch(job, counts), headers=headers)
