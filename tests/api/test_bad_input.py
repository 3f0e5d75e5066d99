"""Bad input gets the right status and the name of the field at fault."""

from typing import Any

import pytest
from starlette.testclient import TestClient

from kb.embed.loaded import LoadedModels
from kb.errors import ModelUnavailable

KB = "/v1/knowledge_bases"
SEARCH = f"{KB}/handbook/search"
SEND = f"{KB}/handbook/documents"
LEAF = {"type": "eq", "key": "team", "value": "a"}


def _error(answer: Any) -> tuple[int, str | None, str]:
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"]
    assert answer.headers["x-request-id"]
    return answer.status_code, error["param"], error["code"]


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"query": ""}, "query"),
        ({"query": " \n"}, "query"),
        ({"query": "x" * 8193}, "query"),
        ({"query": None}, "query"),
        ({"query": 3}, "query"),
        ({"top_k": 0}, "top_k"),
        ({"top_k": 1001}, "top_k"),
        ({"top_k": "3"}, "top_k"),
        ({"top_k": 2.5}, "top_k"),
        ({"mode": "magic"}, "mode"),
        ({"score_threshold": "high"}, "score_threshold"),
        ({"dense_weight": 1.5}, "dense_weight"),
        ({"dense_weight": "0.5"}, "dense_weight"),
        ({"limit": 3}, "limit"),
        ({"query": []}, "query"),
        ({"query": ["pump"] * 17}, "query"),
        ({"query": ["pump", ""]}, "query.1"),
        ({"query": ["pump", None]}, "query.1"),
        ({"query": ["x" * 8193]}, "query.0"),
        ({"max_per_document": 0}, "max_per_document"),
        ({"max_per_document": 1001}, "max_per_document"),
        ({"max_per_document": "1"}, "max_per_document"),
        ({"max_per_document": True}, "max_per_document"),
        ({"collapse_duplicates": "yes"}, "collapse_duplicates"),
        ({"collapse_duplicates": 1}, "collapse_duplicates"),
        ({"group_by": "uri"}, "group_by"),
        ({"group_by": 1}, "group_by"),
        ({"expand": "page"}, "expand"),
        ({"expand": 2}, "expand"),
        ({"expand": {}}, "expand"),
        ({"expand": {"neighbours": 2, "more": 1}}, "expand"),
        ({"expand": {"neighbours": 0}}, "expand.neighbours"),
        ({"expand": {"neighbours": 11}}, "expand.neighbours"),
        ({"expand": {"neighbours": 1.5}}, "expand.neighbours"),
        ({"expand": {"neighbours": True}}, "expand.neighbours"),
        ({"explain": "all"}, "explain"),
        ({"filters": []}, "filters"),
        ({"filters": {}}, "filters.type"),
        ({"filters": {"type": "like", "key": "a", "value": 1}}, "filters.type"),
        ({"filters": {"type": "and", "filters": []}}, "filters.filters"),
        ({"filters": {"type": "and", "filters": [LEAF, {**LEAF, "value": None}]}}, "filters.filters.1.value"),
        ({"filters": {"type": "in", "key": "a", "value": "b"}}, "filters.value"),
        ({"filters": {**LEAF, "value": 10**30}}, "filters.value"),
        ({"filters": {**LEAF, "extra": 1}}, "filters.extra"),
    ],
)
def test_a_bad_search_names_its_field(handbook: TestClient, change: dict[str, Any], param: str) -> None:
    """422 with the dotted path of the field."""
    status, at, code = _error(handbook.post(SEARCH, json={"query": "pump", **change}))
    assert (status, at) == (422, param)
    assert code in ("invalid_input", "invalid_filter")


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"query": None}, "query"),
        ({"query": ["pump"]}, "query"),
        ({"query": " "}, "query"),
        ({"content_id": None}, "content_id"),
        ({"content_id": ""}, "content_id"),
        ({"content_id": 7}, "content_id"),
        ({"top_k": 0}, "top_k"),
        ({"mode": "magic"}, "mode"),
        ({"filters": {}}, "filters.type"),
        ({"score_threshold": "high"}, "score_threshold"),
        ({"max_per_document": 0}, "max_per_document"),
        ({"collapse_duplicates": 1}, "collapse_duplicates"),
        ({"group_by": "uri"}, "group_by"),
        ({"limit": 3}, "limit"),
    ],
)
def test_a_bad_explain_names_its_field(handbook: TestClient, change: dict[str, Any], param: str) -> None:
    """422, as for the search that it explains."""
    body = {"query": "pump", "content_id": "doc_0", **change}
    assert _error(handbook.post(f"{KB}/handbook/explain", json=body))[:2] == (422, param)


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({}, "knowledge_base_ids"),
        ({"knowledge_base_ids": []}, "knowledge_base_ids"),
        ({"knowledge_base_ids": ["handbook"] * 65}, "knowledge_base_ids"),
        ({"knowledge_base_ids": [""]}, "knowledge_base_ids.0"),
    ],
)
def test_a_search_of_several_names_its_field(
    handbook: TestClient, change: dict[str, Any], param: str
) -> None:
    """1 to 64 ids or names."""
    assert _error(handbook.post("/v1/search", json={"query": "pump", **change})) == (
        422,
        param,
        "invalid_input",
    )


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", f"{KB}/none", None),
        ("PATCH", f"{KB}/none", {"name": "x"}),
        ("DELETE", f"{KB}/none", None),
        ("POST", f"{KB}/none/search", {"query": "q"}),
        ("POST", f"{KB}/none/explain", {"query": "q", "content_id": "doc_0"}),
        ("POST", f"{KB}/handbook/explain", {"query": "q", "content_id": "doc_0"}),
        ("POST", f"{KB}/none/documents", {"documents": [{"name": "a", "text": "b"}]}),
        ("GET", f"{KB}/none/documents", None),
        ("GET", f"{KB}/none/failures", None),
        ("GET", f"{KB}/handbook/documents/doc_0", None),
        ("DELETE", f"{KB}/handbook/documents/doc_0", None),
        ("GET", "/v1/contents/ver_0", None),
        ("GET", "/v1/jobs/job_0", None),
        ("POST", "/v1/search", {"query": "q", "knowledge_base_ids": ["handbook", "none"]}),
    ],
)
def test_what_does_not_exist_is_404(handbook: TestClient, method: str, path: str, body: Any) -> None:
    """An unknown knowledge base, document, version or job."""
    answer = handbook.request(method, path, json=body)
    assert _error(answer)[::2] == (404, "not_found")
    assert answer.json()["error"]["type"] == "not_found_error"


