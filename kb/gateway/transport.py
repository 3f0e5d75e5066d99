"""Requests to endpoints through the `openai` SDK, which speaks to them; tries, deadlines and sizes are ours.

The SDK's own reading of streams is not used: it takes what is malformed for the end, and bounds nothing.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Self

from kb.errors import InvalidInput
from kb.gateway.endpoints import Endpoint
from kb.gateway.faults import Broken, of_connection, of_key, of_status

if TYPE_CHECKING:
    import httpx2
    from openai import AsyncOpenAI

MOST_BYTES = 64_000_000
"""Of one answer."""

_MOST_ERROR_BYTES = 64_000
# The SDK's sign for a response whose body is not read yet.
_UNREAD = {"X-Stainless-Raw-Response": "stream"}
_CONNECTIONS = 1_000
_REST_SECONDS = 0.1


class Transport:
    """The SDK's clients, one for each endpoint and key, with their open connections."""

    def __init__(self) -> None:
        self._clients: dict[tuple[str, str], AsyncOpenAI] = {}

    async def close(self) -> None:
        """Close every connection."""
        clients, self._clients = self._clients, {}
        for client in clients.values():
            await client.close()

    @asynccontextmanager
    async def post(
        self, endpoint: Endpoint, path: str, body: Mapping[str, Any]
    ) -> AsyncIterator["httpx2.Response"]:
        """A response of status 200 whose body is to be read; the block's end closes it. Raises Failed."""
        import httpx2
        import openai

        try:
            client = self._client(endpoint)
        except InvalidInput as error:
            raise of_key(error) from error
        try:
            response = await client.post(
                path, cast_to=httpx2.Response, body=dict(body), options={"headers": _UNREAD}
            )
        except openai.APIStatusError as error:
            raise of_status(endpoint.name, error, client.api_key, datetime.now(UTC)) from error
        except (openai.APIConnectionError, httpx2.HTTPError, Broken) as error:
            raise of_connection(endpoint.name, error) from error
        try:
            yield response
        finally:
            await response.aclose()

    def _client(self, endpoint: Endpoint) -> "AsyncOpenAI":
        import httpx2
        import openai

        known = (endpoint.name, endpoint.key())
        if known not in self._clients:
            # One that was made with a key of before is closed when all are; keys change seldom.
            self._clients[known] = openai.AsyncOpenAI(
                api_key=known[1],
                base_url=str(endpoint.base_url),
                max_retries=0,
                http_client=httpx2.AsyncClient(
                    # To where a redirect leads the key was not given.
                    follow_redirects=False,
                    timeout=httpx2.Timeout(None, connect=endpoint.connect_seconds),
                    limits=httpx2.Limits(max_connections=_CONNECTIONS, max_keepalive_connections=64),
                    event_hooks={"response": [_bound]},
                ),
            )
        return self._clients[known]


class Body:
    """The bytes of an answer as they come; iterate over them. Raises Broken.

    deadline: by the event loop's clock. silence: seconds between two chunks at most, once it is set; for the
    first part of an answer there is another limit.
    """

    def __init__(self, response: "httpx2.Response", deadline: float) -> None:
        self.silence: float | None = None
        self._deadline = deadline
        self._chunks = response.aiter_bytes()
        self._size = 0

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        import httpx2

        now = asyncio.get_running_loop().time()
        until = self._deadline if self.silence is None else min(now + self.silence, self._deadline)
        try:
            async with asyncio.timeout_at(until):
                chunk = await anext(self._chunks)
        except TimeoutError:
            if until == self._deadline:
                raise Broken("deadline", "the answer took longer than a call may") from None
            raise Broken("upstream_stalled", f"nothing came for {self.silence:g} s") from None
        except httpx2.HTTPError as error:
            raise Broken("upstream_reset", f"the connection broke: {error}") from error
        self._size += len(chunk)
        if self._size > MOST_BYTES:
            raise Broken("too_large", f"the answer has more than {MOST_BYTES:,} bytes")
        return chunk

    async def finish(self) -> None:
        """Read what little is left behind an answer's end: only then the connection serves another call."""
        # It is not worth waiting for, and whatever is wrong with it concerns nobody: the answer is whole.
        with suppress(Broken, TimeoutError):
            async with asyncio.timeout(_REST_SECONDS):
                async for _ in self:
                    pass


async def _bound(response: "httpx2.Response") -> None:
    """An error's body is read whole by the SDK: no more of it than a message takes."""
    if response.status_code >= 300:
        response.stream = _beginning(response.stream)  # type: ignore[arg-type]


def _beginning(stream: "httpx2.AsyncByteStream") -> "httpx2.AsyncByteStream":
    import httpx2

    class Beginning(httpx2.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            size = 0
            async for chunk in stream:
                yield chunk
                size += len(chunk)
                if size > _MOST_ERROR_BYTES:
                    return

        async def aclose(self) -> None:
            await stream.aclose()

    return Beginning()
