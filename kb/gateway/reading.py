"""An endpoint's bytes become the parts of an answer, and always an end."""

import json
import logging
from collections.abc import AsyncGenerator
from typing import Any, Protocol

from kb.gateway.events import Finished, Part
from kb.gateway.faults import Broken
from kb.gateway.sse import EventDecoder
from kb.gateway.transport import Body

log = logging.getLogger(__name__)


class Reader(Protocol):
    """How a kind of endpoint is understood; see `kb.gateway.responses` and `kb.gateway.chat`."""

    def read(self, event: Any) -> Any:
        """Parts, and perhaps the end, of one event."""

    def whole(self, answer: Any) -> Any:
        """Those of an answer in one piece."""

    def end(self) -> Finished:
        """What it means that no more comes."""


async def parts_of(body: Body, media_type: str, reader: Reader) -> AsyncGenerator[Part | Finished, None]:
    """The parts of an answer as they come; a Finished is the last, whatever happens.

    Who goes on behind it leaves the connection fit for another call.

    What is malformed, cut off or too slow ends it as `incomplete`, never as a silence.
    """
    try:
        if media_type == "application/json":
            # It was asked to stream, and does not.
            for part in reader.whole(_parsed(b"".join([chunk async for chunk in body]))):
                yield part
            return
        decoder = EventDecoder()
        async for chunk in body:
            for data in decoder.feed(chunk):
                if data.strip() == b"[DONE]":
                    yield reader.end()
                    await body.finish()
                    return
                for part in reader.read(_parsed(data)):
                    yield part
                    if isinstance(part, Finished):
                        await body.finish()
                        return
        yield reader.end()
    except Broken as error:
        yield Finished("incomplete", error.reason)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        log.warning("an endpoint's answer is malformed: %s: %s", type(error).__name__, error)
        yield Finished("incomplete", "upstream_malformed")


def _parsed(data: bytes) -> Any:
    parsed = json.loads(data)
    if not isinstance(parsed, dict):
        raise ValueError("an event is a JSON object")
    return parsed
