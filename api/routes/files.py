"""Files: sent in, listed, read and deleted; to be attached to vector stores."""

from typing import Annotated, Any, Literal, get_args

from anyio import to_thread
from fastapi import APIRouter, Query, Request, Response
from starlette.datastructures import FormData, UploadFile

from api import openai_answers as told
from api import openai_shapes as shapes
from api.answers import respond
from api.deps import Opened, limited, media_type, unsupported
from api.errors import ApiError
from api.openapi import described
from api.routes.documents import MAX_UPLOAD
from kb.catalog.files import File
from kb.catalog.paging import Page
from kb.service import Service

Purpose = Literal["assistants", "batch", "fine-tune", "vision", "user_data", "evals"]
Order = Annotated[Literal["asc", "desc"], Query(description="By the time they came in.")]
After = Annotated[str | None, Query(description="The last id of the page before.")]

_FORM = {
    "schema": {
        "type": "object",
        "required": ["file", "purpose"],
        "properties": {
            "file": {"type": "string", "format": "binary"},
            "purpose": {"enum": list(get_args(Purpose)), "description": "Nothing depends on it here."},
        },
        "additionalProperties": False,
    },
    "example": {"file": "startup.md", "purpose": "assistants"},
}
_SENT = described(shapes.File, errors=(400, 413, 415, 422))
_SENT["openapi_extra"] = {"requestBody": {"required": True, "content": {"multipart/form-data": _FORM}}}
_BYTES = described(shapes.File, errors=(404,))
_BYTES["responses"][200] = {
    "description": "The bytes, as they were sent.",
    "content": {
        "application/octet-stream": {
            "schema": {"type": "string", "format": "binary"},
            "example": "Open the valve first.",
        }
    },
}

routes = APIRouter(prefix="/v1/files", tags=["files"])


@routes.post("", **_SENT)
async def send_file(request: Request, service: Opened) -> Response:
    """Keep a file; it is on the disk when this answers. Searchable it is once it is attached."""
    if media_type(request) != "multipart/form-data":
        raise unsupported("multipart/form-data")
    try:
        async with limited(request, MAX_UPLOAD).form(max_files=1, max_fields=8) as form:
            kept = await to_thread.run_sync(_kept, service, form, limiter=request.app.state.accepting)
    finally:
        request.state.body.release()
    return respond(told.file(kept))


@routes.get("", **described(shapes.Files, errors=(422,)))
def list_files(
    service: Opened,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 10_000,
    order: Order = "desc",
    after: After = None,
    purpose: Annotated[str | None, Query(max_length=64)] = None,
) -> Response:
    """A page of files, the newest first unless asked otherwise."""
    listed = service.catalog.files.page(Page(limit, after, newest_first=order == "desc"), purpose)
    return respond(told.page(listed, [told.file(one) for one in listed.items]))


@routes.get("/{file_id}", **described(shapes.File, errors=(404,)))
def show_file(file_id: str, service: Opened) -> Response:
    """A file."""
    return respond(told.file(service.catalog.files.get(file_id)))


@routes.get("/{file_id}/content", response_class=Response, **_BYTES)
def read_file(file_id: str, service: Opened) -> Response:
    """Its bytes."""
    # What somebody sent in must never run as a page of this server.
    headers = {"content-disposition": "attachment", "x-content-type-options": "nosniff"}
    return Response(
        service.catalog.files.data(file_id), headers=headers, media_type="application/octet-stream"
    )


@routes.delete("/{file_id}", **described(shapes.FileDeleted, errors=(404,)))
def delete_file(file_id: str, service: Opened) -> Response:
    """Delete a file, and in every vector store the document that was made of it; no search finds it after."""
    service.catalog.attachments.delete_file(file_id)
    return respond({"id": file_id, "object": "file", "deleted": True})


def _kept(service: Service, form: FormData) -> File:
    given: dict[str, Any] = {}
    for name, value in form.multi_items():
        field = name.partition("[")[0]
        if field == "expires_after":
            raise _invalid("nothing expires here; delete the file when it is no longer needed", field)
        if name not in ("file", "purpose") or name in given:
            raise _invalid(f"{name[:64]!r} is not known or comes twice: send file and purpose", name[:64])
        given[name] = value
    file, purpose = given.get("file"), given.get("purpose")
    if not isinstance(file, UploadFile):
        raise _invalid("send one file, with its name, in the field file", "file")
    if not isinstance(purpose, str) or purpose not in get_args(Purpose):
        raise _invalid(f"purpose is one of {', '.join(get_args(Purpose))}", "purpose")
    return service.catalog.files.create(file.filename or "", purpose, file.file.read())


def _invalid(message: str, param: str) -> ApiError:
    return ApiError(422, "invalid_input", message, param=param)
