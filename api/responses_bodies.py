"""What the `openai` SDK sends to responses, checked: https://platform.openai.com/docs/api-reference/responses.

What is not known here goes on to the model, but only where its endpoint's schema has it.
"""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, ConfigDict, Field, JsonValue, StrictBool, WithJsonSchema

from api.openai_bodies import Metadata, RankingOptions
from api.schemas import WHOLE, Filters, Name, Sent
from kb.context.pack import LEAST_BUDGET
from kb.search.shape import MAX_TOP_K

MAX_ITEMS = 10_000
"""Of one input."""

MAX_TOOLS = 128
"""Of one request."""

Tier = Literal["auto", "default", "standard", "flex", "scale", "priority", "fast"]
Identifier = Annotated[str, Field(min_length=1, max_length=512)]
ResponseId = Annotated[
    str, Field(min_length=1, max_length=64, examples=["resp_0199f3c2b1047d6e8f30a1b2c3d4e5f6"])
]
Id = Annotated[str, Field(max_length=128)]
DomainName = Annotated[str, Field(pattern=r"^[A-Za-z0-9.-]{1,253}$", examples=["example.org"])]
Included = Literal[
    "file_search_call.results", "reasoning.encrypted_content", "web_search_call.action.sources"
]
ToolName = Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]


def _always(value: bool) -> bool:
    if not value:
        raise ValueError("Input should be true")
    return value


class Told(Sent):
    """Something that also comes back as we or others answered it; what more it has is not needed."""

    model_config = ConfigDict(extra="ignore")
    example: ClassVar[dict[str, Any]] = {}


class InputText(Told):
    """Text of a message, or of an answer given before."""

    type: Literal["input_text", "output_text", "text"]
    text: str


class InputImage(Told):
    """A picture, by address or as a data URL."""

    type: Literal["input_image"]
    image_url: str = Field(min_length=1)
    detail: Literal["low", "high", "auto", "original"] | None = None


class InputRefusal(Told):
    """In which words an answer was refused before."""

    type: Literal["refusal"]
    refusal: str


class InputMessage(Told):
    """A message of the conversation."""

    example: ClassVar[dict[str, Any]] = {"role": "user", "content": "How is the pump started?"}

    type: Literal["message"] = "message"
    role: Literal["user", "assistant", "system", "developer"]
    content: str | list[Annotated[InputText | InputImage | InputRefusal, Field(discriminator="type")]]
    id: Id | None = None


class InputCall(Told):
    """A function that the model called."""

    type: Literal["function_call"]
    call_id: Id
    name: ToolName
    arguments: str
    id: Id | None = None


class InputCallOutput(Told):
    """What came of that."""

    type: Literal["function_call_output"]
    call_id: Id
    output: str | list[InputText]
    id: Id | None = None


class InputReasoning(Sent):
    """Reasoning of an answer given before, as it came."""

    model_config = ConfigDict(extra="allow")
    example: ClassVar[dict[str, Any]] = {}

    type: Literal["reasoning"]


class CallError(Told):
    """Why a tool gave nothing."""

    type: Literal["mcp_tool_execution_error"]
    content: list[InputText]


class InputServerCall(Told):
    """A call of a tool that this server made in an answer given before."""

    type: Literal["mcp_call"]
    id: Id
    server_label: Id
    name: Id
    arguments: str
    output: str | None = None
    error: CallError | None = None


class ApprovalResponse(Told):
    """A person's word on a call that the response before asked about."""

    example: ClassVar[dict[str, Any]] = {
        "type": "mcp_approval_response",
        "approval_request_id": "mcpr_0199f3c2b1047d6e8f30a1b2c3d4e5f6",
        "approve": True,
    }

    type: Literal["mcp_approval_response"]
    approval_request_id: Id
    approve: StrictBool
    reason: Annotated[str, Field(max_length=2_000)] | None = None
    id: Id | None = None


class InputApproval(Told):
    """What an answer given before asked about. Nothing is allowed by it."""

    type: Literal["mcp_approval_request"]
    id: Id | None = None


class InputToolList(Told):
    """The tools of a server, as an answer given before listed them. Nothing is added by it."""

    type: Literal["mcp_list_tools"]
    id: Id | None = None


class InputWebSearch(Sent):
    """A search of the web of an answer given before, as it came."""

    model_config = ConfigDict(extra="allow")
    example: ClassVar[dict[str, Any]] = {}

    type: Literal["web_search_call"]
    id: Id | None = None


class InputSearch(Told):
    """A search of an answer given before. What it found is in that answer."""

    type: Literal["file_search_call"]
    id: Id | None = None


class FunctionTool(Sent):
    """A function that the client runs."""

    example: ClassVar[dict[str, Any]] = {"type": "function", "name": "stop", "parameters": {"type": "object"}}

    type: Literal["function"]
    name: ToolName
    description: str | None = None
    parameters: dict[str, JsonValue] | None = None
    strict: StrictBool | None = None


