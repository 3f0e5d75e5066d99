"""Contents: the immutable texts that every hit points into; listed, measured, opened, looked through."""

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Response

from api import answers, openapi, tool_shapes
from api.answers import respond
from api.deps import Opened
from api.openapi import described
from kb import tools
from kb.content.core import MAX_CONTEXT
from kb.content.grep import MAX_PATTERN
from kb.service import Service
from kb.tools import arguments
from kb.tools.results import ContentSourceList, ContentStats, FoundMatches

routes = APIRouter(prefix="/v1", tags=["contents"])

Version = Annotated[str, Path(examples=["ver_0199f3c2b1057a1c9d20f1e2d3c4b5a6"])]
Offset = Annotated[int, Query(ge=0, le=2**53, description="In Unicode code points.", examples=[512])]
Cursor = Annotated[
    str | None, Query(min_length=1, max_length=128, description="`cursor` of the answer before.")
]

# Programs go on by cursor; how much a model can read does not bound them.
_UNBOUNDED = 2**31


def _described(result: type) -> dict[str, Any]:
    return openapi.described_as(result, tool_shapes.example_of(result))


@routes.get("/content_sources", **_described(ContentSourceList))
def list_content_sources(
    service: Opened,
    knowledge_base_id: Annotated[str | None, Query(min_length=1, max_length=128)] = None,
    query: Annotated[str, Query(max_length=1000, description="Words of the title or the path.")] = "",
    cursor: Cursor = None,
) -> Response:
    """Documents with the ids of their current content versions, of one knowledge base or of all."""
    given = {arguments.KNOWLEDGE_BASE: knowledge_base_id, "query": query, "cursor": cursor}
    return _called(service, "list_content_sources", given)


@routes.get("/contents/{content_version_id}", **described(answers.Text))
def show_text(
    content_version_id: Version,
    service: Opened,
    start: Offset | None = None,
    end: Offset | None = None,
    page: Annotated[int | None, Query(ge=0, le=2**31, description="Instead of start and end.")] = None,
    heading: Annotated[
        str | None, Query(min_length=1, max_length=1000, description="Its section, instead of start and end.")
    ] = None,
) -> Response:
    """text[start:end] of a version, a page or a section of it; all of it without bounds.

    Replaced versions stay readable.
    """
    part = asdict(service.contents.peek(content_version_id, start, end, page=page, heading=heading))
    shown = {name: part[name] for name in ("start", "end", "text", "page", "heading")}
    superseded_by = part["version"]["superseded_by"]
    return respond({"content_version_id": content_version_id, **shown, "superseded_by": superseded_by})


@routes.get("/contents/{content_version_id}/stats", **_described(ContentStats))
def show_stats(content_version_id: Version, service: Opened) -> Response:
    """Characters, tokens, words, lines and pages of a version, its language and its headings."""
    return _called(service, "get_content_stats", {arguments.CONTENT_VERSION: content_version_id})


@routes.get("/contents/{content_version_id}/grep", **_described(FoundMatches))
def grep(
    content_version_id: Version,
    service: Opened,
    pattern: Annotated[str, Query(min_length=1, max_length=MAX_PATTERN, examples=["valve"])],
    regex: Annotated[bool, Query(description="An RE2 expression within one line, not literal text.")] = False,
    case: Annotated[bool, Query(description="Capital and small letters differ.")] = False,
    context: Annotated[int, Query(ge=0, le=MAX_CONTEXT, description="Characters on each side.")] = 80,
    cursor: Cursor = None,
) -> Response:
    """Every place of a version where a text, or a regular expression, stands."""
    given = {
        arguments.CONTENT_VERSION: content_version_id,
        "pattern": pattern,
        "regex": regex,
        "case": case,
        "context": context,
        "cursor": cursor,
    }
    return _called(service, "grep_content", given)


def _called(service: Service, name: str, given: dict[str, Any]) -> Response:
    return respond(tools.call(service, name, given, budget=_UNBOUNDED))
