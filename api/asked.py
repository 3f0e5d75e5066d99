"""Requests of the `openai` SDK become what `kb.agent` is asked."""

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any, Literal

from jsonschema import Draft202012Validator

from api.chat_bodies import ChatChoice, ChatTool, NewChatCompletion, items_of, text_of
from api.responses_bodies import (
    ApprovalResponse,
    FileSearchTool,
    FunctionTool,
    InputMessage,
    Item,
    McpTool,
    NewResponse,
    ResponseParameters,
    SearchChoice,
    TokenCount,
    WebFilters,
    WebPlace,
    WebSearchTool,
)
from kb.agent.asked import Asked, Decision, Grounding, WebUse
from kb.agent.toolbox import OWN
from kb.catalog.database import new_id
from kb.errors import InvalidInput
from kb.gateway.events import Caller
from kb.remote.server import McpServer, RemoteServer
from kb.search.filters import parse_filter
from kb.service import Service
from kb.types import ANYWHERE, Domains, UserLocation

# The field of a run's metadata that grounds it.
_KNOWLEDGE_BASE = "knowledge_base_id"
_PREFIXES = {
    "message": "msg",
    "function_call": "fc",
    "function_call_output": "fco",
    "file_search_call": "fs",
    "web_search_call": "ws",
    "mcp_approval_response": "mcpa",
}
# What goes on to the model as it is.
_PASSED = ("parallel_tool_calls", "prompt_cache_key", "temperature", "top_p")
_PASSED_BY_CHAT = ("frequency_penalty", "logit_bias", "presence_penalty", "seed", "stop")


def asked_of(service: Service, body: ResponseParameters, key_id: str | None) -> Asked:
    """Raises InvalidInput for a field that neither this server nor the model's endpoint knows."""
    functions = tuple(tool.model_dump() for tool in body.tools or () if isinstance(tool, FunctionTool))
    parameters = further_parameters(service, body.model, body.model_extra or {})
    parameters |= {name: value for name in _PASSED if (value := getattr(body, name)) is not None}
    if body.reasoning:
        parameters["reasoning"] = body.reasoning.model_dump(exclude_none=True)
    if body.text:
        parameters["text"] = body.text.model_dump(exclude_none=True, by_alias=True)
    choice = body.tool_choice
    mcp = [tool for tool in body.tools or () if isinstance(tool, McpTool)]
    own = any(tool.connector_id == OWN for tool in mcp)
    web = web_use([tool for tool in body.tools or () if isinstance(tool, WebSearchTool)])
    if (functions or mcp or web) and choice is not None and not _says_nothing(choice, web):
        parameters["tool_choice"] = _shown(choice)
    searches = [tool for tool in body.tools or () if isinstance(tool, FileSearchTool)]
    metadata = body.metadata or {}
    new = body if isinstance(body, NewResponse) else None
    if new and "reasoning.encrypted_content" in (new.include or ()):
        parameters["include"] = ["reasoning.encrypted_content"]
    return Asked(
        model=body.model,
        items=tuple(_items(body.input)),
        instructions=body.instructions,
        functions=functions,
        parameters=parameters,
        max_output_tokens=body.max_output_tokens,
        service_tier=body.service_tier or "auto",
        caller=Caller(key_id, body.safety_identifier or body.user),
        # With tools at hand the model searches by itself, and the metadata names where.
        grounding=None if choice == "none" else grounding(searches, {} if own else metadata),
        own_tools=own and choice != "none",
        web=None if choice == "none" else web,
        servers=() if choice == "none" else tuple(servers_of(service, mcp)),
        # To count tokens decides nothing.
        decisions=() if isinstance(body, TokenCount) else tuple(_decisions(body.input)),
        max_tool_calls=body.max_tool_calls,
        max_credits=None if body.max_credits is None else Decimal(body.max_credits),
        previous_response_id=body.previous_response_id,
        metadata=metadata,
        truncate=body.truncation == "auto",
        store=new is not None and new.store is not False,
        background=bool(new and new.background),
        show_results="file_search_call.results" in ((new and new.include) or ()),
        show_pages="web_search_call.action.sources" in ((new and new.include) or ()),
        echo=_echo(body),
    )


def asked_of_chat(service: Service, body: NewChatCompletion, key_id: str | None) -> Asked:
    """The same for chat completions, which are not kept."""
    functions = tuple(
        {"type": "function", **tool.function.model_dump()}
        for tool in body.tools or ()
        if isinstance(tool, ChatTool)
    )
    parameters = further_parameters(service, body.model, body.model_extra or {})
    for name in (*_PASSED, *_PASSED_BY_CHAT):
        if (value := getattr(body, name)) is not None:
            parameters[name] = value
    if body.reasoning_effort:
        parameters["reasoning"] = {"effort": body.reasoning_effort}
    if text := text_of(body):
        parameters["text"] = text
    choice = body.tool_choice
    if functions and choice is not None:
        if isinstance(choice, ChatChoice):
            parameters["tool_choice"] = {"type": "function", "name": choice.function.name}
        else:
            parameters["tool_choice"] = choice
    searches = [tool for tool in body.tools or () if isinstance(tool, FileSearchTool)]
    metadata, options = body.metadata or {}, body.web_search_options
    place = options.user_location.approximate if options and options.user_location else None
    return Asked(
        model=body.model,
        items=tuple(items_of(body.messages)),
        functions=functions,
        parameters=parameters,
        max_output_tokens=body.max_completion_tokens or body.max_tokens,
        service_tier=body.service_tier or "auto",
        caller=Caller(key_id, body.safety_identifier or body.user),
        grounding=None if choice == "none" else grounding(searches, metadata),
        web=None if options is None or choice == "none" else _web(options.search_context_size, place),
        metadata=metadata,
        store=False,
    )


