"""Every document is in the results, or is told where it left the search; and the advice is true."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kb.errors import InvalidInput, NotFound
from kb.search import core
from kb.search.duplicates import alike, wording
from kb.search.filters import parse_filter, unmet
from kb.search.rerank import Rerank
from kb.types import Explanation

WORDS = ["pump", "valve", "engine", "oil", "filter", "zebra", "river", "lamp"]
LINES = st.lists(st.sampled_from(WORDS), min_size=1, max_size=4).map(" ".join)
CORPUS = st.lists(st.lists(LINES, max_size=5).map("\n".join), min_size=1, max_size=10)
QUERY = "pump oil zebra"
SHAPES = st.fixed_dictionaries(
    {"top_k": st.integers(1, 8), "mode": st.sampled_from(["hybrid", "dense", "lexical"])},
    optional={
        "max_per_document": st.integers(1, 3),
        "collapse_duplicates": st.just(True),
        "group_by": st.just("document"),
        "score_threshold": st.floats(-1, 1),
        "where": st.integers(0, 9).map(
            lambda number: parse_filter({"type": "lte", "key": "number", "value": number})
        ),
    },
)


def fill(shelf: Any, corpus: list[str]) -> Any:
    """A new knowledge base with these documents, numbered."""
    kb = shelf.make(f"corpus{len(shelf.catalog.knowledge_bases.all())}")
    versions = [shelf.version(f"doc{n}", text, {"number": n}) for n, text in enumerate(corpus)]
    shelf.put(*versions, kb=kb)
    return kb


def shown(words: Any, kb: Any, asked: dict[str, Any]) -> list[Any]:
    """The hits of a search, out of their documents."""
    result = words.search(QUERY, [kb.id], **asked)
    return [*result.hits, *(hit for document in result.documents for hit in document.hits)]


def relaxed(told: Explanation, asked: dict[str, Any]) -> dict[str, Any]:
    """The same search, changed as the best chunk's explanation advises."""
    best = told.chunks[0]
    if best.stage == "filtered":
        return {**asked, "where": None}
    if best.stage == "score_threshold":
        return {**asked, "score_threshold": None}
    if best.stage == "duplicate":
        return {**asked, "collapse_duplicates": False}
    if best.stage == "max_per_document":
        return {**asked, "max_per_document": 1000}
    if best.stage == "top_k":
        return {**asked, "top_k": best.rank}
    assert best.stage == "candidates"
    ranks = [rank for rank in best.ranks.values() if rank]
    # Without a rank it shares no word with the query: nothing lexical can find it.
    return {**asked, "top_k": max(asked["top_k"], min(ranks))} if ranks else {**asked, "mode": "dense"}


@settings(max_examples=30)
@given(corpus=CORPUS, asked=SHAPES)
def test_every_document_is_returned_or_explained(
    words: Any, shelf: Any, monkeypatch: pytest.MonkeyPatch, corpus: list[str], asked: dict[str, Any]
) -> None:
    """`returned` for exactly the chunks that are; whoever follows the advice has the document returned."""
    monkeypatch.setattr(core, "_DEPTH", 3)
    kb = fill(shelf, corpus)
    hits = shown(words, kb, asked)
    for document in words.documents(kb.id):
        told = words.explain(QUERY, document.id, kb.id, **asked)
        mine = [hit.chunk_id for hit in hits if hit.content_id == document.id]
        assert [fate.passage.chunk_id for fate in told.chunks if fate.stage == "returned"] == mine
        assert (told.stage == "returned") == bool(mine)
        assert (told.stage == "no_chunks") == (document.chunks == 0) == (told.chunks == ())
        assert len(told.chunks) == document.chunks
        wanted, steps = asked, 0
        while told.chunks and told.stage != "returned":
            wanted, steps = relaxed(told, wanted), steps + 1
            told = words.explain(QUERY, document.id, kb.id, **wanted)
            assert steps < 30
        if told.chunks:
            assert document.id in {hit.content_id for hit in shown(words, kb, wanted)}


