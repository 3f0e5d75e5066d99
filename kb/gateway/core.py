"""The gateway: an endpoint is chosen and tried again, its stream read to the end, every try paid.

An answer has begun once its first part is there. Until then whatever fails may be tried again, here or at the
next endpoint, and is told as an error; afterwards the answer ends as `incomplete`, with what came of it.
"""

import asyncio
import hmac
import logging
import random
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from hashlib import sha256
from types import ModuleType
from typing import Any

from kb.errors import InvalidInput, UpstreamFailed
from kb.gateway import chat, responses
from kb.gateway.endpoints import Endpoint, Endpoints
from kb.gateway.events import Caller, Event, Finished, ModelCall, Part
from kb.gateway.faults import MOST_RETRY_AFTER, Failed, too_slow
from kb.gateway.meter import Meter
from kb.gateway.reading import parts_of
from kb.gateway.transport import Body, Transport
from kb.metering.ledger import Ledger
from kb.models.registry import Tier
from kb.tokens import count_tokens

log = logging.getLogger(__name__)

_KINDS: dict[str, ModuleType] = {"responses": responses, "chat": chat}
# As the Responses API names them.
_TIER_NAMES: dict[Tier, str] = {
    "standard": "default",
    "priority": "priority",
    "flex": "flex",
    "scale": "scale",
}
_FIRST_WAIT, _LONGEST_WAIT = 0.5, 8.0


class Answer:
    """An answer that has begun: iterate over its parts; the last one, always there, is `Ended`."""

    def __init__(self, first: Part | Finished, rest: AsyncIterator[Part | Finished], meter: Meter) -> None:
        self._first = first
        self._rest = rest
        self._meter = meter

    async def __aiter__(self) -> AsyncIterator[Event]:
        """Once."""
        part = self._first
        while not isinstance(part, Finished):
            self._meter.count(part)
            yield part
            part = await anext(self._rest)
        yield await self._meter.finish(part)
        await anext(self._rest, None)


