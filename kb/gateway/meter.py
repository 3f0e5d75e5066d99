"""One try of a call in the ledger: written before it is made, settled once, however it ends."""

import asyncio
from collections.abc import Callable
from decimal import Decimal
from types import TracebackType
from typing import Self, TypeVar

from kb.catalog.calls import Ending
from kb.errors import InvalidInput
from kb.gateway.events import ArgumentsDelta, Ended, Finished, ModelCall, Part, RefusalDelta, TextDelta
from kb.gateway.faults import Failed
from kb.metering.ledger import Intent, Ledger
from kb.metering.rates import Usage, tier_of
from kb.models.registry import Tier
from kb.tokens import count_tokens

T = TypeVar("T")

_NOTHING = Usage(0, 0)
# Of what an endpoint writes beyond the limit it was given, so much more than such tokens have is not counted.
_CHARACTERS_A_TOKEN = 16


class Meter:
    """Reserves when it is entered, and settles at the latest when it is left."""

    def __init__(self, ledger: Ledger, call: ModelCall, endpoint: str, seconds: float) -> None:
        self._ledger = ledger
        self._call = call
        self._endpoint = endpoint
        self._seconds = seconds
        self._call_id: str | None = None
        self._soft_passed = False
        self._written: list[str] = []
        self._room = _CHARACTERS_A_TOKEN * call.max_output_tokens
        self._settled = False

    async def __aenter__(self) -> Self:
        """Raises InsufficientCredits, or what else forbids the call."""
        call = self._call
        intent = Intent(
            model=call.model,
            tier=call.tier,
            endpoint=self._endpoint,
            most=Usage(call.input_tokens, call.max_output_tokens),
            seconds=self._seconds,
            key_id=call.caller.key_id,
            run_id=call.run_id,
            knowledge_base_ids=call.knowledge_base_ids,
        )

        def reserve() -> None:
            reserved = self._ledger.reserve(intent)
            self._call_id, self._soft_passed = reserved.call_id, reserved.soft_passed

        try:
            await _to_the_end(reserve)
        except asyncio.CancelledError:
            if self._call_id is not None:
                await self._settle("cancelled", _NOTHING)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        """What was not finished is settled as what it cost at least, as far as that can be known here."""
        if self._settled:
            return
        if isinstance(error, Failed):
            usage = self._estimated() if error.sent else _NOTHING
            await self._settle("failed", usage, error=error.reason)
        else:
            # Whether the request had gone out is not known: it may have been read, so it is taken to be.
            await self._settle("cancelled", self._estimated())

    def count(self, part: Part) -> None:
        """A part of the answer is there."""
        if isinstance(part, TextDelta | RefusalDelta | ArgumentsDelta):
            self._written.append(part.text[: self._room])
            self._room -= len(self._written[-1])

    async def finish(self, last: Finished) -> Ended:
        """Settle by what the endpoint told; where it told no usage, by what was counted here."""
        usage = last.usage or self._estimated()
        tier = _tier(last.tier) or self._call.tier
        credits = await self._settle(last.status, usage, tier, last.reason)
        return Ended(last.status, last.reason, usage, tier, credits, self._endpoint, self._soft_passed)

    def _estimated(self) -> Usage:
        """All of the input, and of the output what came of it, never more than was asked for."""
        output = min(count_tokens("".join(self._written)), self._call.max_output_tokens)
        return Usage(self._call.input_tokens, output, estimated=True)

    async def _settle(
        self, status: Ending, usage: Usage, tier: Tier | None = None, error: str | None = None
    ) -> Decimal:
        call_id = self._call_id
        assert call_id is not None
        self._settled = True
        return await _to_the_end(
            lambda: self._ledger.settle(call_id, status=status, usage=usage, tier=tier, error=error)
        )


async def _to_the_end(work: Callable[[], T]) -> T:
    """Run in a thread; who is cancelled meanwhile still waits for it: nothing is left half written."""
    running = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait((running,))
        raise


def _tier(name: str | None) -> Tier | None:
    """The tier that answered; None where it told none that is known."""
    try:
        return tier_of(name) if name else None
    except InvalidInput:
        return None