def test_an_unknown_path_and_method_have_the_same_form(handbook: TestClient) -> None:
    """404 and 405 come in the one form too."""
    assert _error(handbook.get("/v1/nothing")) == (404, None, "unknown_path")
    assert _error(handbook.put("/v1/search")) == (405, None, "method_not_allowed")


def test_a_method_that_a_path_does_not_know_is_told_those_it_does(handbook: TestClient) -> None:
    """All of them, not those of one route."""
    for path, methods in [
        (KB, "GET, POST"),
        (f"{KB}/handbook", "DELETE, GET, PATCH"),
        (SEND, "GET, POST"),
        (SEARCH, "POST"),
        ("/healthz", "GET"),
        # Not those of the response that such an id would have.
        ("/v1/responses/input_tokens", "POST"),
    ]:
        assert handbook.put(path).headers["allow"] == methods


@pytest.mark.parametrize(
    "raw",
    [
        "",
        "{",
        "[1]",
        '"text"',
        '{"query": "a" "b"}',
        '{"query": "\\ud800"}',
        "[" * 100_000,
        '{"query": 1,}',
        "\xff",
    ],
)
def test_a_body_that_is_no_json_object_is_422(handbook: TestClient, raw: str) -> None:
    """Broken JSON is said to be broken, however deep or strange."""
    headers = {"content-type": "application/json"}
    status, param, _ = _error(handbook.post(SEARCH, content=raw.encode("latin-1"), headers=headers))
    assert (status, param) == (422, None)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_numbers_that_json_does_not_have_are_refused(handbook: TestClient, number: str) -> None:
    """As threshold, in a filter and as an attribute."""
    headers = {"content-type": "application/json"}
    threshold = f'{{"query": "a", "score_threshold": {number}}}'
    where = f'{{"query": "a", "filters": {{"type": "gt", "key": "year", "value": {number}}}}}'
    sent = f'{{"documents": [{{"name": "a", "text": "b", "attributes": {{"year": {number}}}}}]}}'
    assert _error(handbook.post(SEARCH, content=threshold, headers=headers))[:2] == (422, "score_threshold")
    assert _error(handbook.post(SEARCH, content=where, headers=headers))[:2] == (422, "filters.value")
    assert _error(handbook.post(SEND, content=sent, headers=headers))[:2] == (
        422,
        "documents.0.attributes.year",
    )


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_another_content_type_is_415(handbook: TestClient, kind: str) -> None:
    """What curl -d sends without a header is told what to say."""
    for path in (SEARCH, SEND):
        answer = handbook.post(path, content=b'{"query": "a"}', headers={"content-type": kind})
        assert _error(answer) == (415, "content-type", "unsupported_media_type")


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "name"),
        ({"name": ""}, "name"),
        ({"name": "  "}, "name"),
        ({"name": "a/b"}, "name"),
        ({"name": "x" * 129}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"name": "x", "chunk_size": 3}, "chunk_size"),
        ({"name": "x", "chunk_size": 100_000}, "chunk_size"),
        ({"name": "x", "chunk_size": 64, "chunk_overlap": 60}, "chunk_overlap"),
        ({"name": "x", "chunk_overlap": 5}, "chunk_overlap"),
        ({"name": "x", "color": "red"}, "color"),
    ],
)
def test_a_bad_knowledge_base_names_its_field(handbook: TestClient, body: dict[str, Any], param: str) -> None:
    """Nothing is made."""
    assert _error(handbook.post(KB, json=body)) == (422, param, "invalid_input")
    assert [kb["name"] for kb in handbook.get(KB).json()["data"]] == ["handbook"]


