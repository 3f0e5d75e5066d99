"""What those who run it see: ids, failures, health, metrics and the description of the interface."""

import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from api import app as application
from api.errors import _STATUS
from kb import errors
from kb.errors import KbError, ModelUnavailable, StorageFull
from kb.service import Service
from kb.tools import TOOLS

KB = "/v1/knowledge_bases"


def test_every_answer_carries_a_request_id(handbook: TestClient) -> None:
    """The caller's own if it is harmless, else a new one."""
    assert (
        handbook.get("/healthz", headers={"x-request-id": "trace-7.a:b_c"}).headers["x-request-id"]
        == "trace-7.a:b_c"
    )
    seen = set()
    for given in ({}, {"x-request-id": "a b"}, {"x-request-id": "x" * 129}, {"x-request-id": ""}):
        answer = handbook.get("/v1/nothing", headers=given)
        seen.add(answer.headers["x-request-id"])
    assert len(seen) == 4
    assert all(re.fullmatch("req_[0-9a-f]{24}", one) for one in seen)


def test_the_unforeseen_is_a_plain_500(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The caller gets an id, the log gets the trace under it."""

    def fail(self: Service) -> None:
        raise RuntimeError("the password is swordfish")

    monkeypatch.setattr(Service, "knowledge_bases", fail)
    answer = client.get(KB)
    assert answer.status_code == 500
    assert answer.json()["error"]["type"] == "server_error"
    assert answer.json()["error"]["code"] == "internal_error"
    assert "swordfish" not in answer.text
    (record,) = [one for one in caplog.records if one.levelno == logging.ERROR]
    assert answer.headers["x-request-id"] in record.getMessage()
    assert record.exc_info


@pytest.mark.parametrize(
    ("kind", "status", "code"),
    [
        (errors.InvalidFilter, 422, "invalid_filter"),
        (errors.NotFound, 404, "not_found"),
        (errors.AlreadyExists, 409, "already_exists"),
        (errors.NotAllowed, 403, "not_allowed"),
        (errors.InsufficientCredits, 402, "insufficient_credits"),
        (errors.TooLarge, 422, "document_refused"),
        (errors.ModelUnavailable, 503, "model_unavailable"),
        (errors.DimensionMismatch, 409, "model_mismatch"),
        (errors.StorageFull, 507, "storage_full"),
        (errors.StorageFailed, 500, "storage_failed"),
        (errors.IndexCorrupt, 500, "internal_error"),
    ],
)
def test_each_error_of_the_library_has_its_status(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, kind: type[KbError], status: int, code: str
) -> None:
    """A subclass has that of its nearest kind; one without a status is ours to mend."""

    def fail(self: Service) -> None:
        raise kind("why", param="where")

    monkeypatch.setattr(Service, "knowledge_bases", fail)
    answer = client.get(KB)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (status, code)
    assert (error["message"], error["param"]) == ("why", "where") or status == 500
    assert answer.headers.get("x-should-retry") == ("false" if status == 402 else None)
    assert all(issubclass(one, KbError) for one in _STATUS)


def test_a_full_disk_refuses_documents(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """507, and the search goes on."""
    client.post(KB, json={"name": "k"})

    def full(*_: Any) -> None:
        raise StorageFull("the disk is full")

    monkeypatch.setattr(client.app.state.service, "submit", full)  # type: ignore[attr-defined]
    sent = client.post(f"{KB}/k/documents", json={"documents": [{"name": "a", "text": "b"}]})
    assert (sent.status_code, sent.json()["error"]["code"]) == (507, "storage_full")
    assert client.post(f"{KB}/k/search", json={"query": "a"}).json()["hits"] == []


def test_it_is_ready_once_everything_is_loaded(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Alive all the while; what was missing is tried again."""
    assert client.get("/healthz").json() == {"status": "ok"}
    assert client.get("/readyz").json() == {"status": "ready"}

    def fail() -> None:
        raise ModelUnavailable("gone")

    client.app.state.cold = True  # type: ignore[attr-defined]
    with monkeypatch.context() as patch:
        patch.setattr(client.app.state.service, "warm", fail)  # type: ignore[attr-defined]
        assert client.get("/readyz").status_code == 503
        assert client.get("/healthz").status_code == 200
    assert client.get("/readyz").status_code == 200


def test_metrics_count_by_route_and_stage(handbook: TestClient) -> None:
    """Paths are templates, so that names of knowledge bases make no new series; sizes are as they are."""
    handbook.post(f"{KB}/handbook/search", json={"query": "pump"})
    handbook.get("/wp-login.php")
    shown = handbook.get("/metrics").text
    route = '{method="POST",route="/v1/knowledge_bases/{kb}/search",status="200"}'
    assert re.search(rf"^kb_http_requests_total{re.escape(route)} \d", shown, re.MULTILINE)
    assert 'route="unmatched",status="404"' in shown
    assert "wp-login" not in shown
    assert 'kb_search_stage_seconds_count{stage="embed"}' in shown
    assert 'kb_documents{knowledge_base="handbook"} 3.0' in shown
    assert "kb_http_request_seconds_bucket" in shown


def _operations(document: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return [
        (f"{method.upper()} {path}", operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]


def test_every_route_is_described_with_examples(handbook: TestClient) -> None:
    """Each operation has words, an example of its answer and of its body, and every reference resolves."""
    document = handbook.get("/openapi.json").json()
    operations = dict(_operations(document))
    assert set(operations) == {
        "POST /v1/knowledge_bases",
        "GET /v1/knowledge_bases",
        "GET /v1/knowledge_bases/{kb}",
        "PATCH /v1/knowledge_bases/{kb}",
        "DELETE /v1/knowledge_bases/{kb}",
        "POST /v1/knowledge_bases/{kb}/documents",
        "GET /v1/knowledge_bases/{kb}/documents",
        "GET /v1/knowledge_bases/{kb}/documents/{document}",
        "DELETE /v1/knowledge_bases/{kb}/documents/{document}",
        "GET /v1/knowledge_bases/{kb}/failures",
        "POST /v1/knowledge_bases/{kb}/search",
        "POST /v1/knowledge_bases/{kb}/explain",
        "POST /v1/search",
        "GET /v1/content_sources",
        "GET /v1/contents/{content_version_id}",
        "GET /v1/contents/{content_version_id}/stats",
        "GET /v1/contents/{content_version_id}/grep",
        "GET /v1/tools",
        "POST /v1/context",
        "GET /v1/models",
        "GET /v1/models/{model}",
        "GET /v1/models/{model}/schema",
        "GET /v1/usage",
        "GET /v1/usage/calls",
        *(f"POST /v1/tools/{name}" for name in TOOLS),
        "GET /v1/jobs/{job}",
        "POST /v1/files",
        "GET /v1/files",
        "GET /v1/files/{file_id}",
        "GET /v1/files/{file_id}/content",
        "DELETE /v1/files/{file_id}",
        "POST /v1/vector_stores",
        "GET /v1/vector_stores",
        "GET /v1/vector_stores/{vector_store_id}",
        "POST /v1/vector_stores/{vector_store_id}",
        "DELETE /v1/vector_stores/{vector_store_id}",
        "POST /v1/vector_stores/{vector_store_id}/search",
        "POST /v1/vector_stores/{vector_store_id}/files",
        "GET /v1/vector_stores/{vector_store_id}/files",
        "GET /v1/vector_stores/{vector_store_id}/files/{file_id}",
        "POST /v1/vector_stores/{vector_store_id}/files/{file_id}",
        "DELETE /v1/vector_stores/{vector_store_id}/files/{file_id}",
        "GET /v1/vector_stores/{vector_store_id}/files/{file_id}/content",
        "POST /v1/vector_stores/{vector_store_id}/file_batches",
        "GET /v1/vector_stores/{vector_store_id}/file_batches/{batch_id}",
        "POST /v1/vector_stores/{vector_store_id}/file_batches/{batch_id}/cancel",
        "GET /v1/vector_stores/{vector_store_id}/file_batches/{batch_id}/files",
        "POST /v1/embeddings",
        "POST /v1/responses",
        "POST /v1/responses/input_tokens",
        "GET /v1/responses/{response_id}",
        "DELETE /v1/responses/{response_id}",
        "POST /v1/responses/{response_id}/cancel",
        "GET /v1/responses/{response_id}/input_items",
        "POST /v1/runs",
        "GET /v1/runs/{run_id}",
        "GET /v1/runs/{run_id}/events",
        "POST /v1/runs/{run_id}/cancel",
        "POST /v1/runs/{run_id}/approvals/{approval_id}",
        "POST /v1/chat/completions",
        "GET /healthz",
        "GET /readyz",
        "GET /metrics",
    }
    for name, operation in operations.items():
        assert operation["description"], name
        success = next(answer for status, answer in operation["responses"].items() if status.startswith("2"))
        assert all("example" in kind for kind in success["content"].values()), name
        if name.startswith(("POST", "PATCH")) and not name.endswith("/cancel"):
            assert all("example" in kind for kind in operation["requestBody"]["content"].values()), name
    sent = operations["POST /v1/knowledge_bases/{kb}/documents"]["requestBody"]["content"]
    assert set(sent) == {"multipart/form-data", "application/json"}
    known = document["components"]["schemas"]
    for reference in re.findall(r'"#/components/schemas/(\w+)"', handbook.get("/openapi.json").text):
        assert reference in known


def test_answers_link_to_what_takes_their_ids(handbook: TestClient) -> None:
    """To every operation whose path is known then, and to no other."""
    operations = dict(_operations(handbook.get("/openapi.json").json()))
    named = {operation["operationId"]: name for name, operation in operations.items()}

    def links(name: str, status: str) -> dict[str, dict[str, str]]:
        found = operations[name]["responses"][status].get("links", {})
        return {named[link["operationId"]]: link["parameters"] for link in found.values()}

    assert links(f"GET {KB}/{{kb}}/documents", "200") == {
        **{
            f"GET /v1/contents/{{content_version_id}}{of_it}": {
                "path.content_version_id": "$response.body#/data/0/content_version_id"
            }
            for of_it in ("", "/stats", "/grep")
        },
        **{
            f"{method} {KB}/{{kb}}/documents/{{document}}": {
                "path.document": "$response.body#/data/0/id",
                "path.kb": "$request.path.kb",
            }
            for method in ("GET", "DELETE")
        },
    }
    assert set(links(f"POST {KB}", "201")) == {
        name for name in operations if "{kb}" in name and "{document}" not in name
    }
    assert links("GET /v1/jobs/{job}", "200")["GET /v1/jobs/{job}"] == {"path.job": "$response.body#/id"}
    assert links("GET /healthz", "200") == links("POST /v1/search", "422") == {}


def test_the_description_is_of_this_server(handbook: TestClient, open_app: Callable[..., TestClient]) -> None:
    """Whether it needs a key, and whether it has a reranker."""
    keys = [{"bearer": []}, {"header": []}]
    assert handbook.get("/openapi.json").json()["security"] == [{}, *keys]
    described = open_app(open_to="0.0.0.0").app.openapi()  # type: ignore[attr-defined]
    assert described["security"] == keys
    asked = described["components"]["schemas"]["SearchRequest"]["properties"]
    assert asked["rerank"]["const"] is False


def test_the_examples_of_requests_are_good_requests(client: TestClient) -> None:
    """What the documentation shows can be sent as it stands."""
    operations = dict(_operations(client.get("/openapi.json").json()))

    def example(name: str) -> Any:
        return operations[name]["requestBody"]["content"]["application/json"]["example"]

    assert client.post(KB, json=example(f"POST {KB}")).status_code == 201
    assert client.patch(f"{KB}/handbook", json=example(f"PATCH {KB}/{{kb}}")).status_code == 200
    sent = example(f"POST {KB}/{{kb}}/documents")
    assert client.post(f"{KB}/handbook/documents?wait=true", json=sent).status_code == 200
    hits = client.post(f"{KB}/handbook/search", json=example(f"POST {KB}/{{kb}}/search")).json()["hits"]
    assert [hit["uri"] for hit in hits] == ["note.md"]
    assert client.post("/v1/search", json=example("POST /v1/search")).json()["hits"] == hits


def test_the_examples_of_answers_have_the_fields_of_answers(handbook: TestClient) -> None:
    """The described shape of a search is the sent one."""
    operations = dict(_operations(handbook.get("/openapi.json").json()))
    for name, path in [
        (f"GET {KB}/{{kb}}", f"{KB}/handbook"),
        (f"GET {KB}/{{kb}}/documents", f"{KB}/handbook/documents"),
    ]:
        described = operations[name]["responses"]["200"]["content"]["application/json"]["example"]
        assert set(described) == set(handbook.get(path).json())
    described = operations["POST /v1/search"]["responses"]["200"]["content"]["application/json"]["example"]
    hit = handbook.post(f"{KB}/handbook/search", json={"query": "pump"}).json()["hits"][0]
    assert set(described["hits"][0]) == set(hit)


def test_the_documentation_needs_no_network(handbook: TestClient) -> None:
    """The page shows every path, loads nothing and runs nothing."""
    page = handbook.get("/docs")
    assert page.headers["content-security-policy"].startswith("default-src 'none'")
    assert "<script" not in page.text
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", page.text)
    for path in handbook.get("/openapi.json").json()["paths"]:
        assert path in page.text


def test_a_process_finds_its_settings(
    tmp_path: Path, blank_catalog: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """KB_DATA_DIR says where, KB_HOST whether others can reach it."""
    monkeypatch.setenv("KB_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("KB_HOST", "0.0.0.0")
    with TestClient(application.from_environment(), base_url="http://127.0.0.1") as client:
        assert client.get(KB).status_code == 401
    assert (tmp_path / "catalog.db").is_file()
