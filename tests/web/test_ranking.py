"""Passages of a few pages, ranked as the hybrid search would rank them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kb.index.lexical import TantivyIndex
from kb.types import IndexedText
from kb.web import ranking
from kb.web.ranking import Candidate, bm25, ranked

ENGLISH = [
    "The pump stops after twenty seconds without water.",
    "Stopping pumps by hand is not advised; a pump that is stopped cools down slowly over hours.",
    "Valves are opened before the start.",
    "Water.",
    "The button starts the pump, and the pump starts the fan, and the fan cools the pump.",
]


def candidates(texts: list[str], language: str = "en") -> list[Candidate]:
    """Each on a page of its own."""
    return [Candidate(text, page, language) for page, text in enumerate(texts)]


@pytest.mark.parametrize("question", ["When does the pump stop?", "water", "fan fan cooling", "zebra"])
def test_bm25_is_that_of_the_lexical_index(question: str, tmp_path: Path) -> None:
    """tantivy's scores of the same passages, within what it rounds lengths by."""
    index = TantivyIndex(tmp_path / "index")
    ids = np.arange(1, len(ENGLISH) + 1)
    index.apply(1, ids, [IndexedText(text, "", "en") for text in ENGLISH], np.empty(0, np.int64))
    np.testing.assert_allclose(bm25(question, candidates(ENGLISH)), index.score(question, ids), rtol=0.02)


def test_each_passage_is_read_in_its_own_language() -> None:
    """And the question for it."""
    found = bm25("Pumpen stopping", [Candidate("Die Pumpe", 0, "de"), Candidate("It stops", 1, "en")])
    assert (found > 0).all()


@given(st.lists(st.text(max_size=30), max_size=6), st.text(max_size=20))
def test_bm25_scores_whatever_stands_there(texts: list[str], question: str) -> None:
    """Texts and questions without words too."""
    some = candidates(texts or [""])
    found = bm25(question, some)
    assert found.shape == (len(some),)
    assert np.isfinite(found).all()
    assert (found >= 0).all()


def test_the_best_comes_first_and_each_once(embedder: Any) -> None:
    """All of them, where they are few."""
    order = ranked("pump starts fan", candidates(ENGLISH), embedder, 0.5)
    assert order[0] == 4
    assert sorted(order.tolist()) == [0, 1, 2, 3, 4]


def test_nothing_is_ranked_of_nothing(embedder: Any) -> None:
    """And nothing is embedded."""
    assert len(ranked("pump", [], embedder, 0.5)) == 0
    assert embedder.queries == []


def test_of_many_passages_the_best_by_words_are_embedded(
    embedder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To embed all of a long page would take longer than the model that waits for it."""
    monkeypatch.setattr(ranking, "MOST_EMBEDDED", 3)
    some = candidates([f"line {number}" for number in range(50)] + ["the pump"])
    assert ranked("pump", some, embedder, 0.5).tolist()[0] == 50
    assert embedder.embedded == ["line 0", "line 1", "the pump"]