def test_a_name_that_is_taken_is_409(handbook: TestClient) -> None:
    """On creation; the first one stays as it is."""
    assert _error(handbook.post(KB, json={"name": "handbook"})) == (409, "name", "already_exists")


@pytest.mark.parametrize("embedder", ["no/such-model", "x" * 512, "~nobody/model", "~\0", "\0", "/"])
def test_an_embedder_that_is_not_here_is_404(handbook: TestClient, embedder: str) -> None:
    """The message says what to do; nothing is fetched, whatever it is called."""
    answer = handbook.post(KB, json={"name": "x", "embedder": embedder})
    assert _error(answer) == (404, "embedder", "not_found")


def test_the_default_embedder_that_is_not_here_is_503(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who sent the request did not name it and cannot mend it."""

    def missing(self: Any, model: str) -> None:
        raise ModelUnavailable("gone")

    monkeypatch.setattr(LoadedModels, "embedder", missing)
    assert _error(client.post(KB, json={"name": "x"})) == (503, None, "model_unavailable")


def test_a_whole_number_may_be_written_with_a_fraction_of_zero(handbook: TestClient) -> None:
    """JSON does not tell 2.0 from 2."""
    asked = {"query": "pump", "max_per_document": 1.0, "rerank_depth": 20.0, "expand": {"neighbours": 1.0}}
    answer = handbook.post(SEARCH, json={**asked, "top_k": 2.0})
    assert (answer.status_code, len(answer.json()["hits"])) == (200, 2)
    made = handbook.post(KB, json={"name": "x", "chunk_size": 64.0, "chunk_overlap": 8.0}).json()
    assert (made["chunk_size"], made["chunk_overlap"]) == (64, 8)
    assert handbook.delete(f"{KB}/x").status_code == 200
