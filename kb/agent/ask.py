"""One question, one answer: for Python and the command line, where no event loop has to be.

`Agent.prepare -> Agent.stream`, in an event loop of its own. Nothing is kept but the ledger's row.
"""

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import aclosing, suppress
from dataclasses import dataclass, fields
from decimal import Decimal
from typing import Any, Literal, TypeVar

from kb.agent.asked import Asked, Grounding, Run
from kb.agent.cite import Citation
from kb.agent.core import Agent
from kb.errors import UpstreamFailed
from kb.metering.rates import Usage, tier_of
from kb.models.registry import Tier
from kb.service import Service
from kb.types import Filter

MODEL = "gpt-4.1-mini"
"""The one that is asked unless another is named."""

T = TypeVar("T")
Tell = Callable[[str], object]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model said, as far as it came.

    text: with `[1]` where it cites. citations: in order, each compared with its source; dropped: those that
    did not hold and are not in the text. status: incomplete where the answer was cut off, by `reason`.
    tier: the one that answered. response: the whole, as POST /v1/responses gives it.
    """

    text: str
    citations: tuple[Citation, ...]
    dropped: int
    status: Literal["completed", "incomplete"]
    reason: str | None
    tier: Tier
    usage: Usage
    credits: Decimal
    response: Mapping[str, Any]


def ask(
    service: Service,
    question: str,
    kbs: Sequence[str],
    *,
    model: str = MODEL,
    instructions: str | None = None,
    top_k: int | None = None,
    where: Filter | None = None,
    max_context_tokens: int | None = None,
    max_output_tokens: int | None = None,
    tier: str = "auto",
    on_text: Tell | None = None,
) -> Answer:
    """What a model says to a question, from passages of knowledge bases (names or ids), with citations.

    on_text: called with each piece of the text as it comes; what it raises stops the call. The rest is as in
    `Asked` and `Grounding`. Raises NotFound, InvalidInput, NoEndpoint where no model can be called, and
    UpstreamFailed or one of its kinds where none answered.
    """
    asked = Asked(
        model=model,
        items=({"type": "message", "role": "user", "content": question},),
        instructions=instructions,
        max_output_tokens=max_output_tokens,
        service_tier=tier,
        grounding=Grounding(tuple(kbs), where=where, top_k=top_k, max_tokens=max_context_tokens),
        store=False,
    )
    return answered(service, Agent(service).prepare(asked), on_text)


# What an annotation calls a field of a citation, where it has another name.
_FIELDS = {"file_citation": {"uri": "filename"}, "url_citation": {"uri": "url", "index": "start_index"}}


def answered(service: Service, run: Run, on_text: Tell | None = None) -> Answer:
    """The answer to a request that is prepared; the rest as in `ask`."""
    response = _in_a_thread(_response(service, run, on_text or (lambda _: None)))
    if response["status"] == "failed":
        raise UpstreamFailed(f"the answer broke off: {response['error']['message']}")
    return answer_of(response)


def answer_of(response: Mapping[str, Any]) -> Answer:
    """A response that ended, in short."""
    parts = [part for item in response["output"] for part in item.get("content") or ()]
    names = [field.name for field in fields(Citation)]
    told, details = response["usage"], response["incomplete_details"]
    return Answer(
        text="".join(part.get("text") or part.get("refusal") or "" for part in parts),
        citations=tuple(
            Citation(**{name: one[_FIELDS[one["type"]].get(name, name)] for name in names})
            for part in parts
            for one in part.get("annotations") or ()
        ),
        dropped=(response.get("citations") or {"dropped": 0})["dropped"],
        status=response["status"],
        reason=details["reason"] if details else None,
        tier=tier_of(response["service_tier"]),
        usage=Usage(
            told["input_tokens"],
            told["output_tokens"],
            cached=told["input_tokens_details"]["cached_tokens"],
            reasoning=told["output_tokens_details"]["reasoning_tokens"],
            estimated=told["estimated"],
        ),
        credits=Decimal(told["credits"]),
        response=response,
    )


async def _response(service: Service, run: Run, tell: Tell) -> dict[str, Any]:
    # The service's gateway may be at work in another loop, and connections belong to theirs.
    gateway = service.new_gateway()
    agent = Agent(service, gateway)
    response: dict[str, Any] = {}
    try:
        async with aclosing(agent.stream(run, agent.writer(run))) as events:
            async for event in events:
                response = event.get("response", response)
                if event["type"] in ("response.output_text.delta", "response.refusal.delta"):
                    tell(event["delta"])
    finally:
        await gateway.close()
    return response


def _in_a_thread(work: Coroutine[Any, Any, T]) -> T:
    """Run it to its end in a thread: where a notebook asks, its own event loop is at work.

    Whoever is interrupted meanwhile (Ctrl-C) stops it and waits until it has cleared up.
    """
    begun: Future[tuple[asyncio.AbstractEventLoop, asyncio.Task[T]]] = Future()

    async def task() -> T:
        this = asyncio.current_task()
        assert this is not None
        begun.set_result((asyncio.get_running_loop(), this))
        return await work

    with ThreadPoolExecutor(1, thread_name_prefix="kb-ask") as thread:
        running = thread.submit(asyncio.run, task())
        try:
            return running.result()
        except KeyboardInterrupt:
            loop, made = begun.result()
            # It may have ended meanwhile.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(made.cancel)
            raise
