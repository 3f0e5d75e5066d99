"""What an engine answered, for as long as it is fresh: models ask the same thing again."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable

from kb.protocols import WebSearch
from kb.types import Domains, UserLocation, WebHit

FRESH_SECONDS = 600.0
"""How long an answer is taken to be as it was; that of a page, which tells when it was read."""

_MOST = 500

_Question = tuple[str, int, Domains, UserLocation | None]


class RememberedSearch:
    """A `WebSearch` by another one. Thread-safe. clock: seconds."""

    def __init__(self, engine: WebSearch, clock: Callable[[], float] = time.monotonic) -> None:
        self._engine, self._clock = engine, clock
        self._lock = threading.Lock()
        self._answers: OrderedDict[_Question, tuple[float, list[WebHit]]] = OrderedDict()

    async def search(
        self, query: str, *, count: int, domains: Domains, location: UserLocation | None = None
    ) -> list[WebHit]:
        """See `WebSearch`. What fails is not remembered."""
        question = (query, count, domains, location)
        with self._lock:
            known = self._answers.get(question)
        if known and self._clock() - known[0] < FRESH_SECONDS:
            return list(known[1])
        hits = await self._engine.search(query, count=count, domains=domains, location=location)
        with self._lock:
            self._answers[question] = (self._clock(), list(hits))
            self._answers.move_to_end(question)
            while len(self._answers) > _MOST:
                self._answers.popitem(last=False)
        return hits
