"""Runs as callers see them: described for OpenAPI, and made of what is kept of them."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import Field

from api.answers import Answer
from kb.catalog.approvals import Approval
from kb.catalog.steps import Step

_RUN = "resp_0199f3c2b1047d6e8f30a1b2c3d4e5f6"
_APPROVAL = {
    "id": "mcpr_0199f3c2b1047d6e8f30a1b2c3d4e5f6",
    "server_label": "clock",
    "name": "get_current_time",
    "arguments": '{"timezone": "Europe/Berlin"}',
    "status": "pending",
    "reason": None,
    "created_at": "2025-10-17T09:31:00.000Z",
    "decided_at": None,
    "continued_by": None,
}
_STEP = {
    "server_label": "kb",
    "name": "search_knowledge_base",
    "arguments": '{"query": "How is the pump started?"}',
    "status": "done",
    "started_at": "2025-10-17T09:30:58.000Z",
    "finished_at": "2025-10-17T09:30:58.020Z",
}


class Run(Answer):
    """A run. `status` is that of its response, or requires_approval while calls wait for a yes."""

    id: str = Field(examples=[_RUN], description="Of its response as well.")
    object: Literal["run"] = "run"
    status: Literal[
        "queued", "in_progress", "requires_approval", "completed", "incomplete", "failed", "cancelled"
    ] = Field(examples=["completed"])
    created_at: int = Field(examples=[1760693400], description="Unix seconds.")
    model: str = Field(examples=["gpt-4.1-mini"])
    metadata: dict[str, str] = Field(examples=[{"knowledge_base_id": "handbook"}])
    previous_run_id: str | None = Field(examples=[None], description="The run that this one goes on from.")
    output_text: str = Field(examples=["Open the valve first [1]."], description="As far as it is there.")
    approvals: list[dict[str, Any]] = Field(examples=[[_APPROVAL]])
    steps: list[dict[str, Any]] = Field(
        examples=[[_STEP]], description="Calls of tools, in the order in which they began."
    )
    usage: dict[str, Any] | None = Field(examples=[None])
    error: dict[str, Any] | None = Field(examples=[None])
    response: dict[str, Any] = Field(examples=[{}], description="The whole response.")


def run(response: Mapping[str, Any], approvals: Sequence[Approval], steps: Sequence[Step]) -> dict[str, Any]:
    """A `Run`."""
    waits = any(one.status == "pending" for one in approvals)
    texts = [part.get("text", "") for item in response["output"] for part in item.get("content") or ()]
    return {
        "id": response["id"],
        "object": "run",
        "status": "requires_approval" if waits and response["status"] == "completed" else response["status"],
        "created_at": response["created_at"],
        "model": response["model"],
        "metadata": response["metadata"],
        "previous_run_id": response["previous_response_id"],
        "output_text": "".join(texts),
        "approvals": [
            {
                "id": one.id,
                "server_label": one.label,
                "name": one.name,
                "arguments": one.arguments,
                "status": one.status,
                "reason": one.reason,
                "created_at": one.created_at,
                "decided_at": one.decided_at,
                "continued_by": one.continued_by,
            }
            for one in approvals
        ],
        "steps": [
            {
                "server_label": one.label,
                "name": one.name,
                "arguments": one.arguments,
                "status": one.status,
                "started_at": one.started_at,
                "finished_at": one.finished_at,
            }
            for one in steps
        ],
        "usage": response["usage"],
        "error": response["error"],
        "response": response,
    }
