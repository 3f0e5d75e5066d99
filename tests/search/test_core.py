"""A question becomes hits: real indexes and catalog, a fake embedder, brute force as the judge."""

import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from kb.errors import InvalidInput, NotFound
from kb.search.columns import AttributeColumns
from kb.search.core import MAX_QUERY
from kb.search.filters import parse_filter
from kb.search.fuse import fuse, support
from kb.types import Hit

TOPICS = ["pump", "valve", "engine", "oil", "filter", "zebra", "river", "lamp", "stone", "bread"]


def fill(shelf: Any, documents: int = 30, kb: Any = None) -> None:
    """Documents of five lines about changing topics."""
    chance = np.random.default_rng(documents)
    versions = []
    for number in range(documents):
        lines = [" ".join(chance.choice(TOPICS, size=int(chance.integers(2, 9)))) for _ in range(5)]
        attributes = {"number": number, "even": number % 2 == 0, "topic": lines[0].split()[0]}
        versions.append(shelf.version(f"doc{number}", "\n".join(lines), attributes))
    shelf.put(*versions, kb=kb)


def brute_force(shelf: Any, query: str, kb_id: str | None = None) -> dict[int, float]:
    """Inner products of all chunks, from the catalog alone."""
    from kb.catalog.store import unpack_vectors

    vectors = dict(shelf.rows("vectors", "text_hash, vector"))
    question = shelf.embedder.bags([query])[0]
    return {
        number: float(unpack_vectors([vectors[text_hash]], shelf.kb.dim)[0] @ question)
        for number, kb, text_hash in shelf.rows("chunks", "id, kb_id, text_hash")
        if kb == (kb_id or shelf.kb.id)
    }


def best(scores: dict[int, float], k: int) -> list[int]:
    """Ids of the k best; equal scores go by id."""
    return sorted(scores, key=lambda number: (-round(scores[number], 5), number))[:k]


def assert_same(hits: tuple[Hit, ...], scores: dict[int, float], k: int) -> None:
    """The k best by these scores, up to rounding."""
    right = best(scores, k)
    np.testing.assert_allclose([hit.score for hit in hits], [scores[number] for number in right], atol=1e-4)
    np.testing.assert_allclose(
        [scores[hit.chunk_id] for hit in hits], [scores[number] for number in right], atol=1e-4
    )
    assert len({hit.chunk_id for hit in hits}) == len(hits)


@pytest.mark.parametrize("top_k", [1, 7, 1000])
def test_dense_search_is_brute_force(words: Any, shelf: Any, top_k: int) -> None:
    """The best by inner product over everything, with that product as the score."""
    fill(shelf)
    hits = words.search("pump and oil", ["shelf"], top_k=top_k, mode="dense").hits
    assert_same(hits, brute_force(shelf, "pump and oil"), top_k)
    assert len(hits) == min(top_k, 150)
    assert all(dict(hit.scores) == {"dense": hit.score} for hit in hits)


def test_lexical_search_returns_what_shares_a_word(words: Any, shelf: Any) -> None:
    """Every chunk with one of the words and no other, by BM25; nothing is embedded."""
    fill(shelf)
    hits = words.search("zebras or bread", ["shelf"], top_k=1000, mode="lexical").hits
    assert {hit.chunk_id for hit in hits} == {
        number for number, text in shelf.rows("chunks", "id, text") if {"zebra", "bread"} & set(text.split())
    }
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    assert hits[0].score > 0
    assert words.embedder("").queries == []


def test_hybrid_search_is_the_fusion_of_both_over_their_union(words: Any, shelf: Any) -> None:
    """Candidates of both parts are scored by both; the score is `fuse` and `support` over exactly those."""
    fill(shelf, 80)
    query = "zebra lamp"
    dense = brute_force(shelf, query)
    lexical = {
        hit.chunk_id: hit.score for hit in words.search(query, ["shelf"], top_k=1000, mode="lexical").hits
    }
    first = words.search(query, ["shelf"], top_k=100, mode="lexical").hits
    union = sorted({*best(dense, 100), *(hit.chunk_id for hit in first)})
    assert 100 < len(union) < 400
    fused = fuse(
        np.array([dense[number] for number in union], np.float32),
        np.array([lexical.get(number, 0.0) for number in union], np.float32),
        everything := np.ones(len(union), bool),
    )
    owner = dict(shelf.rows("chunks", "id, content_id"))
    numbers = {content_id: number for number, content_id in enumerate(sorted(set(owner.values())))}
    scores = support(fused, np.array([numbers[owner[number]] for number in union], np.int64), everything)
    hits = words.search(query, ["shelf"], top_k=100).hits
    assert_same(hits, dict(zip(union, scores.tolist(), strict=True)), 100)
    for hit in hits:
        assert hit.scores["dense"] == pytest.approx(dense[hit.chunk_id], abs=1e-5)
        assert hit.scores["lexical"] == pytest.approx(lexical.get(hit.chunk_id, 0.0), rel=1e-4)


