"""Similarities: a scale that is the same for every query, and a threshold that is exact on it."""

from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kb.errors import InvalidInput
from kb.search import core
from kb.search.ranking import Ranking
from kb.search.shape import Shape, choose
from kb.search.similarity import similarity

COSINES = st.floats(-1, 1, width=32)
WORDS = ["pump", "valve", "engine", "oil", "filter", "zebra", "river", "lamp"]


def test_the_ends_and_the_middle() -> None:
    """Opposite, unrelated, the same; rounding beyond them stays within."""
    assert similarity([-1, 0, 1, -1.0000001, 1.0000001]).tolist() == [0, 0.5, 1, 0, 1]


@given(st.lists(COSINES, min_size=1), COSINES)
def test_it_keeps_the_order_and_looks_at_nothing_else(cosines: list[float], one: float) -> None:
    """Within 0 and 1, never falling; the same alone as among others."""
    among = similarity([*cosines, one])
    assert ((among >= 0) & (among <= 1)).all()
    assert among[-1] == similarity(one)
    order = np.argsort([*cosines, one])
    assert (np.diff(among[order]) >= 0).all()


@settings(max_examples=25)
@example(["pump", "pump", "pump", "engine"], ["pump", "filter"], 0.5, 4, "hybrid")
@given(
    lines=st.lists(
        st.lists(st.sampled_from(WORDS), min_size=1, max_size=4).map(" ".join), min_size=1, max_size=30
    ),
    queries=st.lists(st.sampled_from(WORDS), min_size=1, max_size=2),
    least=st.floats(0.3, 1),
    top_k=st.integers(1, 12),
    mode=st.sampled_from(["hybrid", "dense"]),
)
def test_what_is_near_enough_comes_back_in_order(
    words: Any, shelf: Any, lines: list[str], queries: list[str], least: float, top_k: int, mode: Any
) -> None:
    """Exactly those of the whole ranking that are, from as deep as it takes."""
    kb = shelf.make(f"near{len(shelf.catalog.knowledge_bases.all())}")
    shelf.put(*(shelf.version(f"{at}", line) for at, line in enumerate(lines)), kb=kb)
    with pytest.MonkeyPatch.context() as patch:
        # Of both: what a score is measured by is of that many, and by it which query a chunk answers best.
        patch.setattr(core, "_DEPTH", 3)
        every = words.search(queries, [kb.id], top_k=1000, mode=mode).hits
        found = words.search(queries, [kb.id], top_k=top_k, mode=mode, least_similarity=least).hits
    wanted = [hit.chunk_id for hit in every if similarity(hit.scores["dense"]) >= least][:top_k]
    near = [float(similarity(hit.scores["dense"])) for hit in found]
    assert all(one >= least for one in near)
    assert len(found) == len(wanted)
    if mode == "dense":
        assert [hit.chunk_id for hit in found] == wanted


def test_it_goes_with_what_has_a_meaning_for_it(words: Any, shelf: Any) -> None:
    """Not with words alone, nor where hits are counted by document."""
    for refused in ({"mode": "lexical"}, {"max_per_document": 1}, {"group_by": "document"}):
        with pytest.raises(InvalidInput) as error:
            words.search("pump", [shelf.kb.id], least_similarity=0.5, **refused)
        assert error.value.param == "least_similarity"


@pytest.mark.parametrize(
    ("unseen", "top_k", "kept", "enough"),
    [(0.5, 2, [0, 2], True), (0.5, 3, [0, 2], False), (0.19, 3, [0, 2], True), (0.2, 3, [0, 2], False)],
)
def test_it_looks_deeper_until_nothing_is_near_enough(
    unseen: float, top_k: int, kept: list[int], enough: bool
) -> None:
    """Not where the places are filled, nor where all that was not seen is too far."""
    cosines = np.array([0.9, 0.1, 0.2], np.float64)
    ranking = Ranking(
        np.arange(3),
        np.array([3.0, 2.0, 1.0], np.float32),
        {"dense": cosines},
        {},
        None,
        False,
        -1,
        True,
        unseen,
    )
    nothing: Any = None
    chosen = choose(ranking, Shape(top_k, least_similarity=float(similarity(0.2))), nothing)
    assert (chosen.kept, chosen.shown, chosen.enough) == (kept, kept[:top_k], enough)
