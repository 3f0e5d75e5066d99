"""What goes on after a person's word is asked what the run was asked, but for what it has used up."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

from api.asked import asked_of
from api.run_bodies import NewRun
from kb.agent.asked import Asked
from kb.catalog.responses import StoredResponse
from kb.service import Service

# What a response says where nothing was asked.
_UNASKED = {"parallel_tool_calls": True, "tool_choice": "auto", "text": {"format": {"type": "text"}}}
_USED_UP = {"max_tool_calls", "max_credits"}
_CALLS = ("mcp_call", "web_search_call")


def continued(
    service: Service,
    stored: StoredResponse,
    tools: Sequence[Mapping[str, Any]] | None,
    key_id: str | None,
) -> Asked:
    """The request of a run that goes on from another one.

    tools: given again, with credentials, which are not kept; None for those of the run. Raises InvalidInput.
    """
    body = stored.body
    known = {*NewRun.model_fields, *service.endpoints.parameters(body["model"])} - _USED_UP
    given = {name: body[name] for name in known if body.get(name) is not None}
    given = {name: value for name, value in given.items() if value != _UNASKED.get(name)}
    # The items are those that it goes on from.
    given |= {"input": "-", "previous_response_id": stored.id}
    if tools is not None:
        given["tools"] = tools
    asked = asked_of(service, NewRun.model_validate(given), key_id)
    calls, credits = body.get("max_tool_calls"), body.get("max_credits")
    made = sum(item["type"] in _CALLS for item in body["output"])
    spent = Decimal((body["usage"] or {"credits": "0"})["credits"])
    return replace(
        asked,
        items=(),
        store=True,
        background=True,
        max_tool_calls=None if calls is None else max(0, calls - made),
        max_credits=None if credits is None else max(Decimal(), Decimal(credits) - spent),
    )
