"""Language models: their windows, limits, media and rates."""

from datetime import UTC, datetime, time
from typing import Any

from fastapi import APIRouter, Response

from api import answers
from api.answers import respond
from api.deps import Opened
from api.model_schemas import Api, request_schema
from api.openapi import described
from kb.models.registry import Model

routes = APIRouter(prefix="/v1/models", tags=["models"])


@routes.get("", **described(answers.LanguageModels, errors=()))
def list_models(service: Opened) -> Response:
    """The language models that calls can be made with and are priced by."""
    data = [_shown(model) for model in service.language_models.models.values()]
    return respond({"object": "list", "data": data})


@routes.get("/{model}", **described(answers.LanguageModel, errors=(404,)))
def show_model(model: str, service: Opened) -> Response:
    """One of them."""
    return respond(_shown(service.language_models.get(model)))


@routes.get("/{model}/schema", **described(answers.RequestSchema, errors=(404, 422)))
def show_schema(model: str, service: Opened, api: Api = "responses") -> Response:
    """The JSON Schema of what POST /v1/responses, or with `api=chat` /v1/chat/completions, takes for it.

    Fields that the server forwards to the model are among them, and those that no endpoint takes are not.
    """
    found, web = service.language_models.get(model), service.settings.searches_web
    return respond(request_schema(found, service.endpoints, api, searches_web=web))


def _shown(model: Model) -> dict[str, Any]:
    released = datetime.combine(model.released, time(), UTC) if model.released else None
    tiers: dict[str, Any] = {
        tier: rate.model_dump(mode="json") for tier, rate in model.credits.tiers().items()
    }
    credits: dict[str, Any] = {"cache_hit": str(model.credits.cache_hit), **tiers}
    return {
        "object": "model",
        "created": int(released.timestamp()) if released else 0,
        "owned_by": "kb",
        **model.model_dump(mode="json", exclude={"credits"}),
        "credits_per_1000_tokens": credits,
    }