class Gateway:
    """Calls models, each call within one event loop; the ledger is written in threads."""

    def __init__(self, endpoints: Endpoints, ledger: Ledger, secret: bytes) -> None:
        """secret: of this data folder, for the hash that stands for a caller."""
        self.endpoints = endpoints
        self._ledger = ledger
        self._secret = secret
        self._transport = Transport()

    def warm(self) -> None:
        """Load what the first call needs, which takes a second, where there are endpoints to call."""
        if self.endpoints.all:
            import openai.types

            count_tokens(openai.__version__)

    async def close(self) -> None:
        """Close the connections that are kept open."""
        await self._transport.close()

    @asynccontextmanager
    async def call(self, call: ModelCall) -> AsyncIterator[Answer]:
        """The answer to a call, once its first part is there. Leaving the block hangs up.

        Raises NoEndpoint, InvalidInput for a parameter that no endpoint takes, NotAllowed,
        InsufficientCredits, and UpstreamFailed or one of its kinds when every try failed.
        """
        endpoints = self._taking(call)
        deadline = asyncio.get_running_loop().time() + max(one.total_seconds for one in endpoints)
        async with AsyncExitStack() as stack:
            yield await self._begun(call, endpoints, deadline, stack)

    def _taking(self, call: ModelCall) -> list[Endpoint]:
        """The endpoints that take all that a call asks for."""
        endpoints = self.endpoints.of(call.model.id)
        if call.web_search is not None:
            endpoints = tuple(one for one in endpoints if _searches(one, call.web_search))
            if not endpoints:
                message = f"no endpoint of {call.model.id} searches the web within domains: leave filters out"
                raise InvalidInput(message, param="tools")
        taking = [one for one in endpoints if set(call.parameters) <= taken_by(one)]
        if not taking:
            foreign = sorted(set(call.parameters) - taken_by(endpoints[0]))
            message = f"no endpoint of {call.model.id} takes {', '.join(foreign)}: leave it out"
            raise InvalidInput(message, param=foreign[0])
        return taking

    async def _begun(
        self, call: ModelCall, endpoints: list[Endpoint], deadline: float, stack: AsyncExitStack
    ) -> Answer:
        failed: Failed | None = None
        for endpoint in endpoints:
            for attempt in range(endpoint.retries + 1):
                try:
                    return await stack.enter_async_context(self._attempt(call, endpoint, deadline))
                except Failed as failure:
                    failed = failure
                log.warning("%s, try %d of %s: %s", endpoint.name, attempt + 1, call.model.id, failed.error)
                wait = _wait(attempt, failed.after)
                left = deadline - asyncio.get_running_loop().time()
                if not failed.may_pass or attempt == endpoint.retries or wait is None or wait >= left:
                    break
                await asyncio.sleep(wait)
            if failed is not None and not failed.elsewhere:
                break
        assert failed is not None
        raise failed.error

    @asynccontextmanager
    async def _attempt(self, call: ModelCall, endpoint: Endpoint, deadline: float) -> AsyncIterator[Answer]:
        """One try at one endpoint, paid when the block ends. Raises Failed when nothing came of it."""
        kind = _KINDS[endpoint.kind]
        body = kind.body_of(call, endpoint.models[call.model.id]) | self._owned(call)
        loop = asyncio.get_running_loop()
        most = endpoint.connect_seconds + endpoint.first_token_seconds
        async with (
            Meter(self._ledger, call, endpoint.name, deadline - loop.time()) as meter,
            AsyncExitStack() as stack,
        ):
            try:
                async with asyncio.timeout_at(min(loop.time() + most, deadline)):
                    response = await stack.enter_async_context(
                        self._transport.post(endpoint, kind.PATH, body)
                    )
                    received = Body(response, deadline)
                    media_type = response.headers.get("content-type", "").partition(";")[0].strip()
                    parts = await stack.enter_async_context(
                        aclosing(parts_of(received, media_type, kind.Reader()))
                    )
                    first = await anext(parts)
            except TimeoutError:
                raise too_slow(endpoint.name, "the first part of an answer", most) from None
            received.silence = endpoint.silence_seconds
            if isinstance(first, Finished) and first.reason and first.status != "completed":
                _must_have_begun(endpoint.name, first)
            yield Answer(first, parts, meter)

    def _owned(self, call: ModelCall) -> dict[str, Any]:
        """What the platform sets of every request."""
        owned: dict[str, Any] = {"service_tier": _TIER_NAMES[call.tier]}
        if identifier := self._identifier(call.caller):
            owned["safety_identifier"] = identifier
        return owned

    def _identifier(self, caller: Caller) -> str | None:
        """Who calls, as an endpoint may know it: 64 characters, always the same. None for nobody."""
        if caller.key_id is None and caller.user is None:
            return None
        who = f"{caller.key_id or ''}\0{caller.user or ''}"
        return hmac.new(self._secret, who.encode(), sha256).hexdigest()


def taken_by(endpoint: Endpoint) -> frozenset[str]:
    """The parameters of a call that an endpoint takes."""
    return frozenset(_KINDS[endpoint.kind].PARAMETERS).union(endpoint.parameters)


def _searches(endpoint: Endpoint, tool: Mapping[str, Any]) -> bool:
    """Whether it searches the web itself, as is asked; chat completions have no words for domains."""
    return endpoint.web_search and (endpoint.kind == "responses" or "filters" not in tool)


def _must_have_begun(endpoint: str, first: Finished) -> None:
    """Raises Failed for an answer that ended by a fault before it began, not for one that is empty."""
    if first.reason in ("max_output_tokens", "content_filter"):
        return
    error = UpstreamFailed(f"{endpoint} gave no answer: {first.reason}")
    raise Failed(first.reason or "failed", error, may_pass=True, sent=True)


def _wait(attempt: int, after: float | None) -> float | None:
    """Seconds until the next try; None where the endpoint wants to be left alone for too long."""
    if after is not None:
        return after if after <= MOST_RETRY_AFTER else None
    # Clients that failed together should not come back together.
    return float(min(_FIRST_WAIT * 2**attempt, _LONGEST_WAIT)) * (1 - 0.25 * random.random())
