"""Completion of what a person types: knowledge bases by name, documents by words of title or path."""

from mcp import types

from kb.mcp.prompts import ASK, SUMMARISE
from kb.mcp.resources import TEMPLATE
from kb.service import Service
from kb.tools.arguments import CONTENT_VERSION, KNOWLEDGE_BASE

# The protocol's limit.
_MOST = 100

# What can be completed: the template or prompt, and its argument.
_KB_OF_RESOURCE = (TEMPLATE.uri_template, "kb")
_DOCUMENT = (TEMPLATE.uri_template, "content")
_KB_OF_QUESTION = (ASK.name, KNOWLEDGE_BASE)
_VERSION = (SUMMARISE.name, CONTENT_VERSION)


def complete(service: Service, asked: types.CompleteRequestParams) -> types.CompleteResult:
    """Values for one argument; none where nothing is known of it."""
    of = asked.ref.name if isinstance(asked.ref, types.PromptReference) else asked.ref.uri
    argument, typed, more = (of, asked.argument.name), asked.argument.value, False
    values: list[str] = []
    if argument in (_KB_OF_RESOURCE, _KB_OF_QUESTION):
        values = _names(service, typed)
    elif argument == _DOCUMENT:
        given = asked.context.arguments if asked.context else None
        chosen = (given or {}).get("kb")
        kb = service.catalog.knowledge_bases.get(chosen) if chosen else None
        found, cursor = service.contents.sources(kb, query=typed, limit=_MOST)
        values, more = [version.content_id for version in found], cursor is not None
    elif argument == _VERSION:
        found, cursor = service.contents.sources(None, query=typed, limit=_MOST)
        values, more = [version.id for version in found], cursor is not None
    return types.CompleteResult(
        completion=types.Completion(values=values[:_MOST], has_more=more or len(values) > _MOST)
    )


def _names(service: Service, typed: str) -> list[str]:
    """Those that begin with it before those that hold it."""
    wanted = typed.casefold()
    held = [kb.name for kb in service.knowledge_bases() if wanted in kb.name.casefold()]
    return sorted(held, key=lambda name: not name.casefold().startswith(wanted))
