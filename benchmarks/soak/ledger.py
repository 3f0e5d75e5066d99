"""What the clients were told: each document's state, every violation, every latency."""

import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

State = Literal["in", "out", "accepted", "either"]
"""accepted: answered 202, so it must be in at the end. either: the answer to its last change was lost."""

# A run that goes wrong goes wrong often; the first ones tell.
_KEPT = 50


@dataclass(slots=True)
class Entry:
    """A document as its one writer knows it. changes: how often its state was touched."""

    kb: str
    name: str
    token: str
    text: str
    state: State
    content_id: str = ""
    changes: int = 0

    def become(self, state: State) -> None:
        """A new state, and a sign to whoever looked before."""
        self.changes += 1
        self.state = state


class Ledger:
    """Shared by all clients of a run; thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.entries: list[Entry] = []
        self.violations: list[str] = []
        self.violated = 0
        self.counts: Counter[str] = Counter()
        self.latencies: dict[str, list[float]] = defaultdict(list)
        self._spans: dict[tuple[str, int, int], str] = {}

    def add(self, entry: Entry) -> None:
        """Another document."""
        with self._lock:
            self.entries.append(entry)

    def violation(self, what: str) -> None:
        """Something that must not be."""
        with self._lock:
            self.violated += 1
            if len(self.violations) < _KEPT:
                self.violations.append(what)

    def count(self, what: str, by: int = 1) -> None:
        """For the report."""
        with self._lock:
            self.counts[what] += by

    def took(self, operation: str, seconds: float) -> None:
        """The time of one answer."""
        with self._lock:
            self.latencies[operation].append(seconds * 1000)

    def known(self, kb: str, number: int) -> Entry | None:
        """One of a knowledge base's documents that are in, by a number drawn."""
        with self._lock:
            inside = [entry for entry in self.entries[-400:] if entry.kb == kb and entry.state == "in"]
        return inside[number % len(inside)] if inside else None

    def seen(self, version: str, start: int, end: int, text: str) -> bool:
        """Whether this span was opened before; a violation if it had another text then."""
        with self._lock:
            before = self._spans.get((version, start, end))
            self._spans[version, start, end] = text
        if before not in (None, text):
            self.violation(f"{version}[{start}:{end}] was {before!r} and is {text!r}")
        return before is not None


class Calm:
    """When requests may fail: while the server is disturbed, and on connections from before."""

    def __init__(self) -> None:
        self.generation = 0
        self.windows: list[tuple[str, float, float]] = []
        self._undisturbed = threading.Event()
        self._undisturbed.set()

    @contextmanager
    def disturbed(self, how: str) -> Iterator[None]:
        """A window in which answers may be lost."""
        self._undisturbed.clear()
        self.generation += 1
        start = time.perf_counter()
        try:
            yield
        finally:
            self.generation += 1
            self._undisturbed.set()
            self.windows.append((how, start, time.perf_counter()))

    def wait(self) -> None:
        """Block until the server is undisturbed."""
        self._undisturbed.wait()

    def explains(self, generation: int) -> bool:
        """Whether a failure is explained, on a connection made in that generation."""
        return not self._undisturbed.is_set() or self.generation != generation