@settings(max_examples=15)
@given(corpus=CORPUS, asked=SHAPES)
def test_scores_and_ranks_are_brute_force(
    words: Any, shelf: Any, monkeypatch: pytest.MonkeyPatch, corpus: list[str], asked: dict[str, Any]
) -> None:
    """By part, over every chunk that the filter keeps, whether it was a candidate or not."""
    from kb.catalog.store import unpack_vectors

    monkeypatch.setattr(core, "_DEPTH", 3)
    kb = fill(shelf, corpus)
    vectors = dict(shelf.rows("vectors", "text_hash, vector"))
    numbers = {content.id: content.attributes["number"] for content in words.documents(kb.id)}
    limit = asked["where"].value if asked.get("where") else 99
    dense = {
        chunk_id: float(unpack_vectors([vectors[text_hash]], kb.dim)[0] @ shelf.embedder.bags([QUERY])[0])
        for chunk_id, kb_id, content_id, text_hash in shelf.rows("chunks", "id, kb_id, content_id, text_hash")
        if kb_id == kb.id and numbers[content_id] <= limit
    }
    lexical = [hit.chunk_id for hit in words.search(QUERY, [kb.id], top_k=1000, mode="lexical").hits]
    lexical = [chunk_id for chunk_id in lexical if chunk_id in dense]
    for content_id in numbers:
        for fate in words.explain(QUERY, content_id, kb.id, **asked).chunks:
            chunk_id = fate.passage.chunk_id
            if "lexical" in fate.ranks:
                assert fate.ranks["lexical"] == (lexical.index(chunk_id) + 1 if chunk_id in lexical else None)
            if "dense" in fate.ranks and chunk_id not in dense:
                assert (fate.ranks["dense"], fate.stage) == (None, "filtered")
            elif "dense" in fate.ranks:
                better = sum(score > dense[chunk_id] + 1e-5 for score in dense.values())
                level = sum(abs(score - dense[chunk_id]) <= 1e-5 for score in dense.values())
                assert better < fate.ranks["dense"] <= better + level  # type: ignore[operator]
                assert fate.scores["dense"] == pytest.approx(dense[chunk_id], abs=1e-4)


