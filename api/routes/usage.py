"""Usage: what calls of language models came to, and each of them; as JSON, or as CSV for a spreadsheet."""

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Response

from api import usage_shapes as shapes
from api.answers import Answer, respond
from api.deps import Opened
from api.openai_answers import page
from api.openapi import described
from kb.catalog.calls import Call
from kb.catalog.paging import Page
from kb.catalog.usage import GroupBy, Total
from kb.metering.periods import instant
from kb.metering.table import as_csv, shown

routes = APIRouter(prefix="/v1/usage", tags=["usage"])

# A day, or an instant with its zone.
_MOMENT = (
    "^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])"
    r"(T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,6})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9]))?$"
)
Since = Annotated[
    str | None,
    Query(
        pattern=_MOMENT,
        description="Calls that began then or later: a day in UTC, or an instant like 2026-11-24T09:30:00Z.",
        examples=["2026-11-01"],
    ),
]
Until = Annotated[
    str | None, Query(pattern=_MOMENT, description="Calls that began earlier.", examples=["2026-12-01"])
]
Format = Annotated[Literal["json", "csv"], Query()]


def _described(gives: type[Answer], kind: type[Call] | type[Total]) -> dict[str, Any]:
    made = described(gives, errors=(422,))
    example = as_csv(kind, ())
    made["responses"][200]["content"]["text/csv"] = {"schema": {"type": "string"}, "example": example}
    return made


@routes.get("", **_described(shapes.UsageTotals, Total))
def show_usage(
    service: Opened,
    group_by: Annotated[
        GroupBy | None, Query(description="Without it all calls are one group. Days are those of UTC.")
    ] = None,
    since: Since = None,
    until: Until = None,
    format: Format = "json",
) -> Response:
    """What the calls of a time came to: tokens and credits, exactly."""
    totals = service.ledger.usage(group_by, *_times(since, until))
    if format == "csv":
        return _csv(as_csv(Total, totals))
    return respond({"object": "list", "data": [shown(one) for one in totals]})


@routes.get("/calls", **_described(shapes.UsageCalls, Call))
def list_calls(
    service: Opened,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 100,
    after: Annotated[str | None, Query(description="The last id of the page before.")] = None,
    since: Since = None,
    until: Until = None,
    format: Format = "json",
) -> Response:
    """Those calls, a page at a time, the newest first; each attempt is one."""
    listed = service.ledger.calls(Page(limit, after), *_times(since, until))
    if format == "csv":
        return _csv(as_csv(Call, listed.items))
    return respond(page(listed, [shown(one) for one in listed.items]))


def _times(since: str | None, until: str | None) -> tuple[datetime | None, datetime | None]:
    start = None if since is None else instant(since, param="since")
    return start, None if until is None else instant(until, param="until")


def _csv(text: str) -> Response:
    return Response(
        text, media_type="text/csv", headers={"content-disposition": "attachment; filename=usage.csv"}
    )
