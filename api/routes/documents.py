"""Documents: sent in, listed, deleted, and those that were refused."""

import json
from typing import Annotated, Any

from anyio import to_thread
from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import TypeAdapter, ValidationError
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException

from api import answers
from api.answers import respond
from api.deps import Kb, Opened, body, limited, media_type, unsupported
from api.errors import ApiError, invalid
from api.openapi import content, described
from api.schemas import MAX_DOCUMENTS, Attributes, NewDocument, NewDocuments
from kb.catalog.jobs import JobFile
from kb.service import Service
from kb.types import AttributeValue, Job

MAX_UPLOAD = 100_000_000
"""Bytes of one request that carries documents."""

# Requests whose documents are written into the catalog at once; what waits is bounded by api/admission.py.
ACCEPTING = 4

_attributes: TypeAdapter[dict[str, AttributeValue]] = TypeAdapter(Attributes)

_FORM = {
    "schema": {
        "type": "object",
        "required": ["files"],
        "additionalProperties": False,
        "properties": {
            "files": {
                "type": "array",
                "minItems": 1,
                "maxItems": MAX_DOCUMENTS,
                "items": {"type": "string", "format": "binary"},
            },
            "attributes": {
                **_attributes.json_schema(),
                "description": "JSON, for every file of the request.",
            },
        },
    },
    "encoding": {"attributes": {"contentType": "application/json"}},
    "example": {"files": ["startup.md"], "attributes": json.dumps(NewDocument.example["attributes"])},
}
_TAKEN: dict[str, Any] = {
    "requestBody": {"required": True, "content": {"multipart/form-data": _FORM, **content(NewDocuments)}}
}
_SENT = described(answers.Job, errors=(404, 413, 415, 422))
_SENT["openapi_extra"] = _TAKEN
_SENT["responses"][202] = {
    "description": "Accepted: they survive a crash from here on.",
    "content": content(answers.Job),
}

Document = Annotated[str, Path(examples=["doc_0199f3c2b1047d6e8f30a1b2c3d4e5f6"])]

routes = APIRouter(prefix="/v1/knowledge_bases/{kb}", tags=["documents"])


@routes.post("/documents", **_SENT)
async def send_documents(
    kb: Kb,
    request: Request,
    service: Opened,
    wait: Annotated[bool, Query(description="Answer when the documents are searchable.")] = False,
) -> Response:
    """Take documents in: files as multipart form data, or texts as JSON; a name sent again replaces.

    A document that cannot be read is refused and listed in the job's report; the others go in.
    With `wait`, one document alone that is refused answers 422.
    """
    # Before a long body is read.
    await to_thread.run_sync(service.catalog.knowledge_bases.get, kb)
    if not wait:
        return _answer(await _accepted(kb, request, service))
    # The place is taken first: nobody is turned away whose documents are accepted.
    async with request.app.state.admission.waits.place(request.receive):
        job = await _accepted(kb, request, service)
        job = await to_thread.run_sync(service.jobs.wait, job.id, limiter=request.app.state.waiting)
    return _answer(job)


@routes.get("/documents", **described(answers.Documents))
def list_documents(
    kb: Kb,
    service: Opened,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    after: Annotated[str | None, Query(description="The last id of the page before.")] = None,
) -> Response:
    """A page of documents, in order of their ids."""
    page = service.documents(kb, limit=limit, after=after)
    more = len(page) == limit and bool(service.documents(kb, limit=1, after=page[-1].id))
    return respond({"data": [answers.document(one) for one in page], "has_more": more})


@routes.get("/documents/{document}", **described(answers.Document, errors=(404,)))
def show_document(kb: Kb, document: Document, service: Opened) -> Response:
    """A document and its current version."""
    return respond(answers.document(service.document(kb, document)))


@routes.delete("/documents/{document}", **described(answers.Deleted, errors=(404,)))
def delete_document(kb: Kb, document: Document, service: Opened) -> Response:
    """Delete a document with every version of it; from here on no search finds it."""
    return respond({"id": service.delete_document(kb, document).id, "deleted": True})


@routes.get("/failures", **described(answers.Failures, errors=(404,)))
def list_failures(kb: Kb, service: Opened) -> Response:
    """The documents that were refused, with their reasons. Sending one again tries again."""
    return respond({"data": service.failures(kb)})


async def _accepted(kb: str, request: Request, service: Service) -> Job:
    try:
        return await _taken(kb, request, service)
    finally:
        # They are in the catalog, and whoever waits for them no longer holds their bytes.
        request.state.body.release()


async def _taken(kb: str, request: Request, service: Service) -> Job:
    kind, accepting = media_type(request), request.app.state.accepting
    if kind == "application/json":
        sent = await body(request, NewDocuments, limit=MAX_UPLOAD)
        return await to_thread.run_sync(_submit_texts, service, kb, sent, limiter=accepting)
    if kind != "multipart/form-data":
        raise unsupported("multipart/form-data", "application/json")
    try:
        async with limited(request, MAX_UPLOAD).form(max_files=MAX_DOCUMENTS, max_fields=8) as form:
            return await to_thread.run_sync(_submit_files, service, kb, form, limiter=accepting)
    except HTTPException as error:
        # The parser's, of a form that breaks off or has too many parts.
        raise ApiError(422, "invalid_form", str(error.detail), param="files") from None


def _submit_texts(service: Service, kb: str, sent: NewDocuments) -> Job:
    return service.submit(
        kb, [JobFile(one.name, one.text.encode(), one.attributes) for one in sent.documents]
    )


def _submit_files(service: Service, kb: str, form: FormData) -> Job:
    attributes: dict[str, AttributeValue] = {}
    files: list[UploadFile] = []
    for name, value in form.multi_items():
        if name == "files" and isinstance(value, UploadFile):
            files.append(value)
        elif name == "attributes" and isinstance(value, str):
            attributes = _parsed(value)
        else:
            message = f"unknown field {name[:64]!r}: the form has files, and attributes as one JSON object"
            raise ApiError(422, "invalid_input", message, param=name[:64])
    if not files:
        raise ApiError(422, "invalid_input", "send at least one file in the field files", param="files")
    return service.submit(kb, [JobFile(file.filename or "", file.file.read(), attributes) for file in files])


def _parsed(attributes: str) -> dict[str, AttributeValue]:
    try:
        return _attributes.validate_json(attributes)
    except ValidationError as error:
        refusal = invalid(error)
        at = f"attributes.{refusal.param}" if refusal.param else "attributes"
        raise ApiError(422, refusal.code, f"attributes: {refusal}", param=at) from None


def _answer(job: Job) -> Response:
    location = f"/v1/jobs/{job.id}"
    if job.status == "failed":
        raise ApiError(500, "job_failed", f"the documents did not go in; {location} has the reason")
    if job.status != "succeeded" or job.report is None:
        return respond(answers.job(job), 202, {"location": location})
    if job.files == 1 and job.report.failed:
        raise ApiError(422, "document_refused", job.report.failures[0].reason, param="documents.0")
    return respond(answers.job(job))