@pytest.mark.parametrize("mode", ["hybrid", "dense", "lexical"])
def test_several_knowledge_bases_are_searched_as_one(words: Any, shelf: Any, mode: Any) -> None:
    """Hits of all of them in one order, each naming its base; naming one twice changes nothing."""
    other = shelf.make("other")
    fill(shelf, 6)
    fill(shelf, 7, kb=other)
    both = words.search("pump stone", ["shelf", other.id], top_k=1000, mode=mode).hits
    again = words.search("pump stone", ["other", "shelf", other.id, "other"], top_k=1000, mode=mode).hits
    assert [hit.chunk_id for hit in both] == [hit.chunk_id for hit in again]
    assert {hit.knowledge_base_id for hit in both} == {shelf.kb.id, other.id}
    if mode != "hybrid":
        alone = [
            hit
            for name in ("shelf", "other")
            for hit in words.search("pump stone", [name], top_k=1000, mode=mode).hits
        ]
        assert_same(both, {hit.chunk_id: hit.score for hit in alone}, 1000)


def test_models_are_not_mixed(words: Any, shelf: Any) -> None:
    """Scores of two models cannot be compared: refused, except where no model is asked."""
    shelf.make("foreign", fingerprint="words-2")
    fill(shelf, 3)
    for mode in ("hybrid", "dense"):
        with pytest.raises(InvalidInput, match="different embedding models"):
            words.search("pump", ["shelf", "foreign"], mode=mode)
    assert len(words.search("pump oil zebra", ["shelf", "foreign"], mode="lexical").hits) > 0


@pytest.mark.parametrize("mode", ["hybrid", "dense", "lexical"])
@pytest.mark.parametrize(
    "where",
    [
        {"type": "eq", "key": "even", "value": True},
        {"type": "lt", "key": "number", "value": 3},
        {
            "type": "or",
            "filters": [
                {"type": "eq", "key": "number", "value": 29},
                {"type": "eq", "key": "topic", "value": "pump"},
            ],
        },
        {"type": "eq", "key": "number", "value": 77},
    ],
)
def test_a_filter_never_costs_places(words: Any, shelf: Any, mode: Any, where: dict[str, Any]) -> None:
    """All that match come back, up to top_k; nothing else does."""
    fill(shelf)
    kept = set(AttributeColumns(shelf.kb.id, words.catalog.feed).allowed(parse_filter(where)).ids().tolist())
    query = " ".join(TOPICS)
    everything = words.search(query, ["shelf"], top_k=1000, mode=mode, where=parse_filter(where)).hits
    assert {hit.chunk_id for hit in everything} == kept
    few = words.search(query, ["shelf"], top_k=3, mode=mode, where=parse_filter(where)).hits
    assert [hit.chunk_id for hit in few] == [hit.chunk_id for hit in everything[:3]]


