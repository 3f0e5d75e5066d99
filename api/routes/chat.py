"""Chat completions of language models, as the `openai` SDK speaks to them."""

from fastapi import APIRouter, Request, Response

from api import chat_shapes as shapes
from api.answers import respond
from api.asked import asked_of_chat
from api.chat_answers import Completion
from api.chat_bodies import NewChatCompletion
from api.deps import Direct, body, caller_key, keeping_of, service_of
from api.event_stream import EventStream, unless_left
from api.openapi import described
from api.routes.responses import CALL_ERRORS, MAX_BODY, prepared
from api.unanswered import unanswered
from kb.errors import NoEndpoint

routes = APIRouter(prefix="/v1/chat/completions", tags=["chat completions"], route_class=Direct)


@routes.post(
    "", **described(shapes.ChatCompletion, takes=NewChatCompletion, errors=CALL_ERRORS, streams=shapes.STREAM)
)
async def create_chat_completion(request: Request) -> Response:
    """How a language model goes on with a conversation; grounded in knowledge bases where they are named.

    With `stream` it comes as server-sent events.
    """
    sent = await body(request, NewChatCompletion, limit=MAX_BODY)
    service, key = service_of(request), caller_key(request)
    run = await prepared(request, lambda: asked_of_chat(service, sent, key))
    options = sent.stream_options
    completion = Completion(run, include_usage=bool(options and options.include_usage))
    keeping = keeping_of(request)
    try:
        if sent.stream:
            return await EventStream(completion.chunks(keeping.answer(run))).begun(request.receive)
        return respond(completion.whole(await unless_left(request.receive, keeping.respond(run))))
    except NoEndpoint as error:
        return unanswered(error, run)
