"""What a client asks for and what is made of it before a model is called."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal

from kb.agent.cite import Source
from kb.agent.numbers import Numbers
from kb.agent.toolbox import Toolbox
from kb.catalog.approvals import Approval
from kb.context.core import PackedContext
from kb.context.window import Window
from kb.gateway.events import Caller, Item, ModelCall
from kb.models.registry import Model
from kb.remote.server import RemoteServer
from kb.search.similarity import similarity
from kb.types import ANYWHERE, Domains, Filter, UserLocation


@dataclass(frozen=True, slots=True)
class Grounding:
    """Knowledge bases that an answer is to rest on.

    top_k: hits to begin with; None for as many as fit. max_tokens: of passages for this question; those of
    the turns before come on top, and the window may leave less. least_similarity, dense_weight: as in search.
    """

    knowledge_bases: tuple[str, ...]
    where: Filter | None = None
    top_k: int | None = None
    max_tokens: int | None = None
    least_similarity: float | None = None
    dense_weight: float | None = None


@dataclass(frozen=True, slots=True)
class WebUse:
    """That the model may search the web. size: how much of what is found it reads, in the API's words."""

    domains: Domains = ANYWHERE
    location: UserLocation | None = None
    size: Literal["low", "medium", "high"] = "medium"


@dataclass(frozen=True, slots=True)
class Decision:
    """A person's word on a call that a response asked about."""

    approval_id: str
    approve: bool
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """A request, in the terms of the Responses API.

    items: input items, in order. functions: tools that the client itself runs. parameters: what goes on to
    the model as it is. service_tier: as the client named it; "auto" for what the key may use. grounding: None
    for an answer that rests on no documents. own_tools: whether the model may call the tools over knowledge
    bases and texts by itself. web: how it may search the web; None for not at all. servers: of others, whose
    tools it may call. decisions: on calls that the response before asked about; decided: those that are taken
    already. max_tool_calls, max_credits: of the run; when one is reached the model has to answer.
    show_results, show_pages: whether searches of knowledge bases and of the web tell what they found. echo:
    what else an answer repeats of its request.
    """

    model: str
    items: tuple[Item, ...]
    instructions: str | None = None
    functions: tuple[Mapping[str, Any], ...] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)
    max_output_tokens: int | None = None
    service_tier: str = "auto"
    caller: Caller = field(default_factory=Caller)
    grounding: Grounding | None = None
    previous_response_id: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    truncate: bool = False
    store: bool = True
    background: bool = False
    show_results: bool = False
    show_pages: bool = False
    own_tools: bool = False
    web: WebUse | None = None
    servers: tuple[RemoteServer, ...] = ()
    decisions: tuple[Decision, ...] = ()
    decided: tuple[Approval, ...] = ()
    max_tool_calls: int | None = None
    max_credits: Decimal | None = None
    echo: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_prose(self) -> bool:
        """Whether the answer may cite: in JSON, brackets are no citations."""
        form = (self.parameters.get("text") or {}).get("format") or {"type": "text"}
        return bool(form["type"] == "text")


@dataclass(frozen=True, slots=True)
class Grounded:
    """What was found for a question, packed for a call. knowledge_base_ids: of those that were searched."""

    queries: tuple[str, ...]
    knowledge_base_ids: tuple[str, ...]
    made: PackedContext
    sources: tuple[Source, ...]


@dataclass(frozen=True, slots=True)
class Run:
    """A request that is ready for its model. id: of the response. created_at: Unix seconds. cites: whether
    the answer rests on what can be cited."""

    id: str
    created_at: int
    asked: Asked
    model: Model
    window: Window
    call: ModelCall
    grounded: Grounded | None
    toolbox: Toolbox
    numbers: Numbers
    cites: bool
    decided: tuple[Approval, ...] = ()

    @property
    def results(self) -> list[dict[str, Any]] | None:
        """What the search found, as the API tells it; None where it was not asked for."""
        if not self.asked.show_results or self.grounded is None:
            return None
        return [
            {
                "file_id": hit.content_id,
                "filename": hit.uri,
                "score": float(similarity(hit.scores["dense"])),
                "text": hit.text,
                "attributes": dict(hit.attributes),
                "content_version_id": hit.content_version_id,
                "start": hit.start,
                "end": hit.end,
            }
            for hit in self.grounded.made.hits
        ]
