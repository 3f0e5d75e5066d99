"""What the `openai` SDK sends to chat completions, checked: https://platform.openai.com/docs/api-reference/chat.

It becomes what `kb.agent` is asked, in the terms of the Responses API.
"""

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, ConfigDict, Field, JsonValue, StrictBool, WithJsonSchema

from api.openai_bodies import Metadata
from api.responses_bodies import (
    MAX_ITEMS,
    MAX_TOOLS,
    FileSearchTool,
    Identifier,
    StreamOptions,
    Tier,
    Told,
    ToolName,
    WebPlace,
)
from api.schemas import WHOLE, Sent
from kb.catalog.database import new_id


def _never(value: bool) -> bool:
    if value:
        raise ValueError("Input should be false")
    return value


Penalty = Annotated[float, Field(ge=-2, le=2, allow_inf_nan=False, strict=True)]
# A plain Literal takes 0 for it.
_Never = Annotated[StrictBool, AfterValidator(_never), WithJsonSchema({"const": False})]
_CallId = Annotated[str, Field(min_length=1, max_length=128)]


class TextPart(Told):
    """Text of a message."""

    type: Literal["text"]
    text: str


class RefusalPart(Told):
    """In which words an answer was refused before."""

    type: Literal["refusal"]
    refusal: str


class ImageAddress(Sent):
    """Where a picture is, or the picture as a data URL."""

    example: ClassVar[dict[str, Any]] = {"url": "https://example.org/pump.png"}

    url: str = Field(min_length=1)
    detail: Literal["auto", "low", "high"] | None = None


class ImagePart(Told):
    """A picture."""

    type: Literal["image_url"]
    image_url: ImageAddress


class CalledFunction(Told):
    """Which function, with what."""

    name: ToolName
    arguments: str


class CallPart(Told):
    """A function that the model called."""

    id: _CallId
    type: Literal["function"] = "function"
    function: CalledFunction


Texts = str | list[TextPart]


class InstructionMessage(Told):
    """What the model is told to do."""

    role: Literal["system", "developer"]
    content: Texts


class UserMessage(Told):
    """What the user says."""

    example: ClassVar[dict[str, Any]] = {"role": "user", "content": "How is the pump started?"}

    role: Literal["user"]
    content: str | list[Annotated[TextPart | ImagePart, Field(discriminator="type")]]


class AssistantMessage(Told):
    """What the model said before."""

    role: Literal["assistant"]
    content: str | list[Annotated[TextPart | RefusalPart, Field(discriminator="type")]] | None = None
    refusal: str | None = None
    tool_calls: Annotated[list[CallPart], Field(max_length=MAX_TOOLS)] | None = None


class ToolMessage(Told):
    """What came of a function that it called."""

    role: Literal["tool"]
    content: Texts
    tool_call_id: _CallId


ChatMessage = Annotated[
    InstructionMessage | UserMessage | AssistantMessage | ToolMessage, Field(discriminator="role")
]


class ChatFunction(Sent):
    """A function that the client runs."""

    example: ClassVar[dict[str, Any]] = {"name": "stop", "parameters": {"type": "object"}}

    name: ToolName
    description: str | None = None
    parameters: dict[str, JsonValue] | None = None
    strict: StrictBool | None = None


class ChatTool(Sent):
    """One of the client's functions."""

    example: ClassVar[dict[str, Any]] = {"type": "function", "function": ChatFunction.example}

    type: Literal["function"]
    function: ChatFunction


class ChosenFunction(Sent):
    """Its name."""

    example: ClassVar[dict[str, Any]] = {"name": "stop"}

    name: ToolName


class ChatChoice(Sent):
    """The function that must be called."""

    example: ClassVar[dict[str, Any]] = {"type": "function", "function": {"name": "stop"}}

    type: Literal["function"]
    function: ChosenFunction


class JsonSchemaForm(Sent):
    """The schema of an answer."""

    example: ClassVar[dict[str, Any]] = {"name": "step", "schema": {"type": "object"}}

    name: ToolName
    description: str | None = None
    schema_: dict[str, JsonValue] = Field(alias="schema")
    strict: StrictBool | None = None


class PlainFormat(Sent):
    """Text, or any JSON object."""

    example: ClassVar[dict[str, Any]] = {"type": "text"}

    type: Literal["text", "json_object"]


class SchemaFormat(Sent):
    """JSON of a schema."""

    example: ClassVar[dict[str, Any]] = {"type": "json_schema", "json_schema": JsonSchemaForm.example}

    type: Literal["json_schema"]
    json_schema: JsonSchemaForm


class SearcherLocation(Sent):
    """Where roughly whoever asks is."""

    example: ClassVar[dict[str, Any]] = {"type": "approximate", "approximate": WebPlace.example}

    type: Literal["approximate"]
    approximate: WebPlace


