"""The description of the interface: bodies, answers, errors and keys, with an example of each."""

from collections.abc import Mapping
from types import UnionType
from typing import Any, get_args, get_origin

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from api import (
    answers,
    chat_bodies,
    chat_shapes,
    openai_bodies,
    openai_shapes,
    responses_bodies,
    responses_shapes,
    run_bodies,
    run_shapes,
    schemas,
    usage_shapes,
)
from api.links import add_links
from kb.search.filters import json_schema

_REF = "#/components/schemas/{model}"
_REASONS = {
    400: "The body is not what its type says.",
    401: "A key is needed, or is not known.",
    402: "The key has not enough credits left.",
    403: "The key may not do this.",
    404: "No such thing.",
    409: "It is taken, or does not fit.",
    413: "The body is too large.",
    415: "The body is of another type.",
    422: "A field is at fault; `param` names it.",
    429: "More has arrived than can be served.",
    502: "The model's server failed.",
    503: "No model can be called; `context` has what was found.",
    504: "The model's server was too slow.",
}
# One of a stream, as the format itself has it.
_EVENT = {
    "type": "object",
    "properties": {"event": {"type": "string"}, "data": {"type": "string"}},
    "required": ["data"],
}
_RETRY_AFTER = {"description": "Seconds after which to come again.", "schema": {"type": "integer"}}
_KEYS = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}


def described(
    gives: type[answers.Answer],
    *,
    takes: type[schemas.Sent] | None = None,
    status: int = 200,
    errors: tuple[int, ...] = (404, 422),
    needs_key: bool = True,
    streams: str | None = None,
) -> dict[str, Any]:
    """Arguments of a route's decorator that describe what it takes and gives.

    streams: an example of what it gives as server-sent events, where it does that too.
    """
    extra: dict[str, Any] = {"requestBody": {"required": True, "content": content(takes)}} if takes else {}
    extra |= {} if needs_key else {"security": []}
    given = content(gives)
    if streams is not None:
        given["text/event-stream"] = {"schema": _EVENT, "example": streams}
    responses = _responses(status, gives.__doc__, given, errors, needs_key=needs_key, takes_body=bool(takes))
    return {"status_code": status, "responses": responses, "openapi_extra": extra}


def described_as(
    gives: type, example: Any, *, errors: tuple[int, ...] = (404, 422), takes_body: bool = False
) -> dict[str, Any]:
    """The same for an answer that is a result of `kb.tools`."""
    given = {"schema": {"$ref": _REF.format(model=gives.__name__)}, "example": example}
    responses = _responses(200, gives.__doc__, {"application/json": given}, errors, takes_body=takes_body)
    return {"responses": responses}


def _responses(
    status: int,
    words: str | None,
    given: dict[str, Any],
    errors: tuple[int, ...],
    *,
    needs_key: bool = True,
    takes_body: bool = False,
) -> dict[int | str, dict[str, Any]]:
    more = (*((401, 429) if needs_key else ()), *((413, 415) if takes_body else ()))
    responses: dict[int | str, dict[str, Any]] = {status: {"description": words, "content": given}}
    for code in sorted({*errors, *more}):
        responses[code] = refusal(code)
    if 429 in responses:
        responses[429]["headers"] = {"Retry-After": _RETRY_AFTER}
    return responses


def refusal(status: int) -> dict[str, Any]:
    """The description of an answer with an error."""
    return {
        "description": _REASONS[status],
        "content": {"application/json": _referred(answers.Error)},
    }


def content(model: type[BaseModel]) -> dict[str, Any]:
    """JSON of a model, with an example."""
    return {"application/json": {**_referred(model), "example": example(model)}}


def example(model: type[BaseModel]) -> dict[str, Any]:
    """The model's own example, or one put together from its fields'."""
    if issubclass(model, schemas.Sent):
        return model.example
    return {
        name: field.examples[0] if field.examples else _of_annotation(field.annotation, field.default)
        for name, field in model.model_fields.items()
    }


def document(app: FastAPI, more: Mapping[str, Any]) -> dict[str, Any]:
    """The OpenAPI document of the application, made once. more: further schemas, by name."""
    if app.openapi_schema is None:
        made = get_openapi(
            title=app.title,
            version=app.version,
            description=app.description,
            routes=app.routes,
            tags=app.openapi_tags,
        )
        sent = [
            (model, "validation")
            for model in _models(schemas, openai_bodies, responses_bodies, chat_bodies, run_bodies)
        ]
        given = [
            (model, "serialization")
            for model in _models(
                answers, openai_shapes, responses_shapes, chat_shapes, run_shapes, usage_shapes
            )
        ]
        _, definitions = models_json_schema([*sent, *given], ref_template=_REF)  # type: ignore[list-item]
        for operation in (one for path in made["paths"].values() for one in path.values()):
            # FastAPI's own guess, on routes that say themselves how they refuse.
            if "HTTPValidationError" in str(operation["responses"].get("422")):
                del operation["responses"]["422"]
        components = made.setdefault("components", {})
        components["schemas"] = {
            **definitions["$defs"],
            "Filter": json_schema(_REF.format(model="Filter")),
            **more,
        }
        components["securitySchemes"] = _KEYS
        # None is needed on loopback until a key was made.
        made["security"] = [*([{}] if app.state.keyless else []), *({name: []} for name in _KEYS)]
        if not app.state.reranks:
            for model in (schemas.SearchRequest, schemas.SearchSeveralRequest, schemas.ExplainRequest):
                definitions["$defs"][model.__name__]["properties"]["rerank"]["const"] = False
        add_links(made)
        app.openapi_schema = made
    return app.openapi_schema


def _referred(model: type[BaseModel]) -> dict[str, Any]:
    return {"schema": {"$ref": _REF.format(model=model.__name__)}}


def _of_annotation(annotation: Any, default: Any) -> Any:
    if get_origin(annotation) is list:
        return [_of_annotation(get_args(annotation)[0], None)]
    if isinstance(annotation, UnionType):
        return _of_annotation(get_args(annotation)[0], None)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return example(annotation)
    return default


def _models(*modules: Any) -> list[type[BaseModel]]:
    bases = (schemas.Sent, answers.Answer)
    return [
        value
        for module in modules
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, bases) and value not in bases
    ]
