"""Where there is no model to answer, what was found is still given."""

import json

from fastapi import Response
from pydantic_core import to_jsonable_python

from api.errors import answer, of_library
from kb.agent.asked import Run
from kb.context.receipt import receipt_of
from kb.errors import NoEndpoint


def unanswered(error: NoEndpoint, run: Run) -> Response:
    """The error, and beside it the packed context with its receipt, as POST /v1/context gives it."""
    told = of_library(error)
    assert told is not None
    response = answer(told)
    if run.grounded is None:
        return response
    made = run.grounded.made
    context = {"text": made.packed.text, **receipt_of(run.model, run.window, made)}
    body = {**json.loads(bytes(response.body)), "context": to_jsonable_python(context)}
    headers = {"x-should-retry": response.headers["x-should-retry"]}
    return Response(json.dumps(body), response.status_code, headers=headers, media_type="application/json")
