"""Queries that arrive together are embedded together."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass

from kb.protocols import Embedder
from kb.types import Vectors

# More than this at once would make the first of them wait for the last.
_MOST = 32


@dataclass(slots=True)
class _Waiting:
    text: str
    vector: Vectors | None = None
    error: BaseException | None = None


class QueryBatcher:
    """Embeds one batch at a time; whoever comes meanwhile is in the next.

    A lone caller's queries are embedded at once, in its own thread: nothing is ever waited for but the batch
    that is being embedded.
    """

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self._queue: list[_Waiting] = []
        self._queue_lock = threading.Lock()
        self._embedding = threading.Lock()

    def embed(self, texts: Sequence[str]) -> list[Vectors]:
        """The vector of each query, shape (dim,), in order."""
        mine = [_Waiting(text) for text in texts]
        with self._queue_lock:
            self._queue.extend(mine)
        with self._embedding:
            # The one before may have taken these along.
            while any(waiting.vector is None and waiting.error is None for waiting in mine):
                self._embed_waiting()
        for waiting in mine:
            if waiting.error is not None:
                raise waiting.error
        return [waiting.vector for waiting in mine if waiting.vector is not None]

    def _embed_waiting(self) -> None:
        with self._queue_lock:
            batch, self._queue = self._queue[:_MOST], self._queue[_MOST:]
        try:
            vectors = self._embedder.embed_queries([waiting.text for waiting in batch])
        except BaseException as error:
            # Each caller of the batch gets it in its own thread.
            for waiting in batch:
                waiting.error = error
            return
        for waiting, vector in zip(batch, vectors, strict=True):
            waiting.vector = vector
