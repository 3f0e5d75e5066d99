"""Jobs: documents that were accepted, and what became of them."""

from typing import Annotated

from fastapi import APIRouter, Path, Response

from api import answers
from api.answers import respond
from api.deps import Opened
from api.openapi import described

routes = APIRouter(prefix="/v1/jobs", tags=["jobs"])


@routes.get("/{job}", **described(answers.Job, errors=(404,)))
def show_job(
    job: Annotated[str, Path(examples=["job_0199f3c2c3e87f5a8b1c2d3e4f506172"])], service: Opened
) -> Response:
    """A job; its report lists the documents that were refused."""
    return respond(answers.job(service.catalog.jobs.get(job)))
