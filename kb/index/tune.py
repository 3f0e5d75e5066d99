"""What a recall target costs: the searches of a base, timed at its effort."""

import time
from dataclasses import dataclass
from statistics import median

from kb.index.calibrate import questions
from kb.index.policy import Effort
from kb.index.segment import Base, Kind
from kb.types import Vectors

# Enough for a median; the searches of a base of a million then take two seconds.
_QUESTIONS = 256


@dataclass(frozen=True, slots=True)
class Cost:
    """Of a search of one base, one thread, nothing filtered.

    effort: None where the base is scanned exactly. ms_10, ms_100: median milliseconds for the best 10 and
    the best 100.
    """

    kind: Kind
    rows: int
    effort: Effort | None
    ms_10: float
    ms_100: float


@dataclass(frozen=True, slots=True)
class Tuned:
    """The recall target of a knowledge base, and what its searches cost before it was set and since.

    before, after: None where no base is written yet and everything is scanned exactly; the same where nothing
    was set.
    """

    recall: float
    before: Cost | None
    after: Cost | None


def cost(base: Base) -> Cost:
    """Measured with questions as those that its effort is found with."""
    asked, every = questions(base, _QUESTIONS), base.ids >= 0

    def search(question: Vectors, k: int) -> float:
        started = time.perf_counter()
        base.search(question, k, every)
        return (time.perf_counter() - started) * 1000

    # The first of two passes reads what the second finds in memory.
    timed = {k: [[search(question, k) for question in asked] for _ in range(2)][-1] for k in (10, 100)}
    found = {k: round(median(times), 3) for k, times in timed.items()}
    return Cost(base.kind, int(every.sum()), base.effort, found[10], found[100])
