"""The tools that a run may call by itself, fixed when it starts: nothing that is read can add one."""

import asyncio
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from kb.agent.numbers import Numbers
from kb.content.fence import visible
from kb.errors import InvalidInput, KbError
from kb.service import Service
from kb.tools import registry
from kb.tools.offer import offered
from kb.tools.results import FoundMatches, FoundPassages, LoadedContent, PeekedContent, Result

OWN = "kb"
"""The label of the tools over this service's own knowledge bases."""

_LEAST_BUDGET = 256

LEAST_ROUND = _LEAST_BUDGET + 144
"""Tokens that a window must have room for where tools are offered: the least that a result is cut to, and the
call that it answers. With less every result would be left out, and the model would call again and again."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a call, as the model reads it. pages: addresses of the web that it is from."""

    text: str
    is_error: bool = False
    pages: tuple[str, ...] = ()


class ServerTool(Protocol):
    """A tool that the service runs, not the client."""

    @property
    def label(self) -> str:
        """Of the server that has it."""

    @property
    def name(self) -> str:
        """Its name there."""

    @property
    def function(self) -> Mapping[str, Any]:
        """As a model is told of it; its name there is unique in a run."""

    @property
    def needs_approval(self) -> bool:
        """Whether a person has to say yes first."""

    @property
    def only_reads(self) -> bool:
        """Whether it is known to change nothing, by more than a server's own word."""

    def digest(self, arguments: str) -> str:
        """What such a yes is bound to: server, definition, and the arguments as the model wrote them."""

    async def call(self, arguments: Mapping[str, Any], numbers: Numbers) -> Outcome:
        """Run it; what of its result may be cited gets numbers. Never raises for what the model can mend."""


@dataclass(frozen=True)
class OwnTool:
    """One of `kb.tools`, which read and change nothing."""

    service: Service
    function: Mapping[str, Any]
    defaults: Mapping[str, str]
    window: int
    label: str = OWN
    needs_approval: bool = False
    only_reads: bool = True

    @property
    def name(self) -> str:
        """As it is called."""
        return str(self.function["name"])

    def digest(self, arguments: str) -> str:
        """See `ServerTool`."""
        return digest_of(self.label, self.function, arguments)

    async def call(self, arguments: Mapping[str, Any], numbers: Numbers) -> Outcome:
        """See `ServerTool`."""
        budget = max(_LEAST_BUDGET, self.window // registry.tool(self.name).share)

        def run() -> Outcome:
            try:
                result = registry.call(
                    self.service, self.name, arguments, defaults=self.defaults, budget=budget
                )
            except KbError as error:
                return Outcome(visible(str(error)), is_error=True)
            return _outcome(self.service, result, numbers)

        return await asyncio.to_thread(run)


class Toolbox:
    """Those of one run, by the name that the model calls them by.

    functions: of the client, whose names are taken. Raises InvalidInput where one of them is a tool's.
    """

    def __init__(self, tools: Sequence[ServerTool] = (), functions: Sequence[Mapping[str, Any]] = ()) -> None:
        self._taken = {str(function["name"]) for function in functions}
        self.tools = {str(tool.function["name"]): tool for tool in tools}
        if both := sorted(self._taken & self.tools.keys()):
            message = f"a tool of this server is called {both[0]!r} as well: give your function another name"
            raise InvalidInput(message, param="tools")

    def __bool__(self) -> bool:
        return bool(self.tools)

    @property
    def functions(self) -> list[Mapping[str, Any]]:
        """As a model is told of them."""
        return [tool.function for tool in self.tools.values()]

    def add(self, tools: Sequence[ServerTool]) -> list[ServerTool]:
        """Take in those of one more server; returns those whose name for the model was free."""
        free: list[ServerTool] = []
        for tool in tools:
            name = str(tool.function["name"])
            # Also two of one server: `a.b` and `a_b` are the same to a model.
            if name not in self._taken and name not in self.tools:
                self.tools[name] = tool
                free.append(tool)
        return free

    def find(self, label: str, name: str) -> ServerTool | None:
        """One by its server's label and its name there."""
        return next((tool for tool in self.tools.values() if (tool.label, tool.name) == (label, name)), None)


def own_tools(service: Service, metadata: Mapping[str, str], prompt: str, window: int) -> list[OwnTool]:
    """The tools over knowledge bases and texts, with the defaults that metadata and prompt give them.

    window: tokens that the model reads, of which a result may have its share.
    """
    offer = offered(metadata, prompt)
    return [OwnTool(service, function, offer.defaults, window) for function in offer.functions()]


def strict_json(text: str) -> Any:
    """JSON as its standard has it. Raises ValueError, also for NaN and the infinities, which it has not."""

    def refuse(name: str) -> None:
        raise ValueError(f"{name} is no JSON")

    return json.loads(text, parse_constant=refuse)


def model_name(label: str, name: str) -> str:
    """What the model calls a tool of a server."""
    return name if label == OWN else re.sub(r"[^A-Za-z0-9_-]", "_", f"{label}__{name}")[:64]


def digest_of(label: str, function: Mapping[str, Any], arguments: str) -> str:
    """A hash of a call: another server, another definition or other arguments give another one."""
    bound = json.dumps([label, function, arguments], sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(bound.encode()).hexdigest()


def _outcome(service: Service, result: Result, numbers: Numbers) -> Outcome:
    """The result, with numbers to cite it by."""
    spans = [(service.contents.open(name).version, start, end) for name, start, end in _spans(result)]
    given = numbers.add(spans)
    if isinstance(result, FoundPassages):
        return Outcome(result.shown(given[0] if given else 1))
    told = "; ".join(
        f"characters {start} to {end} are [{number}]"
        for number, (_, start, end) in zip(given, spans, strict=True)
    )
    return Outcome(f"{result.shown()}\nTo cite: {told}." if told else result.shown())


def _spans(result: Result) -> list[tuple[str, int, int]]:
    """What of texts a result shows."""
    match result:
        case FoundPassages():
            return [(hit.source_connection_content_version_id, hit.start, hit.end) for hit in result.hits]
        case PeekedContent():
            return [(result.source_connection_content_version_id, result.start, result.end)]
        case LoadedContent() if result.text is not None:
            return [(result.source_connection_content_version_id, 0, result.characters)]
        case FoundMatches():
            return [
                (one.source_connection_content_version_id, one.context_start, one.context_end)
                for one in result.matches
            ]
    return []
