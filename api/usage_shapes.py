"""What calls of language models came to, for OpenAPI; made by `kb.metering.table`."""

from typing import Literal

from pydantic import Field

from api.answers import Answer
from api.openai_shapes import Listing

_CREDITS = "A decimal, as a string."


class UsageTotal(Answer):
    """Calls of one group. Tokens and credits are of those that have ended."""

    group: str = Field(
        examples=["2026-11-24"],
        description="A day, an id (several with commas between them), a model or a tier; empty for calls "
        "without one, and for all together.",
    )
    name: str = Field(examples=[""], description="Of what the id stands for, where that is still there.")
    calls: int = Field(examples=[12])
    failed: int = Field(examples=[1], description="Of them, those that failed or were abandoned.")
    input_tokens: int = Field(examples=[48210])
    cached_tokens: int = Field(examples=[32000], description="Of the input, at hand at the provider.")
    output_tokens: int = Field(examples=[2310])
    reasoning_tokens: int = Field(examples=[0], description="Of the output.")
    estimated: int = Field(examples=[1], description="Calls whose tokens or price the endpoint did not tell.")
    credits: str = Field(examples=["177.954"], description=_CREDITS)
    open: int = Field(examples=[0], description="Calls at work.")
    reserved: str = Field(examples=["0"], description="What these may cost at the most.")


class UsageTotals(Answer):
    """What calls came to, by group."""

    object: Literal["list"] = "list"
    data: list[UsageTotal]


class UsageCall(Answer):
    """One call that went to an endpoint; each attempt is one. Tokens and credits while it is open: what it is
    taken to have been, should nobody ever tell."""

    id: str = Field(examples=["call_0199f3c2d4f97a6b8c2d3e4f50617283"])
    run_id: str | None = Field(examples=["resp_0199f3c2d5a07b6c9d3e4f5061728394"])
    key_id: str | None = Field(examples=["key_0199f3c2d6b17c6dae4f506172839405"])
    knowledge_base_ids: list[str] = Field(examples=[["kb_0199f3c2a7de7b2f9a4c1d2e3f405162"]])
    endpoint: str = Field(examples=["main"])
    model: str = Field(examples=["gpt-4.1-mini"])
    tier_asked: str = Field(examples=["standard"])
    tier: str | None = Field(
        examples=["standard"], description="The one that answered; null while it is open."
    )
    status: Literal["open", "completed", "incomplete", "cancelled", "failed", "abandoned"] = Field(
        examples=["completed"], description="abandoned: its process was killed."
    )
    error: str | None = Field(examples=[None], description="A short code, like timeout or http_503.")
    input_tokens: int = Field(examples=[4000])
    cached_tokens: int = Field(examples=[3200])
    output_tokens: int = Field(examples=[180])
    reasoning_tokens: int = Field(examples=[0])
    estimated: bool = Field(examples=[False])
    credits: str = Field(examples=["12.3424"], description=_CREDITS)
    reserved: str = Field(examples=["195.60576"], description="What it might have cost at the most.")
    started_at: str = Field(examples=["2026-11-24T09:30:00.000Z"])
    finished_at: str | None = Field(examples=["2026-11-24T09:30:02.125Z"])
    expires_at: str = Field(
        examples=["2026-11-24T09:32:30.000Z"], description="When it is abandoned, if it is open still."
    )


class UsageCalls(Listing):
    """A page of calls."""

    data: list[UsageCall]