class WebSearchOptions(Sent):
    """How the web is searched."""

    example: ClassVar[dict[str, Any]] = {"search_context_size": "low"}

    search_context_size: Literal["low", "medium", "high"] | None = None
    user_location: SearcherLocation | None = None


class NewChatCompletion(Sent):
    """A conversation to go on with. Further fields are those that the model's endpoint is said to take."""

    # As those of a response.
    model_config = ConfigDict(extra="allow", json_schema_extra={"additionalProperties": False})
    example: ClassVar[dict[str, Any]] = {"messages": [UserMessage.example], "model": "gpt-4.1-mini"}

    messages: list[ChatMessage] = Field(min_length=1, max_length=MAX_ITEMS, examples=[[UserMessage.example]])
    model: str = Field(min_length=1, max_length=128, description="One of GET /v1/models.")
    frequency_penalty: Penalty | None = None
    logit_bias: dict[str, Annotated[float, Field(ge=-100, le=100, strict=True)]] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1, le=2**31, strict=True), WHOLE] | None = None
    max_tokens: Annotated[int, Field(ge=1, le=2**31, strict=True), WHOLE] | None = Field(
        None, description="The older name of `max_completion_tokens`, which wins."
    )
    metadata: Metadata | None = Field(
        None, description="Texts of your own; `knowledge_base_id` names one that the answer is to rest on."
    )
    n: Annotated[int, Field(ge=1, le=1, strict=True), WHOLE] | None = Field(None, description="One answer.")
    parallel_tool_calls: StrictBool | None = None
    presence_penalty: Penalty | None = None
    prompt_cache_key: Identifier | None = None
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh"] | None = None
    response_format: Annotated[PlainFormat | SchemaFormat, Field(discriminator="type")] | None = None
    safety_identifier: Identifier | None = Field(None, description="As `user`.")
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63, strict=True), WHOLE] | None = None
    service_tier: Tier | None = Field(None, description="One with a rate; see GET /v1/models.")
    stop: str | Annotated[list[str], Field(max_length=4)] | None = None
    store: _Never | None = Field(None, description="Chat completions are not kept; responses are.")
    stream: StrictBool | None = None
    stream_options: StreamOptions | None = None
    temperature: float | None = Field(None, ge=0, le=2, allow_inf_nan=False, strict=True)
    tool_choice: Literal["none", "auto", "required"] | ChatChoice | None = None
    tools: (
        Annotated[
            list[Annotated[ChatTool | FileSearchTool, Field(discriminator="type")]],
            Field(max_length=MAX_TOOLS),
        ]
        | None
    ) = None
    top_p: float | None = Field(None, ge=0, le=1, allow_inf_nan=False, strict=True)
    user: Identifier | None = Field(
        None, description="The end user; a model's endpoint is told a hash that only this server can make."
    )
    verbosity: Literal["low", "medium", "high"] | None = None
    web_search_options: WebSearchOptions | None = Field(
        None, description="That the model may search the web; `{}` is enough."
    )


def items_of(messages: list[ChatMessage]) -> Iterator[dict[str, Any]]:
    """Messages as items of the Responses API."""
    for message in messages:
        if isinstance(message, ToolMessage):
            output = _joined(message.content)
            yield {"type": "function_call_output", "call_id": message.tool_call_id, "output": output}
            continue
        if parts := list(_parts(message)):
            yield {"id": new_id("msg"), "type": "message", "role": message.role, "content": parts}
        for call in (message.tool_calls or ()) if isinstance(message, AssistantMessage) else ():
            yield {
                "type": "function_call",
                "call_id": call.id,
                "name": call.function.name,
                "arguments": call.function.arguments,
            }


def text_of(body: NewChatCompletion) -> dict[str, Any]:
    """The form of the answer, as the Responses API has it."""
    text: dict[str, Any] = {"verbosity": body.verbosity} if body.verbosity else {}
    if isinstance(body.response_format, SchemaFormat):
        schema = body.response_format.json_schema.model_dump(exclude_none=True, by_alias=True)
        text["format"] = {"type": "json_schema", **schema}
    elif body.response_format is not None:
        text["format"] = {"type": body.response_format.type}
    return text


def _parts(message: InstructionMessage | UserMessage | AssistantMessage) -> Iterator[dict[str, Any]]:
    kind = "output_text" if message.role == "assistant" else "input_text"
    content = message.content or ""
    for part in [TextPart(type="text", text=content)] if isinstance(content, str) else content:
        if isinstance(part, ImagePart):
            detail = part.image_url.detail or "auto"
            yield {"type": "input_image", "image_url": part.image_url.url, "detail": detail}
        elif isinstance(part, RefusalPart):
            yield {"type": "refusal", "refusal": part.refusal}
        elif part.text or message.role != "assistant":
            yield {"type": kind, "text": part.text}
    if isinstance(message, AssistantMessage) and message.refusal:
        yield {"type": "refusal", "refusal": message.refusal}


def _joined(content: Texts) -> str:
    return content if isinstance(content, str) else "".join(part.text for part in content)