@pytest.mark.parametrize("where", [None, {"type": "eq", "key": "even", "value": True}])
@pytest.mark.parametrize("mode", ["hybrid", "lexical"])
def test_hits_hold_what_the_query_quotes(words: Any, shelf: Any, mode: Any, where: Any) -> None:
    """Every chunk with the phrase that the filter keeps, and no other."""
    fill(shelf)
    kept = None if where is None else parse_filter(where)
    hits = words.search('engine "oil pump"', ["shelf"], top_k=1000, mode=mode, where=kept).hits
    right = {
        number
        for number, text in shelf.rows("chunks", "id, text")
        # Chunks 1 to 5 are of document 0, which is even.
        if re.search(r"\boil pump\b", text) and (where is None or (number - 1) // 5 % 2 == 0)
    }
    assert len(right) > 1
    assert {hit.chunk_id for hit in hits} == right
    assert words.search('"oil nothing"', ["shelf"], mode=mode).hits == ()


def test_dense_search_knows_no_quotes(words: Any, shelf: Any) -> None:
    """Meaning alone: everything is ranked."""
    fill(shelf)
    assert len(words.search('"no such phrase"', ["shelf"], top_k=1000, mode="dense").hits) == 150


def test_the_weight_of_the_dense_part_decides_the_order(words: Any, shelf: Any) -> None:
    """1 orders the candidates as dense search does, 0 as lexical search does; the setting is the default."""
    chance = np.random.default_rng(1)
    lines = [" ".join(chance.choice(TOPICS, size=int(chance.integers(2, 9)))) for _ in range(60)]
    shelf.put(*(shelf.version(f"doc{number}", line) for number, line in enumerate(lines)))
    asked = {"query": "pump and oil", "kbs": ["shelf"], "top_k": 1000}
    for mode, weight in (("dense", 1.0), ("lexical", 0.0)):
        hits = words.search(**asked, dense_weight=weight).hits
        parts = [hit.scores[mode] for hit in hits]
        assert parts == sorted(parts, reverse=True)
        assert [hit.score for hit in hits] != [hit.score for hit in words.search(**asked).hits]
    weighted = words.search(**asked, dense_weight=0.7).hits
    words.settings = replace(words.settings, dense_weight=0.7)
    assert words.search(**asked).hits == weighted
    for weight in (-0.1, 1.1, float("nan")):
        with pytest.raises(InvalidInput, match="dense_weight"):
            words.search("pump", ["shelf"], dense_weight=weight)


def test_a_threshold_cuts_the_end_off(words: Any, shelf: Any) -> None:
    """Hits at or above it stay, as they were."""
    fill(shelf)
    hits = words.search("engine", ["shelf"], top_k=50, mode="dense").hits
    cut = hits[10].score
    above = words.search("engine", ["shelf"], top_k=50, mode="dense", score_threshold=cut).hits
    assert above == tuple(hit for hit in hits if hit.score >= cut)
    assert 11 <= len(above) < 50
    assert words.search("engine", ["shelf"], mode="dense", score_threshold=1.1).hits == ()
    between = np.nextafter(cut, 1.0)
    higher = words.search("engine", ["shelf"], top_k=50, mode="dense", score_threshold=between).hits
    assert higher == tuple(hit for hit in hits if hit.score > cut)


@pytest.mark.filterwarnings("error")
def test_a_threshold_beyond_all_scores_is_one(words: Any, shelf: Any) -> None:
    """Also where scores, which are of half its precision, have no such number."""
    fill(shelf)
    for threshold, found in ((-1e300, 10), (1e300, 0)):
        assert len(words.search("engine", ["shelf"], score_threshold=threshold).hits) == found


@pytest.mark.parametrize("mode", ["hybrid", "dense", "lexical"])
def test_equal_scores_come_in_the_order_of_chunk_ids(words: Any, shelf: Any, mode: Any) -> None:
    """Copies of one text in several documents are told apart by id, every time."""
    shelf.put(
        *(shelf.version(f"copy{number}", "the same pump") for number in range(8)),
        shelf.version("noise", "a lamp"),
    )
    for top_k in (3, 8):
        hits = words.search("pump", ["shelf"], top_k=top_k, mode=mode).hits
        assert [hit.chunk_id for hit in hits] == list(range(1, 9))[:top_k]


def test_equal_scores_in_several_bases_come_in_the_order_of_chunk_ids(words: Any, shelf: Any) -> None:
    """The order of the bases in the call does not matter."""
    other = shelf.make("other")
    for number in range(6):
        shelf.put(shelf.version(f"copy{number}", "the same pump"), kb=other if number % 3 == 0 else None)
    for kbs in (["other", "shelf"], ["shelf", "other"]):
        hits = words.search("pump", kbs, top_k=4, mode="dense").hits
        assert [hit.chunk_id for hit in hits] == [1, 2, 3, 4]


@pytest.mark.parametrize("mode", ["hybrid", "dense", "lexical"])
def test_a_hits_text_is_the_versions_text_at_its_span(words: Any, shelf: Any, mode: Any) -> None:
    """text == text[start:end] of the version it names, whatever the script."""
    fill(shelf, 5)
    shelf.put(shelf.version("scripts", "pump ünïcode\n𝄞 pump 🙂 x\n\npump 東京\n"))
    shelf.put(shelf.version("doc1", "replaced pump\nanother pump"))
    hits = words.search("pump", ["shelf"], top_k=1000, mode=mode).hits
    assert {hit.uri for hit in hits} >= {"scripts", "doc1"}
    for hit in hits:
        assert hit.text == words.text(hit.content_version_id, hit.start, hit.end)
        assert hit.content_id == words.document("shelf", hit.content_id).id
        assert hit.content_version_id == words.document("shelf", hit.content_id).version_id


@pytest.mark.parametrize("mode", ["hybrid", "dense", "lexical"])
def test_a_replaced_or_deleted_document_never_returns(words: Any, shelf: Any, mode: Any) -> None:
    """The search after the change sees the change, and other hits take the places at once."""
    for number in range(6):
        shelf.put(shelf.version(f"doc{number}", f"pump number{number}\npump again"))
    before = words.search("pump", ["shelf"], top_k=12, mode=mode).hits
    assert len(before) == 12
    shelf.put(shelf.version("doc0", "pump replaced"))
    words.delete_document("shelf", shelf.content("doc1").id)
    after = words.search("pump", ["shelf"], top_k=9, mode=mode).hits
    assert len(after) == 9
    assert sorted({hit.uri for hit in after}) == ["doc0", "doc2", "doc3", "doc4", "doc5"]
    assert [hit.text for hit in after if hit.uri == "doc0"] == ["pump replaced"]
    assert words.search("number1", ["shelf"], mode="lexical").hits == ()


@pytest.mark.parametrize("mode", ["hybrid", "dense", "lexical"])
def test_deleted_chunks_leave_their_places_to_others(words: Any, shelf: Any, mode: Any) -> None:
    """However many better chunks were deleted, top_k hits come back while so many match."""
    better = [shelf.version(f"better{number}", "pump") for number in range(150)]
    shelf.put(*better)
    shelf.put(shelf.version("rest", "\n".join(f"pump and something{number}" for number in range(20))))
    assert {hit.text for hit in words.search("pump", ["shelf"], top_k=50, mode=mode).hits} == {"pump"}
    ids = [content.id for content in words.documents("shelf", limit=1000) if content.uri != "rest"]
    words.catalog.store.remove(shelf.kb.id, ids)
    hits = words.search("pump", ["shelf"], top_k=10, mode=mode).hits
    assert [hit.uri for hit in hits] == ["rest"] * 10


@pytest.mark.parametrize("mode", ["hybrid", "dense", "lexical"])
def test_what_another_service_changes_is_seen_at_once(
    open_service: Callable[[], Any], fakes: ModuleType, mode: Any
) -> None:
    """Two services over one folder, as two processes: each search sees every acknowledged change of both."""
    first, second = open_service(), open_service()
    shelf = fakes.Shelf(first.catalog)
    for number in range(5):
        shelf.put(shelf.version("doc", f"pump number{number}"), shelf.version(f"other{number}", "pump"))
        for service in (second, first):
            hits = service.search("pump", ["shelf"], top_k=100, mode=mode).hits
            assert len(hits) == number + 2
            assert {hit.text for hit in hits} == {"pump", f"pump number{number}"}
    second.delete_document("shelf", shelf.content("doc").id)
    assert {hit.text for hit in first.search("pump", ["shelf"], mode=mode).hits} == {"pump"}


_ELSEWHERE = """
import importlib.util, sys
from kb.catalog import Catalog
url, fakes = sys.argv[1:]
spec = importlib.util.spec_from_file_location("fakes", fakes)
fakes = importlib.util.module_from_spec(spec)
spec.loader.exec_module(fakes)
shelf = fakes.Shelf(Catalog(url))
shelf.put(shelf.version("replaced", "pump new"), shelf.version("added", "pump added"))
shelf.catalog.store.remove(shelf.kb.id, [shelf.content("removed").id])
shelf.catalog.close()
"""


def test_what_another_process_changes_is_seen_at_once(words: Any, shelf: Any, fakes: ModuleType) -> None:
    """Added, replaced and removed by another process while this one has the indexes open."""
    shelf.put(shelf.version("replaced", "pump old"), shelf.version("removed", "pump removed"))
    assert len(words.search("pump", ["shelf"]).hits) == 2
    command = [sys.executable, "-c", _ELSEWHERE, words.settings.database_url, str(fakes.__file__)]
    subprocess.run(command, check=True, timeout=60)
    for mode in ("hybrid", "dense", "lexical"):
        hits = words.search("pump", ["shelf"], mode=mode).hits
        assert {(hit.uri, hit.text) for hit in hits} == {("replaced", "pump new"), ("added", "pump added")}


def test_a_document_replaced_between_index_and_catalog_costs_no_hit(
    words: Any, shelf: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The search is repeated when the catalog no longer knows a chunk that the index found."""
    shelf.put(*(shelf.version(f"doc{number}", f"pump {number}") for number in range(4)))
    read = words.catalog.documents.hits
    calls = []

    def replace_first(ids: list[int], *scored: Any) -> Any:
        calls.append(list(ids))
        if len(calls) == 1:
            shelf.put(shelf.version("doc2", "pump replaced"))
        return read(ids, *scored)

    monkeypatch.setattr(words.catalog.documents, "hits", replace_first)
    hits = words.search("pump", ["shelf"], top_k=4).hits
    assert sorted(hit.text for hit in hits) == ["pump 0", "pump 1", "pump 3", "pump replaced"]
    assert len(calls) == 2


def test_an_empty_knowledge_base_has_no_hits(words: Any, shelf: Any) -> None:
    """Nothing there, nothing found, in any mode."""
    for mode in ("hybrid", "dense", "lexical"):
        assert words.search("pump", ["shelf"], mode=mode).hits == ()


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"query": ""}, "query"),
        ({"query": " \n\t"}, "query"),
        ({"query": "x" * (MAX_QUERY + 1)}, "query"),
        ({"query": "\ud800 pump"}, "query"),
        ({"kbs": []}, "knowledge_base_ids"),
        ({"top_k": 0}, "top_k"),
        ({"top_k": -1}, "top_k"),
        ({"top_k": 1001}, "top_k"),
        ({"mode": "fuzzy"}, "mode"),
    ],
)
def test_arguments_out_of_range_are_named(words: Any, shelf: Any, change: dict[str, Any], param: str) -> None:
    """InvalidInput with the argument's name, before anything is embedded."""
    given = {"query": "pump", "kbs": ["shelf"], **change}
    with pytest.raises(InvalidInput) as error:
        words.search(given.pop("query"), given.pop("kbs"), **given)
    assert error.value.param == param
    assert words.embedder("").queries == []


def test_the_limits_themselves_are_allowed(words: Any, shelf: Any) -> None:
    """A query of the greatest length, top_k 1 and 1,000."""
    fill(shelf, 4)
    assert len(words.search("pump ".ljust(MAX_QUERY, "x"), ["shelf"], top_k=1).hits) == 1
    assert len(words.search("pump", ["shelf"], top_k=1000, mode="dense").hits) == 20


def test_an_unknown_knowledge_base_is_not_found(words: Any, shelf: Any) -> None:
    """NotFound, though another one exists."""
    with pytest.raises(NotFound):
        words.search("pump", ["shelf", "missing"])


def test_every_stage_is_timed(words: Any, shelf: Any) -> None:
    """Milliseconds of each stage, and a total that is no less than their sum."""
    fill(shelf, 2)
    timings = words.search("pump", ["shelf"]).timings_ms
    assert set(timings) == {"embed", "follow", "dense", "lexical", "fuse", "shape", "read", "total"}
    assert timings["total"] >= sum(spent for stage, spent in timings.items() if stage != "total") - 0.01


def test_damaged_indexes_are_rebuilt_from_the_catalog(
    open_service: Callable[[], Any], fakes: ModuleType
) -> None:
    """With every index file cut in half, a new service answers as the old one did."""
    first = open_service()
    shelf = fakes.Shelf(first.catalog)
    fill(shelf, 10)
    first._indexes.live(shelf.kb).catch_up()
    first._indexes.live(shelf.kb).vectors.checkpoint()
    expected = first.search("pump river", ["shelf"], top_k=50).hits
    for path in first.settings.indexes_dir.rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    hits = open_service().search("pump river", ["shelf"], top_k=50).hits
    # A base and a tail round the last bit of a score differently.
    assert [hit.chunk_id for hit in hits] == [hit.chunk_id for hit in expected]
    assert [hit.score for hit in hits] == pytest.approx([hit.score for hit in expected], abs=1e-4)
