"""Reranking: the best in the cross-encoder's order, or all as it was when time is up."""

from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies

from kb.errors import InvalidInput
from kb.search.ranking import Ranking
from kb.search.rerank import Rerank, Reranking, scored


class Ticks:
    """A clock that goes on by one with each look."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        """The time before this look."""
        self.now += 1
        return self.now - 1


def ranking(scores: list[float], **more: Any) -> Ranking:
    """Chunks 0, 1, …; best first."""
    given = np.array(scores, np.float32)
    fields: dict[str, Any] = {"ranks": {}, "query": None, "complete": True, "floor": -np.inf, "exact": True}
    return Ranking(np.arange(len(scores)), given, {"dense": given}, **(fields | more))


@given(lengths=strategies.lists(strategies.integers(1, 5), max_size=12), behind=strategies.integers(0, 5))
def test_only_the_best_move(fakes: ModuleType, lengths: list[int], behind: int) -> None:
    """The order is by score, equal ones and those behind as they were; every chunk comes once, as it was."""
    count = len(lengths) + behind
    before = ranking([float(-at) for at in range(count)])
    stage = Reranking(
        fakes.LengthReranker(),
        ["q"],
        Rerank(max(1, len(lengths))),
        lambda ids: ["x" * lengths[at] for at in ids],
    )
    after = stage.order(before, None if lengths else 1.0)
    right = sorted(range(len(lengths)), key=lambda at: -lengths[at]) + list(range(len(lengths), count))
    assert stage.outcome == "done"
    assert after.ids.tolist() == right
    assert after.scores.tolist() == [float(-at) for at in right]
    assert after.parts["dense"].tolist() == after.scores.tolist()
    assert after.parts["rerank"][: len(lengths)].tolist() == sorted(lengths, reverse=True)
    assert np.isnan(after.parts["rerank"][len(lengths) :]).all()


@pytest.mark.parametrize(("threshold", "floor", "moved"), [(2.0, -np.inf, 3), (None, 3.0, 2), (2.0, 3.0, 2)])
def test_what_is_too_bad_or_not_final_stays_behind(
    reranker: Any, threshold: float | None, floor: float, moved: int
) -> None:
    """A shape counts from the best down to the threshold, and to what is final."""
    stage = Reranking(reranker, ["q"], Rerank(), lambda ids: ["x" * (at + 1) for at in ids])
    after = stage.order(ranking([4, 3, 2, 1, 0], floor=floor), threshold)
    assert after.ids.tolist() == [*reversed(range(moved)), *range(moved, 5)]


def test_each_chunk_is_read_with_the_query_that_it_answers(reranker: Any) -> None:
    """Once only, though the search looks deeper."""
    stage = Reranking(
        reranker, ["a", "b"], Rerank(), lambda ids: ["x" * (at + 1) for at in ids], explain=True
    )
    asked = []
    score = reranker.score
    reranker.score = lambda query, texts: asked.append((query, list(texts))) or score(query, texts)
    shallow = ranking([2, 1], query=np.array([0, 1]), ranks={"dense": np.array([1, 2])})
    assert stage.order(shallow, None).ids.tolist() == [1, 0]
    deep = ranking([2, 1, 0], query=np.array([0, 1, 0]), ranks={"dense": np.array([1, 2, 3])})
    after = stage.order(deep, None)
    assert after.ids.tolist() == [2, 1, 0]
    assert after.query is not None
    assert after.query.tolist() == [0, 1, 0]
    assert {name: places.tolist() for name, places in after.ranks.items()} == {
        "dense": [3, 2, 1],
        "rerank": [1, 2, 3],
    }
    assert asked == [("a", ["x"]), ("b", ["xx"]), ("a", ["xxx"])]


@pytest.mark.parametrize(("until", "batches"), [(0.0, 0), (1.0, 1), (2.0, 2)])
def test_a_deadline_costs_one_batch_at_most(reranker: Any, until: float, batches: int) -> None:
    """No batch begins after it, and of what was scored nothing is used."""
    assert scored(reranker, "q", ["a", "bb", "ccc", "dddd", "eeeee"], until, Ticks()) is None
    assert len(reranker.scored) == batches


def test_what_is_scored_when_the_deadline_passes_is_used(reranker: Any) -> None:
    """The last batch may end behind it: the work is done then."""
    scores = scored(reranker, "q", ["a", "bb", "ccc"], 2.0, Ticks())
    assert scores is not None
    assert scores.tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"depth": 0}, "rerank_depth"),
        ({"depth": 101}, "rerank_depth"),
        ({"deadline_ms": 0}, "rerank_deadline_ms"),
        ({"deadline_ms": 60_001}, "rerank_deadline_ms"),
    ],
)
def test_options_out_of_range_are_named(options: dict[str, int], param: str) -> None:
    """InvalidInput with the name that callers know."""
    with pytest.raises(InvalidInput) as error:
        Rerank(**options)
    assert error.value.param == param


@pytest.fixture
def long_ones(words: Any, shelf: Any, reranker: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A service with the fake reranker and ten passages, the later the longer and less to the point."""
    monkeypatch.setattr(words._search, "_reranker", lambda: reranker)
    shelf.put(*(shelf.version(f"doc{n}", " ".join(["pump", *["zebra"] * n])) for n in range(10)))
    return words


