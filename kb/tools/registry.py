"""The registry: every tool by its name, and the one way to call it."""

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pydantic import TypeAdapter, ValidationError

from kb.errors import InvalidInput, NotFound
from kb.service import Service
from kb.tools import arguments, contents, knowledge, results
from kb.tools.arguments import Arguments
from kb.tools.results import Result

_LEAST_BUDGET = 2048


@dataclass(frozen=True)
class Tool:
    """One tool. run: service, arguments and a budget in tokens to a result. arguments: its docstring tells a
    model what the tool is for. share: the budget is the reader's context window divided by this."""

    run: Callable[[Service, Any, int], Result]
    arguments: type[Arguments]
    result: type[Result]
    share: int = 64

    @property
    def name(self) -> str:
        """As it is called."""
        return self.run.__name__

    @cached_property
    def description(self) -> str:
        """What it is for."""
        return " ".join((self.arguments.__doc__ or "").split())

    @cached_property
    def parameters(self) -> dict[str, Any]:
        """JSON Schema of the arguments, under their full names."""
        schema: dict[str, Any] = _untitled(self.arguments.model_json_schema())
        # Stands beside it, as the tool's.
        del schema["description"]
        return schema

    @cached_property
    def output(self) -> dict[str, Any]:
        """JSON Schema of the result."""
        schema: dict[str, Any] = _untitled(TypeAdapter(self.result).json_schema(mode="serialization"))
        return schema

    @property
    def function(self) -> dict[str, Any]:
        """As OpenAI's Responses API takes it."""
        return {
            "type": "function",
            "name": self.name,
            "description": self.description,
            "parameters": self.parameters,
            "strict": False,
        }

    def budget(self, window: int) -> int:
        """Tokens of a result, for a reader with a context window of so many."""
        return max(_LEAST_BUDGET, window // self.share)


def call(
    service: Service,
    name: str,
    given: Mapping[str, Any],
    *,
    defaults: Mapping[str, str] | None = None,
    budget: int | None = None,
) -> Result:
    """Run a tool with JSON arguments.

    defaults: for arguments that are not given, by full name; those that a tool does not take are left out.
    budget: tokens of the result; the tool's share of the configured window where it is None. Raises NotFound
    or InvalidInput, in sentences that whoever called can act on.
    """
    chosen = tool(name)
    known = {key: value for key, value in (defaults or {}).items() if key in chosen.arguments.model_fields}
    if arguments.SHORT_CONTENT_VERSION in given:
        known.pop(arguments.CONTENT_VERSION, None)
    checked = _checked(chosen, {**known, **given})
    return chosen.run(service, checked, budget or chosen.budget(service.settings.context_window))


def tool(name: str) -> Tool:
    """Raises NotFound, naming the nearest."""
    if name not in TOOLS:
        near = difflib.get_close_matches(name, TOOLS, 1)
        meant = f"; did you mean {near[0]!r}?" if near else ";"
        raise NotFound(f"no tool {name!r}{meant} there are: {', '.join(TOOLS)}", param="name")
    return TOOLS[name]


def _untitled(schema: Any) -> Any:
    """A schema without the titles that pydantic makes of names: a model pays for every word."""
    if isinstance(schema, dict):
        kept = {key: value for key, value in schema.items() if key != "title" or not isinstance(value, str)}
        return {key: _untitled(value) for key, value in kept.items()}
    return [_untitled(one) for one in schema] if isinstance(schema, list) else schema


def _checked(chosen: Tool, given: Mapping[str, Any]) -> Arguments:
    try:
        return chosen.arguments.model_validate(dict(given))
    except ValidationError as error:
        told, param = [], None
        for one in error.errors(include_url=False):
            where = ".".join(map(str, one["loc"]))
            param = param or where
            told.append(f"{where}: {_advice(chosen, where, one)}")
        raise InvalidInput(f"{chosen.name}: {'; '.join(told[:5])}", param=param) from None


def _advice(chosen: Tool, where: str, fault: Any) -> str:
    if fault["type"] != "extra_forbidden":
        return str(fault["msg"])
    names = list(chosen.arguments.model_fields)
    near = difflib.get_close_matches(where, names, 1)
    meant = f"did you mean {near[0]!r}? " if near else ""
    return f"no such argument; {meant}It takes: {', '.join(names) or 'none'}"


# A whole text is worth more of a window than a list.
_LOAD_SHARE = 16

TOOLS: Mapping[str, Tool] = {
    one.name: one
    for one in (
        Tool(knowledge.search_knowledge_base, arguments.SearchKnowledgeBase, results.FoundPassages),
        Tool(knowledge.list_knowledge_bases, arguments.ListKnowledgeBases, results.KnowledgeBaseList),
        Tool(contents.list_content_sources, arguments.ListContentSources, results.ContentSourceList),
        Tool(contents.get_content_stats, arguments.GetContentStats, results.ContentStats),
        Tool(contents.load_content, arguments.LoadContent, results.LoadedContent, share=_LOAD_SHARE),
        Tool(contents.peek_content, arguments.PeekContent, results.PeekedContent),
        Tool(contents.grep_content, arguments.GrepContent, results.FoundMatches),
    )
}
