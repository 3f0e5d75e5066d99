"""Jobs: documents that were accepted, and what became of them."""

from fastapi import APIRouter, Response

from api import answers
from api.answers import respond
from api.deps import Opened
from api.openapi import described

routes = APIRouter(prefix="/v1/jobs", tags=["jobs"])


@routes.get("/{job}", **described(answers.Job, errors=(404,)))
def show_job(job: str, service: Opened) -> Response:
    """A job; its report lists the documents that were refused."""
    return respond(answers.job(service.catalog.jobs.get(job)))
