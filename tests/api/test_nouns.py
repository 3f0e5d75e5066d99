"""Knowledge bases, documents and jobs: made, listed, changed, deleted."""

from collections.abc import Callable
from typing import Any

import pytest
from starlette.testclient import TestClient

KB = "/v1/knowledge_bases"


def test_a_knowledge_base_lives_and_dies(client: TestClient) -> None:
    """Created, found by id and name, renamed, listed, deleted."""
    made = client.post(KB, json={"name": "a", "description": "first", "chunk_size": 64, "chunk_overlap": 8})
    assert made.status_code == 201
    kb = made.json()
    assert made.headers["location"] == f"{KB}/{kb['id']}"
    assert (kb["chunk_size"], kb["chunk_overlap"], kb["documents"], kb["chunks"]) == (64, 8, 0, 0)
    assert client.get(f"{KB}/a").json() == client.get(f"{KB}/{kb['id']}").json() == kb
    changed = client.patch(f"{KB}/a", json={"name": "b", "description": None}).json()
    assert changed == {**kb, "name": "b"}
    assert client.get(KB).json() == {"data": [changed]}
    assert client.delete(f"{KB}/b").json() == {"id": kb["id"], "deleted": True}
    assert client.get(KB).json() == {"data": []}


def test_a_recall_target_is_set_and_bounded(client: TestClient) -> None:
    """It is told with the knowledge base; null leaves it, and out of bounds it is a fault of its field."""
    assert client.post(KB, json={"name": "a"}).json()["recall"] == 0.99
    assert client.patch(f"{KB}/a", json={"recall": 0.999}).json()["recall"] == 0.999
    assert client.patch(f"{KB}/a", json={"recall": None, "description": "d"}).json()["recall"] == 0.999
    for bad in (0.89, 0.99999, 1, "high"):
        refused = client.patch(f"{KB}/a", json={"recall": bad})
        assert (refused.status_code, refused.json()["error"]["param"]) == (422, "recall")
    assert client.get(f"{KB}/a").json()["recall"] == 0.999


def test_a_chunk_size_of_null_keeps_documents_whole(client: TestClient) -> None:
    """Left out it is the default, which is a number."""
    assert client.post(KB, json={"name": "whole", "chunk_size": None}).json()["chunk_size"] is None
    assert client.post(KB, json={"name": "usual"}).json()["chunk_size"] > 0
    text = "One sentence follows another. " * 200
    client.post(f"{KB}/whole/documents?wait=true", json={"documents": [{"name": "a.txt", "text": text}]})
    assert client.get(f"{KB}/whole").json()["chunks"] == 1


def test_documents_are_listed_by_pages(handbook: TestClient) -> None:
    """`after` goes on where the page ended; has_more is exact, also on a full last page."""
    path, seen, after = f"{KB}/handbook/documents", [], None
    for expected in (True, True, False):
        page = handbook.get(path, params={"limit": 1, **({"after": after} if after else {})}).json()
        assert page["has_more"] is expected
        seen += [document["uri"] for document in page["data"]]
        after = page["data"][-1]["id"]
    assert sorted(seen) == ["parts.txt", "startup.md", "winter.md"]
    assert handbook.get(path, params={"limit": 3}).json()["has_more"] is False
    assert handbook.get(f"{path}/{after}").json()["id"] == after


def test_a_name_sent_again_replaces_the_document(client: TestClient) -> None:
    """The document keeps its id; the old version's text still opens; a search sees only the new one."""
    client.post(KB, json={"name": "k"})
    path = f"{KB}/k/documents"
    versions = []
    for text in ("Old wording about pumps.", "New wording about pumps."):
        client.post(f"{path}?wait=true", json={"documents": [{"name": "a.txt", "text": text}]})
        versions += client.get(path).json()["data"]
    old, new = versions
    assert new["id"] == old["id"]
    assert (
        client.get(f"/v1/contents/{old['content_version_id']}").json()["text"] == "Old wording about pumps."
    )
    hits = client.post(f"{KB}/k/search", json={"query": "wording about pumps"}).json()["hits"]
    assert [hit["text"] for hit in hits] == ["New wording about pumps."]


def test_whoever_waits_is_told_that_all_of_it_went(
    client: TestClient, embedder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Knowledge base and job were deleted meanwhile: 404."""
    client.post(KB, json={"name": "k"})
    embed = embedder.embed_passages

    def late(texts: Any) -> Any:
        client.app.state.service.delete_knowledge_base("k")  # type: ignore[attr-defined]
        return embed(texts)

    monkeypatch.setattr(embedder, "embed_passages", late)
    sent = client.post(f"{KB}/k/documents?wait=true", json={"documents": [{"name": "a", "text": "b"}]})
    assert (sent.status_code, sent.json()["error"]["param"]) == (404, "job")


def test_without_wait_a_job_is_accepted(client: TestClient, until: Callable[..., Any]) -> None:
    """202, Location, and the job finishes by itself."""
    client.post(KB, json={"name": "k"})
    sent = client.post(f"{KB}/k/documents", files=[("files", ("a.txt", b"Brine."))])
    assert (sent.status_code, sent.json()["status"], sent.json()["report"]) == (202, "queued", None)
    job = until(lambda: (job := client.get(sent.headers["location"]).json())["finished_at"] and job)
    assert (job["status"], job["error"], job["report"]["added"]) == ("succeeded", None, 1)
