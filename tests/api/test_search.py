"""Search and contents over HTTP."""

import json
import threading
from dataclasses import asdict
from types import ModuleType
from typing import Any

import pytest
from starlette.testclient import TestClient

from api import answers

SEARCH = "/v1/knowledge_bases/handbook/search"
FIELDS = {
    *("knowledge_base_id", "chunk_id", "content_version_id", "content_id", "title", "uri", "text"),
    *("start", "end", "page", "heading", "score", "scores", "attributes"),
    *("query", "ranks", "matches", "duplicates"),
}


def test_an_answer_has_the_promised_fields(handbook: TestClient) -> None:
    """Hits carry span, title, scores and attributes; the stages are timed."""
    answer = handbook.post(SEARCH, json={"query": "start the pump", "top_k": 1}).json()
    assert set(answer) == {"hits", "timings_ms", "exact", "documents", "rerank"}
    (hit,) = answer["hits"]
    assert set(hit) == FIELDS
    assert (hit["uri"], hit["title"], hit["heading"]) == ("startup.md", "Starting", "Starting")
    assert set(hit["scores"]) == {"dense", "lexical"}
    assert hit["attributes"] == {"team": "operations", "year": 2024, "approved": True}
    assert answer["timings_ms"]["total"] > 0


def test_the_answer_is_the_noun_as_a_dict(handbook: TestClient) -> None:
    """`kb search --json` prints `asdict` of the result, and HTTP sends the same."""
    service = handbook.app.state.service  # type: ignore[attr-defined]
    result = service.search("pump", ["handbook"])
    assert json.loads(answers.respond(result).body) == json.loads(json.dumps(asdict(result)))


def test_a_filter_keeps_what_it_says(handbook: TestClient) -> None:
    """Compound filters over strings and numbers choose documents."""
    where = {
        "type": "or",
        "filters": [
            {"type": "gte", "key": "year", "value": 2025},
            {"type": "eq", "key": "approved", "value": True},
        ],
    }
    hits = handbook.post(SEARCH, json={"query": "pump", "filters": where}).json()["hits"]
    assert {hit["uri"] for hit in hits} == {"startup.md", "winter.md"}


def test_a_threshold_drops_weaker_hits(handbook: TestClient) -> None:
    """No hit scores less than asked."""
    asked = {"query": "start the pump", "mode": "dense"}
    best = handbook.post(SEARCH, json=asked).json()["hits"][0]["score"]
    hits = handbook.post(SEARCH, json={**asked, "score_threshold": best}).json()["hits"]
    assert [hit["score"] for hit in hits] == [best]


def test_reranking_is_off_and_says_how_to_set_it_up(handbook: TestClient) -> None:
    """422 names the field and the setting."""
    assert handbook.post(SEARCH, json={"query": "pump"}).json()["rerank"] is None
    answer = handbook.post(SEARCH, json={"query": "pump", "rerank": True})
    assert (answer.status_code, answer.json()["error"]["param"]) == (422, "rerank")
    assert "KB_RERANKER" in answer.json()["error"]["message"]


