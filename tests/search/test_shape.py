"""What of a ranking comes back, judged by brute force over the catalog."""

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kb.errors import InvalidInput
from kb.search import core
from kb.search.duplicates import alike, wording
from kb.types import Hit

WORDS = ["pump", "valve", "engine", "oil", "filter", "zebra", "river", "lamp"]
LINES = st.lists(st.sampled_from(WORDS), min_size=1, max_size=5).map(" ".join)
CORPUS = st.lists(st.lists(LINES, min_size=1, max_size=6).map("\n".join), min_size=1, max_size=12)


@pytest.fixture
def shallow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few candidates at first, so that small collections need deeper ones too."""
    monkeypatch.setattr(core, "_DEPTH", 3)


def fill(shelf: Any, texts: list[str]) -> Any:
    """A new knowledge base with these documents."""
    kb = shelf.make(f"corpus{len(shelf.catalog.knowledge_bases.all())}")
    shelf.put(*(shelf.version(f"doc{number}", text) for number, text in enumerate(texts)), kb=kb)
    return kb


def everything(words: Any, query: str, kb: Any, mode: Any) -> tuple[Hit, ...]:
    """Every chunk that matches, in order."""
    hits: tuple[Hit, ...] = words.search(query, [kb.id], top_k=1000, mode=mode).hits
    return hits


def crowded(hits: tuple[Hit, ...], most: int) -> list[Hit]:
    """The hits that stay when each document has so many at most."""
    seen: Counter[str] = Counter()
    kept = []
    for hit in hits:
        seen[hit.content_id] += 1
        if seen[hit.content_id] <= most:
            kept.append(hit)
    return kept


def ids(hits: Any) -> list[int]:
    """Their chunks."""
    return [hit.chunk_id for hit in hits]


@pytest.mark.parametrize("mode", ["hybrid", "dense", "lexical"])
@pytest.mark.parametrize("queries", [["pump oil zebra"], ["pump valve lamp", "river zebra"]])
def test_the_first_hits_do_not_depend_on_how_many_are_asked_for(
    words: Any, shelf: Any, shallow: None, queries: list[str], mode: Any
) -> None:
    """The top_k best of 1,000 are the top_k best, with the same scores; of several bases and queries too."""
    chance = np.random.default_rng(5)
    texts = ["\n".join(" ".join(chance.choice(WORDS, size=4)) for _ in range(5)) for _ in range(40)]
    kbs = [fill(shelf, texts[:25]).id, fill(shelf, texts[25:]).id]
    many = words.search(queries, kbs, top_k=1000, mode=mode).hits
    assert len(many) > 100
    for top_k in (1, 3, 5, 8, 12, 20, 40, 60):
        few = words.search(queries, kbs, top_k=top_k, mode=mode).hits
        assert ids(few) == ids(many[:top_k])
        scores = [hit.score for hit in many[:top_k]]
        np.testing.assert_allclose([hit.score for hit in few], scores, atol=1e-5)


@settings(max_examples=15)
@given(
    corpus=CORPUS,
    most=st.integers(1, 3),
    top_k=st.integers(1, 12),
    mode=st.sampled_from(["hybrid", "dense", "lexical"]),
)
def test_max_per_document_is_brute_force(
    words: Any, shelf: Any, shallow: None, corpus: list[str], most: int, top_k: int, mode: Any
) -> None:
    """The best top_k that remain when each document has only so many, however deep they lie."""
    kb = fill(shelf, corpus)
    hits = words.search("pump oil zebra", [kb.id], top_k=top_k, mode=mode, max_per_document=most).hits
    assert ids(hits) == ids(crowded(everything(words, "pump oil zebra", kb, mode), most)[:top_k])


@pytest.mark.parametrize("mode", ["hybrid", "dense", "lexical"])
def test_a_document_with_every_good_chunk_leaves_places_to_others(words: Any, shelf: Any, mode: Any) -> None:
    """450 better chunks of one document do not use up what is looked at."""
    long = "\n".join(f"pump number{number}" for number in range(450))
    others = [shelf.version(f"doc{number}", f"pump lies far behind a river{number}") for number in range(12)]
    shelf.put(shelf.version("long", long), *others)
    hits = words.search("pump", ["shelf"], top_k=10, mode=mode, max_per_document=2).hits
    assert Counter(hit.uri for hit in hits)["long"] == 2
    assert len(hits) == 10
    assert len(words.search("pump", ["shelf"], top_k=20, mode=mode, max_per_document=2).hits) == 14


def test_several_knowledge_bases_are_one_ranking_down_to_the_last_place(
    words: Any, shelf: Any, shallow: None
) -> None:
    """A weak chunk of one never comes before a better one of the other that was not looked at yet."""
    strong = fill(
        shelf, ["\n".join(f"pump oil x{n}" for n in range(9)), *(f"pump oil y{n}" for n in range(5))]
    )
    weak = fill(shelf, [f"pump river lamp z{n}" for n in range(9)])
    found = words.search("pump oil", [strong.id, weak.id], top_k=8, mode="dense", max_per_document=1).hits
    alone = [*everything(words, "pump oil", strong, "dense"), *everything(words, "pump oil", weak, "dense")]
    alone.sort(key=lambda hit: (-hit.score, hit.chunk_id))
    assert ids(found) == ids(crowded(tuple(alone), 1)[:8])


@settings(max_examples=15)
@given(corpus=CORPUS, top_k=st.integers(1, 12), mode=st.sampled_from(["hybrid", "dense", "lexical"]))
def test_duplicates_come_once_and_are_named(
    words: Any, shelf: Any, shallow: None, corpus: list[str], top_k: int, mode: Any
) -> None:
    """The best of each kind, filled up to top_k; it names the others, and nothing is lost on the way."""
    kb = fill(shelf, corpus)
    every = everything(words, "pump oil", kb, mode)
    kept: list[Hit] = []
    stands_for: dict[int, set[int]] = {}
    for hit in every:
        twin = next((one for one in kept if alike(wording(one.text), wording(hit.text))), None)
        if twin is None:
            kept.append(hit)
        else:
            stands_for.setdefault(twin.chunk_id, set()).add(hit.chunk_id)
    hits = words.search("pump oil", [kb.id], top_k=top_k, mode=mode, collapse_duplicates=True).hits
    assert ids(hits) == ids(kept[:top_k])
    by_id = {hit.chunk_id: hit for hit in every}
    for hit in hits:
        assert {one.chunk_id for one in hit.duplicates} <= stands_for.get(hit.chunk_id, set())
        for one in hit.duplicates:
            other = by_id[one.chunk_id]
            assert (one.content_id, one.content_version_id) == (other.content_id, other.content_version_id)
            assert (one.start, one.end) == (other.start, other.end)
    if len(hits) < top_k:
        assert {
            hit.chunk_id: {one.chunk_id for one in hit.duplicates} for hit in hits if hit.duplicates
        } == stands_for


@pytest.mark.parametrize("mode", ["hybrid", "dense", "lexical"])
def test_four_hundred_copies_leave_places_to_others(words: Any, shelf: Any, mode: Any) -> None:
    """They come once, name 399, and the next best follow."""
    shelf.put(*(shelf.version(f"copy{number}", "The pump!") for number in range(400)))
    shelf.put(*(shelf.version(f"doc{number}", f"pump lamp {'stone ' * number}") for number in range(5)))
    hits = words.search("the pump!", ["shelf"], top_k=4, mode=mode, collapse_duplicates=True).hits
    assert [hit.uri[:3] for hit in hits] == ["cop", "doc", "doc", "doc"]
    assert [len(hit.duplicates) for hit in hits] == [399, 0, 0, 0]
    assert hits[0].chunk_id < min(one.chunk_id for one in hits[0].duplicates)


def test_a_duplicate_takes_no_place_of_its_document(words: Any, shelf: Any) -> None:
    """Collapsed first, then counted: the second hit of a document is one that says something else."""
    shelf.put(shelf.version("a", "pump\nPUMP.\npump lamp\npump river stone"))
    asked = {"mode": "lexical", "max_per_document": 2}
    assert [hit.text for hit in words.search("pump", ["shelf"], **asked).hits] == ["pump", "PUMP."]
    found = words.search("pump", ["shelf"], collapse_duplicates=True, **asked).hits
    assert [hit.text for hit in found] == ["pump", "pump lamp"]


@settings(max_examples=15)
@given(
    corpus=CORPUS,
    most=st.none() | st.integers(1, 3),
    top_k=st.integers(1, 8),
    mode=st.sampled_from(["hybrid", "dense", "lexical"]),
)
def test_documents_come_in_order_of_their_best_hit(
    words: Any, shelf: Any, shallow: None, corpus: list[str], most: int | None, top_k: int, mode: Any
) -> None:
    """top_k counts documents; each has its best hits, 3 unless said otherwise, and scores as the first."""
    kb = fill(shelf, corpus)
    asked = {"top_k": top_k, "mode": mode, "max_per_document": most}
    result = words.search("pump oil", [kb.id], group_by="document", **asked)
    kept = crowded(everything(words, "pump oil", kb, mode), most or 3)
    order = list(dict.fromkeys(hit.content_id for hit in kept))[:top_k]
    assert result.hits == ()
    assert [document.content_id for document in result.documents] == order
    for document in result.documents:
        right = [hit for hit in kept if hit.content_id == document.content_id]
        assert ids(document.hits) == ids(right)[: len(document.hits)]
        assert document.score == document.hits[0].score
        assert (document.uri, document.title) == (right[0].uri, right[0].title)


def test_a_threshold_ends_a_shaped_result_too(words: Any, shelf: Any) -> None:
    """What scores less is not brought in to fill places."""
    shelf.put(*(shelf.version(f"doc{number}", "pump\npump lamp\nriver stone") for number in range(4)))
    asked = {"mode": "dense", "max_per_document": 1}
    lowest = words.search("T pump", ["shelf"], **asked).hits[-1].score
    assert lowest == pytest.approx(1.0, abs=1e-3)
    hits = words.search("T pump", ["shelf"], score_threshold=lowest, **asked).hits
    assert [hit.text for hit in hits] == ["pump"] * 4


@pytest.mark.parametrize("mode", ["hybrid", "dense", "lexical"])
def test_several_queries_are_one_list_by_the_best_answered(words: Any, shelf: Any, mode: Any) -> None:
    """Each hit stands as the query that it answers best has it, and says which that is."""
    chance = np.random.default_rng(3)
    texts = ["\n".join(" ".join(chance.choice(WORDS, size=4)) for _ in range(5)) for _ in range(30)]
    kb = fill(shelf, texts)
    queries = ["pump valve", "zebra", "river lamp oil"]
    alone: dict[int, tuple[float, int, Hit]] = {}
    for number, query in enumerate(queries):
        for hit in words.search(query, [kb.id], top_k=100, mode=mode).hits:
            old = alone.get(hit.chunk_id)
            if old is None or hit.score > old[0]:
                alone[hit.chunk_id] = (hit.score, number, hit)
    right = sorted(alone.values(), key=lambda one: (-one[0], one[2].chunk_id))[:40]
    hits = words.search(queries, [kb.id], top_k=40, mode=mode).hits
    np.testing.assert_allclose([hit.score for hit in hits], [score for score, _, _ in right], atol=1e-5)
    assert len({hit.chunk_id for hit in hits}) == 40
    for hit in hits:
        score, number, single = alone[hit.chunk_id]
        assert (hit.query, dict(hit.scores)) == (number, pytest.approx(dict(single.scores), abs=1e-5))
        assert hit.score == pytest.approx(score, abs=1e-5)
    # BM25 adds up over words: there a single word loses against three.
    assert {hit.query for hit in hits} == ({0, 2} if mode == "lexical" else {0, 1, 2})


def test_several_queries_are_embedded_in_one_batch(words: Any, shelf: Any) -> None:
    """One call of the model; one query in a list is the query alone."""
    shelf.put(shelf.version("a", "pump\nlamp"))
    both = words.search(["T pump", "T lamp"], ["shelf"], mode="dense").hits
    assert words.embedder("").queries == [["T pump", "T lamp"]]
    assert {hit.text: hit.query for hit in both} == {"pump": 0, "lamp": 1}
    assert [hit.score for hit in both] == pytest.approx([1.0, 1.0], abs=1e-3)
    assert words.search(["pump"], ["shelf"]).hits == words.search("pump", ["shelf"]).hits


def test_ranks_are_told_when_asked(words: Any, shelf: Any) -> None:
    """In each stage, from 1; None where the other part brought the chunk. Plain hits have none."""
    shelf.put(*(shelf.version(f"doc{number}", "pump\nriver lamp") for number in range(120)))
    shelf.put(shelf.version("last", "pump zebra"))
    query, hits = "zebra pump pump pump", {}
    for mode in ("hybrid", "dense", "lexical"):
        hits[mode] = words.search(query, ["shelf"], top_k=3, mode=mode, explain=True).hits
        plain = words.search(query, ["shelf"], top_k=3, mode=mode).hits
        assert [hit.chunk_id for hit in plain] == [hit.chunk_id for hit in hits[mode]]
        assert all(hit.ranks == {} and set(hit.scores) <= {"dense", "lexical"} for hit in plain)
    assert [dict(hit.ranks) for hit in hits["lexical"]] == [{"lexical": rank} for rank in (1, 2, 3)]
    assert [dict(hit.ranks) for hit in hits["dense"]] == [{"dense": rank} for rank in (1, 2, 3)]
    (last,) = (hit for hit in hits["hybrid"] if hit.uri == "last")
    assert (last.ranks["lexical"], last.ranks["fused"]) == (1, 1)
    assert last.scores["fused"] == last.score
    assert set(last.scores) == set(last.ranks) == {"dense", "lexical", "fused"}


def test_a_part_that_only_scored_along_gives_no_rank(words: Any, shelf: Any) -> None:
    """The one of 130 chunks with the rare word lies deeper in the dense part than that looked."""
    shelf.put(*(shelf.version(f"doc{number}", f"pump valve{number}") for number in range(130)))
    shelf.put(shelf.version("other", "river stone lamp bread zebra"))
    first, second = words.search("pump pump pump zebra", ["shelf"], top_k=2, explain=True).hits
    assert (first.uri, dict(first.ranks)) == ("other", {"dense": None, "lexical": 1, "fused": 1})
    assert first.scores["dense"] < second.scores["dense"]
    assert second.ranks["dense"] == 1


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"query": []}, "query"),
        ({"query": ["pump"] * 17}, "query"),
        ({"query": ["pump", " "]}, "query.1"),
        ({"query": ["pump", 3]}, "query.1"),
        ({"query": ["x" * 8193]}, "query.0"),
        ({"query": {"a": 1}}, "query"),
        ({"max_per_document": 0}, "max_per_document"),
        ({"max_per_document": 1001}, "max_per_document"),
        ({"group_by": "uri"}, "group_by"),
        ({"expand": 0}, "expand"),
        ({"expand": 11}, "expand"),
        ({"expand": "page"}, "expand"),
    ],
)
def test_shapes_out_of_range_are_named(words: Any, shelf: Any, change: dict[str, Any], param: str) -> None:
    """InvalidInput with the argument's name, before anything is embedded."""
    given = {"query": "pump", **change}
    with pytest.raises(InvalidInput) as error:
        words.search(given.pop("query"), ["shelf"], **given)
    assert error.value.param == param
    assert words.embedder("").queries == []
