"""What a request to a language model must be, as one JSON Schema: the body's own, and what the model and its
endpoints make of it.

The server refuses what the schema refuses. What depends on more than the body stands in no schema: whether
what it names is there, what the key may do, whether all of it fits into the window.
"""

import json
from collections.abc import Mapping
from typing import Any, Literal

from pydantic.json_schema import models_json_schema

from api.chat_bodies import NewChatCompletion
from api.responses_bodies import NewResponse
from kb.gateway.core import taken_by
from kb.gateway.endpoints import Endpoints
from kb.metering.rates import NAMES_OF_TIERS
from kb.models.registry import Model
from kb.search.filters import json_schema

Api = Literal["responses", "chat"]
Schema = dict[str, Any]

# As OpenAPI refers to schemas, among them that of filters, which is ours; and as one schema does.
_ELSEWHERE, _HERE = "#/components/schemas/", "#/$defs/"
_BODIES: dict[Api, type[NewResponse] | type[NewChatCompletion]] = {
    "responses": NewResponse,
    "chat": NewChatCompletion,
}
_TOOLS = {"responses": ("FunctionTool", "McpTool"), "chat": ("ChatTool",)}
_PICTURES = {"responses": "InputImage", "chat": "ImagePart"}
# Fields that go on to an endpoint as a parameter of the Responses API, by its name there.
_PASSED: dict[Api, dict[str, str]] = {
    "responses": {
        name: name
        for name in ("parallel_tool_calls", "prompt_cache_key", "reasoning", "temperature", "text", "top_p")
    },
    "chat": {
        "frequency_penalty": "frequency_penalty",
        "logit_bias": "logit_bias",
        "parallel_tool_calls": "parallel_tool_calls",
        "presence_penalty": "presence_penalty",
        "prompt_cache_key": "prompt_cache_key",
        "reasoning_effort": "reasoning",
        "response_format": "text",
        "seed": "seed",
        "stop": "stop",
        "temperature": "temperature",
        "top_p": "top_p",
        "verbosity": "text",
    },
}
# Of these there may be one: a file_search searches all that it names together.
_SEARCHES = ("^file_search$", "^web_search")
_NULL = {"type": "null"}


def request_schema(model: Model, endpoints: Endpoints, api: Api, *, searches_web: bool) -> Schema:
    """The schema of what POST /v1/responses or /v1/chat/completions takes for a model.

    searches_web: whether this server does, for models whose endpoints do not.
    """
    body = _BODIES[api]
    _, found = models_json_schema([(body, "validation")], ref_template=f"{_ELSEWHERE}{{model}}")
    definitions: Schema = json.loads(json.dumps(found["$defs"]).replace(_ELSEWHERE, _HERE))
    made: Schema = {**definitions.pop(body.__name__), "$defs": definitions}
    made["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    definitions["Filter"] = json_schema(f"{_HERE}Filter")
    fields = made["properties"]
    further = {name: schema for name, schema in endpoints.parameters(model.id).items() if name not in fields}
    fields["model"] = {"const": model.id}
    tiers = [name for name, tier in NAMES_OF_TIERS.items() if tier in model.credits.tiers()]
    fields["service_tier"] |= {"anyOf": [{"enum": ["auto", *tiers]}, _NULL]}
    if not model.tools:
        for name in _TOOLS[api]:
            definitions[name] = {"not": {}, "description": f"{model.id} calls no functions."}
    _search_web(made, model, endpoints, api, searches_web=searches_web)
    if "image" not in model.input:
        definitions[_PICTURES[api]] = {"not": {}, "description": f"{model.id} reads no pictures."}
    made["additionalProperties"] = False
    made["allOf"] = [
        *({"properties": {"tools": _at_most_one(pattern)}} for pattern in _SEARCHES),
        *_limits(model, api),
        *_taken(model, endpoints, api, further),
    ]
    fields |= further
    return made


def _at_most_one(pattern: str) -> Schema:
    """Of the tools of a type."""
    of_it = {"properties": {"type": {"type": "string", "pattern": pattern}}, "required": ["type"]}
    return {"contains": of_it, "minContains": 0, "maxContains": 1}


def _search_web(made: Schema, model: Model, endpoints: Endpoints, api: Api, *, searches_web: bool) -> None:
    """Narrow what may be said of the web to what can be done."""
    kinds = {one.kind for one in endpoints.all if model.id in one.models and one.web_search}
    if kinds and api == "responses":
        domains = made["$defs"]["WebFilters"]["properties"]
        closed = ("blocked_domains",) if "responses" in kinds else ("allowed_domains", "blocked_domains")
        domains |= {name: {"anyOf": [{"type": "array", "maxItems": 0}, _NULL]} for name in closed}
    elif not kinds and not (searches_web and model.tools):
        if api == "responses":
            made["$defs"]["WebSearchTool"] = {"not": {}, "description": "Nobody would search the web."}
        else:
            made["properties"]["web_search_options"] = _NULL


def _limits(model: Model, api: Api) -> list[Schema]:
    most = {"anyOf": [{"type": "integer", "maximum": model.max_output_tokens}, _NULL]}
    if api == "responses":
        unstored = {"background": {"const": True}, "store": {"const": False}}
        return [
            {"properties": {"max_output_tokens": most}},
            # What nobody waits for has to be kept.
            {"not": {"properties": unstored, "required": list(unstored)}},
        ]
    given = {
        "properties": {"max_completion_tokens": {"type": "integer"}},
        "required": ["max_completion_tokens"],
    }
    return [
        {"properties": {"max_completion_tokens": most}},
        # The older name counts where the newer is not there.
        {"anyOf": [given, {"properties": {"max_tokens": most}}]},
    ]


def _taken(model: Model, endpoints: Endpoints, api: Api, further: Mapping[str, Any]) -> list[Schema]:
    """That one endpoint takes all that is to go on to it."""
    fitting = []
    for endpoint in endpoints.all:
        if model.id not in endpoint.models:
            continue
        taken = taken_by(endpoint)
        passed = _PASSED[api].items()
        closed: Schema = {field: _NULL for field, name in passed if name not in taken}
        closed |= {name: False for name in further if name not in taken}
        fitting.append({"properties": closed})
    return [{"anyOf": fitting}] if fitting else []
