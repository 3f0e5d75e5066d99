"""Contents: the immutable texts that every hit points into."""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from api import answers
from api.answers import respond
from api.deps import Opened
from api.openapi import described

routes = APIRouter(prefix="/v1/contents", tags=["contents"])

Offset = Annotated[int, Query(ge=0, description="In Unicode code points.", examples=[512])]


@routes.get("/{content_version_id}", **described(answers.Text))
def show_text(
    content_version_id: str, service: Opened, start: Offset = 0, end: Offset | None = None
) -> Response:
    """text[start:end] of a version; all of it without bounds. Replaced versions stay readable."""
    text = service.text(content_version_id, start, end)
    span = {"start": start, "end": start + len(text)}
    return respond({"content_version_id": content_version_id, **span, "text": text})