def test_each_stage_says_what_it_is(words: Any, shelf: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """One collection, one document for each end."""
    monkeypatch.setattr(core, "_DEPTH", 5)
    lines = {
        "best": "pump pump pump\npump pump\npump lamp",
        "copy": "Pump, pump, pump!",
        "next": "pump and river",
        "far": "stone bread pump " + "lamp " * 30,
        "else": "zebra",
        "empty": "",
    }
    shelf.put(*(shelf.version(name, text, {"name": name}) for name, text in lines.items()))
    asked = {"mode": "lexical", "top_k": 2, "collapse_duplicates": True, "max_per_document": 1}

    def told(name: str, **more: Any) -> Explanation:
        found: Explanation = words.explain("pump", shelf.content(name).id, "shelf", **{**asked, **more})
        return found

    best = told("best")
    assert (best.stage, best.reason) == ("returned", "it is returned with hit 1")
    assert [fate.stage for fate in best.chunks] == ["returned", "max_per_document", "max_per_document"]
    assert best.chunks[1].reason == "1 better passages of its document are kept"
    copy = told("copy").chunks[0]
    assert (copy.stage, copy.duplicate_of) == ("duplicate", best.chunks[0].passage)
    assert told("next").chunks[0].stage == "returned"
    one = told("next", top_k=1).chunks[0]
    first = best.chunks[0].scores["lexical"]
    assert (one.stage, one.rank, one.needed) == ("top_k", 2, pytest.approx(first))
    assert told("next", score_threshold=first).stage == "score_threshold"
    (plain,) = told("next", top_k=1, max_per_document=None, collapse_duplicates=False).chunks
    assert (plain.stage, plain.rank) == ("top_k", plain.ranks["lexical"])
    far = told("far", max_per_document=None, collapse_duplicates=False)
    assert (far.stage, far.chunks[0].ranks) == ("candidates", {"lexical": 6})
    assert "a top_k of 6 would make it a candidate" in far.reason
    other = told("else")
    assert (other.stage, other.chunks[0].ranks) == ("candidates", {"lexical": None})
    assert "no lexical match" in other.reason
    assert (told("empty").stage, told("empty").chunks) == ("no_chunks", ())
    where = parse_filter({"type": "eq", "key": "name", "value": "next"})
    out = told("best", where=where)
    assert out.stage == "filtered"
    assert "name eq 'next' does not hold (it is 'best')" in out.reason
    assert told("next", where=where).stage == "returned"
    assert (best.uri, best.title) == ("best", "title of best")


@pytest.mark.parametrize("mode", ["hybrid", "lexical"])
def test_what_does_not_hold_a_quoted_phrase_is_told_so(words: Any, shelf: Any, mode: Any) -> None:
    """After the filter, and before it is asked how well it fits; its own words have no rank then."""
    shelf.put(shelf.version("a", "the red pump"), shelf.version("b", "the pump is red", {"team": "ops"}))
    asked = {"mode": mode, "query": 'the "red pump"', "kb": "shelf"}
    assert words.explain(content_id=shelf.content("a").id, **asked).stage == "returned"
    told = words.explain(content_id=shelf.content("b").id, **asked)
    assert (told.stage, told.reason) == ("quoted", "it does not hold what the query quotes")
    assert set(told.chunks[0].ranks.values()) == {None}
    where = parse_filter({"type": "ne", "key": "team", "value": "ops"})
    assert words.explain(content_id=shelf.content("b").id, where=where, **asked).stage == "filtered"
    assert words.explain(content_id=shelf.content("b").id, **{**asked, "mode": "dense"}).stage == "returned"


@pytest.mark.parametrize("mode", ["hybrid", "dense", "lexical"])
def test_a_rerankers_order_is_explained(
    words: Any, shelf: Any, reranker: Any, monkeypatch: pytest.MonkeyPatch, mode: Any
) -> None:
    """Fused: doc0 to doc5. Of the best four the longest first: doc3, doc2, doc1, doc0; then doc4, doc5."""
    monkeypatch.setattr(words._search, "_reranker", lambda: reranker)
    shelf.put(*(shelf.version(f"doc{n}", " ".join(["pump", *["zebra"] * n])) for n in range(6)))
    texts = {hit.uri: hit.text for hit in words.search("pump", ["shelf"], mode=mode).hits}

    def told(n: int, top_k: int) -> Explanation:
        found: Explanation = words.explain(
            "pump",
            shelf.content(f"doc{n}").id,
            "shelf",
            mode=mode,
            top_k=top_k,
            rerank=Rerank(depth=4, deadline_ms=60_000),
        )
        return found

    first = told(3, top_k=1)
    assert (first.stage, first.rerank, first.chunks[0].ranks["rerank"]) == ("returned", "done", 1)
    assert first.chunks[0].ranks.get("fused", 4) == 4
    (second,) = told(2, top_k=1).chunks
    context = first.chunks[0].scores["rerank"] - len(texts["doc3"])
    assert (second.stage, second.rank) == ("top_k", 2)
    assert second.needed == len(texts["doc3"]) + context
    assert second.scores["rerank"] == len(texts["doc2"]) + context
    (fifth,) = told(4, top_k=2).chunks
    if mode == "dense":
        # No more are asked for than are reranked.
        assert (fifth.stage, fifth.ranks) == ("candidates", {"dense": 5})
        return
    assert (fifth.stage, fifth.rank, fifth.needed, fifth.ranks["rerank"]) == ("top_k", 5, None, None)
    assert "not among the best, which were reranked" in fifth.reason
    (sixth,) = told(5, top_k=5).chunks
    assert (sixth.stage, sixth.rank) == ("top_k", 6)
    assert sixth.needed == pytest.approx(
        told(4, top_k=6).chunks[0].scores["fused" if mode == "hybrid" else mode]
    )


def test_of_a_long_document_the_best_chunks_are_told(words: Any, shelf: Any) -> None:
    """Ten, those that are returned first, also when a better one is no hit of its own."""
    shelf.put(shelf.version("copy", "\n".join("pump" + "!" * n for n in range(30)) + "\nriver pump"))
    content_id = shelf.content("copy").id
    told = words.explain("pump", content_id, "shelf", mode="lexical", top_k=2, collapse_duplicates=True)
    assert [fate.stage for fate in told.chunks] == ["returned"] * 2 + ["duplicate"] * 8
    assert all(fate.duplicate_of == told.chunks[0].passage for fate in told.chunks[2:])


ATTRIBUTES = st.dictionaries(
    st.sampled_from("ab"), st.sampled_from(["x", "y", 1, 2.5, True, False]), max_size=2
)
LEAVES = st.one_of(
    st.fixed_dictionaries(
        {
            "type": st.sampled_from(["eq", "ne"]),
            "key": st.sampled_from("ab"),
            "value": st.sampled_from(["x", 1, 1.0, True]),
        }
    ),
    st.fixed_dictionaries(
        {
            "type": st.sampled_from(["gt", "gte", "lt", "lte"]),
            "key": st.sampled_from("ab"),
            "value": st.sampled_from(["x", "y", 1, 2]),
        }
    ),
    st.fixed_dictionaries(
        {
            "type": st.sampled_from(["in", "nin"]),
            "key": st.sampled_from("ab"),
            "value": st.lists(st.sampled_from(["x", 1, True]), min_size=1),
        }
    ),
)
FILTERS = st.recursive(
    LEAVES,
    lambda inner: st.fixed_dictionaries(
        {"type": st.sampled_from(["and", "or"]), "filters": st.lists(inner, min_size=1, max_size=3)}
    ),
    max_leaves=5,
)


@settings(max_examples=25)
@given(given_filter=FILTERS, documents=st.lists(ATTRIBUTES, min_size=1, max_size=4))
def test_a_filter_is_unmet_exactly_where_it_keeps_nothing(
    words: Any, shelf: Any, given_filter: dict[str, Any], documents: list[dict[str, Any]]
) -> None:
    """The words that explain a filter follow what the search does."""
    where = parse_filter(given_filter)
    kb = shelf.make(f"corpus{len(shelf.catalog.knowledge_bases.all())}")
    shelf.put(
        *(shelf.version(f"doc{n}", "pump", attributes) for n, attributes in enumerate(documents)), kb=kb
    )
    kept = {hit.content_id for hit in words.search("pump", [kb.id], mode="lexical", where=where).hits}
    for content in words.documents(kb.id):
        assert (unmet(where, content.attributes) == ()) == (content.id in kept)


def test_the_duplicate_of_a_chunk_is_alike_and_kept(words: Any, shelf: Any) -> None:
    """Its stage may be any that a kept one has; the text is the same."""
    chance = np.random.default_rng(1)
    lines = [" ".join(chance.choice(WORDS[:3], size=2)) for _ in range(60)]
    kb = fill(shelf, ["\n".join(lines[at : at + 6]) for at in range(0, 60, 6)])
    texts = {hit.chunk_id: hit.text for hit in words.search("pump valve engine", [kb.id], top_k=1000).hits}
    twins = 0
    for document in words.documents(kb.id):
        for fate in words.explain("pump valve", document.id, kb.id, collapse_duplicates=True).chunks:
            assert (fate.duplicate_of is not None) == (fate.stage == "duplicate")
            if fate.duplicate_of:
                twins += 1
                assert alike(*(wording(texts[one.chunk_id]) for one in (fate.passage, fate.duplicate_of)))
    assert twins == 60 - len(set(lines))


def test_what_cannot_be_explained_is_named(words: Any, shelf: Any) -> None:
    """An unknown document, or one of another knowledge base, is not found; a list of queries is refused."""
    other = shelf.make("other")
    shelf.put(shelf.version("a", "pump"), kb=other)
    content_id = shelf.content("a", other).id
    for asked in ("doc_0", content_id):
        with pytest.raises(NotFound) as missing:
            words.explain("pump", asked, "shelf")
        assert missing.value.param == "content_id"
    for change, param in (({"query": ["pump"]}, "query"), ({"query": " "}, "query"), ({"top_k": 0}, "top_k")):
        with pytest.raises(InvalidInput) as error:
            words.explain(**{"query": "pump", "content_id": content_id, "kb": "other", **change})
        assert error.value.param == param
