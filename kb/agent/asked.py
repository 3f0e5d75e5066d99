"""What a client asks for and what is made of it before a model is called."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kb.agent.cite import Source
from kb.context.core import PackedContext
from kb.context.window import Window
from kb.gateway.events import Caller, Item, ModelCall
from kb.models.registry import Model
from kb.types import Filter


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
class Asked:
    """A request, in the terms of the Responses API.

    items: input items, in order. functions: tools that the client itself runs. parameters: what goes on to
    the model as it is. service_tier: as the client named it; "auto" for what the key may use. grounding: None
    for an answer that rests on no documents. echo: what else an answer repeats of its request.
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
    echo: Mapping[str, Any] = field(default_factory=dict)

    @property
    def cites(self) -> bool:
        """Whether the answer is prose about passages: in JSON, brackets are no citations."""
        form = (self.parameters.get("text") or {}).get("format") or {"type": "text"}
        return self.grounding is not None and form["type"] == "text"


@dataclass(frozen=True, slots=True)
class Grounded:
    """What was found for a question, packed for a call. knowledge_base_ids: of those that were searched."""

    queries: tuple[str, ...]
    knowledge_base_ids: tuple[str, ...]
    made: PackedContext
    sources: tuple[Source, ...]


@dataclass(frozen=True, slots=True)
class Run:
    """A request that is ready for its model. id: of the response. created_at: Unix seconds."""

    id: str
    created_at: int
    asked: Asked
    model: Model
    window: Window
    call: ModelCall
    grounded: Grounded | None
