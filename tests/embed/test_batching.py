"""Queries that arrive together are embedded together."""

import threading
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pytest

from kb.embed.batching import QueryBatcher


class Gated:
    """An embedder that holds its first call until told; vectors say which text they are of."""

    fingerprint, dim, max_tokens = "gated", 2, 10

    def __init__(self) -> None:
        self.calls: list[list[str]] = []
        self.entered, self.gate = threading.Event(), threading.Event()
        self.fail: set[str] = set()

    def embed_queries(self, texts: Sequence[str]) -> np.ndarray:
        """Each text's number."""
        self.calls.append(list(texts))
        self.entered.set()
        assert self.gate.wait(30)
        if self.fail & set(texts):
            raise ValueError("no vectors today")
        return np.array([[float(text), -float(text)] for text in texts], np.float32)

    embed_passages: Any = None
    token_starts: Any = None


class Asking:
    """Queries asked by threads, all but the first while the first is being embedded."""

    def __init__(self, embedder: Gated, count: int) -> None:
        self.answers: dict[int, object] = {}
        batcher = QueryBatcher(embedder)
        queued = threading.Semaphore(0)

        class Counting(list):  # type: ignore[type-arg]
            """The batcher's queue, which tells when someone stands in it."""

            def extend(self, waiting: Iterable[object]) -> None:
                super().extend(waiting)
                queued.release()

        batcher._queue = Counting()

        def ask(number: int) -> None:
            try:
                self.answers[number] = batcher.embed([str(number)])[0].tolist()
            except ValueError as error:
                self.answers[number] = str(error)

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(count)]
        threads[0].start()
        assert queued.acquire(timeout=30)
        assert embedder.entered.wait(30)
        # The first has taken the queue along and left a plain list behind.
        batcher._queue = Counting(batcher._queue)
        for thread in threads[1:]:
            thread.start()
        for _ in threads[1:]:
            assert queued.acquire(timeout=30)
        embedder.gate.set()
        for thread in threads:
            thread.join(30)
            assert not thread.is_alive()


def test_a_lone_query_is_one_call_of_one_text() -> None:
    """Nothing is waited for."""
    embedder = Gated()
    embedder.gate.set()
    batcher = QueryBatcher(embedder)
    assert [batcher.embed([text])[0].tolist() for text in ("7", "8")] == [[7, -7], [8, -8]]
    assert embedder.calls == [["7"], ["8"]]


def test_the_queries_of_one_caller_are_one_call() -> None:
    """Their vectors come in order; more than 32 take a second call."""
    embedder = Gated()
    embedder.gate.set()
    batcher = QueryBatcher(embedder)
    assert [one.tolist() for one in batcher.embed([str(n) for n in range(40)])] == [
        [n, -n] for n in range(40)
    ]
    assert [len(call) for call in embedder.calls] == [32, 8]


def test_each_caller_gets_its_own_vector() -> None:
    """Twenty that arrive while one is being embedded are embedded in one call, and none is mixed up."""
    embedder = Gated()
    asked = Asking(embedder, 21)
    assert asked.answers == {number: [number, -number] for number in range(21)}
    assert [len(call) for call in embedder.calls] == [1, 20]


def test_no_call_is_longer_than_32() -> None:
    """More than that wait for the call after the next."""
    embedder = Gated()
    asked = Asking(embedder, 71)
    assert asked.answers == {number: [number, -number] for number in range(71)}
    assert [len(call) for call in embedder.calls] == [1, 32, 32, 6]


def test_an_error_reaches_every_caller_of_its_call_and_no_other() -> None:
    """All that waited together get it; whoever came before or comes after is served."""
    embedder = Gated()
    embedder.fail = {"3"}
    asked = Asking(embedder, 9)
    assert asked.answers == {0: [0, 0]} | dict.fromkeys(range(1, 9), "no vectors today")
    assert [len(call) for call in embedder.calls] == [1, 8]


def test_after_an_error_the_batcher_goes_on() -> None:
    """The same caller may ask again."""
    embedder = Gated()
    embedder.gate.set()
    embedder.fail = {"1"}
    batcher = QueryBatcher(embedder)
    with pytest.raises(ValueError, match="today"):
        batcher.embed(["1"])
    assert batcher.embed(["2"])[0].tolist() == [2, -2]