class FileSearchTool(Sent):
    """Knowledge bases that the answer is to rest on, with citations that are checked."""

    example: ClassVar[dict[str, Any]] = {"type": "file_search", "vector_store_ids": ["handbook"]}

    type: Literal["file_search"]
    vector_store_ids: list[Name] = Field(
        min_length=1, max_length=64, description="Ids or names.", examples=[["handbook"]]
    )
    max_num_results: Annotated[int, Field(ge=1, le=MAX_TOP_K, strict=True), WHOLE] | None = Field(
        None, description="Hits to begin with; as many as fit."
    )
    max_context_tokens: Annotated[int, Field(ge=LEAST_BUDGET, le=2**31, strict=True), WHOLE] | None = Field(
        None,
        description="Of passages for this question; 16,000 if left out. Those of earlier turns come on top, "
        "as long as the model's window has room.",
    )
    filters: Filters | None = Field(None, description="As in a search.")
    ranking_options: RankingOptions | None = None


class ToolNames(Sent):
    """Tools of a server, by name or by what it says of them itself."""

    example: ClassVar[dict[str, Any]] = {"tool_names": ["get_time"]}

    tool_names: Annotated[list[Id], Field(max_length=1000)] | None = None
    read_only: StrictBool | None = None


class ApprovalByTool(Sent):
    """Which calls a person is asked about, and which not; `always` wins."""

    example: ClassVar[dict[str, Any]] = {"never": {"tool_names": ["get_time"]}}

    always: ToolNames | None = None
    never: ToolNames | None = None


class McpTool(Sent):
    """Tools of an MCP server that the model may call. `connector_id` `kb`: those over this server's own
    knowledge bases; others are what the operator set up. A person is asked before every call unless
    `require_approval` says otherwise."""

    example: ClassVar[dict[str, Any]] = {"type": "mcp", "server_label": "kb", "connector_id": "kb"}

    type: Literal["mcp"]
    server_label: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")
    server_description: Annotated[str, Field(max_length=10_000)] | None = None
    server_url: Annotated[str, Field(min_length=1, max_length=2_000)] | None = Field(
        None, description="On the public network."
    )
    connector_id: Annotated[str, Field(max_length=64)] | None = None
    headers: Annotated[dict[str, str], Field(max_length=50)] | None = Field(
        None, description="Never shown again."
    )
    authorization: Annotated[str, Field(max_length=8_000)] | None = Field(
        None, description="A bearer's token; never shown again."
    )
    allowed_tools: Annotated[list[Id], Field(max_length=1000)] | ToolNames | None = None
    require_approval: Literal["always", "never"] | ApprovalByTool | None = None


class WebFilters(Sent):
    """Domains, each with all below it."""

    example: ClassVar[dict[str, Any]] = {"allowed_domains": ["example.org"]}

    allowed_domains: Annotated[list[DomainName], Field(max_length=100)] | None = None
    blocked_domains: Annotated[list[DomainName], Field(max_length=100)] | None = None


class WebPlace(Sent):
    """Where roughly whoever asks is."""

    example: ClassVar[dict[str, Any]] = {"country": "DE", "city": "Berlin"}

    country: Annotated[str, Field(pattern=r"^[A-Za-z]{2}$")] | None = Field(
        None, description="ISO 3166-1, two letters."
    )
    region: Annotated[str, Field(max_length=100)] | None = None
    city: Annotated[str, Field(max_length=100)] | None = None
    timezone: Annotated[str, Field(max_length=100)] | None = Field(None, description="IANA.")


class WebLocation(WebPlace):
    """Where roughly whoever asks is."""

    example: ClassVar[dict[str, Any]] = {"type": "approximate", **WebPlace.example}

    type: Literal["approximate"] = "approximate"


class WebSearchTool(Sent):
    """Search of the web: by the model's endpoint, where that does it by itself, or by the engine that the
    operator set, whose pages are read here; then what is cited stands in them."""

    example: ClassVar[dict[str, Any]] = {"type": "web_search"}

    type: Literal[
        "web_search", "web_search_2025_08_26", "web_search_preview", "web_search_preview_2025_03_11"
    ]
    filters: WebFilters | None = None
    search_context_size: Literal["low", "medium", "high"] | None = Field(
        None, description="Of what is found, how much the model reads: medium."
    )
    user_location: WebLocation | None = None
    external_web_access: (
        Annotated[StrictBool, AfterValidator(_always), WithJsonSchema({"const": True})] | None
    ) = Field(None, description="Pages are read when they are needed.")


class FunctionChoice(Sent):
    """The function that must be called."""

    example: ClassVar[dict[str, Any]] = {"type": "function", "name": "stop"}

    type: Literal["function"]
    name: ToolName


class SearchChoice(Sent):
    """That there is to be a search; of knowledge bases there always is."""

    example: ClassVar[dict[str, Any]] = {"type": "file_search"}

    type: Literal["file_search", "web_search", "web_search_preview", "web_search_preview_2025_03_11"]


