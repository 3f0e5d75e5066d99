"""Queries that arrive together are embedded together."""

import threading
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

    A lone query is embedded at once, in its own thread: nothing is ever waited for but the batch
    that is being embedded.
    """

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self._queue: list[_Waiting] = []
        self._queue_lock = threading.Lock()
        self._embedding = threading.Lock()

    def embed(self, text: str) -> Vectors:
        """The query's vector, shape (dim,)."""
        mine = _Waiting(text)
        with self._queue_lock:
            self._queue.append(mine)
        with self._embedding:
            # The one before may have taken this query along.
            while mine.vector is None and mine.error is None:
                self._embed_waiting()
        if mine.error is not None:
            raise mine.error
        assert mine.vector is not None
        return mine.vector

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