@pytest.mark.parametrize("mode", ["hybrid", "dense", "lexical"])
def test_the_best_come_in_the_rerankers_order(long_ones: Any, reranker: Any, mode: Any) -> None:
    """`depth` of them, read with their context; the others follow, and scores mean what they meant."""
    plain = long_ones.search("pump", ["shelf"], mode=mode)
    assert plain.rerank is None
    assert [hit.uri for hit in plain.hits] == [f"doc{n}" for n in range(10)]
    found = long_ones.search("pump", ["shelf"], mode=mode, rerank=Rerank(depth=4, deadline_ms=60_000))
    assert found.rerank == "done"
    assert [hit.uri for hit in found.hits] == [f"doc{n}" for n in (3, 2, 1, 0, 4, 5, 6, 7, 8, 9)]
    two = long_ones.search("pump", ["shelf"], mode=mode, top_k=2, rerank=Rerank(4, 60_000))
    assert [hit.uri for hit in two.hits] == ["doc3", "doc2"]
    assert {hit.uri: hit.score for hit in found.hits} == {hit.uri: hit.score for hit in plain.hits}
    assert [hit.scores.get("rerank") for hit in found.hits[:5]] == [24.0, 18.0, 12.0, 6.0, None]
    assert sorted(text for batch in reranker.scored for text in batch)[0] == "T\npump"
    assert "rerank" in found.timings_ms


def test_what_stands_below_top_k_can_rise_into_it(long_ones: Any) -> None:
    """`depth` and not `top_k` decides what is read again."""
    found = long_ones.search("pump", ["shelf"], top_k=2, rerank=Rerank(depth=8, deadline_ms=60_000))
    assert [hit.uri for hit in found.hits] == ["doc7", "doc6"]


def test_a_threshold_is_on_the_score_before(long_ones: Any) -> None:
    """The same hits qualify with and without a reranker, in time or not."""
    plain = long_ones.search("pump", ["shelf"], mode="dense").hits
    cut = plain[3].score
    for deadline in (1, 60_000):
        found = long_ones.search(
            "pump",
            ["shelf"],
            mode="dense",
            score_threshold=cut,
            rerank=Rerank(deadline_ms=deadline),
        )
        assert {hit.uri for hit in found.hits} == {hit.uri for hit in plain[:4]}


def test_several_knowledge_bases_are_reranked_as_one(long_ones: Any, shelf: Any) -> None:
    """The best of all of them together."""
    other = shelf.make("other", fingerprint="words-2")
    shelf.put(shelf.version("long", "pump " + "river " * 30), kb=other)
    found = long_ones.search("pump", ["shelf", "other"], mode="lexical", rerank=Rerank(deadline_ms=60_000))
    assert [hit.uri for hit in found.hits][:2] == ["long", "doc9"]


def test_when_time_is_up_the_answer_says_so(long_ones: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The order is the one without, whole, and no hit carries a reranker's score."""
    plain = long_ones.search("pump", ["shelf"]).hits

    def late(*arguments: Any) -> Any:
        return scored(*arguments, clock=lambda: float("inf"))

    monkeypatch.setattr("kb.search.rerank.scored", late)
    found = long_ones.search("pump", ["shelf"], rerank=Rerank())
    assert found.rerank == "deadline"
    assert found.hits == plain


def test_without_a_reranker_it_says_how_to_set_one(words: Any, shelf: Any) -> None:
    """InvalidInput that names the setting."""
    with pytest.raises(InvalidInput, match="KB_RERANKER") as error:
        words.search("pump", ["shelf"], rerank=Rerank())
    assert error.value.param == "rerank"


def test_a_chunk_replaced_before_its_text_is_read_costs_no_hit(
    long_ones: Any, shelf: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its text reads as empty; the read of the hits misses it, and the search is repeated."""
    read: Callable[..., list[str]] = long_ones.catalog.documents.indexed
    seen: list[list[str]] = []

    def replaced_first(ids: list[int]) -> list[str]:
        if not seen:
            shelf.put(shelf.version("doc1", "pump replaced"))
        seen.append(read(ids))
        return seen[-1]

    monkeypatch.setattr(long_ones.catalog.documents, "indexed", replaced_first)
    found = long_ones.search("pump", ["shelf"], rerank=Rerank(deadline_ms=60_000))
    assert "" in seen[0]
    assert "" not in seen[1]
    assert sorted(hit.text for hit in found.hits if hit.uri == "doc1") == ["pump replaced"]
    assert len(found.hits) == 10
