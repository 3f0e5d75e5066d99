"""Knowledge bases: made, listed, changed, deleted."""

from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool

from api import answers
from api.answers import respond
from api.deps import Kb, Opened, body
from api.openapi import described
from api.schemas import KnowledgeBaseChange, NewKnowledgeBase

routes = APIRouter(prefix="/v1/knowledge_bases", tags=["knowledge bases"])


@routes.post(
    "", **described(answers.KnowledgeBase, takes=NewKnowledgeBase, status=201, errors=(404, 409, 422))
)
async def create_knowledge_base(request: Request, service: Opened) -> Response:
    """Make an empty knowledge base. A model used for the first time is prepared, which takes a while."""
    new = await body(request, NewKnowledgeBase)
    made = await run_in_threadpool(
        service.create_knowledge_base,
        new.name,
        description=new.description,
        embedder=new.embedder,
        chunking=new.chunking(),
    )
    return respond(answers.knowledge_base(made), 201, {"location": f"{routes.prefix}/{made.id}"})


@routes.get("", **described(answers.KnowledgeBases, errors=()))
def list_knowledge_bases(service: Opened) -> Response:
    """All knowledge bases with their counts, by name."""
    return respond({"data": [answers.knowledge_base(kb) for kb in service.knowledge_bases()]})


@routes.get("/{kb}", **described(answers.KnowledgeBase, errors=(404,)))
def show_knowledge_base(kb: Kb, service: Opened) -> Response:
    """One knowledge base, by id or name."""
    return respond(answers.knowledge_base(service.knowledge_base(kb)))


@routes.patch("/{kb}", **described(answers.KnowledgeBase, takes=KnowledgeBaseChange, errors=(404, 409, 422)))
async def change_knowledge_base(kb: Kb, request: Request, service: Opened) -> Response:
    """Rename or describe a knowledge base, or set its recall target."""
    change = await body(request, KnowledgeBaseChange)
    changed = await run_in_threadpool(
        service.change_knowledge_base,
        kb,
        name=change.name,
        description=change.description,
        recall=change.recall,
    )
    return respond(answers.knowledge_base(changed))


@routes.delete("/{kb}", **described(answers.Deleted, errors=(404,)))
def delete_knowledge_base(kb: Kb, service: Opened) -> Response:
    """Delete a knowledge base with all its documents, texts and vectors."""
    return respond({"id": service.delete_knowledge_base(kb).id, "deleted": True})
