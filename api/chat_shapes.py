"""What the `openai` SDK parses of chat completions, for OpenAPI."""

from typing import Any, Literal

from pydantic import Field

from api.answers import Answer

_MESSAGE: dict[str, Any] = {
    "role": "assistant",
    "content": "Open the valve first [1].",
    "refusal": None,
    "annotations": [],
}
_CHOICE = {"index": 0, "message": _MESSAGE, "finish_reason": "stop", "logprobs": None}
STREAM = """\
data: {"id":"chatcmpl_0199f3c2b1047d6e8f30a1b2c3d4e5f6","object":"chat.completion.chunk",\
"created":1760693400,"model":"gpt-4.1-mini",\
"choices":[{"index":0,"delta":{"content":"Open the "},"finish_reason":null,"logprobs":null}]}

data: [DONE]

"""
"""The end of a stream."""

_USAGE = {
    "prompt_tokens": 412,
    "prompt_tokens_details": {"cached_tokens": 0},
    "completion_tokens": 7,
    "completion_tokens_details": {"reasoning_tokens": 0},
    "total_tokens": 419,
    "credits": "2.3408",
    "estimated": False,
    "beyond_soft_budget": False,
}


class ChatCompletion(Answer):
    """An answer of a language model."""

    id: str = Field(examples=["chatcmpl_0199f3c2b1047d6e8f30a1b2c3d4e5f6"])
    object: Literal["chat.completion"] = "chat.completion"
    created: int = Field(examples=[1760693400], description="Unix seconds.")
    model: str = Field(examples=["gpt-4.1-mini"])
    choices: list[dict[str, Any]] = Field(
        examples=[[_CHOICE]],
        description="One. A `url_citation` of its message has, beside the document's place, the exact span "
        "and `quote`, compared with the source.",
    )
    usage: dict[str, Any] = Field(
        examples=[_USAGE],
        description="`credits` as a decimal; `estimated` where the model's server told none.",
    )
    service_tier: str | None = Field(examples=["default"], description="The tier that answered.")
    citations: dict[str, int] = Field(
        default={},
        examples=[{"verified": 1, "dropped": 0}],
        description="Of a grounded answer: citations that held, and those that did not and were left out.",
    )
    sources: list[dict[str, Any]] = Field(
        default=[], examples=[[]], description="What searches of the web showed, as in a response."
    )
    context: dict[str, Any] = Field(
        default={}, examples=[{}], description="Of a grounded answer: the receipt of POST /v1/context."
    )
