"""Embeddings: texts to vectors, by a model that is at work here anyway."""

import base64
from typing import Any

from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, Request, Response

from api import openai_shapes as shapes
from api.answers import respond
from api.deps import Opened, body
from api.errors import ApiError
from api.openai_bodies import NewEmbeddings
from api.openapi import described
from kb.service import Service
from kb.types import Vectors

routes = APIRouter(prefix="/v1/embeddings", tags=["embeddings"])


@routes.post("", **described(shapes.Embeddings, takes=NewEmbeddings))
async def embed(request: Request, service: Opened) -> Response:
    """The vectors of texts, made as those of passages. One request at a time is at work, beside searches."""
    asked = await body(request, NewEmbeddings)
    async with request.app.state.admission.embeddings.place(request.receive):
        limiter: CapacityLimiter = request.app.state.embedding
        return await to_thread.run_sync(_embedded, service, asked, limiter=limiter)


def _embedded(service: Service, asked: NewEmbeddings) -> Response:
    model = service.model_in_use(asked.model)
    if asked.dimensions not in (None, model.dim):
        message = f"{asked.model} gives vectors of {model.dim} dimensions; leave `dimensions` out"
        raise ApiError(422, "invalid_input", message, param="dimensions")
    vectors = model.embed_passages(asked.input)
    tokens = sum(min(len(model.token_starts(text)), model.max_tokens) for text in asked.input)
    shown = _base64 if asked.encoding_format == "base64" else _numbers
    data = [
        {"object": "embedding", "index": at, "embedding": shown(vector)} for at, vector in enumerate(vectors)
    ]
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return respond({"object": "list", "model": asked.model, "data": data, "usage": usage})


def _base64(vector: Vectors) -> Any:
    return base64.b64encode(vector.astype("<f4").tobytes()).decode()


def _numbers(vector: Vectors) -> Any:
    return vector.tolist()
