"""What the `openai` SDK parses of responses, for OpenAPI."""

from typing import Any, Literal

from pydantic import Field

from api.answers import Answer
from api.openai_shapes import Listing

_RESPONSE = "resp_0199f3c2b1047d6e8f30a1b2c3d4e5f6"
_CITATION = {
    "type": "file_citation",
    "file_id": "doc_0199f3c2b1047d6e8f30a1b2c3d4e5f6",
    "filename": "operations/startup.md",
    "index": 22,
    "end_index": 25,
    "number": 1,
    "title": "Starting the plant",
    "content_id": "doc_0199f3c2b1047d6e8f30a1b2c3d4e5f6",
    "content_version_id": "ver_0199f3c2b1057a1c9d20f1e2d3c4b5a6",
    "start": 118,
    "end": 137,
    "page": None,
    "quote": "open the valve first",
}
_MESSAGE = {
    "id": "msg_0199f3c2b1067a1c9d20f1e2d3c4b5a6",
    "type": "message",
    "status": "completed",
    "role": "assistant",
    "content": [
        {
            "type": "output_text",
            "text": "Open the valve first [1].",
            "annotations": [_CITATION],
            "logprobs": [],
        }
    ],
}
STREAM = """\
event: response.output_text.delta
data: {"type":"response.output_text.delta","sequence_number":9,"output_index":1,\
"item_id":"msg_0199f3c2b1067a1c9d20f1e2d3c4b5a6","content_index":0,"delta":"Open the ","logprobs":[]}

"""
"""A piece of a stream."""

_USAGE = {
    "input_tokens": 412,
    "input_tokens_details": {"cached_tokens": 0},
    "output_tokens": 7,
    "output_tokens_details": {"reasoning_tokens": 0},
    "total_tokens": 419,
    "credits": "2.3408",
    "estimated": False,
    "beyond_soft_budget": False,
}


class ModelResponse(Answer):
    """An answer of a language model. What has come of it by now; `status` tells how far it is."""

    id: str = Field(examples=[_RESPONSE])
    object: Literal["response"] = "response"
    created_at: int = Field(examples=[1760693400], description="Unix seconds.")
    completed_at: int | None = Field(examples=[1760693402])
    status: Literal["queued", "in_progress", "completed", "incomplete", "failed", "cancelled"] = Field(
        examples=["completed"]
    )
    background: bool = Field(examples=[False])
    error: dict[str, Any] | None = Field(examples=[None])
    incomplete_details: dict[str, Any] | None = Field(
        examples=[None],
        description="`reason`: max_output_tokens, content_filter, or what cut the model's stream off: "
        "upstream_ended, upstream_reset, upstream_stalled, upstream_malformed, too_large, deadline.",
    )
    instructions: str | None = Field(examples=[None])
    max_credits: str | None = Field(examples=[None])
    max_output_tokens: int | None = Field(examples=[None])
    max_tool_calls: int | None = Field(examples=[None])
    metadata: dict[str, str] = Field(examples=[{"knowledge_base_id": "handbook"}])
    model: str = Field(examples=["gpt-4.1-mini"])
    output: list[dict[str, Any]] = Field(
        examples=[[_MESSAGE]],
        description="Items. Every `file_citation`, and every `url_citation` with a `quote`, was compared "
        "with its source: `quote` is the text from `start` to `end` of that content version, or of the page "
        "as it was read.",
    )
    parallel_tool_calls: bool = Field(examples=[True])
    previous_response_id: str | None = Field(examples=[None])
    service_tier: str | None = Field(examples=["default"], description="The tier that answered.")
    store: bool = Field(examples=[True])
    temperature: float | None = Field(examples=[None])
    text: dict[str, Any] = Field(examples=[{"format": {"type": "text"}}])
    tool_choice: str | dict[str, Any] = Field(examples=["auto"])
    tools: list[dict[str, Any]] = Field(examples=[[]])
    top_p: float | None = Field(examples=[None])
    truncation: Literal["auto", "disabled"] = Field(examples=["disabled"])
    usage: dict[str, Any] | None = Field(
        examples=[_USAGE],
        description="`credits` as a decimal; `estimated` where the model's server told none.",
    )
    citations: dict[str, int] = Field(
        default={},
        examples=[{"verified": 1, "dropped": 0}],
        description="Of a grounded answer: citations that held, and those that did not and were left out.",
    )
    sources: list[dict[str, Any]] = Field(
        default=[],
        examples=[[]],
        description="What tools showed, by the `number` it is cited by; the `text` of what is of the web.",
    )
    context: dict[str, Any] = Field(
        default={}, examples=[{}], description="Of a grounded answer: the receipt of POST /v1/context."
    )


class ResponseDeleted(Answer):
    """The response is gone."""

    id: str = Field(examples=[_RESPONSE])
    object: Literal["response"] = "response"
    deleted: Literal[True] = True


class InputItems(Listing):
    """A page of what a response was given."""

    data: list[dict[str, Any]] = Field(
        examples=[
            [
                {
                    "id": "msg_0199f3c2b1067a1c9d20f1e2d3c4b5a6",
                    "type": "message",
                    "role": "user",
                    "content": [{"type": "input_text", "text": "How is the pump started?"}],
                }
            ]
        ]
    )


class InputTokens(Answer):
    """How many tokens a request takes, as counted here, with what would be packed for it."""

    object: Literal["response.input_tokens"] = "response.input_tokens"
    input_tokens: int = Field(examples=[412])
