"""How much effort a base needs for its recall: found out on the base itself, not assumed."""

import threading
from bisect import bisect_left
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from kb.errors import Interrupted
from kb.index.policy import Effort, graph_refine, least_beam, least_refine
from kb.index.segment import HALF, Base, Positions, threads
from kb.index.vectors import unit
from kb.types import Vectors

# Of fewer questions for the best 10 the mean would miss by more than the target allows; 100 each say more.
_QUESTIONS = {10: 1024, 100: 256}
# A base that grew by less keeps its effort.
_GROWTH = 1.25
# Efforts that are tried, an eighth apart.
_LADDER = [round(10 * 1.125**step) for step in range(52)]
# How far from its row a question stands. Of rows, of rows with noise, of sums of two rows in several
# proportions, this one needed the effort that real questions need (benchmarks/README.md, "Effort").
_OTHER = 0.4


def calibrated(base: Base, recall: float, before: Effort | None, stopped: threading.Event) -> Effort:
    """The least effort with which questions to `base` find `recall` of their 10 and 100 best.

    before: that of a base which has grown into this one. Uses half of the cores. Raises
    Interrupted soon after `stopped` is set.
    """
    if before is not None and before.recall == recall and len(base) <= _GROWTH * before.rows:
        return before
    with threads(HALF):
        return _tried(base, recall, stopped)


def _tried(base: Base, recall: float, stopped: threading.Event) -> Effort:
    asked = questions(base, max(_QUESTIONS.values()))
    best = _best(base, asked, min(100, len(base)))
    everything = np.ones(len(base), bool)

    def least(k: int, find: Callable[[Vectors, int], Positions]) -> int:
        def enough(effort: int) -> bool:
            found = []
            for question in some:
                if stopped.is_set():
                    raise Interrupted("the index was closed before its effort was found")
                found.append(find(question, effort))
            return _recall(base, some, found, best[: len(some), :k]) >= recall

        some = asked[: _QUESTIONS[k]]

        # At the last step everything is looked at.
        ladder = [*(effort for effort in _LADDER if k <= effort < len(base)), len(base)]
        return ladder[bisect_left(ladder[:-1], True, key=enough)]

    def by_codes(question: Vectors, count: int) -> Positions:
        return base.scan(question, min(count, len(base)), everything, len(base))

    refine = {k: max(least(k, by_codes), least_refine(k, recall)) for k in (10, 100)}
    if not base.has_graph:
        return Effort(recall, len(base), refine[10], refine[100])
    beam = {
        k: max(
            least(k, lambda question, width, k=k: base.walk(question, width)[: graph_refine(k)]),  # type: ignore[misc]
            least_beam(k, len(base), recall),
        )
        for k in (10, 100)
    }
    return Effort(recall, len(base), refine[10], refine[100], beam[10], beam[100])


def questions(base: Base, most: int) -> Vectors:
    """Questions made of the base's own vectors, at most so many, unit length, shape (n, dim)."""
    random = np.random.default_rng(0)
    live = np.flatnonzero(base.ids >= 0)
    count = min(most, len(live))
    one, other = (base.vectors(np.sort(random.choice(live, count))) for _ in range(2))
    return unit(np.asarray(one + _OTHER * random.permutation(other), np.float32))


def _best(base: Base, questions: Vectors, k: int) -> NDArray[np.float32]:
    """The k highest scores of each question, falling, by an exact scan."""
    top = np.full((len(questions), 0), -np.inf, np.float32)
    for block in base.flat_blocks():
        scores = block.search(questions, k)[0]
        top = -np.sort(-np.concatenate([top, scores], axis=1), axis=1)[:, :k]
    return top


def _recall(base: Base, questions: Vectors, found: list[Positions], best: NDArray[np.float32]) -> float:
    """The share of the best that was found, counted by score: of equal rows any will do."""
    k = best.shape[1]
    hit = 0
    for question, rows, scores in zip(questions, found, best, strict=True):
        hit += min(k, int(np.count_nonzero(base.score(question, rows) >= scores[-1] - 1e-6)))
    return float(hit / (k * len(questions)))
