"""Prompts that a person picks: each is made by a tool, so that a model without tools can answer as well."""

from collections.abc import Mapping

from mcp import types

from kb import tools
from kb.errors import InvalidInput, NotFound
from kb.service import Service
from kb.tools.arguments import CONTENT_VERSION, KNOWLEDGE_BASE

ASK = types.Prompt(
    name="ask",
    title="Ask the documents",
    description="Answer a question from the passages that are found for it, with citations.",
    arguments=[
        types.PromptArgument(name="question", description="What is to be answered.", required=True),
        types.PromptArgument(name=KNOWLEDGE_BASE, description="Where to look; everywhere if left out."),
    ],
)
SUMMARISE = types.Prompt(
    name="summarise",
    title="Summarise a document",
    description="Summarise a content version; one that is too long to be quoted whole is read in parts.",
    arguments=[
        types.PromptArgument(name=CONTENT_VERSION, description="Which content version.", required=True)
    ],
)
PROMPTS = [ASK, SUMMARISE]

_CITE = f"Cite each statement by {CONTENT_VERSION}, start and end of the passage that it rests on."


def prompt(service: Service, name: str, given: Mapping[str, str]) -> types.GetPromptResult:
    """A prompt with what its tool gives. Raises NotFound or InvalidInput."""
    chosen = next((one for one in PROMPTS if one.name == name), None)
    if chosen is None:
        raise NotFound(f"no prompt {name!r}; there are: {', '.join(one.name for one in PROMPTS)}")
    _check(chosen, given)
    text = _ask(service, given) if chosen is ASK else _summarise(service, given)
    message = types.PromptMessage(role="user", content=types.TextContent(text=text))
    return types.GetPromptResult(description=chosen.description, messages=[message])


def _ask(service: Service, given: Mapping[str, str]) -> str:
    arguments = {"query": given["question"]}
    if given.get(KNOWLEDGE_BASE):
        arguments[KNOWLEDGE_BASE] = given[KNOWLEDGE_BASE]
    found = tools.call(service, "search_knowledge_base", arguments)
    return (
        f"Answer this question from the passages below, and from nothing else.\n\n{given['question']}\n\n"
        f"{_CITE} Say so where they do not answer it; then search_knowledge_base with other words, or "
        f"peek_content to read around a passage.\n\n{found.shown()}"
    )


def _summarise(service: Service, given: Mapping[str, str]) -> str:
    loaded = tools.call(service, "load_content", {CONTENT_VERSION: given[CONTENT_VERSION]})
    return f"Summarise this document in a few paragraphs. {_CITE}\n\n{loaded.shown()}"


def _check(chosen: types.Prompt, given: Mapping[str, str]) -> None:
    takes = {one.name: one.required for one in chosen.arguments or []}
    listed = ", ".join(takes)
    for name in given:
        if name not in takes:
            raise InvalidInput(f"{chosen.name}: no argument {name!r}; it takes: {listed}", param=name)
    for name, required in takes.items():
        if required and not given.get(name, "").strip():
            raise InvalidInput(f"{chosen.name}: {name} is missing; it takes: {listed}", param=name)
