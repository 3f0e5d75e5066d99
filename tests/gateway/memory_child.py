"""A call in a process of its own: python memory_child.py DATABASE ENDPOINT

ENDPOINT is JSON. Prints how the call ended, by how many MB the process grew at its peak, and the longest
time in which the event loop served nobody else.
"""

import asyncio
import json
import resource
import sys
import time

from kb.catalog import Catalog
from kb.errors import KbError
from kb.gateway.core import Gateway
from kb.gateway.endpoints import Endpoint, Endpoints
from kb.gateway.events import Ended, ModelCall
from kb.metering.ledger import Ledger
from kb.models.registry import ModelCatalog
from kb.tokens import count_tokens


def peak() -> float:
    """MB that were resident at the most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


async def stands() -> float:
    """The longest of the loop's turns in seconds, when it is cancelled."""
    longest, last = 0.0, time.monotonic()
    try:
        while True:
            await asyncio.sleep(0.005)
            longest, last = max(longest, time.monotonic() - last), time.monotonic()
    except asyncio.CancelledError:
        return longest


async def main(database: str, endpoint: str) -> None:
    """Call twice: the first time everything is loaded."""
    catalog, models = Catalog(database), ModelCatalog.read()
    ledger = Ledger(catalog.calls, catalog.usage, models)
    count_tokens("loaded")
    endpoints = Endpoints((Endpoint.model_validate_json(endpoint),))
    gateway = Gateway(endpoints, ledger, b"secret")
    call = ModelCall(models.get("gpt-4.1-mini"), [{"role": "user", "content": "x"}], 10, 100)
    ended, grown, longest = "", 0.0, 0.0
    for _ in range(2):
        before, watch = peak(), asyncio.ensure_future(stands())
        try:
            async with gateway.call(call) as answer:
                async for event in answer:
                    if isinstance(event, Ended):
                        ended = f"{event.status}: {event.reason}"
        except KbError as error:
            ended = type(error).__name__
        watch.cancel()
        grown, longest = peak() - before, await watch
    await gateway.close()
    catalog.close()
    print(json.dumps({"ended": ended, "mb": grown, "longest": longest}))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
