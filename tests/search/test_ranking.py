"""Candidates of the indexes become one ranking."""

import numpy as np

from kb.search.ranking import Candidates, looks, ranked
from kb.types import Ids


def numbers(*given: int) -> Ids:
    """Chunk ids."""
    return np.array(given, np.int64)


def test_a_look_is_the_first_that_would_have_found_a_candidate() -> None:
    """By its better place in the two parts; depths 2, 4 and 8."""
    own = {"dense": numbers(9, 8, 7, 6, 5), "lexical": numbers(5, 1, 9, 3, 2)}
    assert looks(numbers(1, 2, 3, 5, 6, 7, 8, 9), own, 2, 2).tolist() == [0, 2, 1, 0, 1, 1, 0, 0]
    assert looks(numbers(), {"dense": numbers(), "lexical": numbers()}, 2, 2).tolist() == []


def test_what_a_deeper_look_found_comes_behind_and_nothing_unseen_before_it() -> None:
    """However good its scores; the floor of a ranking that is not complete is its last score."""
    ids, look = numbers(1, 2, 3, 4), numbers(0, 0, 1, 1)
    dense, lexical = np.array([0.1, 0.2, 0.9, 0.8], np.float32), np.array([1, 2, 9, 8], np.float32)
    for complete in (False, True):
        found = Candidates(ids, dense, lexical, ids, look, {}, complete, exact=True)
        ranking = ranked([found], "hybrid", 0.5)
        assert ranking.ids.tolist() == [2, 1, 3, 4]
        np.testing.assert_allclose(ranking.scores[:3], [2, -2, -2.001], atol=1e-5)
        assert ranking.scores[3] < ranking.scores[2]
        assert ranking.floor == (-np.inf if complete else ranking.scores[3])