class PlainForm(Sent):
    """Text, or any JSON object."""

    example: ClassVar[dict[str, Any]] = {"type": "text"}

    type: Literal["text", "json_object"]


class SchemaForm(Sent):
    """JSON of a schema."""

    example: ClassVar[dict[str, Any]] = {
        "type": "json_schema",
        "name": "step",
        "schema": {"type": "object"},
    }

    type: Literal["json_schema"]
    name: ToolName
    schema_: dict[str, JsonValue] = Field(alias="schema")
    description: str | None = None
    strict: StrictBool | None = None


class TextOptions(Sent):
    """How an answer is written."""

    example: ClassVar[dict[str, Any]] = {"format": {"type": "text"}}

    format: Annotated[PlainForm | SchemaForm, Field(discriminator="type")] | None = None
    verbosity: Literal["low", "medium", "high"] | None = None


class ReasoningOptions(Sent):
    """How long a model thinks that does."""

    example: ClassVar[dict[str, Any]] = {"effort": "low"}

    effort: Literal["none", "minimal", "low", "medium", "high", "xhigh"] | None = None
    summary: Literal["auto", "concise", "detailed"] | None = None


class StreamOptions(Sent):
    """What a stream has beside the answer."""

    example: ClassVar[dict[str, Any]] = {"include_obfuscation": False}

    include_obfuscation: StrictBool | None = Field(None, description="Never added here.")
    include_usage: StrictBool | None = Field(None, description="Always told by the last event.")


Item = (
    InputMessage
    | InputCall
    | InputCallOutput
    | InputReasoning
    | InputSearch
    | InputWebSearch
    | InputServerCall
    | InputToolList
    | InputApproval
    | ApprovalResponse
)
Input = Annotated[str, Field(min_length=1)] | Annotated[list[Item], Field(min_length=1, max_length=MAX_ITEMS)]
Tools = Annotated[
    list[Annotated[FunctionTool | FileSearchTool | McpTool | WebSearchTool, Field(discriminator="type")]],
    Field(max_length=MAX_TOOLS),
]
ToolChoice = (
    Literal["none", "auto", "required"]
    | Annotated[FunctionChoice | SearchChoice, Field(discriminator="type")]
)


class ResponseParameters(Sent):
    """What decides an answer. Further fields are those that the model's endpoint is said to take."""

    # To whoever reads the description they are unknown, as they are to a server without such an endpoint.
    model_config = ConfigDict(extra="allow", json_schema_extra={"additionalProperties": False})
    example: ClassVar[dict[str, Any]] = {"input": "How is the pump started?", "model": "gpt-4.1-mini"}

    input: Input
    model: str = Field(min_length=1, max_length=128, description="One of GET /v1/models.")
    instructions: str | None = None
    max_output_tokens: Annotated[int, Field(ge=1, le=2**31, strict=True), WHOLE] | None = Field(
        None, description="The model's most."
    )
    max_credits: Annotated[str, Field(pattern=r"^[0-9]{1,12}([.][0-9]{1,9})?$")] | None = Field(
        None, description="A decimal. Once its rounds have cost so much the model has to answer."
    )
    max_tool_calls: Annotated[int, Field(ge=1, le=1000, strict=True), WHOLE] | None = Field(
        None, description="Of this server's tools; then the model has to answer."
    )
    metadata: Metadata | None = Field(
        None, description="Texts of your own; `knowledge_base_id` names one that the answer is to rest on."
    )
    parallel_tool_calls: StrictBool | None = None
    previous_response_id: ResponseId | None = Field(
        None, description="The response that this one goes on from."
    )
    prompt_cache_key: Identifier | None = None
    reasoning: ReasoningOptions | None = None
    safety_identifier: Identifier | None = Field(None, description="As `user`.")
    service_tier: Tier | None = Field(None, description="One with a rate; see GET /v1/models.")
    temperature: float | None = Field(None, ge=0, le=2, allow_inf_nan=False, strict=True)
    text: TextOptions | None = None
    tool_choice: ToolChoice | None = None
    tools: Tools | None = None
    top_p: float | None = Field(None, ge=0, le=1, allow_inf_nan=False, strict=True)
    truncation: Literal["auto", "disabled"] | None = Field(
        None, description="auto: the oldest turns are left out."
    )
    user: Identifier | None = Field(
        None, description="The end user; a model's endpoint is told a hash that only this server can make."
    )


class NewResponse(ResponseParameters):
    """A question to a language model."""

    background: StrictBool | None = Field(
        None, description="Answer at once; the response is to be asked for later."
    )
    include: list[Included] | None = None
    store: StrictBool | None = Field(None, description="Keep it, as is done unless this is false.")
    stream: StrictBool | None = None
    stream_options: StreamOptions | None = None


class TokenCount(ResponseParameters):
    """A request whose tokens are to be counted."""
