"""What goes into a model call and what comes of it, whatever kind of endpoint answers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal

from kb.metering.rates import Usage
from kb.models.registry import Model, Tier

Item = Mapping[str, Any]
"""An item of the Responses API."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who pays. user: the end user as the client named them, who reaches an endpoint as a keyed hash only."""

    key_id: str | None = None
    user: str | None = None


@dataclass(frozen=True, slots=True)
class ModelCall:
    """One call, in the terms of the Responses API.

    parameters: further ones, by the names they have there. web_search: the tool by which the endpoint is to
    search the web itself. input_tokens: of all that goes in, counted here.
    """

    model: Model
    items: Sequence[Item]
    input_tokens: int
    max_output_tokens: int
    instructions: str | None = None
    tools: Sequence[Mapping[str, Any]] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)
    web_search: Mapping[str, Any] | None = None
    tier: Tier = "standard"
    caller: Caller = Caller()
    run_id: str | None = None
    knowledge_base_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TextDelta:
    """More of an answer's text. index: of the item that it belongs to, in the endpoint's counting."""

    index: int
    text: str


@dataclass(frozen=True, slots=True)
class RefusalDelta:
    """More of the text in which a model refuses."""

    index: int
    text: str


@dataclass(frozen=True, slots=True)
class CallAdded:
    """The model begins to call a function."""

    index: int
    call_id: str
    name: str


@dataclass(frozen=True, slots=True)
class ArgumentsDelta:
    """More of a function call's arguments, which are JSON once they are whole."""

    index: int
    text: str


@dataclass(frozen=True, slots=True)
class PageCited:
    """That an endpoint which searched the web itself says text[start:end] of a message rests on a page."""

    index: int
    url: str
    title: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class ItemPassed:
    """An item that is handed on as it is, such as reasoning."""

    index: int
    item: Item


@dataclass(frozen=True, slots=True)
class Finished:
    """The endpoint's last word. usage, tier: None where it told none. reason: why it is not complete."""

    status: Literal["completed", "incomplete", "failed"]
    reason: str | None = None
    usage: Usage | None = None
    tier: str | None = None


@dataclass(frozen=True, slots=True)
class Ended:
    """The call is over and paid. tier: the one that answered. soft_passed: whether its key is now beyond its
    soft budget."""

    status: Literal["completed", "incomplete", "failed"]
    reason: str | None
    usage: Usage
    tier: Tier
    credits: Decimal
    endpoint: str
    soft_passed: bool = False


Part = TextDelta | RefusalDelta | CallAdded | ArgumentsDelta | PageCited | ItemPassed
Event = Part | Ended


def as_text(value: object) -> str:
    """Raises TypeError for what an endpoint should have sent as a string and did not."""
    if not isinstance(value, str):
        raise TypeError(f"a string was expected, not {type(value).__name__}")
    return value
