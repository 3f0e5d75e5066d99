"""Tools in OpenAPI: what each takes and gives, under the names of its models, with an example."""

from dataclasses import fields
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

from pydantic import TypeAdapter

from api import openapi
from kb import tools
from kb.tools import Tool, arguments

_REF = "#/components/schemas/{model}"
_VERSION = "ver_0199f3c2b1057a1c9d20f1e2d3c4b5a6"
_QUOTED = "Open the brine valve first."

# Of fields by their name; others by their type.
_EXAMPLES: dict[str, Any] = {
    "source_connection_content_version_id": _VERSION,
    "knowledge_base_id": "handbook",
    "content_id": "doc_0199f3c2b1047d6e8f30a1b2c3d4e5f6",
    "query": "How is the pump started?",
    "pattern": "brine valve",
    "title": "Starting the plant",
    "uri": "operations/startup.md",
    "heading": "Cold start",
    "text": _QUOTED,
    "context": _QUOTED,
    "end": len(_QUOTED),
    "context_end": len(_QUOTED),
    "attributes": {"team": "operations"},
}
# What a call needs and nothing more.
_CALLS: dict[str, list[str]] = {
    "search_knowledge_base": ["query", "knowledge_base_id"],
    "grep_content": ["pattern", "knowledge_base_id"],
}


def shown(tool: Tool) -> dict[str, Any]:
    """As `GET /v1/tools` lists it."""
    return {
        "name": tool.name,
        "description": tool.description,
        "input_schema": tool.parameters,
        "output_schema": tool.output,
        "function": tool.function,
    }


def described(tool: Tool) -> dict[str, Any]:
    """Arguments of the decorator of a tool's route."""
    takes = {"$ref": _REF.format(model=tool.arguments.__name__)}
    wanted = _CALLS.get(tool.name, tool.parameters.get("required", []))
    example = {name: _EXAMPLES[name] for name in wanted}
    body = {"required": True, "content": {"application/json": {"schema": takes, "example": example}}}
    gives = openapi.described_as(tool.result, example_of(tool.result), takes_body=True)
    return {**gives, "openapi_extra": {"requestBody": body}}


def definitions() -> dict[str, Any]:
    """The schemas of all tools, by the names of their models."""
    adapters: list[Any] = [
        (one.name, mode, TypeAdapter(shape))
        for one in tools.TOOLS.values()
        for mode, shape in (("validation", one.arguments), ("serialization", one.result))
    ]
    _, schema = TypeAdapter.json_schemas(adapters, ref_template=_REF)
    made: dict[str, Any] = schema["$defs"]
    # Models are told these in words, which they follow better than a schema that refers to itself.
    made["SearchKnowledgeBase"]["properties"]["filters"]["anyOf"] = [
        {"$ref": _REF.format(model="Filter")},
        {"type": "null"},
    ]
    made["GrepContent"]["anyOf"] = [
        {"required": [where], "properties": {where: {"type": "string"}}}
        for where in (arguments.CONTENT_VERSION, arguments.KNOWLEDGE_BASE)
    ]
    return made


def example_of(shape: Any, name: str = "") -> Any:
    """A value of a result's type."""
    if name in _EXAMPLES:
        return _EXAMPLES[name]
    origin, inner = get_origin(shape), get_args(shape)
    if origin is UnionType:
        return None if type(None) in inner else example_of(inner[0])
    if origin is tuple:
        return [example_of(inner[0])]
    if hasattr(shape, "__dataclass_fields__"):
        hints = get_type_hints(shape)
        return {field.name: example_of(hints[field.name], field.name) for field in fields(shape)}
    return {str: "…", int: 0, float: 0.5, bool: False}.get(shape, {})