def grounding(searches: Sequence[FileSearchTool], metadata: Mapping[str, str]) -> Grounding | None:
    """What the answer is to rest on: the knowledge bases of a file_search, and the one in the metadata."""
    if len(searches) > 1:
        raise InvalidInput("one file_search searches several vector stores together; send one", param="tools")
    named = [
        *(searches[0].vector_store_ids if searches else ()),
        *filter(None, [metadata.get(_KNOWLEDGE_BASE)]),
    ]
    if not named:
        return None
    tool = searches[0] if searches else None
    ranking = tool.ranking_options if tool else None
    weights = ranking.hybrid_search if ranking else None
    return Grounding(
        tuple(dict.fromkeys(named)),
        where=None if tool is None or tool.filters is None else parse_filter(tool.filters),
        top_k=tool.max_num_results if tool else None,
        max_tokens=tool.max_context_tokens if tool else None,
        least_similarity=ranking.score_threshold if ranking else None,
        dense_weight=weights.dense_weight() if weights else None,
    )


def web_use(tools: Sequence[WebSearchTool]) -> WebUse | None:
    """How the web may be searched. Raises InvalidInput for two ways."""
    if not tools:
        return None
    if len(tools) > 1:
        raise InvalidInput("there is one search of the web; send one tool for it", param="tools")
    filters = tools[0].filters or WebFilters()
    domains = Domains(tuple(filters.allowed_domains or ()), tuple(filters.blocked_domains or ()))
    return _web(tools[0].search_context_size, tools[0].user_location, domains)


def _web(
    size: Literal["low", "medium", "high"] | None, place: WebPlace | None, domains: Domains = ANYWHERE
) -> WebUse:
    location = None
    if place is not None:
        location = UserLocation(place.country, place.region, place.city, place.timezone)
    return WebUse(domains, location, size or "medium")


def further_parameters(service: Service, model: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Fields that only a model's endpoint knows, checked against its schemas. Raises InvalidInput."""
    known = service.gateway.endpoints.parameters(model)
    for name, value in given.items():
        if name not in known:
            raise InvalidInput(
                f"{name} is no parameter of {model}; GET /v1/models/{model}/schema lists those it has",
                param=name,
            )
        fault = next(Draft202012Validator(known[name]).iter_errors(value), None)
        if fault is not None:
            raise InvalidInput(f"{name}: {fault.message}", param=name)
    return dict(given)


def _items(given: str | Sequence[Item]) -> list[dict[str, Any]]:
    """Each with an id, by which it is listed; what was left out stays left out."""
    items = [InputMessage(role="user", content=given)] if isinstance(given, str) else given
    shown = [item.model_dump(exclude_none=True) for item in items]
    for item in shown:
        if item["type"] in _PREFIXES:
            item.setdefault("id", new_id(_PREFIXES[item["type"]]))
        if item["type"] == "message" and isinstance(item["content"], str):
            kind = "output_text" if item["role"] == "assistant" else "input_text"
            item["content"] = [{"type": kind, "text": item["content"]}]
    return shown


def servers_of(service: Service, tools: Sequence[McpTool]) -> Iterator[RemoteServer]:
    """Others' servers as the operator and the caller describe them. Raises InvalidInput."""
    labels = [tool.server_label for tool in tools]
    if twice := next((one for one in labels if labels.count(one) > 1), None):
        raise InvalidInput(f"two servers are called {twice!r}; give each a label of its own", param="tools")
    for tool in tools:
        if (tool.connector_id == OWN) != (tool.server_label == OWN):
            raise InvalidInput(
                f"the label {OWN!r} is that of the connector {OWN!r}, and of no other", param="tools"
            )
        if tool.connector_id != OWN:
            given = tool.model_dump(exclude_none=True)
            yield McpServer.parse(given).described(service.connectors)


def _decisions(given: str | Sequence[Item]) -> Iterator[Decision]:
    for item in () if isinstance(given, str) else given:
        if isinstance(item, ApprovalResponse):
            yield Decision(item.approval_request_id, item.approve, item.reason)


def _says_nothing(choice: Any, web: WebUse | None) -> bool:
    """Knowledge bases are always searched where some are named, and the web never where no tool does."""
    return isinstance(choice, SearchChoice) and (choice.type == "file_search" or web is None)


def _shown(choice: Any) -> Any:
    return choice if isinstance(choice, str) else choice.model_dump()


def _echo(body: ResponseParameters) -> dict[str, Any]:
    """What an answer repeats that did not go to the model as it was."""
    secret = {"authorization", "headers"}
    tools = [tool.model_dump(exclude_none=True, exclude=secret) for tool in body.tools or ()]
    echo: dict[str, Any] = {"tools": tools}
    if body.tool_choice is not None:
        echo["tool_choice"] = _shown(body.tool_choice)
    return echo