def test_the_rerankers_order_and_score_are_in_the_answer(
    handbook: TestClient, fakes: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The longest first, under a reranker that prefers these; `rerank_depth` says how many of the best."""
    service = handbook.app.state.service  # type: ignore[attr-defined]
    monkeypatch.setattr(service._search, "_reranker", fakes.LengthReranker)
    asked = {"query": "pump", "rerank": True, "rerank_deadline_ms": 60_000}
    answer = handbook.post(SEARCH, json=asked).json()
    assert answer["rerank"] == "done"
    scores = [hit["scores"]["rerank"] for hit in answer["hits"]]
    assert scores == sorted(scores, reverse=True)
    assert len(set(scores)) == 3
    answer = handbook.post(SEARCH, json={**asked, "rerank_depth": 1}).json()
    assert ["rerank" in hit["scores"] for hit in answer["hits"]] == [True, False, False]


@pytest.mark.parametrize(
    "wrong", [{"rerank_depth": 0}, {"rerank_depth": 101}, {"rerank_deadline_ms": 0}, {"rerank": "yes"}]
)
def test_reranking_out_of_range_is_refused(handbook: TestClient, wrong: dict[str, Any]) -> None:
    """422 names the field."""
    answer = handbook.post(SEARCH, json={"query": "pump", **wrong})
    assert (answer.status_code, answer.json()["error"]["param"]) == (422, next(iter(wrong)))


def test_the_weight_of_the_dense_part_can_be_asked_for(handbook: TestClient) -> None:
    """All on words: a hybrid score is then twice the standard score of BM25."""
    asked = {"query": "start the pump", "dense_weight": 0}
    hits = handbook.post(SEARCH, json=asked).json()["hits"]
    lexical = [hit["scores"]["lexical"] for hit in hits]
    assert lexical == sorted(lexical, reverse=True)
    assert (
        hits[0]["score"] != handbook.post(SEARCH, json={"query": asked["query"]}).json()["hits"][0]["score"]
    )


def test_several_knowledge_bases_answer_as_one(handbook: TestClient) -> None:
    """Names and ids of the same knowledge base mean it once."""
    kb = handbook.get("/v1/knowledge_bases/handbook").json()
    asked = {"query": "pump", "knowledge_base_ids": ["handbook", kb["id"]]}
    hits = handbook.post("/v1/search", json=asked).json()["hits"]
    assert len(hits) == len({hit["chunk_id"] for hit in hits}) == 3
    assert {hit["knowledge_base_id"] for hit in hits} == {kb["id"]}


def test_results_take_the_shape_that_was_asked(handbook: TestClient) -> None:
    """By document, widened, for several queries, with ranks; over one knowledge base and over several."""
    asked = {
        "query": ["start the pump", "scraper blade"],
        "top_k": 2,
        "group_by": "document",
        "max_per_document": 1,
        "collapse_duplicates": True,
        "expand": "section",
        "explain": True,
    }
    answer = handbook.post(SEARCH, json=asked).json()
    assert answer["hits"] == []
    first, second = answer["documents"]
    assert set(first) == {
        *("knowledge_base_id", "content_id", "content_version_id", "title", "uri", "attributes"),
        *("score", "hits"),
    }
    assert {first["uri"], second["uri"]} == {"startup.md", "parts.txt"}
    for document in (first, second):
        (hit,) = document["hits"]
        assert set(hit) == FIELDS
        assert hit["query"] == (1 if document["uri"] == "parts.txt" else 0)
        assert set(hit["ranks"]) == set(hit["scores"]) == {"dense", "lexical", "fused"}
        (match,) = hit["matches"]
        assert hit["start"] <= match["start"] < match["end"] <= hit["end"]
    several = handbook.post("/v1/search", json={**asked, "knowledge_base_ids": ["handbook"]}).json()
    assert several["documents"] == answer["documents"]
    wide = handbook.post(SEARCH, json={"query": "pump", "expand": {"neighbours": 1}}).json()["hits"]
    assert all(len(hit["matches"]) == 1 for hit in wide)


def test_an_explanation_tells_what_became_of_a_document(handbook: TestClient) -> None:
    """For the returned and for the dropped, in the shape that is described."""
    listed = handbook.get("/v1/knowledge_bases/handbook/documents").json()["data"]
    told = {}
    for document in listed:
        body = {"query": "start the pump", "content_id": document["id"], "top_k": 1}
        told[document["uri"]] = handbook.post("/v1/knowledge_bases/handbook/explain", json=body).json()
    assert {uri: one["stage"] for uri, one in told.items()} == {
        "startup.md": "returned",
        "winter.md": "top_k",
        "parts.txt": "top_k",
    }
    for one in told.values():
        assert set(one) == set(answers.Explanation.model_fields)
        (fate,) = one["chunks"]
        assert set(fate) == set(answers.Fate.model_fields)
        assert set(fate["passage"]) == set(answers.Passage.model_fields)
        assert (one["stage"], one["reason"]) == (fate["stage"], fate["reason"])
    service = handbook.app.state.service  # type: ignore[attr-defined]
    again = service.explain("start the pump", listed[0]["id"], "handbook", top_k=1)
    shown = json.loads(answers.respond(again).body)
    assert shown == json.loads(json.dumps(asdict(again)))
    assert {**shown, "timings_ms": {}} == {**told[listed[0]["uri"]], "timings_ms": {}}


def test_offsets_count_code_points(handbook: TestClient, documents: list[Any]) -> None:
    """A span behind a character outside the basic plane opens exactly."""
    (found,) = [
        d
        for d in handbook.get("/v1/knowledge_bases/handbook/documents").json()["data"]
        if d["title"] == "Starting"
    ]
    text = documents[0]["text"]
    start = text.index("Wait")
    span = {"start": start, "end": start + 4}
    opened = handbook.get(f"/v1/contents/{found['content_version_id']}", params=span).json()
    assert opened["text"] == "Wait"
    assert handbook.get(f"/v1/contents/{found['content_version_id']}").json()["text"] == text


@pytest.mark.parametrize("span", [{"start": 5, "end": 2}, {"start": 0, "end": 10_000}, {"start": -1}])
def test_a_span_outside_the_text_is_refused(handbook: TestClient, span: dict[str, int]) -> None:
    """422 names start."""
    version = handbook.get("/v1/knowledge_bases/handbook/documents").json()["data"][0]["content_version_id"]
    answer = handbook.get(f"/v1/contents/{version}", params=span)
    assert (answer.status_code, answer.json()["error"]["param"]) == (422, "start")


def test_other_requests_are_answered_while_a_search_computes(
    client: TestClient, embedder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The event loop is free: /healthz answers before the searches that were asked before it."""
    assert client.post("/v1/knowledge_bases", json={"name": "handbook"}).status_code == 201
    computing, go_on = threading.Semaphore(0), threading.Event()
    embed = embedder.embed_queries

    def held(texts: list[str]) -> Any:
        computing.release()
        assert go_on.wait(30)
        return embed(texts)

    monkeypatch.setattr(embedder, "embed_queries", held)
    answered: list[int] = []

    def ask() -> None:
        answered.append(client.post(SEARCH, json={"query": "pump"}).status_code)

    searches = [threading.Thread(target=ask) for _ in range(3)]
    for search in searches:
        search.start()
    assert computing.acquire(timeout=30)
    assert client.get("/healthz").status_code == 200
    assert client.get("/v1/knowledge_bases/handbook/documents").status_code == 200
    assert answered == []
    go_on.set()
    for search in searches:
        search.join(30)
    assert answered == [200, 200, 200]
